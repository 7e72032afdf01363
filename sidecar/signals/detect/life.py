"""What a row is: its origin, age and presence, and what its watch says of it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.detect import scales
from sidecar.signals.models import Columns, Field
from sidecar.signals.watch.watches import Watch
from sidecar.types import F32, F64, I64, Bools


class Life(Columns):
    """What a row is, and how long it has been known."""

    fields: ClassVar = {
        "origin": Field(dtype=np.float64),
        "age": Field(),
        "seen": Field(),
        "presence": Field(fresh=1.0),
        "lately": Field(fresh=-np.inf),
        "since": Field(fresh=np.nan, dtype=np.float64),
        "negative": Field(dtype=np.bool_),
        "up": Field(fresh=1.0),
        "down": Field(fresh=1.0),
        "least": Field(),
        "least_relative": Field(),
        "unit": Field(),
        "low": Field(fresh=-np.inf),
        "high": Field(fresh=np.inf),
        "missed": Field(fresh=1.0, dtype=np.bool_),
        "belief": Field(),
        "doubted": Field(fresh=np.nan, dtype=np.float64),
        "changed": Field(fresh=np.nan, dtype=np.float64),
        "rises": Field(dtype=np.uint8),
    }
    origin: F64
    """First value, or a later one (origin.py): everything else is float32 relative to it."""
    age: F32
    """Days of samples learned."""
    seen: F32
    """Samples learned at the live step."""
    presence: F32
    """Share of the asked ticks with a sample, fading over a day."""
    lately: F32
    """How odd it is or was (groups.lately)."""
    since: F64
    negative: Bools
    up: F32
    """1 where a rise counts; `down` likewise."""
    down: F32
    least: F32
    """Deviations below this, or below `least_relative` of the expected value, are nothing."""
    least_relative: F32
    unit: F32
    """Where the logarithmic scale begins on which the row sees its values; 0: it is linear."""
    low: F32
    high: F32
    missed: Bools
    """Whether a series that is gone, or exactly zero, is missed."""
    belief: F32
    """Log odds that the user's feedback adds to confidence."""
    doubted: F64
    """Since when it has not been trusted (an alert, a silence, an event), without a break."""
    changed: F64
    """When its workload was last deployed."""
    rises: np.typing.NDArray[np.uint8]
    """How often the value rose, until it falls: then it is no counter (origin.FELL)."""

    def configure(self, watch: Watch, rows: I64, belief: float = 0.0) -> None:
        """Take what the watch of these rows says."""
        low, high = watch.bounds
        self.up[rows], self.down[rows] = watch.direction != "down", watch.direction != "up"
        self.least[rows], self.least_relative[rows] = watch.min_deviation, watch.min_relative_deviation
        self.unit[rows] = watch.unit
        for edge, value in (
            (self.low, -np.inf if low is None else low),
            (self.high, np.inf if high is None else high),
        ):
            edge[rows] = scales.there(np.full(len(rows), value), self.unit[rows])
        self.missed[rows] = watch.absent == "alarm"
        self.belief[rows] = belief
