"""How each series moves: its means on several time scales, its usual deviation and moves, and a trend if it has one.

A mixture of experts learned in ordinary hours (ahead.py) knows nothing of a leak. So a slope far beyond the slopes that
this series usually has is believed in proportion, as long as no faster one contradicts it and such slopes went on often
enough in this series before. Jumps are no slopes: what exceeds the usual move from sample to sample moves all means
along.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.forecast import ramp
from sidecar.signals.models import Columns, Field, f4, together
from sidecar.types import F32, HORIZONS, I64, Bools

BLOCK = 300.0  # seconds between lessons
TAUS = (
    30.0,
    120.0,
    600.0,
    2400.0,
    14400.0,
)  # EWMAs of the value, seconds; each pair of neighbours gives a slope
RESIDUAL_TAUS = (600.0, 2400.0, 14400.0)  # EWMAs of the residual of the forecasts' season
CLIPPED = 2  # from which on they follow no burst
NEAR = 2  # the one that deviations are measured from
SCALE_TAU, SLOPE_TAU = 2 * 86400.0, 86400.0
BELIEVE, SURE = 5.0, 10.0  # times the usual slope: from where a trend is believed, and wholly
CONTRADICTS = 3.0  # usual slopes by which a faster slope must fall short
JUMP = 8.0  # usual moves
MOVES, STRIDE_MOVES = 20.0, 1000.0  # from how many moves the usual one is known, and how many it remembers
TREND_FADES = 1 / 6000  # per judgement: a week
TREND_DOUBT = 0.2  # of what a believed trend adds
REACH = np.array([[h] for _, h in HORIZONS], f4)
GAP = 600.0  # seconds after which means begin again
LEAST = 0.3  # usual moves that the mean must at least have made in the time of a slope, to be usual
TRENDS = 3  # the fastest slopes can be a trend


@lru_cache(256)
def share(step: float, tau: float) -> float:
    """Weight of a sample in an EWMA with time constant `tau`."""
    return float(1 - np.exp(-step / tau))


def _rate(share: float, first: F32, on: F32 | Bools) -> F32:
    """Weight of a sample: that of a running mean at first, nothing where there is none."""
    out: F32 = np.maximum(f4(share), first) * np.asarray(on, f4)
    return out


def _strangest(slopes: F32, usual: F32) -> tuple[F32, F32]:
    """How far the slope is believed that is farthest beyond its usual and not contradicted, and it."""
    odd = np.abs(slopes) / usual
    for i in range(1, TRENDS):
        short = (
            np.abs(slopes[i]) - np.sign(slopes[i]) * slopes[:i]
        )  # a faster one of another sign is short by both
        odd[i, (short > f4(CONTRADICTS) * usual[:i]).any(0)] = 0
    best, row = odd.argmax(0), np.arange(slopes.shape[1])
    believed = (odd[best, row] - f4(BELIEVE)) / f4(SURE - BELIEVE)
    return np.minimum(np.maximum(believed, f4(0)), f4(1)), slopes[best, row]


LAGS = np.diff(TAUS[: TRENDS + 1]).astype(f4).reshape(-1, 1)
"""Seconds of each slope that can be a trend, about."""


class Trend(NamedTuple):
    """Of each row f32[rows]: how far its strangest slope is believed (0..1), how much of that is to be told, the slope
    in a second, the level from which it goes, and for how many seconds it has gone."""

    believed: F32
    told: F32
    slope: F32
    level: F32
    age: F32

    def carry(self, value: F32, x: F32) -> tuple[I64, F32, F32]:
        """Bend forecasts f32[3, rows] of rows at x f32[rows] along their trends; which rows have one, and how far below
        and above theirs the truth may lie for that f32[3, n]. Of what has gone on for an hour nobody knows for how long
        it will: every other such thing ends within another hour (Gott, "Implications of the Copernican principle for
        our future prospects", 1993). So forecasts follow a trend for as long as it has lasted, and their intervals
        reach to where it would go."""
        rows = np.flatnonzero(self.told)
        lasts, along = np.minimum(REACH, self.age[rows]), self.told[rows] * self.slope[rows]
        value[:, rows] += self.told[rows] * (x[rows] - value[:, rows]) + along * lasts
        doubt, beyond = f4(TREND_DOUBT) * lasts * np.abs(along), (REACH - lasts) * along
        return rows, doubt + np.maximum(-beyond, f4(0)), doubt + np.maximum(beyond, f4(0))


class Ensemble(Columns):
    """Means, moves and trends of each row; relative to its origin."""

    fields: ClassVar = {
        "last": Field(),
        "count": Field(),
        "means": Field((len(TAUS),)),
        "residuals": Field((len(RESIDUAL_TAUS),)),
        "scale": Field(),
        "usual_slope": Field((TRENDS,)),
        "sloped": Field(),
        "stride": Field(),
        "moves": Field(),
        "went_on": Field(fresh=2.0),
        "trends": Field(fresh=2.5),
    }
    last: F32
    count: F32
    means: F32
    residuals: F32
    """Of what the forecasts' season leaves."""
    scale: F32
    """Usual deviation from the four-hour mean of the residual."""
    usual_slope: F32
    stride: F32
    """Usual size of a move from one sample to the next, of those that are not zero."""
    moves: F32
    sloped: F32
    """Samples from which the usual slopes are known: at the live step only, since slopes of seconds are."""
    went_on: F32
    """How many believed trends (of `trends`, both fading to a prior of four in five) came nearer than the mixture."""
    trends: F32

    def take(self, x: F32, season: F32, fresh: Bools, on: Bools, step: float, live: bool) -> F32:
        """Take a sample; slopes f32[TRENDS, rows] per second.

        `live`: whether this is the live step, where alone slopes and moves are learned. Where not fresh the last value
        stands, where not `on` no scale learns.
        """
        x = np.where(fresh, x, self.last)
        first = fresh & (self.count == 0)
        r = x - season
        if first.any():
            self.means[:, first] = x[first]
            self.residuals[:, first] = r[first]
        g = fresh.astype(f4)
        one = f4(1) / (self.count + f4(1))
        if fresh.all() and one.max() <= share(step, TAUS[-1]):
            one, g = np.zeros(1, f4), np.ones(1, f4)  # all rows are known for long: one rate for all
        if live:
            self._follow_jumps(x - self.last, on)
        shares = np.array([share(step, tau) for tau in TAUS], f4).reshape(-1, 1)
        for k in together(range(len(TAUS)), len(x)):
            by = x - self.means[k]
            by *= np.maximum(shares[k], one) * g
            self.means[k] += by
        bound = np.where(self.count > 50, f4(8) * self.scale, f4(np.inf))
        near = self.residuals[NEAR]
        clipped = np.minimum(np.maximum(r, near - bound), near + bound)
        for i, (mean, tau) in enumerate(zip(self.residuals, RESIDUAL_TAUS, strict=True)):
            by = (r if i < CLIPPED else clipped) - mean
            by *= _rate(share(step, tau), one, g)
            mean += by
        size = np.abs(r - near)
        # a scale that clips by itself would lock at zero: one that is nothing against x must be able to wake up
        most = f4(10) * self.scale
        np.copyto(most, f4(np.inf), where=(most <= f4(1e-6) * np.abs(x)) | (self.count <= 30))
        np.minimum(size, most, out=size)
        self.scale += _rate(share(step, SCALE_TAU), f4(1) / (self.count + f4(1)), on) * (size - self.scale)
        self.count += fresh
        self.last = x
        # two EWMAs of a ramp lie apart by slope * (difference of their lags)
        lags = np.array([ramp.lag(step, tau) for tau in TAUS], f4)
        slopes = self.means[:-1] - self.means[1:]
        slopes *= (f4(1) / np.diff(lags)).reshape(-1, 1)
        if live:
            size = np.abs(slopes[:TRENDS])
            most = f4(5) * self.usual_slope
            np.copyto(most, f4(np.inf), where=(most == 0) | (self.sloped <= 60))
            np.minimum(size, most, out=size)
            one = f4(1) / (self.sloped + f4(1))
            self.usual_slope += np.maximum(f4(share(step, SLOPE_TAU)), one) * on * (size - self.usual_slope)
            self.sloped += on
        return slopes[:TRENDS]

    def resume(self, rows: I64, x: F32, season: F32, gap: F32) -> None:
        """Forget what lies behind a gap of so many seconds f32[n], as far as means had not held it any longer; of these
        rows values and seasons now f32[n]."""
        self.last[rows] = x  # no move from one sample to the next
        self.means[:, rows] = x  # a slope over a gap is none
        for mean, tau in zip(self.residuals, RESIDUAL_TAUS, strict=True):
            mean[rows] += (f4(1) - np.exp(-gap / f4(tau))) * (x - season - mean[rows])

    def _follow_jumps(self, move: F32, on: Bools) -> None:
        """Move all means along with a jump, so that it leaves no slope but that of one usual move: a single step is
        no trend, but a steep ramp of many still is. A count that seldom moves has a usual move all the same."""
        size = np.abs(move)
        moved = (size > 0) & on & (self.count > 0)
        jumped = moved & (size > f4(JUMP) * self.stride) & (self.moves > f4(MOVES))
        if jumped.any():
            self.means[:, jumped] += (move - np.copysign(self.stride, move))[jumped]
            np.minimum(size, f4(JUMP) * self.stride, out=size, where=jumped)
        rate = np.maximum(f4(1) / (self.moves + f4(1)), f4(1 / STRIDE_MOVES)) * moved
        self.stride += rate * (size - self.stride)
        self.moves += moved

    def trend(self, x: F32, slopes: F32, step: float) -> Trend:
        """The trend of each row with values f32[rows], of which `take` gave the slopes."""
        believed, slope, level, age = np.zeros_like(x), np.zeros_like(x), x.copy(), np.full_like(x, np.inf)
        odd = (np.abs(slopes) > f4(BELIEVE) * self.usual_slope).any(0)
        row = np.flatnonzero(odd & (self.sloped > 200))
        if not len(row):
            return Trend(believed, believed, slope, level, age)
        # where hardly anything moves, a single move is no trend either
        least = f4(LEAST) * self.stride[row] / LAGS
        usual = np.maximum(self.usual_slope[:, row], least) + f4(1e-9) * (np.abs(x[row]) + f4(1e-6))
        believed[row], slope[row] = _strangest(slopes[:, row], usual)
        some = np.flatnonzero(believed[row])
        row = row[some]
        line = ramp.fit(self.means[:, row], slopes[:, row], usual[:, some], TAUS, step)
        along = line.slope * slope[row] > 0
        for column, found in zip((level, slope, age), line, strict=True):
            column[row[along]] = found[along]
        return Trend(believed, believed * self._trusted(), slope, level, age)

    def _trusted(self) -> F32:
        """0 where trends hardly ever went on, 1 where four in five did."""
        out: F32 = np.minimum(np.maximum((self.went_on / self.trends - f4(0.3)) * f4(2), f4(0)), f4(1))
        return out

    def judge(self, horizon: float, y: F32, x: F32, slope: F32, said: F32, good: Bools) -> None:
        """Whether the truth y, so many seconds later, was nearer to the line from `x` along `slope`, where a trend was
        believed (NaN: it was not), than to what was said."""
        on = good & ~np.isnan(slope)
        nearer = np.abs(x + f4(horizon) * slope - y) < np.abs(said - y)
        for count, seen, prior in ((self.went_on, on & nearer, f4(2)), (self.trends, on, f4(2.5))):
            count += seen
            count += f4(TREND_FADES) * good * (prior - count)
