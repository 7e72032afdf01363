"""Asks Prometheus: instant and range queries, rules, build information."""

from __future__ import annotations

import msgspec

from sidecar.adapters.http import HttpConfig
from sidecar.types import Section


class PrometheusConfig(Section, frozen=True, kw_only=True):
    """Where samples, rules and history come from."""

    url: str = "http://localhost:9090"
    history_url: str | None = None
    params: dict[str, str] = msgspec.field(default_factory=dict)
    ignore_labels: tuple[str, ...] = ("prometheus_replica", "replica")
    max_queries_per_second: float = 5.0
    http: HttpConfig = HttpConfig()
