"""The curve of a week, from one pass over a past: what is usual at each five minutes of it."""

from __future__ import annotations

import numpy as np

from sidecar.signals.models.fitted import GRID, WEEK
from sidecar.types import F64, I64

DAY = round(86400 / GRID)
WIDTHS = (1, 3, 7, 13, 25, DAY)
"""Slots over which a curve may be smoothed."""
WEEKS = 2
"""Of past from which weekdays are told apart."""


def week(values: F64, slot: I64) -> F64:
    """The usual value f64[WEEK]: the median of the days, and from `WEEKS` on what each weekday adds, by the hour.

    It is as smooth as was best for days that it was not made of, down to a line where there is no season at all.

    >>> slot = np.arange(3 * DAY) % WEEK
    >>> week(np.sin(slot / DAY * 2 * np.pi), slot)[1:4].round(3).tolist()
    [0.022, 0.044, 0.065]
    """
    day = np.full((DAY, -(-len(values) // DAY) + 1), np.nan)
    order = np.argsort(slot % DAY, kind="stable")
    place = slot[order] % DAY
    nth = np.arange(len(place)) - np.searchsorted(place, place)
    day[place, np.minimum(nth, day.shape[1] - 1)] = values[order]
    halves = [day[:, ::2], day[:, 1::2]]
    usual = [_median(half) for half in halves]
    errors = [
        sum(
            float(np.nansum(np.abs(there.T - _smooth(mine, width))))
            for mine, there in zip(usual, halves[::-1], strict=True)
        )
        for width in WIDTHS
    ]
    median = _smooth(_median(day), WIDTHS[int(np.argmin(errors))])
    out = np.tile(median, WEEK // DAY)
    if len(values) < WEEKS * WEEK:
        return out
    left, hour = values - out[slot], slot * 168 // WEEK
    for h in np.unique(hour).tolist():
        mine = left[hour == h]
        weeks = np.isfinite(mine).sum() / (WEEK / 168)
        if weeks >= 1:
            out[h * WEEK // 168 : (h + 1) * WEEK // 168] += np.nanmedian(mine) * weeks / (weeks + 1)
    return out


def _median(day: F64) -> F64:
    """Of the days f64[slots, days], bridged where nothing is known."""
    known = ~np.isnan(day).all(axis=1)
    if not known.any():
        return np.full(len(day), np.nan)
    median = np.nanmedian(day[known], axis=1)
    out: F64 = np.interp(np.arange(len(day)), np.flatnonzero(known), median, period=len(day))
    return out


def _smooth(curve: F64, width: int) -> F64:
    """Mean of so many neighbours, around the clock."""
    if width >= len(curve):
        return np.full(len(curve), np.median(curve))
    half = width // 2
    padded = np.concatenate([curve[len(curve) - half :], curve, curve[:half]])
    out: F64 = np.convolve(padded, np.full(width, 1 / width), "valid")
    return out
