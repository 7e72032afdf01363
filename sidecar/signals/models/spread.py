"""How wide the moves between samples are of late, against the last week: variance that changed.

The moves, in scales and bounded, are averaged over sixty points (an hour where points come faster, six hours at most)
and over a week; the log of their ratio has a tail of its own. On real series a wider spread alone is wrong too often
to call somebody, so it ends below the threshold.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.signals.models.tail import Tail
from sidecar.types import F32, Bools

POINTS, MOST = 60.0, 6 * 3600.0
LEAST_POINTS = 12.0
WEEK = 7 * 86400.0
BOUND = 4.0  # scales of a move
FLOOR = 0.2  # of the log ratio's scale
KNOWN = 0.5  # days
RARER, CAP = 0.5, 0.8  # taken from its E, and the most that is left


class Spread(Columns):
    """Mean size of moves, in scales: of late and over a week."""

    fields: ClassVar = {"late": Field(fresh=1.0), "week": Field(fresh=1.0)}
    late: F32
    week: F32

    def ratio(self) -> F32:
        """Log of late over week, f32[1, rows]."""
        out: F32 = np.log(self.late / self.week)[None]
        return out

    def learn(self, moves: F32, seen: F32, on: Bools, step: float) -> None:
        """Take sizes of moves f32[rows], in scales."""
        moves = np.minimum(moves, f4(BOUND))
        young = f4(1) / (seen + f4(1))
        points = min(POINTS * max(1.0, 60 / step), max(LEAST_POINTS, MOST / step))
        self.late += on * np.maximum(young, f4(1 / points)) * (moves - self.late)
        self.week += on * np.maximum(young, f4(step / WEEK)) * (moves - self.week)


class SpreadTail(Tail):
    """A tail of one channel."""

    fields: ClassVar = {
        name: field._replace(shape=(1,)) if field.shape else field for name, field in Tail.fields.items()
    }


def evidence(e: F32, age: F32) -> F32:
    """What counts f32[rows] of E f32[1, rows] for rows of an age in days."""
    return np.where(age > f4(KNOWN), np.minimum(e[0] - f4(RARER), f4(CAP)), f4(-np.inf))
