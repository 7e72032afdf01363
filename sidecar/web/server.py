"""The HTTP server: composes the routes, authenticates, counts."""

from __future__ import annotations

from sidecar.types import Section


class WebConfig(Section, frozen=True, kw_only=True):
    """Where Promantis listens, and who may do what."""

    listen: str = "127.0.0.1:9909"
    config_file: str | None = None
    tokens_file: str | None = None
