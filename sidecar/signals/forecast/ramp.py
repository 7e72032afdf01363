"""How steep a trend is that began lately, and how long ago that was.

Means over longer times lag behind a ramp, and at first all lag less than they will: a slope from how far two of them
lie apart says a half of the truth, or less, until the slower one has seen the ramp for its whole time. How much less
depends on the ramp's age alone. So age and slope are sought together, by least squares over the slopes of all pairs of
means, each in units of what it usually is in this series.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from sidecar.signals.models import f4
from sidecar.types import F32

AGES = np.array([*np.geomspace(45.0, 21600.0, 60), np.inf])
"""Seconds; older ones have no age."""


class Ramp(NamedTuple):
    """Of some rows f32[rows]: where each stands now, free of the noise of one sample, its slope in a second, and for
    how many seconds it has been so."""

    level: F32
    slope: F32
    age: F32


@functools.lru_cache(256)
def lag(step: float, tau: float) -> float:
    """By how many seconds an EWMA with time constant `tau` trails a ramp that has always been."""
    decay = np.exp(-step / tau)
    return float(step * decay / (1 - decay))


@functools.cache
def _trails(step: float, taus: tuple[float, ...]) -> F32:
    """By how many seconds each EWMA trails a ramp of each age f32[taus, AGES]."""
    young = 1 - np.exp(-AGES / np.array(taus)[:, None])
    out: F32 = (np.array([[lag(step, tau)] for tau in taus]) * young).astype(f4)
    return out


def fit(means: F32, slopes: F32, usual: F32, taus: tuple[float, ...], step: float) -> Ramp:
    """Of rows with EWMAs f32[taus, rows], from the slopes of the first pairs of them and their usual sizes
    f32[pairs, rows]."""
    trails, n = _trails(step, taus), len(slopes)
    seen = np.diff(trails, axis=0)[:n] / np.diff(trails[:, -1:], axis=0)[:n]
    """Share of the slope that each pair shows at each age."""
    weight = usual.astype(np.float64) ** -2  # of what never moved it is beyond float32
    along, known = seen.T @ (slopes * weight), (seen**2).T @ weight
    best, row = (along**2 / known).argmax(0), np.arange(slopes.shape[1])
    slope = (along[best, row] / known[best, row]).astype(f4)
    return Ramp(means[0] + slope * trails[0, best], slope, AGES[best].astype(f4))
