"""How far out of its usual is each series, in doublings of that usual, so that kinds can be compared? Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidecar.types import F64, Bools, Candidates

TOP = 2  # samples of the window that must be out: one is chance
CAP = 6.0  # doublings: beyond 64 times its usual, more says nothing


class Evidence(NamedTuple):
    """Of each series f64[n]."""

    doublings: F64
    """log2(how far out / what is nothing special for it), 0 when it is within its usual, at most `CAP`."""
    delta: F64
    """The excess in its own unit."""
    least: F64
    """The smallest excess that would have counted."""
    up: Bools
    now: F64
    """Its value in the window, 0 when there is none."""
    since: F64
    """Unix seconds of the first sample that is out, NaN if there is none."""


def evidence(c: Candidates) -> Evidence:
    """Weigh the window against what is usual.

    A series is out as far as its second-largest sample is beyond its level and beyond where it was just before; the
    way that does harm counts, for traffic and the like both.
    """
    sign = c.harm
    with np.errstate(invalid="ignore", divide="ignore"):
        rise = (c.values - np.fmax(c.level, c.just)) / c.scale
        fall = (np.fmin(c.level, c.just) - c.values) / c.scale
        high, low = _nth_largest(rise), _nth_largest(fall)
        up = np.where(sign == 0, high >= low, sign > 0)
        z = np.where(up, high, low)
        z = np.where(np.isfinite(z), np.maximum(z, 0.0), 0.0)
        out = np.where(up, rise, fall) > c.usual
        doublings = np.clip(np.log2(np.maximum(z, 1e-9) / c.usual), 0.0, CAP)
    since = np.full(len(z), np.nan)
    if len(c.at):
        since = np.where(out.any(0), c.at[out.argmax(0)], np.nan)
    scale = np.nan_to_num(c.scale)
    return Evidence(doublings, z * scale, c.usual * scale, up, _now(c.values), since)


def _nth_largest(values: F64) -> F64:
    """The second-largest sample of each column, the only one when there is one; -inf when there is none."""
    n = min(TOP, len(values))
    if not n:
        return np.full(values.shape[1], -np.inf)
    found: F64 = -np.partition(np.where(np.isfinite(values), -values, np.inf), n - 1, axis=0)[n - 1]
    return found


def _now(values: F64) -> F64:
    order = np.sort(values, axis=0)
    count = np.isfinite(order).sum(0)
    if not len(values):
        return np.zeros(values.shape[1])
    columns = np.arange(values.shape[1])
    middle = (
        order[np.maximum(count - 1, 0) // 2, columns] + order[np.minimum(count // 2, len(order) - 1), columns]
    )
    return np.where(count > 0, middle / 2, 0.0)
