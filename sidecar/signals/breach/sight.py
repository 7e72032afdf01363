"""What is known of the rows that limits are on, gathered line by line from the models of their blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from sidecar.signals.detect import scales
from sidecar.signals.detect.block import Block
from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, F64, HORIZONS, I64, Bools

Spans = Sequence[tuple[int, int, Block]]


class Sight(Columns):
    """What is known of each line's row now, seen from the limit."""

    fields: ClassVar = {
        "sigma": Field((len(HORIZONS),)),
        "slope": Field(),
        "trend": Field(),
        "known": Field(dtype=np.bool_),
    }
    sigma: F32
    slope: F32
    """In an hour."""
    trend: F32
    known: Bools
    """For a day at least."""


def _blocks(spans: Spans, row: I64) -> Iterator[tuple[Block, I64 | slice, I64]]:
    """Each block with which of some rows are its, and their numbers there; rows of limit lines ascend."""
    ordered = bool((np.diff(row) >= 0).all())
    for lo, hi, block in spans:
        if ordered:
            part = slice(*np.searchsorted(row, (lo, hi)).tolist())
            if part.start != part.stop:
                yield block, part, row[part] - lo
        elif len(some := np.flatnonzero((row >= lo) & (row < hi))):
            yield block, some, row[some] - lo


def look(spans: Spans, row: I64, sign: F32) -> Sight:
    """Of rows i64[lines] whose limits lie above (1) or below (-1)."""
    sight = Sight(len(row))
    for block, part, mine in _blocks(spans, row):
        sight.sigma[:, part] = block.intervals.sigma[:, mine]
        sight.slope[part] = sign[part] * block.ahead.recent.slope[mine]
        sight.trend[part] = block.ahead.trend.told[mine]
        sight.known[part] = block.life.age[mine] >= 1
    return sight


class Scale:
    """Values of rows as heights over their limits, on the scales of their rows."""

    def __init__(self, row: I64, sign: F32, value: F64) -> None:
        self.row, self.sign, self._value = row, sign, value
        self.unit, self.level = np.zeros(len(row), f4), np.zeros(len(row))

    def survey(self, spans: Spans) -> None:
        """Take the rows' scales as they are now, and so where the limits lie."""
        for block, part, mine in _blocks(spans, self.row):
            self.unit[part] = block.life.unit[mine]
        self.level = self.sign * scales.there(self._value, self.unit)

    def height(self, values: F64, lines: I64 | slice = slice(None)) -> F64:
        """How far values f64[lines] are over the limits of some lines."""
        out: F64 = self.sign[lines] * scales.there(values, self.unit[lines]) - self.level[lines]
        return out

    def week(self, spans: Spans, ahead: int) -> F32:
        """How far each line was, so many blocks after now, a week ago f32[lines]; -inf: it is not known."""
        out = np.full(len(self.row), -np.inf, f4)
        for block, part, mine in _blocks(spans, self.row):
            value = block.ahead.before(7, ahead)[mine].astype(np.float64) + block.life.origin[mine]
            out[part] = np.nan_to_num(self.sign[part] * value - self.level[part], nan=-np.inf, neginf=-np.inf)
        return out

    def arrival(self, spans: Spans, lines: I64) -> F32:
        """In how many seconds the trends of the rows of some lines reach their limits f32[lines]; NaN: they lead
        elsewhere."""
        out = np.full(len(lines), np.nan, f4)
        for block, part, mine in _blocks(spans, self.row[lines]):
            trend, sign = block.ahead.trend, self.sign[lines[part]]
            rate, here = sign * trend.slope[mine], trend.level[mine] + block.life.origin[mine]
            with np.errstate(all="ignore"):
                out[part] = np.where(rate > 0, (self.level[lines[part]] - sign * here) / rate, np.nan)
        return out
