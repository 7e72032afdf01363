"""Talks to Alertmanagers: posts alerts, reads silences, passes requests through."""

from __future__ import annotations

from sidecar.adapters.http import HttpConfig
from sidecar.types import Section


class AlertmanagerConfig(Section, frozen=True, kw_only=True):
    """One Alertmanager."""

    url: str
    http: HttpConfig = HttpConfig()
