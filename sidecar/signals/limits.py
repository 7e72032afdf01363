"""The limit table: one line per row and limit, made when rows or watches change, and the odds of its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sidecar.signals import breach
from sidecar.signals.models import f4
from sidecar.signals.snapshot import LimitLines
from sidecar.signals.watches import Limit, Watch, announced
from sidecar.types import F64, HORIZONS, I64


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

    def __init__(self, lines: Lines, said: breach.Odds | None = None) -> None:
        self._lines, n = lines, len(lines.limit)
        self._said = said or breach.Odds(np.full((len(HORIZONS), n), np.nan, f4), np.full(n, np.nan, f4))

    def hold(self, before: Odds, rows: I64, observed: F64, forecasts: F64) -> None:
        """Of these rows say what was said before, of lines that were not there what columns say that are held."""
        c = self._lines.columns
        held = np.flatnonzero(np.isin(c.row, rows))
        if before._lines is self._lines:
            said = breach.Odds(before._said.probability[:, held], before._said.eta[held])
        else:
            some = breach.Limits(c.row[held], c.op[held], c.value[held], c.hold[held])
            said = breach.odds(
                some, observed[some.row], *forecasts[:, some.row].reshape(3, len(HORIZONS), -1)
            )
        self._said.probability[:, held], self._said.eta[held] = said

    def lines(self) -> LimitLines:
        """The table with its odds."""
        return LimitLines(self._lines.columns.row, self._lines.limit, *self._said)
