"""The limit table: one line per row and limit, made when rows or watches change, and the odds of its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sidecar.signals import breach
from sidecar.signals.snapshot import LimitLines
from sidecar.signals.watches import Limit, Watch, announced
from sidecar.types import F64, HORIZONS

SLICE = 4096  # lines worked out at once: they stay in the processor's cache


class Lines:
    """The lines of an engine's rows, in the order of the rows; never changed once made."""

    def __init__(self, watch_of: Sequence[str], watches: Mapping[str, Watch]) -> None:
        """Lines of rows whose watch is given by name; limits that are only a part of their rule are left out."""
        told = {name: announced(watch.limits) for name, watch in watches.items()}
        pairs = [(row, limit) for row, name in enumerate(watch_of) if name in told for limit in told[name]]
        self.limit: Sequence[Limit] = [limit for _, limit in pairs]
        self.columns = breach.Limits(
            row=np.array([row for row, _ in pairs], np.int64),
            op=np.array([breach.OPS.index(limit.op) for _, limit in pairs], np.int8),
            value=np.array([limit.value for _, limit in pairs], np.float64),
            hold=np.array([limit.hold for _, limit in pairs], np.float32),
        )


class Odds:
    """What is said of each line at one tick."""

    def __init__(self, lines: Lines) -> None:
        n = len(lines.limit)
        self._lines = lines
        self._probability = np.full((len(HORIZONS), n), np.nan, np.float32)
        self._eta = np.full(n, np.nan, np.float32)

    def work_out(self, first: int, end: int, observed: F64, forecasts: F64) -> None:
        """Odds of the lines of rows `first` to `end`, from all rows' values and f64[9, rows] of forecasts."""
        c = self._lines.columns
        lo, hi = np.searchsorted(c.row, (first, end)).tolist()
        for start in range(lo, hi, SLICE):
            part = slice(start, min(hi, start + SLICE))
            some = breach.Limits(c.row[part], c.op[part], c.value[part], c.hold[part])
            begin, last = int(some.row[0]), int(some.row[-1])
            whole = last - begin + 1 == len(some.row) and (np.diff(some.row) == 1).all()
            rows = slice(begin, last + 1) if whole else some.row  # a slice needs no gathering
            value, lower, upper = forecasts[:, rows].reshape(3, len(HORIZONS), -1)
            said = breach.odds(some, observed[rows], value, lower, upper)
            self._probability[:, part], self._eta[part] = said

    def lines(self) -> LimitLines:
        """The table with its odds."""
        return LimitLines(self._lines.columns.row, self._lines.limit, self._probability, self._eta)
