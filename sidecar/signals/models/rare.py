"""States that a series enters seldom: exactly zero, and absent. Scored by how rarely they have begun.

E = -log10((begun + 0.1) / (days + 1)): after three days without one, E = 1.6; a state that begins daily scores 0.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, Bools

PRIOR, MEMORY_DAYS = 0.1, 14.0
STATES = 2
ZERO, ABSENT = range(STATES)
ACCEPT = 43200.0  # seconds after which a lasting state is the new normal


class Rare(Columns):
    """For each state: how often it began (fading), and for how long it has lasted."""

    fields: ClassVar = {"begun": Field((STATES,)), "lasted": Field((STATES,))}
    begun: F32
    lasted: F32

    def score(self, inside: Bools, age: F32) -> F32:
        """E f32[states, rows] where `inside` bool[states, rows], -inf elsewhere."""
        if not inside.any():
            return np.full(inside.shape, f4(-np.inf))
        e = -np.log10((self.begun + f4(PRIOR)) / (np.minimum(age, f4(MEMORY_DAYS)) + f4(1)))
        return np.where(inside & (self.lasted < f4(ACCEPT)), e, f4(-np.inf))

    def learn(self, inside: Bools, on: Bools, step: float) -> None:
        """Count beginnings and durations where the row was asked (`on`)."""
        if on.all() and not inside.any() and not self.lasted.any():  # as most ticks are
            self.begun *= f4(1 - step / 86400.0 / MEMORY_DAYS)
            return
        self.begun *= np.where(on, f4(1 - step / 86400.0 / MEMORY_DAYS), f4(1))
        # counted when the state ends, so that the first hours of it stay as odd as they began
        ends = on & ~inside & (self.lasted > 0)
        self.begun += ends
        self.lasted = np.where(on, np.where(inside, self.lasted + f4(step), f4(0)), self.lasted)
