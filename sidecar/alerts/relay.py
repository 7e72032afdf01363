"""Raw at once, enriched after: one level-triggered lane per Alertmanager; fails open."""

from __future__ import annotations

from sidecar.types import Section


class AlertsConfig(Section, frozen=True, kw_only=True):
    """How alerts travel and which annotations they are given."""

    mode: str = "tee"
    annotations: tuple[str, ...] = ("summary", "outlook", "url")
    max_bytes: int = 300
    external_url: str | None = None
