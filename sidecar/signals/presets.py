"""Ready-made watches for well-known exporters, chosen when their metrics are there; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sidecar.signals.calendar import UTC
from sidecar.signals.watches import Watch, WatchConfig, from_config
from sidecar.types import Section


class Preset(Section, frozen=True, kw_only=True):
    """One file of `sidecar/signals/presets`."""

    name: str
    metrics: tuple[str, ...]
    """`auto` takes the preset when all of these exist."""
    watches: tuple[WatchConfig, ...]


def chosen(
    setting: str | tuple[str, ...],
    presets: Iterable[Preset],
    metric_names: Collection[str],
    interval: float,
    tz: str = UTC,
) -> list[Watch]:
    """The watches of the presets that the setting names; `auto`: of those whose metrics exist."""
    named = () if isinstance(setting, str) else setting  # else it is auto or none
    return [
        watch
        for preset in presets
        if preset.name in named or (setting == "auto" and all(m in metric_names for m in preset.metrics))
        for watch in from_config(preset.watches, interval, "preset", tz)
    ]
