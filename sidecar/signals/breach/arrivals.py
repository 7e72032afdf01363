"""Between which times a crossing comes, if it comes within the hour: learned from those that came.

A time is off by a part of what the forecast may be off by, over how fast the limit is approached. How many such parts
crossings came early or late is counted over all lines of a fleet, apart for times that are near and far; the interval
goes from its first tenth to its last (a conformal interval, as those of the forecasts are).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sidecar.signals.models import Array, f4
from sidecar.types import F32, F64, HORIZONS, I64, Bools

SOONEST, LATEST = 0.1, 0.9
_BORDERS = np.array([h for _, h in HORIZONS[:-1]], f4)
_EDGES = np.sinh(np.linspace(-5, 5, 101)) / 4
"""Of the parts that are counted apart: about 18 either way."""
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2
PRIOR = 50.0  # crossings for which the first guess counts: as wide as the forecast's own interval
KEEP = 0.999  # of what was counted, per crossing
_GUESS = np.exp(-np.abs(_MIDDLES) * 1.6) * np.diff(_EDGES)  # nine in ten are off by less than 1.44
_FIRST = np.tile(PRIOR * _GUESS / _GUESS.sum(), (len(HORIZONS), 1))


class Arrivals:
    """Counts f64[near, mid and far, parts] of one engine, and what was said at the last origins."""

    def __init__(self, ring: int, step: float) -> None:
        self.counts = _FIRST.copy()
        self._ring, self._step = ring, step
        self.follow(0)

    def follow(self, lines: int) -> None:
        """Begin anew with so many lines; what was counted stays."""
        self._at = np.full(self._ring, np.nan)
        self._eta = np.full((self._ring, lines), np.nan, f4)
        self._unit = np.ones((self._ring, lines), f4)
        self._first = np.full(lines, np.nan)
        """When each line crossed in the block that lasts; NaN: it did not."""

    def note(self, at: float, over: Bools) -> None:
        """Which conditions hold now."""
        np.copyto(self._first, at, where=over & np.isnan(self._first))

    def between(self, eta: F32, away: F32, sigma: F32) -> tuple[F32, F32, F32]:
        """Of times f32[lines] of lines that are so far `away` from their limit, with deviations f32[3, lines] of the
        forecasts at the horizons: the soonest and the latest, and the unit in which each time is off."""
        kind = _kind(eta)
        with np.errstate(all="ignore"):
            part = np.take_along_axis(sigma, kind[None], axis=0)[0] / away
        unit = eta * np.clip(np.nan_to_num(part, nan=1.0), 0, 1)
        unit += f4(self._step / 2)  # it is seen at a sample
        soonest, latest = eta + unit * self._ends()[:, kind].astype(f4)
        latest = np.maximum(np.minimum(latest, f4(HORIZONS[-1][1])), eta)
        return np.clip(soonest, 1, eta), latest, unit

    def _ends(self) -> F64:
        """Where a tenth of the counts lies below and above f64[2, near, mid and far]."""
        whole = np.cumsum(self.counts, axis=1)
        return np.array(
            [
                [np.interp(part * row[-1], np.concatenate([[0.0], row]), _EDGES) for row in whole]
                for part in (SOONEST, LATEST)
            ]
        )

    def turn(self, at: float, slot: int, kept: bool) -> None:
        """A block has ended, and the one that begins has a `slot`: count who crossed. If something is not known of the
        time between, nothing is `kept`."""
        crossed = np.flatnonzero(~np.isnan(self._first)) if kept else np.empty(0, np.int64)
        if len(crossed):
            self._count(crossed)
            self._eta[:, crossed] = np.nan
        if not kept:
            self._eta[:] = np.nan
        self._first[:] = np.nan
        self._at[slot], self._eta[slot] = at, np.nan

    def said(self, slot: int, lines: I64, eta: F32, unit: F32) -> None:
        """Keep what was said at an origin."""
        self._eta[slot, lines], self._unit[slot, lines] = eta, unit

    def _count(self, lines: I64) -> None:
        eta, unit = self._eta[:, lines], self._unit[:, lines]
        took = self._first[lines] - self._at[:, None]
        some = ~np.isnan(eta) & (took > 0) & (took <= HORIZONS[-1][1])
        if not some.any():
            return
        kind = _kind(eta[some])
        off = (took[some] - eta[some]) / unit[some]
        place = np.clip(np.searchsorted(_EDGES, off) - 1, 0, len(_MIDDLES) - 1)
        new = np.zeros_like(self.counts)
        np.add.at(new, (kind, place), 1.0)
        self.counts *= KEEP ** new.sum(1, keepdims=True)
        self.counts += new

    def absorb(self, other: Arrivals) -> None:
        """Take in what was counted apart."""
        self.counts[:] = np.maximum(self.counts + other.counts - _FIRST, 0)

    def state(self) -> dict[str, Array]:
        """What has to be saved."""
        return {"arrivals": self.counts}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave, where it was saved; ValueError when it does not fit."""
        counts = state.get("arrivals", self.counts)
        if counts.shape != self.counts.shape:
            raise ValueError(f"arrivals: {counts.shape} does not fit")
        self.counts[:] = counts


def _kind(eta: F32) -> I64:
    """Which of the counts each time is of."""
    return np.searchsorted(_BORDERS, eta)
