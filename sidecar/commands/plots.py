"""Pictures of what the engine says of a series: value and band, forecast, score, odds, and what would have paged."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sidecar.signals.models import Array
from sidecar.signals.replay.backtest import Page
from sidecar.types import F64, HORIZONS, ConfigError

AHEAD = HORIZONS[-1][1]


class Plotter:
    """Draws PNG files; ConfigError when matplotlib is not installed."""

    def __init__(self, out: Path, threshold: float) -> None:
        self._out, self._threshold = out, threshold
        try:
            figure = importlib.import_module("matplotlib.figure")
        except ImportError:
            raise ConfigError("--plot", "needs matplotlib: pip install matplotlib") from None
        self._new: Any = figure.Figure  # without pyplot there is no window and no global state

    def draw(self, name: str, at: F64, said: Mapping[str, Array], pages: Sequence[Page]) -> Path:
        """One picture: band, value and what was forecast an hour before above (of a group its confidence), the score
        and, where there is a limit, its odds below; pages shaded."""
        figure = self._new(figsize=(14, 6), layout="constrained")
        value = said.get("value")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        when, then = (((at + later) * 1e6).astype("datetime64[us]") for later in (0.0, AHEAD))
        if value is not None:
            upper.fill_between(when, said["lower"], said["upper"], color="tab:blue", alpha=0.2, linewidth=0)
            upper.plot(
                when, said["expected"], color="tab:blue", linewidth=0.6, label="expected, with its band"
            )
            upper.fill_between(
                then, said["f60_lower"], said["f60_upper"], color="tab:orange", alpha=0.15, linewidth=0
            )
            words = "forecast an hour before, with its interval"
            upper.plot(then, said["f60"], color="tab:orange", linewidth=0.6, label=words)
            upper.plot(when, value, color="black", linewidth=0.7, label="value")
            low, high = np.nanpercentile(value, [0, 100]) if np.isfinite(value).any() else (0.0, 1.0)
            room = 0.2 * (high - low) or 1.0
            upper.set_ylim(low - room, high + room)
        else:
            upper.plot(when, said["confidence"], color="black", linewidth=0.7, label="confidence")
            upper.set_ylim(0, 1)
        upper.legend(loc="upper left", fontsize="small")
        lower.plot(when, np.maximum(said["raw"], 0), color="tab:red", linewidth=0.7)
        lower.axhline(self._threshold, color="black", linewidth=0.7, linestyle="--")
        lower.set_ylabel("score")
        if value is not None and "p60" in said:
            odds = lower.twinx()
            odds.plot(when, said["p60"], color="tab:orange", linewidth=0.7)
            odds.set_ylim(0, 1)
            odds.set_ylabel("odds within 60 min")
        for page in pages:
            for axes in (upper, lower):
                start, end = (np.float64(t * 1e6).astype("datetime64[us]") for t in (page.start, page.end))
                axes.axvspan(start, end, color="tab:red", alpha=0.25)
        upper.set_title(f"{name}: {len(pages)} pages at score {self._threshold:g} (UTC)", fontsize="medium")
        path = self._out / f"{name}.png"
        figure.savefig(path, dpi=100)
        return path
