"""What each five minutes of the week were, for seven days, and the median of the days: the season of the forecasts.

A number is two bytes: how many units of its row lie between it and the row's offset. The unit begins at a small share
of the usual deviation, doubles when a value would not fit, and is refined once what was so far away has left the week.
Slots are of local time, so that the profile keeps to the wall clock (research/forecast.md, section 3).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from sidecar.signals.models import FEW, Array, Columns, Field, f4
from sidecar.types import F32, I64

DAYS = 7
MOST = 32765  # units: 0 is no value, and two more are needed at the ends
FINE = f4(1 / 128)  # of the usual deviation: the first unit
COARSE = f4(1 / 16)  # of it: a unit above is refined when it can be
# sorting networks: pairs that are put in order, so that the middle one is the median
NET5 = ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2))
NET7 = (
    *((0, 6), (2, 3), (4, 5), (0, 2), (1, 4), (3, 6), (0, 1), (2, 5)),
    *((3, 4), (1, 2), (4, 6), (2, 3), (4, 5), (1, 2), (3, 4), (5, 6)),
)

Codes = np.typing.NDArray[np.int16]


def median(rows: Sequence[F32] | F32, net: Sequence[tuple[int, int]]) -> F32:
    """Median f32[rows] of 5 or 7 columns; NaN count as very large and very small in turn, all NaN gives NaN.

    >>> columns = np.array([[5, 1], [np.nan, 1], [1, np.nan], [3, np.nan], [4, np.nan]], np.float32)
    >>> median(list(columns), NET5).tolist()
    [4.0, 1.0]
    """
    sorted_, odd = list(rows), np.zeros(rows[0].shape, bool)
    for i, row in enumerate(rows):
        bad = np.isnan(row)
        if bad.any():
            odd ^= bad
            sorted_[i] = np.where(bad, np.where(odd, f4(np.inf), f4(-np.inf)), row)
    return _middle(sorted_, net, f4(np.inf), f4(np.nan))


def _middle(rows: list[Array], net: Sequence[tuple[int, int]], most: np.generic, none: np.generic) -> Array:
    if rows[0].size <= FEW:
        middle: Array = np.sort(np.stack(rows), axis=0)[len(rows) // 2]
    else:
        for i, j in net:
            rows[i], rows[j] = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
        middle = rows[len(rows) // 2]
    return np.where(np.abs(middle) < most, middle, none)


class Profile(Columns):
    """Seven days of blocks for each row, relative to its origin."""

    fields: ClassVar = {}
    slots: ClassVar[int]
    week: Codes
    """[7 * slots, rows]; 0: no value."""
    offset: F32
    unit: F32
    """0: nothing was stored, because nothing ever moved."""

    def put(self, slot: int, x: F32, scale: F32) -> None:
        """Store the block `slot` (of local time) f32[rows]; NaN leaves what is there. `scale`: usual deviation."""
        there = ~np.isnan(x)
        new = there & (self.unit == 0) & (scale > 0)
        if new.any():
            np.copyto(self.offset, x, where=new)
            np.copyto(self.unit, FINE * scale, where=new)
        code = (x - self.offset) / self.unit
        wide = np.flatnonzero(there & (np.abs(code) > MOST) & (self.unit > 0))
        if len(wide):
            self._coarsen(wide, np.ceil(np.log2(np.abs(code[wide]) / f4(MOST))))
            code[wide] = (x[wide] - self.offset[wide]) / self.unit[wide]
        np.rint(code, out=code)
        code += code >= 0
        there &= self.unit > 0
        np.copyto(self.week[slot % len(self.week)], code, where=there, casting="unsafe")
        if slot % self.slots == 0:
            self._refine(np.flatnonzero(self.unit > COARSE * scale), scale)

    def get(self, slot: int | I64) -> F32:
        """What was stored in a slot f32[rows], or in each of some f32[slots, rows]; NaN where nothing was."""
        return self._values(self.week[slot % len(self.week)])

    def usual(self, slot: int) -> F32:
        """Median f32[rows] of the seven days before a slot, at its time of the day."""
        days, odd = list[Codes](), np.zeros(self.rows, bool)
        for day in range(1, DAYS + 1):
            codes = self.week[(slot - day * self.slots) % len(self.week)]
            none = codes == 0
            if none.any():
                odd ^= none
                codes = np.where(none, np.where(odd, np.int16(32767), np.int16(-32767)), codes)
            days.append(codes)
        return self._values(_middle(days, NET7, np.int16(32767), np.int16(0)))

    def _values(self, codes: Codes) -> F32:
        out = codes.astype(f4)
        out -= codes > 0
        out *= self.unit
        out += self.offset
        np.copyto(out, f4(np.nan), where=codes == 0)
        return out

    def _coarsen(self, rows: I64, doublings: F32) -> None:
        factor = np.exp2(doublings)
        self._scale(rows, f4(1) / factor)
        self.unit[rows] *= factor

    def _refine(self, rows: I64, scale: F32) -> None:
        """Take smaller units where the week has become narrower than they allow."""
        rows = rows[self.unit[rows] > 0]
        if not len(rows):
            return
        most = np.abs(self.week[:, rows]).max(0) + f4(1)
        fits, wanted = np.floor(np.log2(f4(MOST) / most)), np.log2(self.unit[rows] / (FINE * scale[rows]))
        halvings = np.minimum(fits, np.floor(wanted))
        some = halvings >= 1
        factor = np.exp2(halvings[some])
        self._scale(rows[some], factor)
        self.unit[rows[some]] /= factor

    def _scale(self, rows: I64, factor: Array) -> None:
        codes = self.week[:, rows]
        value = np.rint((codes - (codes > 0)) * factor)
        value += value >= 0
        self.week[:, rows] = np.where(codes == 0, 0, value)

    def copy_rows(self, to: I64, source: Columns, rows: I64) -> None:
        """Overwrite our rows; of slots that nobody uses no memory is touched."""
        assert isinstance(source, Profile)
        self.offset[to], self.unit[to] = source.offset[rows], source.unit[rows]
        for slot in np.flatnonzero(source.week.any(1) | self.week.any(1)):
            self.week[slot, to] = source.week[slot, rows]


@functools.cache
def of(slots: int) -> type[Profile]:
    """The profile of so many blocks a day.

    >>> of(288)(1).week.nbytes
    4032
    """
    fields: Mapping[str, Field] = {
        "week": Field((DAYS * slots,), 0, np.int16),
        "offset": Field(),
        "unit": Field(),
    }
    return type("Profile", (Profile,), {"fields": fields, "slots": slots})
