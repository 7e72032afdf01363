"""Charts as SVG that need no script: a series with its band, what an action changed, odds against the truth; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np

from sidecar.signals.known.picture import Picture
from sidecar.signals.learn.accounts import Odds
from sidecar.types import F64, HORIZONS, Bools, Finding
from sidecar.web.shown import amount, number, percent

WIDTH, HEIGHT = 720.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 8.0, 10.0, 24.0
REACH = dict(HORIZONS)
TIMES = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800)
"""Seconds between two times on the axis, of which the least that leaves room is taken."""


class Tick(NamedTuple):
    """A number or a time at an axis."""

    place: float
    text: str
    at: float | None = None
    """Of a time: unix seconds."""


class Span(NamedTuple):
    """A time in which the score was 1 or more."""

    x: float
    width: float


class Ahead(NamedTuple):
    """A forecast that is still to come true."""

    x: float
    value: float
    lower: float
    upper: float
    text: str


class Mark(NamedTuple):
    """Something that happened."""

    at: float
    text: str


class Placed(NamedTuple):
    """A mark on the chart."""

    x: float
    text: str


class Chart(NamedTuple):
    """Everything in the units of the drawing; paths as SVG writes them, empty where there is nothing."""

    value: str
    expected: str
    said: str
    band: str
    limits: tuple[float, ...]
    """Of the alerts on it that are not far away."""
    odd: tuple[Span, ...]
    ahead: tuple[Ahead, ...]
    marks: tuple[Placed, ...]
    now: float
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


class Comparison(NamedTuple):
    """What an action changed: the target's series, those that were left alone, and the limit to come below or above."""

    ours: tuple[str, ...]
    others: tuple[str, ...]
    limit: float
    marks: tuple[Placed, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


class Ours(Protocol):
    """A series of what is compared."""

    @property
    def ours(self) -> bool: ...
    @property
    def values(self) -> F64: ...


class _Axes(NamedTuple):
    """Where times and values lie."""

    start: float
    end: float
    low: float
    high: float

    @classmethod
    def of(cls, start: float, end: float, known: F64) -> _Axes:
        """With room for these values, from 0 where that is near."""
        low, high = float(known.min()), float(known.max())
        room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        return cls(start, end, 0.0 if 0 <= low < 0.3 * high else low - room, high + room)

    def x(self, at: float) -> float:
        return round(LEFT + (at - self.start) / (self.end - self.start) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        return round(TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, xs: Sequence[float], values: F64) -> str:
        """A path with gaps where nothing is known."""
        return "".join(
            f"{'M' if i == 0 or not math.isfinite(values[i - 1]) else 'L'}{xs[i]} {self.y(float(values[i]))}"
            for i in np.flatnonzero(np.isfinite(values)).tolist()
        )

    def placed(self, marks: Sequence[Mark]) -> tuple[Placed, ...]:
        return tuple(Placed(self.x(m.at), m.text) for m in marks if self.start <= m.at <= self.end)

    def rows(self, text: Callable[[float], str] = number) -> tuple[Tick, ...]:
        return tuple(Tick(self.y(v), text(v)) for v in _round(self.low, self.high))

    def columns(self) -> tuple[Tick, ...]:
        return tuple(Tick(self.x(t), text, t) for t, text in times(self.start, self.end))


def compared(at: F64, lines: Sequence[Ours], limit: float, marks: Sequence[Mark] = ()) -> Comparison | None:
    """What a verification compares; None when there is not one value."""
    known = np.concatenate([np.empty(0), *(line.values for line in lines)])
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    end = max(float(at[-1]), *(m.at for m in marks), 0.0)  # what has just happened is not on the grid yet
    axes = _Axes.of(float(at[0]), end, np.append(known, limit))
    xs = [axes.x(float(t)) for t in at]
    return Comparison(
        tuple(axes.line(xs, line.values) for line in lines if line.ours),
        tuple(axes.line(xs, line.values) for line in lines if not line.ours),
        axes.y(limit),
        axes.placed(marks),
        axes.rows(),
        axes.columns(),
    )


def drawn(picture: Picture, finding: Finding, marks: Sequence[Mark] = ()) -> Chart | None:
    """The chart; None when there is not one value or band to draw."""
    start, now = float(picture.at[0]), float(picture.at[-1])
    coming = [c for c in finding.forecasts if c.horizon in REACH]
    lower, upper = (
        np.append(picture.lower, [finding.lower] * 2),
        np.append(picture.upper, [finding.upper] * 2),
    )
    shown = [picture.value, lower, upper, picture.said]
    known = np.concatenate([*shown, [x for c in coming for x in (c.value, c.lower, c.upper)]])
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    end = now + max((REACH[c.horizon] for c in coming), default=0.0)
    low, high = float(known.min()), float(known.max())
    room = high - low or abs(high)  # a limit that is further away would press the rest flat
    limits = sorted({b.value for b in finding.breaches if low - room <= b.value <= high + room})
    axes = _Axes.of(start, end, np.append(known, limits))
    x, y = axes.x, axes.y
    xs = [x(float(at)) for at in picture.at]
    step = float(picture.at[1] - picture.at[0]) if len(picture.at) > 1 else 0.0

    return Chart(
        value=axes.line(xs, picture.value),
        expected=axes.line(xs, picture.expected),
        said=axes.line(xs, picture.said),
        band=_band([*xs, x(now), x(end)], [(y(a), y(b)) if math.isfinite(a + b) else None for a, b in
                        zip(lower.tolist(), upper.tolist(), strict=True)]),
        limits=tuple(y(limit) for limit in limits),
        odd=tuple(
            Span(xs[a], max(2.0, round(x(min(float(picture.at[b]) + step, now)) - xs[a], 1)))
            for a, b in runs(picture.score >= 1)
        ),
        ahead=tuple(
            Ahead(
                x(now + REACH[c.horizon]), y(c.value), y(c.lower), y(c.upper),
                f"in {c.horizon}: {number(c.value)} ({number(c.lower)} to {number(c.upper)})",
            )
            for c in coming
        ),
        marks=axes.placed(marks),
        now=x(now),
        rows=axes.rows(lambda value: amount(value, finding)),
        columns=axes.columns(),
    )  # fmt: skip


class Dot(NamedTuple):
    """Odds of one size; the radius grows with their number."""

    x: float
    y: float
    radius: float
    text: str


class Curve(NamedTuple):
    """What came true of the odds of one horizon, by their size."""

    horizon: str
    path: str
    dots: tuple[Dot, ...]


class Diagram(NamedTuple):
    """Reliability: what was said from left to right, what came true upward; honest odds lie on `ideal`."""

    ideal: str
    curves: tuple[Curve, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


def reliability(every: Sequence[Odds]) -> Diagram | None:
    """The diagram of some horizons; None while the truth of no odds has come."""
    if not any(odds.bins for odds in every):
        return None

    square = _Axes(0.0, 1.0, 0.0, 1.0)
    x, y, curves = square.x, square.y, list[Curve]()
    for odds in every:
        dots = tuple(
            Dot(
                x(b.said), y(b.came), round(2 + math.log10(b.count), 1),
                f"within {odds.horizon}: {percent(b.came)} of {b.count} odds of about {percent(b.said)} came true",
            )
            for b in odds.bins
        )  # fmt: skip
        path = "".join(f"{'L' if i else 'M'}{dot.x} {dot.y}" for i, dot in enumerate(dots))
        curves.append(Curve(odds.horizon, path, dots))
    marks = _round(0.0, 1.0)
    return Diagram(
        ideal=f"M{x(0)} {y(0)}L{x(1)} {y(1)}",
        curves=tuple(curves),
        rows=tuple(Tick(y(share), percent(share)) for share in marks),
        columns=tuple(Tick(x(share), percent(share)) for share in marks),
    )


def _band(xs: Sequence[float], edges: Sequence[tuple[float, float] | None]) -> str:
    """A closed shape for each stretch in which both edges are known."""
    known = np.array([edge is not None for edge in edges])
    shapes = []
    for a, b in runs(known):
        there = [(xs[i], edge) for i in range(a, b + 1) if (edge := edges[i]) is not None]
        upper = [f"{x} {top}" for x, (_, top) in there]
        lower = [f"{x} {bottom}" for x, (bottom, _) in reversed(there)]
        shapes.append("M" + "L".join(upper + lower) + "Z")
    return "".join(shapes)


def runs(true: Bools) -> list[tuple[int, int]]:
    """First and last index of each stretch of truth.

    >>> runs(np.array([True, True, False, True]))
    [(0, 1), (3, 3)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _round(low: float, high: float) -> list[float]:
    """Three to six round numbers between two.

    >>> _round(0.0, 1.05), _round(-3.0, 17.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 5.0, 10.0, 15.0])
    """
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next((power * m for m in (1, 2, 5, 10) if (high - low) / (power * m) <= 6), power * 10)
    first = math.ceil(low / step)
    return [round(k * step, 12) for k in range(first, math.floor(high / step) + 1)]


def times(start: float, end: float, most: int = 7) -> list[tuple[float, str]]:
    """Round times between two, and how each is written in UTC."""
    step = next((s for s in TIMES if (end - start) / s <= most), TIMES[-1])
    clock = "%H:%M" if end - start <= 2 * 86400 else "%d %b"
    found = [k * float(step) for k in range(math.ceil(start / step), math.floor(end / step) + 1)]
    return [(at, datetime.fromtimestamp(at, UTC).strftime(clock)) for at in found]
