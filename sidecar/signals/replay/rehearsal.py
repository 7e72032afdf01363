"""The user's own rules over what was recorded: what Promantis would have announced, and what predict_linear; pure.

Both are judged by one ledger, each sample after the other. predict_linear stands for the rule that people write by
hand: `predict_linear(x[w], 3600)` beyond the limit, and x not yet, for a minute or for five.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.breach import breach
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.known.ledger import (
    ANNOUNCED,
    FALSE,
    LASTING,
    MISSED,
    ODDS,
    REACH,
    Decided,
    Ledger,
    Rule,
    Verdict,
)
from sidecar.signals.known.snapshot import LimitLines, Snapshot
from sidecar.signals.models import f4
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, Bools, Instant

WINDOWS = (("15m", 900.0), ("1h", 3600.0), ("4h", 14400.0))
WAITS = tuple((f"{lasting / 60:g}m", odds) for odds, lasting in zip(ODDS, LASTING[1:], strict=True))[::-2]
"""How long it must say so, and the odds for which an announcement waits as long."""


class Tally(NamedTuple):
    """What was said of a rule: firings announced and missed, false announcements, and seconds ahead of each firing."""

    announced: int = 0
    missed: int = 0
    false: int = 0
    ahead: tuple[float, ...] = ()

    @property
    def fired(self) -> int:
        """How often the rule fired."""
        return self.announced + self.missed

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing was announced and nothing fired."""
        return 2 * self.announced / max(1, 2 * self.announced + self.missed + self.false)


def tally(verdicts: Iterable[Verdict]) -> dict[Rule, Tally]:
    """By rule."""
    out: dict[Rule, list[Verdict]] = {}
    for verdict in verdicts:
        out.setdefault(verdict.rule, []).append(verdict)
    return {
        rule: Tally(
            announced=sum(v.verdict == ANNOUNCED for v in mine),
            missed=sum(v.verdict == MISSED for v in mine),
            false=sum(v.verdict == FALSE for v in mine),
            ahead=tuple(v.ahead for v in mine if v.verdict == ANNOUNCED),
        )
        for rule, mine in out.items()
    }


class Rehearsal:
    """One engine, from its first sample on; what is decided from `since` on counts."""

    def __init__(self, watches: Sequence[Watch], step: float, since: Instant) -> None:
        self.step, self.since = step, since
        self.first: Instant | None = None
        """Time of the first sample."""
        self.ours: list[Verdict] = []
        self.linear: dict[str, list[Verdict]] = {
            f"{window} for {wait}": [] for (window, _), (wait, _) in itertools.product(WINDOWS, WAITS)
        }
        """By window and time for which it must say so."""
        self._watches = {watch.name: watch for watch in watches}
        self._engine = Engine(step)
        self._engine.watch(self._watches)
        self._engine.peers = [Ledger(step, least=0.0) for _ in self.linear]
        self._tails: dict[str, Matrix] = {}
        """The last hours of what was played."""
        self._lines: LimitLines | None = None
        self._op, self._value = np.empty(0, np.int8), np.empty(0)
        self._parts = np.empty(0, np.int64)
        """The column of each part of the lines of rules that ask for several things at once."""

    def play(self, at: F64, answers: Mapping[str, Matrix]) -> None:
        """The next samples of every watch, all at the same times; a watch without an answer has none."""
        told = {name: answers[name] for name in self._watches if name in answers and len(answers[name].at)}
        asked = [_Asked(name, matrix) for name, matrix in told.items()]
        lines = [self._linear(name, matrix) for name, matrix in told.items()]
        # f64[windows, times, series of all watches], then one of which nothing is known
        ahead = np.concatenate([*lines, np.full((len(WINDOWS), len(at), 1), np.nan)], axis=2)
        there = np.any([np.isfinite(matrix.values).any(axis=1) for matrix in told.values()], axis=0)
        column = {
            (name, key): i
            for i, (name, key) in enumerate((n, key) for n, matrix in told.items() for key in matrix.keys)
        }
        place, self._lines = np.empty(0, np.int64), None
        for i in np.flatnonzero(there).tolist():  # where nothing is, it was Prometheus that was away
            now = Instant(float(at[i]))
            self.first = self.first or now
            said = self._engine.tick(now, {one.name: one.at(i) for one in asked}, len(column))
            self.ours += self._counted(said.decided)
            if self._lines is None or self._lines.limit is not said.limits.limit:
                place = self._follow(said, column)
            self._compare(said, ahead[:, i, place], ahead[:, i, self._parts])

    def _follow(self, said: Snapshot, column: Mapping[tuple[str, bytes], int]) -> I64:
        """Take a new limit table; the column of each line, -1 where it has none."""
        lines = self._lines = said.limits
        self._op = np.array([breach.OPS.index(limit.op) for limit in lines.limit], np.int8)
        self._value = np.array([limit.value for limit in lines.limit])

        def place(rows: I64) -> I64:
            found = (column.get((said.watch_of[row], said.keys[row] or b""), -1) for row in rows.tolist())
            return np.fromiter(found, np.int64, len(rows))

        both = self._engine.crossings.together
        self._parts = place(both.of.parts.row) if both else np.empty(0, np.int64)
        return place(lines.row)

    def _compare(self, said: Snapshot, ahead: F64, parts: F64) -> None:
        """What predict_linear would have said, by its values f64[windows, lines] in an hour, and those f64[windows,
        parts] of the parts of rules that ask for several things at once; what is to be equal stays as it is."""
        crossings = self._engine.crossings
        over = said.limits.probability[-1] >= 1
        beyond = [breach.true_now(self._op, self._value, line) for line in ahead]
        if both := crossings.together:
            of, equal = both.of, breach.SIGN[both.of.parts.op] == 0
            for line, one in zip(beyond, parts, strict=True):
                line[of.lines] = of.every(
                    np.where(equal, both.held, breach.true_now(of.parts.op, of.parts.value, one))
                )
        known, began = crossings.known, crossings.marks.began
        pairs = itertools.product(beyond, WAITS)
        for peer, (line, (_, odds)), verdicts in zip(
            self._engine.peers, pairs, self.linear.values(), strict=True
        ):
            p = np.where(over, f4(1), np.where(line, odds, f4(0)))
            verdicts += self._counted(peer.tick(said.at, p, known, began))

    def _counted(self, decided: Decided) -> list[Verdict]:
        return decided.each() if decided.at >= self.since else []

    def _linear(self, name: str, matrix: Matrix) -> F64:
        """What predict_linear says of an hour from each time on f64[windows, times, series]."""
        tail = self._tails.get(name, Matrix(matrix.keys, matrix.at[:0], matrix.values[:0]))
        place = {key: i for i, key in enumerate(tail.keys)}
        before = np.full((len(tail.at), len(matrix.keys)), np.nan)
        both = [(i, place[key]) for i, key in enumerate(matrix.keys) if key in place]
        if both:
            to, was = np.array(both).T
            before[:, to] = tail.values[:, was]
        at, values = np.concatenate([tail.at, matrix.at]), np.concatenate([before, matrix.values])
        late = at > at[-1] - WINDOWS[-1][1]
        self._tails[name] = Matrix(matrix.keys, at[late], values[late])
        return np.stack([predict_linear(at, values, window)[len(tail.at) :] for _, window in WINDOWS])


class _Asked:
    """The answer of a watch, time by time."""

    def __init__(self, name: str, matrix: Matrix) -> None:
        self.name, self._matrix = name, matrix
        self._gone: Bools = np.isnan(matrix.values)
        self._some: F64 = self._gone.sum(axis=1)
        self._mask, self._keys, self._there = np.empty(0, bool), matrix.keys, np.empty(0, np.int64)

    def at(self, i: int) -> Vector:
        """As an instant query; what has no sample is not there."""
        if not self._some[i]:
            return Vector(self._matrix.keys, self._matrix.values[i])
        if not np.array_equal(self._mask, self._gone[i]):
            self._mask = self._gone[i]
            self._there = np.flatnonzero(~self._mask)
            self._keys = [self._matrix.keys[j] for j in self._there.tolist()]
        return Vector(self._keys, self._matrix.values[i, self._there])


def predict_linear(at: F64, values: F64, window: float, ahead: float = REACH) -> F64:
    """Prometheus' function of that name at each time, from the samples of the window before it, both f64[times,
    series]; NaN where there are fewer than two.

    >>> predict_linear(np.arange(3.0) * 60, np.array([[1.0], [2.0], [4.0]]), 120.0, 60.0).ravel().round(9).tolist()
    [nan, 3.0, 6.0]
    """
    if not len(at):
        return values.copy()
    good: Bools = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        middle = np.where(good, values, 0).sum(0) / np.maximum(
            good.sum(0), 1
        )  # sums of large values lose digits
    t, v = (at - at.mean())[:, None], np.where(good, values - middle, 0)
    sums = [
        np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(x, axis=0)])
        for x in (good, good * t, good * t * t, v, v * t)
    ]
    first, last = np.searchsorted(at, at - window, side="right"), np.arange(1, len(at) + 1)
    n, st, stt, sv, svt = (x[last] - x[first] for x in sums)
    with np.errstate(all="ignore"):
        slope = (n * svt - st * sv) / (n * stt - st * st)
        out: F64 = middle + (sv - slope * st) / n + slope * (t + ahead)
    return np.where(n >= 2, out, np.nan)
