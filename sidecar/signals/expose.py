"""Snapshot -> Prometheus text / OpenMetrics, inside a cardinality budget."""

from __future__ import annotations

from sidecar.types import Section


class ExpositionConfig(Section, frozen=True, kw_only=True):
    """How much is exported, and which target labels are written as empty where the source lacks them."""

    max_series: int = 20000
    blank_labels: tuple[str, ...] = ("namespace", "pod", "container", "service", "endpoint", "node")
