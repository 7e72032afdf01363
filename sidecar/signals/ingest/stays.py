"""Since when each row's series is there or gone, whether a successor came, and how long its past is kept.

A series that vanished is silent after its watch's `absent_for`, but keeps its row, asleep, in case it comes back: a
job that runs every night is then known. Those who sleep are no part of the budget of watched series; there may be a
quarter as many of them as of the living, and 2,048 at least. Who would be forgotten soonest makes room first.
Absence is counted in ticks that were answered, so no jump of a clock ends it.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field
from sidecar.signals.watch.watches import Watch
from sidecar.types import F32, F64, I64, Bools

KEEP = 8 * 86400.0  # seconds for which a past is kept, of a series known for a day or seen to come back
KEEP_NEW = 26 * 3600.0  # of any other: long enough to come back the next day
KEEP_SUCCEEDED = 3600.0  # of one whose successor has come
SLEEP_ZERO = 86400.0  # for so long a series is zero whose absence means that
PATIENT = 3  # ticks that a vanished series keeps its score at least
SPARE, SPARE_SHARE = 2048, 0.25
BEFORE, AFTER = 1800.0, 3600.0  # by how much a successor comes before the end of the old one, or after it


class Stays(Columns):
    """One row for each of an engine's."""

    fields: ClassVar = {
        "workload": Field(dtype=np.int64),
        "born": Field(fresh=-np.inf, dtype=np.float64),
        "gone": Field(),
        "succeeded": Field(dtype=np.bool_),
        "patience": Field(fresh=300.0),
        "alarms": Field(fresh=1.0, dtype=np.bool_),
        "zero": Field(dtype=np.bool_),
        "waiting": Field(fresh=-1, dtype=np.int8),
    }
    workload: I64
    """Hash of the watch and of what is left of the labels without those of the instance; 0: not worked out yet."""
    born: F64
    """When the series came; -inf where it may have been there before Promantis was."""
    gone: F32
    """Seconds without a sample; 0: it is there."""
    succeeded: Bools
    patience: F32
    """`absent_for` of its watch, or the time of three ticks if that is longer: the second is the first that counts."""
    alarms: Bools
    """Whether its absence is an alarm; `zero`: whether it means zero."""
    zero: Bools
    waiting: np.typing.NDArray[np.int8]
    """Ticks for which a new series has been waiting for an inheritance; -1: it does not."""

    def grow(self, rows: int) -> None:
        """Make it that many rows."""
        more = Stays(rows - self.rows)
        for name in self.fields:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(more, name)]))
        self.rows = rows

    def configure(self, watch: Watch, rows: I64) -> None:
        """Take what the watch of these rows says of absence."""
        self.patience[rows] = max(watch.absent_for, PATIENT * watch.step)
        self.alarms[rows], self.zero[rows] = watch.absent == "alarm", watch.absent == "zero"

    def see(self, at: float, answered: Bools, here: Bools, step: float) -> None:
        """One tick: rows whose watch was answered, and those that have a sample."""
        left = answered & ~here
        self.gone *= ~here
        self.succeeded &= ~here
        if not left.any():
            return
        self.gone += left * np.float32(step)
        old = np.flatnonzero(left & ~self.succeeded & (self.gone <= AFTER))
        young = np.flatnonzero(here & (self.born > at - BEFORE - AFTER))
        young = young[np.isin(self.workload[young], self.workload[old])]
        if len(young):
            self._succeed(at, old, young)

    def _succeed(self, at: float, old: I64, young: I64) -> None:
        """The newest of a workload succeeds those that left after it came, or not long before."""
        young = young[np.lexsort((self.born[young], self.workload[young]))]
        newest = young[np.searchsorted(self.workload[young], self.workload[old], side="right") - 1]
        same = self.workload[newest] == self.workload[old]
        self.succeeded[old] |= same & (self.born[newest] > at - self.gone[old] - BEFORE)

    def asleep(self) -> Bools:
        """Rows that are only kept in case their series comes back: not scored, not missed, not exported."""
        late: Bools = self.gone > np.where(self.zero, np.float32(SLEEP_ZERO), self.patience)
        late |= self.succeeded
        return late

    def quiet(self, asleep: Bools) -> Bools:
        """Rows of which no score is to be said."""
        out: Bools = (self.gone > 0) & (asleep | ~(self.alarms | self.zero))
        return out

    def ended(self, asleep: Bools, known: Bools, living: int) -> I64:
        """Rows whose past is not kept any longer; `known`: for a day, or seen to come back."""
        row = np.flatnonzero(asleep)
        keep = np.where(known[row], KEEP, KEEP_NEW)
        keep = np.where(self.succeeded[row], KEEP_SUCCEEDED, np.maximum(keep, self.patience[row]))
        left = keep - self.gone[row]
        most = max(SPARE, int(SPARE_SHARE * living))
        order = np.argsort(-left, kind="stable")
        over = np.zeros(len(row), bool)
        over[order[most:]] = True
        return row[over | (left < 0)]
