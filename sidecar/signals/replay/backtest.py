"""The engine over recorded history, strictly one sample after the other: what would have been said; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.signals.detect.block import WARM
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.models import Array
from sidecar.signals.models.season import WEEK
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.calendar import UTC
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, HORIZONS, I64, Bools, Instant

PROBABILITY_OF = {name: f"p{name[:-1]}" for name, _ in HORIZONS}
"""Columns beside those of a snapshot where the watch has a limit: how likely it is crossed within each horizon."""
PHASE = 50  # rows that the phase of a clock is the mean of
GAP = 2  # steps between two runs over the threshold that are one page


class Recording(NamedTuple):
    """Series of one clock: times f64[rows], ascending but perhaps repeated, and values f64[rows, series]."""

    name: str
    at: F64
    values: F64
    keys: Sequence[bytes] = ()
    """Label objects of the series where they have any: then a sample that is not there is an absence, and a series
    may be the successor of another one. Else it is a gap of the recording."""

    @property
    def step(self) -> float:
        """Usual seconds between the first rows, which are not scored yet: what is said of none depends on later ones.
        On the minute or second if it is nearly so; 60 where there is only one row."""
        gaps = np.diff(self.at)
        gaps = gaps[gaps > 0][:WARM]
        step = float(np.median(gaps)) if len(gaps) else 60.0
        near = (max(1, round(step / unit)) * unit for unit in (60.0, 5.0, 1.0))
        return next((whole for whole in near if abs(step - whole) < whole / 50), step)


def run(
    recordings: Sequence[Recording],
    step: float,
    columns: Sequence[str],
    settings: Watch | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[dict[str, Array]]:
    """What the engine says at each row, before it has seen any later one: f[rows, series] per column and recording.

    Recordings of one step run together as columns of one engine, watched as `settings` says. Clocks
    that lie weeks apart are moved onto one another by whole weeks, so that hour and weekday stay (in UTC: other zones
    change their clocks between), and their phases onto one grid; of samples of one tick the first counts. What is said
    of a recording is the same whichever others run beside it, save forecasts: these have a regression in common.
    `progress` is told the share that is done, tick by tick.
    """
    watch = msgspec.structs.replace(settings or Watch("backtest", "", "config", step), step=step)
    first = min(float(r.at[0]) for r in recordings)
    base = math.floor(first / WEEK) * WEEK  # on no file's clock, so that each is told alone as together
    ticks = [_ticks(r, base, step, watch.tz == UTC) for r in recordings]
    keys = [list(r.keys) or _nameless(i, r) for i, r in enumerate(recordings)]
    every = [key for mine in keys for key in mine]
    firsts = np.concatenate([[0], np.cumsum([len(mine) for mine in keys])]).astype(int)
    vanishing = np.repeat([len(r.keys) > 0 for r in recordings], np.diff(firsts))
    out = [{name: np.full(r.values.shape, np.nan) for name in columns} for r in recordings]
    engine, at_row, place = Engine(step), [0] * len(recordings), _Places(every)
    engine.watch({watch.name: watch})
    every_tick = np.unique(np.concatenate(ticks))
    for done, tick in enumerate(every_tick.tolist()):
        progress(done / len(every_tick))
        x, here = np.full(len(every), np.nan), list[tuple[int, int, int]]()
        for i, r in enumerate(recordings):
            lo = hi = at_row[i]
            while hi < len(ticks[i]) and ticks[i][hi] == tick:
                hi += 1
            if hi > lo:
                x[firsts[i] : firsts[i + 1]] = r.values[lo]
                here.append((i, lo, hi))
                at_row[i] = hi
        snapshot = engine.tick(
            Instant(base + tick * step), {watch.name: _answer(every, x, vanishing)}, len(every)
        )
        rows = place.rows(engine)
        known, told = rows >= 0, {**snapshot.columns, **(_odds(snapshot) if watch.limits else {})}
        for name in columns:
            said = np.where(known, told[name][rows], np.nan)
            for i, lo, hi in here:
                out[i][name][lo:hi] = said[firsts[i] : firsts[i + 1]]
    return out


def _odds(said: Snapshot) -> dict[str, Array]:
    """Odds by row."""
    out = {name: np.full(len(said.keys), np.nan, np.float32) for name in PROBABILITY_OF.values()}
    for column, p in zip(out.values(), said.limits.probability, strict=True):
        column[said.limits.row] = p
    return out


def _nameless(number: int, r: Recording) -> list[bytes]:
    return [b'{"file":"%d","column":"%d"}' % (number, j) for j in range(r.values.shape[1])]


def _ticks(r: Recording, base: float, step: float, move: bool) -> I64:
    """Number of the tick of each row. Samples come somewhere around a phase of the step, which is followed row by row:
    no row's tick depends on a later one."""
    times, rows = np.unique(r.at, return_inverse=True)
    since = (times - base - (np.floor((r.at[0] - base) / WEEK) * WEEK if move else 0)) / step
    phase, tick, ticks = float(since[0] - np.round(since[0])), -math.inf, list[float]()
    for n, x in enumerate(since.tolist(), 1):
        tick = max(tick, float(round(x - phase)))
        ticks.append(tick)
        phase += min(max(x - phase - tick, -0.5), 0.5) / min(n, PHASE)
        phase -= math.trunc(phase)  # of a clock that runs fast or slow one tick is left out or doubled
    return np.asarray(ticks, np.int64)[rows]


def _answer(keys: list[bytes], x: F64, vanishing: Bools) -> Vector:
    """What a query would have answered: NaN is a sample that nothing can be said of, what vanished is not there."""
    gone = vanishing & np.isnan(x)
    if not gone.any():
        return Vector(keys, x)
    there = np.flatnonzero(~gone)
    return Vector([keys[i] for i in there.tolist()], x[there])


class _Places:
    """Rows of the series; looked up anew only when one came or went."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys, self._stamp, self._rows = keys, object(), np.empty(0, np.int64)

    def rows(self, engine: Engine) -> I64:
        view = engine.table.view()
        if view is not self._stamp:
            self._stamp = view
            self._rows = engine.table.find(next(iter(engine.watches)), self._keys)
        return self._rows


class Page(NamedTuple):
    """A run of scores over the threshold: the row of its peak, its first time, its end and its peak."""

    row: int
    start: float
    end: float
    peak: float


def pages(at: F64, score: Array, threshold: float, step: float) -> list[Page]:
    """What would have paged; runs that lie `GAP` steps apart or closer are one."""
    over = np.flatnonzero(np.nan_to_num(score, nan=-np.inf) >= threshold)
    found = []
    for rows in (
        np.split(over, np.flatnonzero(np.diff(at[over]) > GAP * step + 1e-6) + 1) if len(over) else ()
    ):
        top = rows[np.argmax(score[rows])]
        found.append(Page(int(top), float(at[rows[0]]), float(at[rows[-1]] + step), float(score[top])))
    return found


def count(at: F64, score: Array, threshold: float, step: float) -> int:
    """How many pages there would have been."""
    over = at[np.nan_to_num(score, nan=-np.inf) >= threshold]
    return int(len(over) > 0) + int((np.diff(over) > GAP * step + 1e-6).sum())
