"""The labels of many series as numbers: who has those of an alert is looked up, or all are compared with it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.signals.ingest import series
from sidecar.types import I64, Labels

FEW = 32
"""Rows that are looked at one by one."""


class Alike(NamedTuple):
    """Series of one watch: for each label name which value each row has, as its number in `values`."""

    rows: I64
    codes: Mapping[str, npt.NDArray[np.int32]]
    """i32[rows] by label name; -1 where a row lacks it."""
    everywhere: frozenset[str]
    """Names that no row lacks."""
    values: Mapping[str, Mapping[str, int]]
    telling: str = ""
    """The name with the most values."""
    order: npt.NDArray[np.int32] = np.empty(0, np.int32)
    """Indices in order of what rows have for it: those of value `v` are `order[starts[v] : starts[v + 1]]`."""
    starts: npt.NDArray[np.int32] = np.empty(0, np.int32)

    def nearest(self, labels: Labels) -> tuple[int, I64]:
        """How far the least unlike rows are from these labels, and the rows.

        >>> few = alike((4, 9), (b'{"a":"1"}', b'{"a":"2","b":"3"}'))
        >>> few.nearest((("a", "1"), ("c", "x"))), few.nearest((("a", "2"), ("b", "4")))
        ((-1, array([4])), (0, array([9])))
        """
        known = [(name, value) for name, value in labels if name in self.codes]
        if exactly := self._exactly(known):
            return -len(known), self.rows[exactly]
        unlike = self.unlike(labels)
        least = int(unlike.min())
        return least, self.rows[unlike == least]

    def _exactly(self, known: Sequence[tuple[str, str]]) -> list[int]:
        """Indices of the rows that have all of these, if they are few: no row can be less unlike."""
        code = next((self.values[name].get(value, -1) for name, value in known if name == self.telling), -1)
        if code < 0 or self.starts[code + 1] - self.starts[code] > FEW:
            return []
        wanted = [(self.codes[name], self.values[name].get(value)) for name, value in known]
        some = self.order[self.starts[code] : self.starts[code + 1]].tolist()
        return [i for i in some if all(codes.item(i) == number for codes, number in wanted)]

    def unlike(self, labels: Labels) -> I64:
        """How far each row is from these labels: names with another value minus names with the same.

        >>> alike((4, 9), (b'{"a":"1"}', b'{"a":"2","b":"3"}')).unlike((("a", "2"), ("c", "x"))).tolist()
        [1, -1]
        """
        out, all_rows = np.zeros(len(self.rows), np.int16), 0
        for name, value in labels:
            codes = self.codes.get(name)
            if codes is None:
                continue
            known, everywhere = self.values[name], name in self.everywhere
            if everywhere:
                all_rows += 1
            else:
                out += codes >= 0
            code = known.get(value)
            if code is None:
                continue
            if everywhere and len(known) == 1:  # as most labels are: nothing to look at
                all_rows -= 2
            else:
                out -= (codes == code) * np.int16(2)
        return out.astype(np.int64) + all_rows


def alike(rows: Sequence[int], keys: Sequence[bytes]) -> Alike:
    """Read the label objects of these rows."""
    codes: dict[str, npt.NDArray[np.int32]] = {}
    values: dict[str, dict[str, int]] = {}
    for i, key in enumerate(keys):
        for name, value in series.labels(key):
            if name not in codes:
                codes[name] = np.full(len(keys), -1, np.int32)
                values[name] = {}
            known = values[name]
            codes[name][i] = known.setdefault(value, len(known))
    everywhere = frozenset(name for name, of in codes.items() if of.min() >= 0)
    of = Alike(np.array(rows, np.int64), codes, everywhere, values)
    if not codes:
        return of
    telling = max(codes, key=lambda name: len(values[name]))
    order = np.argsort(codes[telling], kind="stable").astype(np.int32)
    starts = np.searchsorted(codes[telling][order], np.arange(len(values[telling]) + 1)).astype(np.int32)
    return of._replace(telling=telling, order=order, starts=starts)
