"""What a straight line through the last hours says of a limit: the slope that most have, and how far they differ.

What fills, leaks or drains goes the same way for hours, so its rate is known far better than the last minutes show.
The slope is the median of seven differences over an hour each, that begin up to two and a half hours apart (a repeated
median in the manner of Theil and Sen): a restart lies in two or three of them, and is not seen. What wanders has no
slope: its differences are as large as their median, and then nothing is said.
"""

from __future__ import annotations

import numpy as np

from sidecar.signals.models import f4
from sidecar.signals.models.half import Halves, number
from sidecar.signals.models.profile import NET7, median
from sidecar.types import F32, HORIZONS

HOUR, APART = 3600.0, 1500.0  # seconds of a difference, and between two of them
MAD = 1.4826  # of a median deviation: a deviation
STRAIGHT = 2.0  # deviations that the slope must be
LEAST = 0.02  # of what the line rises: nothing is known better
BEYOND, FAR = -6.0, 40.0  # deviations: beyond them nothing is told apart
FEATURES = 4


def features(top: Halves, block: int, width: float) -> F32:
    """Of lines whose highest values over the limit were `top` [blocks of a day, lines], before a block of so many
    seconds begins: at each horizon how far the line ends short of the limit and beyond it, in deviations, whether it
    is straight, and whether it ends beyond; f32[3, FEATURES, lines], nothing where it is not straight."""
    lag, apart, last = max(1, round(HOUR / width)), max(1, round(APART / width)), block - 1

    def height(block: int) -> F32:
        return number(top[block % len(top)])

    with np.errstate(invalid="ignore"):
        rises = [height(last - k * apart) - height(last - k * apart - lag) for k in range(7)]
        slope = median(rises, NET7)
        off = f4(MAD) * median([np.abs(rise - slope) for rise in rises], NET7)
        a, b, c = (height(last - k) + slope * f4((k + 0.5) / lag) for k in range(3))
        level = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        out = np.zeros((len(HORIZONS), FEATURES, top.shape[1]), f4)
        some = np.flatnonzero((np.abs(slope) > f4(STRAIGHT) * off) & np.isfinite(level))
        slope, off, level = slope[some], off[some], level[some]
        for said, (_, seconds) in zip(out, HORIZONS, strict=True):
            share = f4(seconds / (lag * width))
            deviation = off * np.sqrt(share) + f4(LEAST) * share * np.abs(slope)
            z = np.clip(-(level + share * slope) / deviation, f4(BEYOND), f4(FAR))
            said[:, some] = np.log1p(np.maximum(z, f4(0))), np.minimum(z, f4(0)), np.ones_like(z), z < 0
    return out
