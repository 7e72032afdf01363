"""A change that lasts keeps its alarm for a stated time, though levels follow it within minutes.

When a series becomes odd, its shift against the profile is kept as it was before. As long as the value has not come
half the way back to where that would have it, it stays at the threshold at least; after an hour (three at steps over
five minutes) what it shows is its new normal. Coming back to where it was, within a day, is no news, unless the series
became odd again meanwhile.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, I64, Bools

TICKS, HOLDS, MOST = (
    12.0,
    3600.0,
    10800.0,
)  # a change is held for so many ticks, at least and at most so many seconds
HALF = 0.5  # of the way
NEW = 0.6  # weight of a sample in where a row is, so that a single one ends nothing
REMEMBERS = 86400.0  # seconds for which the former level is known after the new one was accepted


class Stand(NamedTuple):
    """Where the rows stand that became odd and are remembered: I64[n], and of each:"""

    rows: I64
    off: F32
    """Distance from where it would be without the change that is held."""
    mean: F32
    """The same, of the last samples."""
    home: F32
    """The same, without the first of the changes that are remembered."""
    away: Bools
    """Still held, and not half the way back."""


class Lasting(Columns):
    """The shift of each row before it became odd, how far off it was then, and for how long it has been."""

    fields: ClassVar = {name: Field() for name in ("kept", "home", "far", "mean", "lasted")}
    kept: F32
    home: F32
    """The same, before the first of the changes that are remembered."""
    far: F32
    """Distance from `kept` when it became odd; once that is accepted, of the new level from home. Signed."""
    mean: F32
    """Distance from `kept`, of the last samples."""
    lasted: F32
    """Seconds; 0: it is as ever; negative: since its new level was accepted."""

    def stand(self, x: F32, profile: F32, fresh: Bools) -> Stand:
        """Where rows with a sample stand, from values and profile f32[rows]; changes nothing."""
        rows = np.flatnonzero((self.lasted != 0) & fresh)
        here = x[rows] - profile[rows]
        off = here - self.kept[rows]
        mean = self.mean[rows]
        mean += f4(NEW) * (off - mean)
        away = (self.lasted[rows] > 0) & (mean / self.far[rows] >= f4(HALF))
        return Stand(rows, off, mean, here - self.home[rows], away)

    def learn(
        self, stand: Stand, back: Bools, odd: Bools, shift: F32, off: F32, on: Bools, step: float
    ) -> I64:
        """Note who is `back` home (of the rows of `stand`) and who is `odd` now; what becomes odd starts with its shift
        and its distance `off` from profile and shift, before they learn. Rows that are normal where they are now: they
        are back where they were, or away for long enough."""
        starts = np.flatnonzero(odd & on & (self.lasted <= 0) & (off != 0))
        first = starts[self.lasted[starts] == 0]
        may = on[stand.rows]
        rows, back, away = stand.rows[may], back[may], stand.away[may]
        lasted = self.lasted[rows]
        returned = (
            lasted > 0
        ) & ~away  # to where it was before, which may itself be a level that was accepted
        elsewhere = returned & (self.home[rows] != self.kept[rows])
        long = away & (lasted >= f4(min(max(HOLDS, TICKS * step), MOST)))
        over = back | (lasted < f4(-REMEMBERS)) | (returned & ~elsewhere)
        lasted += np.where(lasted > 0, f4(step), f4(-step))
        accepted = long | elsewhere
        lasted[accepted], lasted[over] = -step, 0
        self.lasted[rows], self.mean[rows] = lasted, stand.mean[may]
        self.far[rows[accepted]] = stand.home[may][accepted]
        self.home[first] = shift[first]
        self.kept[starts], self.lasted[starts] = shift[starts], step
        self.far[starts] = self.mean[starts] = off[starts]
        return rows[back | long]
