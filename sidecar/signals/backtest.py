"""The engine over recorded history, strictly one sample after the other: what would have been said; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.block import Block
from sidecar.signals.models import Array
from sidecar.signals.models.season import WEEK
from sidecar.signals.snapshot import COLUMNS
from sidecar.types import F64, I64, Bools

SIZE = 4096  # rows of a block


class Recording(NamedTuple):
    """Series of one clock: times f64[rows], ascending but perhaps repeated, and values f64[rows, series]."""

    name: str
    at: F64
    values: F64

    @property
    def step(self) -> float:
        """Usual seconds between rows; 60 where there is only one."""
        gaps = np.diff(self.at)
        gaps = gaps[gaps > 0]
        return float(np.median(gaps)) if len(gaps) else 60.0


def run(recordings: Sequence[Recording], columns: Sequence[str]) -> list[dict[str, Array]]:
    """What the engine says at each row, before it has seen any later one: f[rows, series] per column and recording.

    All recordings must have one step; they run together as columns of one engine. Clocks that lie weeks apart are
    moved onto one another by whole weeks, so that hour and weekday stay; of equal times the first sample counts.
    """
    step = recordings[0].step
    base = min(float(r.at[0]) for r in recordings)
    ticks: list[I64] = []
    for r in recordings:
        weeks = np.floor((r.at[0] - base) / WEEK) * WEEK
        ticks.append(np.round((r.at - weeks - base) / step).astype(np.int64))
    widths = [r.values.shape[1] for r in recordings]
    firsts = np.concatenate([[0], np.cumsum(widths)])
    blocks = [Block(min(SIZE, firsts[-1] - lo), step) for lo in range(0, firsts[-1], SIZE)]
    out = [{name: np.full(r.values.shape, np.nan) for name in columns} for r in recordings]
    said = {name: np.full(firsts[-1], np.nan, COLUMNS[name]) for name in COLUMNS}
    at_row = [0] * len(recordings)
    for tick in np.unique(np.concatenate(ticks)).tolist():
        x = np.full(firsts[-1], np.nan)
        here: list[tuple[int, int, int]] = []
        for i, r in enumerate(recordings):
            lo = hi = at_row[i]
            while hi < len(ticks[i]) and ticks[i][hi] == tick:
                hi += 1
            if hi > lo:
                x[firsts[i] : firsts[i + 1]] = r.values[lo]
                here.append((i, lo, hi))
                at_row[i] = hi
        _tick(blocks, base + tick * step, x, said)
        for i, lo, hi in here:
            for name in columns:
                out[i][name][lo:hi] = said[name][firsts[i] : firsts[i + 1]]
    return out


def _tick(blocks: Sequence[Block], at: float, x: F64, said: dict[str, Array]) -> None:
    for n, block in enumerate(blocks):
        rows = slice(n * SIZE, n * SIZE + block.rows)
        trust = np.ones(block.rows, bool)
        # a sample that was not recorded is a gap of the recording, not an absence of the series
        asked: Bools = np.isfinite(x[rows])
        block.tick(at, x[rows], asked, trust, {name: column[rows] for name, column in said.items()})


class Page(NamedTuple):
    """A run of scores over the threshold: first and last time, its peak, and the value there."""

    start: float
    end: float
    peak: float
    value: float


def pages(at: F64, value: Array, score: Array, threshold: float, step: float) -> list[Page]:
    """What would have paged; runs that lie two steps apart or closer are one."""
    over = np.flatnonzero(np.nan_to_num(score, nan=-np.inf) >= threshold)
    if not len(over):
        return []
    cuts = np.flatnonzero(np.diff(at[over]) > 2 * step + 1e-6) + 1
    found = []
    for rows in np.split(over, cuts):
        top = rows[np.argmax(score[rows])]
        found.append(Page(float(at[rows[0]]), float(at[rows[-1]]), float(score[top]), float(value[top])))
    return found
