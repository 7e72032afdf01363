"""Small drawings that need no script: the last hours of a series as a line, several on one time, odds ahead; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.alerts.scene import Moved
from sidecar.types import F64, HORIZONS, Bools, Breach, Finding
from sidecar.web.chart import Tick, runs, times

WIDTH, HEIGHT, EDGE = 100.0, 28.0, 3.0
"""Of a line's own units, which a page stretches to its room; and what is left free above and below."""
HOURS = 7200.0
"""Seconds that a line shows."""
LEAST, LEAD, MOST = 1800.0, 600.0, 9000.0
"""Seconds that lines on one time show at least, before the first thing moved, and at most."""
HOUR = 3600.0


class Spark(NamedTuple):
    """Paths as SVG writes them, in units of WIDTH and HEIGHT."""

    line: str
    odd: str
    """The part that is out of the usual."""
    top: float
    """Where the band of what is usual begins, and how high it is; 0 and 0 where it is not known."""
    band: float


class Lane(NamedTuple):
    """What one series did."""

    moved: Moved
    spark: Spark | None
    onset: float | None
    """Where it left its usual, in percent of the time shown."""


class Lanes(NamedTuple):
    """Several series on one time; places in percent."""

    rows: Sequence[Lane]
    ticks: Sequence[Tick]


class Track(NamedTuple):
    """The next hour in percent: how sure a breach is in each part of it, and when it is expected."""

    parts: Sequence[tuple[float, float, float]]
    """From, width, probability."""
    eta: float | None


def of(finding: Finding, at: F64, values: F64) -> Spark | None:
    """The last two hours of a series with its band now; None when there is nothing to draw."""
    end = max(float(finding.at), float(at[-1]) if len(at) else 0.0)
    since = finding.since if finding.score >= 1 else None
    return spark(at, values, end - HOURS, end, finding.lower, finding.upper, since)


def spark(
    at: F64,
    values: F64,
    begin: float,
    end: float,
    lower: float = math.nan,
    upper: float = math.nan,
    since: float | None = None,
) -> Spark | None:
    """A line between two times; None with less than two values.

    >>> spark(np.arange(3.0), np.array([0.0, 1.0, 2.0]), 0.0, 2.0).line
    'M0 25L50 14L100 3'
    """
    there = (at >= begin) & (at <= end)
    at, values = at[there], values[there]
    finite = np.isfinite(values)
    if finite.sum() < 2:
        return None
    known = [float(values[finite].min()), float(values[finite].max()), lower, upper]
    known = [one for one in known if math.isfinite(one)]
    low, high = min(known), max(known)
    scale = (HEIGHT - 2 * EDGE) / (high - low) if high > low else 0.0
    ys = np.round(HEIGHT / 2 if not scale else HEIGHT - EDGE - (values - low) * scale, 1) + 0 * values
    xs = np.round((at - begin) / (end - begin) * WIDTH, 1)
    late = np.flatnonzero(at >= since - 60) if since is not None else np.empty(0, np.int64)
    whole = scale and math.isfinite(lower + upper)
    top = round(HEIGHT - EDGE - (upper - low) * scale, 1) if whole else 0.0
    return Spark(
        _line(xs, ys, finite),
        _line(xs[late], ys[late], finite[late]),
        top,
        round(max((upper - lower) * scale, 1.0), 1) if whole else 0.0,
    )


def _line(xs: F64, ys: F64, finite: Bools) -> str:
    return "".join(
        "M" + "L".join(f"{xs[i]:g} {ys[i]:g}" for i in range(a, b + 1)) for a, b in runs(finite) if b > a
    )


def lanes(moved: Sequence[Moved], pasts: Mapping[tuple[str, bytes], tuple[F64, F64]]) -> Lanes | None:
    """What moved when, on one time; None where nothing did, or nothing of it is in memory."""
    onsets = [one.since for one in moved if one.since is not None]
    ends = [float(at[-1]) for at, _ in pasts.values() if len(at)]
    if not moved or not ends:
        return None
    end = max(ends)
    span = min(max(LEAST, end - min(onsets, default=end - HOURS) + LEAD), MOST)
    begin = end - span

    def x(time: float) -> float:
        return round(min(max((time - begin) / span, 0.0), 1.0) * 100, 1)

    rows = []
    for one in moved:
        past = pasts.get((one.watch, one.key))
        drawn = spark(*past, begin, end, since=one.since) if past else None
        rows.append(Lane(one, drawn, x(one.since) if one.since is not None else None))
    return Lanes(rows, [Tick(x(t), text, t) for t, text in times(begin, end, 4)])


def track(breach: Breach) -> Track:
    """The next hour of a limit.

    >>> track(Breach("A", "", ">", 1.0, 0.0, {"15m": 0.2, "60m": 0.9}, 1800.0))
    Track(parts=[(0.0, 25.0, 0.2), (25.0, 75.0, 0.9)], eta=50.0)
    """
    parts, begin = [], 0.0
    for name, seconds in HORIZONS:
        if (p := breach.probability.get(name)) is not None:
            end = seconds / HOUR * 100
            parts.append((begin, end - begin, round(p, 2)))
            begin = end
    eta = None if breach.eta is None or breach.eta > HOUR else round(breach.eta / HOUR * 100, 1)
    return Track(parts, eta)
