"""Where the series is now: a short level, its shift against the profile, its last value, five- and sixty-point means.

Five residuals are scored (research/detection.md): against the level, against the week's profile and shift, against the
last value, the five-point mean of the residual of the week against the sixty-point one, and against the week's profile
and a shift that follows within days only, so that what creeps away is seen. Weights are per point of a minute or
longer, and per minute where points come faster.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, I64, Bools

ALPHA, ALPHA_TAU = 0.1, 600.0  # weight of a point in the short level, and its time where points come faster
MISSED = 3  # ticks after which level and difference start again
SLOW_TAU = 86400.0  # seconds in which the slow shift follows
LEVEL, SEASON, DIFF, MEAN, SLOW = range(5)


class Residuals(NamedTuple):
    """`r`, `centre` and `gain` f32[5, rows], so that r = gain * (x - centre)."""

    r: F32
    centre: F32
    gain: F32
    level: F32
    previous: F32


class Level(Columns):
    """Short memory of each row, relative to its origin."""

    fields: ClassVar = {
        "level": Field(),
        "shift": Field(),
        "slow": Field(),
        "previous": Field(),
        "mean5": Field(),
        "mean60": Field(),
        "missed": Field(fresh=1e6),
    }
    level: F32
    shift: F32
    slow: F32
    previous: F32
    mean5: F32
    mean60: F32
    missed: F32

    def now(self, x: F32) -> tuple[F32, F32]:
        """Level and last value; a row that was away for long starts again at x."""
        away = self.missed > MISSED
        return np.where(away, x, self.level), np.where(away, x, self.previous)

    def residuals(self, x: F32, level: F32, previous: F32, week: F32, step: float) -> Residuals:
        """The five residuals of x."""
        a5 = f4(_weight(5, 2, step))
        centre = np.empty((5, len(x)), f4)
        centre[LEVEL] = level
        centre[SEASON] = week
        centre[SEASON] += self.shift
        centre[DIFF] = previous
        # r = mean5 + a5 (x - week - mean5) - mean60, solved for x
        centre[MEAN] = week + self.mean5 + (self.mean60 - self.mean5) / a5
        np.add(week, self.slow, out=centre[SLOW])
        gain = np.ones((5, 1), f4)
        gain[MEAN] = a5
        r = np.subtract(x, centre)
        r[MEAN] *= a5
        return Residuals(r, centre, gain, level, previous)

    def learn(
        self,
        x: F32,
        res: Residuals,
        limit: F32,
        fresh: Bools,
        on: Bools,
        step: float,
        pace: F32 | float = 1.0,
    ) -> None:
        """Move towards x by at most `limit` f32[5, rows] of each residual; level, shift at `pace` times their rate."""
        a, g = np.minimum(f4(_alpha(step)) * pace, f4(1)), on.astype(f4)
        clip = np.minimum(np.maximum(res.r, -limit), limit)
        np.copyto(self.level, res.level + a * clip[LEVEL], where=on)
        np.copyto(self.previous, x, where=on)
        seasonal = res.r[SEASON] + self.shift
        # bounded around where it has been of late: a level that stays must not look as if it moved for ever
        most = f4(2) * limit[SLOW]
        soft = np.minimum(np.maximum(seasonal, self.mean60 - most), self.mean60 + most)
        self.shift += a * g * clip[SEASON]
        self.slow += np.minimum(f4(step / SLOW_TAU) * pace, f4(ALPHA)) * g * clip[SLOW]
        self.mean5 += f4(_weight(5, 2, step)) * g * (soft - self.mean5)
        self.mean60 += f4(_weight(60, 4, step)) * g * (soft - self.mean60)
        self.missed = np.where(fresh, f4(0), self.missed + f4(1))

    def settle(self, rows: I64, x: F32, week: F32) -> None:
        """Start again at x f32[n] in these rows, where the week's profile says `week` f32[n]."""
        self.level[rows] = self.previous[rows] = x
        for mean in (self.shift, self.slow, self.mean5, self.mean60):
            mean[rows] = x - week


def _weight(points: float, least: float, step: float) -> float:
    """EWMA weight of a span in points of a minute or longer: that many minutes where points come faster, and shortened
    towards `least` points when it would pass six hours."""
    points *= max(1.0, 60 / step)
    return 2 / (min(points, max(least, 6 * 3600 / step)) + 1)


def _alpha(step: float) -> float:
    """Weight of a point in the short level: a lasting change is accepted in minutes, however often it is looked at."""
    return min(ALPHA, 1 - math.exp(-step / ALPHA_TAU))
