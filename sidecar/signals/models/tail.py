"""How rare is a residual of this size, for this series: robust scale, heavy scale, streaming peaks over threshold.

Method: research/detection.md (after Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017).
Each channel's residual is divided by a robust scale and by the root mean square of its past, and the excess of runs
over a tracked threshold `u`, which is crossed about once a day, gives the expected rate of pages:
E = -log10(expected pages per day); E = 1 is once in ten days. Where `u` starts depends on how many samples a day has:
the largest of fewer is smaller.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, I64, Bools

CHANNELS, HOURLY = 5, 4  # and how many of them, the first ones, have a memory of the time of day (spikes)
LN10 = math.log(10.0)
PER_DAY = 1.0  # the tail starts where runs come this often
CLIP = 3.0  # a residual moves a scale by at most this many scales
SCALE_DAYS, RMS_DAYS = 14.0, 20.0
XI_PRIOR, XI_WEIGHT, XI_MIN, RUNS_MAX = 0.2, 20.0, 0.15, 50.0
GAIN = 0.03
GAP, GAP_SECONDS = 2, 300.0  # a run ends after so many ticks below the threshold, or so long if that is more
START, START_PER_DAY = 3.0, 288.0  # exp(u) at first, with so many samples a day or more
FEWER = 0.1  # its power of how many fewer there are
CARRIED = 3.0  # days that coarse history counts for
GRADED = 10  # ticks for the heavy scale before the tail counts
# E beyond which a residual widens the heavy scale no further: an incident must not hide the next one. At first it is by
# so much more, for so many days: what is usual now and then is still to be learned
ODD, MORE, YOUNG = 0.95, 4.0, 7.0
QUIET = 255


class Tail(Columns):
    """Scales of scored residuals, `CHANNELS` of them, and their tails."""

    fields: ClassVar = {
        "scale": Field((CHANNELS,)),
        "square": Field((CHANNELS,)),
        "threshold": Field((CHANNELS,)),
        "slope": Field((CHANNELS,), 1 / (XI_PRIOR * LN10)),
        "excess": Field((CHANNELS,)),
        "runs": Field((CHANNELS,)),
        "peak": Field((CHANNELS,)),
        "below": Field((CHANNELS,), QUIET, np.uint8),
        "graded": Field(),
    }
    scale: F32
    square: F32
    threshold: F32
    """u, less what it was at first (`start`)."""
    slope: F32
    """1 / (xi ln 10): decades of rarity per unit of log excess."""
    excess: F32
    runs: F32
    peak: F32
    below: np.typing.NDArray[np.uint8]
    """Ticks since the run was last above the threshold, saturating."""
    graded: F32

    def score(self, size: F32, least: F32, less: F32) -> tuple[F32, F32, F32]:
        """E f32[channels, rows] of residual sizes, and what `learn` needs: z and log of the tempered z, which is `less`
        by what is usual at this hour and by `start`. No scale f32[channels, rows] is taken for smaller than `least`."""
        z = np.asarray(size / np.maximum(self.scale, least), f4)
        np.minimum(z, f4(1e6), out=z)
        t = np.sqrt(self.square)
        t += f4(1)
        np.divide(z, t, out=t)
        np.maximum(t, f4(1e-6), out=t)
        np.log(t, out=t)
        t -= less
        e = t - self.threshold
        e *= self.slope
        return e, z, t

    def edge(self, e: F32, least: F32, less: F32) -> F32:
        """The residual size f32[channels, rows] at which E reaches `e`: where the band ends."""
        out = e / self.slope
        out += self.threshold
        out += less
        np.exp(out, out=out)
        out *= f4(1) + np.sqrt(self.square)
        out *= np.maximum(self.scale, least)
        return out

    def learn(
        self,
        size: F32,
        z: F32,
        t: F32,
        seen: F32,
        on: Bools,
        warm: Bools,
        per_day: float,
        pace: F32 | float = 1.0,
        anew: Bools | None = None,
    ) -> None:
        """Teach scales (where `on`, at `pace` times their rate) and tails (where `warm`); z is used up.

        `size` is f32[channels, rows], `per_day` ticks; of rows bool[rows] that are `anew` the level is a new one, whose
        scale is learned as that of a young series.
        """
        self._learn_tail(z, t, warm, per_day, anew)
        rate = np.maximum(f4(1) / (self.graded + f4(1)), f4(1 / (RMS_DAYS * per_day)))
        rate *= warm
        z *= z
        z -= self.square
        z *= rate
        self.square += z
        self.graded += warm
        limit = self.scale * f4(CLIP)
        # a clip by a scale that knows nothing yet would lock it at zero
        np.copyto(limit, f4(np.inf), where=seen < 30)
        move = np.minimum(size, limit, out=limit)
        move -= self.scale
        move *= on * np.minimum(
            np.maximum(f4(1) / (seen + f4(1)), f4(1 / (SCALE_DAYS * per_day))) * pace, f4(1)
        )
        self.scale += move

    def carry(self, ticks: float, per_day: float) -> None:
        """From coarse history to a live step, of which each coarse one has so many `ticks`: how heavy and how rare
        residuals are is still learned fast for some days."""
        np.minimum(self.graded * f4(ticks), f4(CARRIED * per_day), out=self.graded)
        self.below[:] = QUIET

    def _learn_tail(self, z: F32, t: F32, warm: Bools, per_day: float, anew: Bools | None) -> None:
        live, gap = warm & (self.graded >= GRADED), _gap(per_day)
        up = t > self.threshold
        up &= live
        busy = up | (self.below <= gap)
        # runs come PER_DAY times a day: the threshold sinks a little each tick and jumps when a run starts
        gain = np.maximum(
            f4(GAIN), f4(1) / (f4(1) + np.maximum(self.graded - GRADED, 0) * f4(PER_DAY / per_day))
        )
        gain *= live
        drift = (gain * f4(PER_DAY / per_day / LN10)) / self.slope
        channel, row = np.nonzero(busy)
        if len(row):
            at = (channel, row)
            days = np.minimum(self.graded[row] / f4(per_day), f4(YOUNG))
            if anew is not None:
                days[anew[row]] = 0
            odd = f4(ODD + MORE) - f4(MORE / YOUNG) * days
            far = np.maximum(t[at] - self.threshold[at] - odd / self.slope[at], f4(0))
            z[at] *= np.exp(-far)
            self._learn_runs(channel, row, t[at], up[at], live[row], gain[row], gap)
        self.threshold -= drift

    def _learn_runs(self, c: I64, row: I64, t: F32, up: Bools, live: Bools, gain: F32, gap: int) -> None:
        """Only the few rows that are in a run now, or just were."""
        at = (c, row)
        u, below, xi = self.threshold[at], self.below[at], f4(1 / LN10) / self.slope[at]
        start = up & (below > gap)
        self.peak[at] = np.where(start, t, np.where(up, np.maximum(self.peak[at], t), self.peak[at]))
        below = np.where(up, 0, np.where(live, np.minimum(below, QUIET - 1) + 1, below)).astype(np.uint8)
        height = np.minimum(self.peak[at] - u, f4(6) * xi)
        ended = live & ~up & (below == gap + 1) & (height > 0)
        runs, excess = self.runs[at] + ended, self.excess[at] + np.where(ended, height, f4(0))
        keep = np.minimum(f4(1), f4(RUNS_MAX) / np.maximum(runs, f4(1)))
        self.runs[at], self.excess[at], self.below[at] = runs * keep, excess * keep, below
        self.threshold[at] = u + gain * xi * start
        # Hill estimate of the slope of run peaks, shrunk to a prior that never fades
        xi = np.maximum(
            (f4(XI_WEIGHT * XI_PRIOR) + self.excess[at]) / (f4(XI_WEIGHT) + self.runs[at]), f4(XI_MIN)
        )
        self.slope[at] = f4(1 / LN10) / xi


def _gap(per_day: float) -> int:
    return int(min(max(GAP, GAP_SECONDS * per_day / 86400), QUIET - 2))


def start(per_day: float) -> float:
    """Log threshold of a fresh row with so many samples a day.

    >>> round(math.exp(start(288.0)), 2), round(math.exp(start(24.0)), 2)
    (3.0, 2.34)
    """
    return math.log(START) + FEWER * min(0.0, math.log(per_day / START_PER_DAY))
