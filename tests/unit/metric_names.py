"""Every metric that Promantis serves, read from the code that serves it."""

from __future__ import annotations

from sidecar.signals.known import expose
from sidecar.telemetry import Telemetry


def own() -> set[str]:
    """Sample names of the metrics about Promantis itself."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {
        family.name + ending
        for family in Telemetry().registry.collect()
        for ending in endings.get(family.type, ("",))
    }


def signals() -> set[str]:
    """Names of the families about the watched series."""
    return {family.name for family in expose.FAMILIES}
