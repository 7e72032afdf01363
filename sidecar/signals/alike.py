"""The labels of many series as numbers, so that an alert is compared with all of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.signals import series
from sidecar.types import I64, Labels


class Alike(NamedTuple):
    """Series of one watch: for each label name which value each row has, as its number in `values`."""

    rows: I64
    codes: Mapping[str, npt.NDArray[np.int32]]
    """i32[rows] by label name; -1 where a row lacks it."""
    everywhere: frozenset[str]
    """Names that no row lacks."""
    values: Mapping[str, Mapping[str, int]]

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
    return Alike(np.array(rows, np.int64), codes, everywhere, values)
