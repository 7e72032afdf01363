"""A change that lasts keeps its alarm for a stated time, though levels follow it within minutes.

When a series becomes odd, its shift against the profile is kept as it was before. As long as the value has not come
half the way back to where that would have it, it stays at the threshold at least; after an hour (three at steps over
five minutes) what it shows is its new normal.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, I64, Bools

TICKS, HOLDS, MOST = (
    12.0,
    3600.0,
    10800.0,
)  # a change is held for so many ticks, but for so many seconds at least, at most
BACK = 0.5  # of the way


class Lasting(Columns):
    """The shift of each row before it became odd, how far off it was then, and for how long it has been."""

    fields: ClassVar = {"kept": Field(), "far": Field(), "lasted": Field()}
    kept: F32
    far: F32
    """Signed."""
    lasted: F32
    """Seconds; 0: it is not odd."""

    def odd(self) -> I64:
        """Rows that became odd, have not come back, and have not been for too long."""
        return np.flatnonzero(self.lasted)

    def away(self, rows: I64, x: F32, profile: F32) -> Bools:
        """Which of these rows have not come back, from values and profile f32[rows]."""
        share = (x[rows] - profile[rows] - self.kept[rows]) / self.far[rows]
        return np.asarray(share >= f4(BACK), bool)

    def learn(self, odd: Bools, away: Bools, shift: F32, off: F32, on: Bools, step: float) -> I64:
        """Note what is odd now, which of what was has not come back, and start with the shift and the distance `off`
        from profile and shift, before they learn. Rows whose new level is to be taken for normal now."""
        held = (self.lasted > 0) & on
        starts = odd & (self.lasted == 0) & on & (off != 0)
        if not (starts.any() or held.any()):
            return np.empty(0, np.int64)
        np.copyto(self.kept, shift, where=starts)
        np.copyto(self.far, off, where=starts)
        long = held & away & (self.lasted >= f4(min(max(HOLDS, TICKS * step), MOST)))
        self.lasted += f4(step) * (starts | held)
        np.copyto(self.lasted, f4(0), where=long | (held & ~away))
        return np.flatnonzero(long)
