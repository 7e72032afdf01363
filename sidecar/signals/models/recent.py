"""What a series did lately: the block that lasts, medians of the last ones, features of origins not judged yet."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4, mixture, profile
from sidecar.signals.models.mixture import YESTERDAY_NOW
from sidecar.signals.models.ridge import Pool
from sidecar.types import F32, Bools

RING = 12  # blocks until the truth of the longest horizon has come
LATELY = 12  # blocks whose medians are known
PARTS = 5  # of a block, of each the last sample: their median is the block's
STORED = YESTERDAY_NOW  # features that the ring keeps: yesterday is known for a week
S, SLOPE = STORED, STORED + 1  # kept there beside them


class Recent(Columns):
    """The block that lasts, the medians of the last ones, and the features of origins not judged yet."""

    fields: ClassVar = {
        "part": Field((PARTS,), np.nan),
        "done": Field(fresh=np.nan),
        "medians": Field((LATELY,), np.nan),
        "middle": Field((2,), np.nan),
        "slope": Field(),
        "ring": Field((RING, STORED + 2), np.nan),
        "days": Field((RING, 3), dtype=np.float16),
        "coefficient": Field((3, mixture.FEATURES), mixture.first(Pool().theta)),
        "season": Field(fresh=np.nan),
        "seasonal": Field(dtype=np.bool_),
    }
    part: F32
    done: F32
    """Median of the block before, which is stored when the next one begins: until then its week before is needed."""
    medians: F32
    """Of the last blocks, the newest last."""
    middle: F32
    """Medians of the last 5 and 12 of them."""
    slope: F32
    """Robust, over an hour."""
    ring: F32
    """Features of origins, then the season and the slope that was believed (NaN: none); NaN: nothing was said."""
    days: np.typing.NDArray[np.float16]
    """Of origins, what the smooth day added until each horizon, in usual deviations."""
    coefficient: F32
    """Of each feature, in each forecast."""
    season: F32
    """At the last tick."""
    seasonal: Bools
    """Whether it was known then; else it was the mean of the last 40 minutes."""

    def close(self, x: F32) -> None:
        """The block ends: its median, the medians of the last ones, and their slope."""
        median = profile.median(self.part, profile.NET5)
        self.medians[:-1] = self.medians[1:]
        self.medians[-1] = np.where(np.isnan(median), x, median)
        self.middle[0] = profile.median(self.medians[-5:], profile.NET5)
        z = np.where(np.isnan(self.medians), self.middle[0], self.medians)
        steps = z[3:] - z[:-3]
        self.slope[:] = profile.median(steps[-7:], profile.NET7) * f4(LATELY / 3)
        z.sort(axis=0)
        self.middle[1] = f4(0.5) * (z[5] + z[6])
