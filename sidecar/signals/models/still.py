"""A series that always moved and now repeats its last value: a flat line.

The time for which a value has stood is compared with the longest that one stood before, fading over two weeks. From
six times that on, and 24 samples and half an hour at least, it is odd, for twelve hours; then it is how the series is.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.signals.models.rare import ACCEPT, MEMORY_DAYS
from sidecar.types import F32, Bools

TIMES, TICKS, LEAST = 6.0, 24, 1800.0
KNOWN = 1.0  # days
MOST = 2.0  # E


class Still(Columns):
    """For how long the value has stood, and the longest that one did before; seconds."""

    fields: ClassVar = {"stood": Field(), "longest": Field()}
    stood: F32
    longest: F32

    def score(self, same: Bools, age: F32, step: float) -> F32:
        """E f32[rows] where a value repeats (`same`) for long enough, -inf elsewhere; `age` in days."""
        stood = self.stood + f4(step)
        odd = same & (stood >= f4(max(TICKS * step, LEAST))) & (stood < f4(ACCEPT)) & (age >= f4(KNOWN))
        times = stood / (f4(TIMES) * np.maximum(self.longest, f4(step)))
        e = np.minimum(f4(1) + f4(0.5) * np.log2(times), f4(MOST))
        return np.where(odd & (times >= 1), e, f4(-np.inf))

    def learn(self, same: Bools, fresh: Bools, step: float) -> None:
        """Take one tick; while nothing comes (not `fresh`) the value is taken to stand."""
        ended = fresh & ~same
        long = np.where(ended | (self.stood >= f4(ACCEPT)), self.stood, f4(0))
        self.longest = np.maximum(self.longest * f4(1 - step / 86400 / MEMORY_DAYS), long)
        self.stood = np.where(ended, f4(0), self.stood + f4(step) * same)
