"""Forecasts for each horizon: experts that are linear in a few features, weighed by their own recent error.

The weights are Bernstein online aggregation with the gradient trick (Wintenberger, "Optimal learning with Bernstein
online aggregation", 2017; research/forecast.md), per series and horizon, learned once per block of five minutes. Since
every expert is linear in the features, only the features are kept until their truth comes, and the weights fold into
one coefficient per feature, so that a tick costs a handful of multiplications.

Beside the mixture stands one more hypothesis, because weights learned in ordinary hours know nothing of a leak: a slope
far beyond the slopes that this series usually has is believed in proportion, as long as no faster one contradicts it
and such slopes went on often enough in this series before.
Jumps are no slopes: what exceeds the usual move from sample to sample moves all means along.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, HORIZONS, Bools

BLOCK = 300.0  # seconds between lessons
RING = 13  # blocks until the truth of the longest horizon has come, and one
TAUS = (
    30.0,
    120.0,
    600.0,
    2400.0,
    14400.0,
)  # EWMAs of the value, seconds; each pair of neighbours gives a slope
RESIDUAL_TAUS = (600.0, 2400.0, 14400.0)  # EWMAs of the seasonal residual
SCALE_TAU, SLOPE_TAU = 2 * 86400.0, 86400.0
X, M10, R, R10, R40, R4H, FAST, SLOW, LONG = range(9)
FEATURES = 9
TREND, SLOPE = FEATURES, FEATURES + 1  # kept beside the features until the truth comes
EXPERTS = 11
# what each expert takes of each feature; the season ahead is taken by those from "season + r" to "season + r4h"
LAST, MEAN, S_R, S_R10, S_R40, S_HALF, S, S_R4H, T_FAST, T_SLOW, T_LONG = range(EXPERTS)
SEASONAL = slice(S_R, S_R4H + 1)
MEMORY = 0.9985  # of regrets per block: 2.3 days
BELIEVE, SURE = 5.0, 10.0  # times the usual slope: from where a trend is believed, and wholly
CONTRADICTS = 3.0  # usual slopes by which a faster slope must fall short
JUMP = 8.0  # usual moves
MOVES, STRIDE_MOVES = 20.0, 1000.0  # from how many moves the usual one is known, and how many it remembers
TREND_FADES = 1 / 6000  # per judgement: a week
GAP = 600.0  # seconds after which means begin again
LEAST = 0.3  # usual moves that the mean must at least have made in the time of a slope, to be usual
TRENDS = 3  # the fastest slopes can be a trend


def experts(f: F32, ahead: F32, horizon: float) -> F32:
    """What each expert says f32[EXPERTS, rows], from features f32[FEATURES, rows] and the season ahead f32[rows]."""
    out = np.empty((EXPERTS, f.shape[1]), f4)
    h = f4(horizon)
    out[LAST], out[MEAN] = f[X], f[M10]
    for expert, feature in ((S_R, R), (S_R10, R10), (S_R40, R40), (S_R4H, R4H)):
        np.add(ahead, f[feature], out=out[expert])
    out[S_HALF] = ahead + f4(0.5) * f[R40]
    out[S] = ahead
    for expert, feature in ((T_FAST, FAST), (T_SLOW, SLOW), (T_LONG, LONG)):
        out[expert] = f[X] + h * f[feature]
    return out


def fold(w: F32, horizon: float) -> F32:
    """Weights of experts f32[EXPERTS, rows] as coefficients of the features and the season f32[FEATURES + 1, rows]."""
    out = np.zeros((FEATURES + 1, w.shape[1]), f4)
    h = f4(horizon)
    out[X] = w[LAST] + w[T_FAST] + w[T_SLOW] + w[T_LONG]
    out[M10], out[R], out[R10], out[R4H] = w[MEAN], w[S_R], w[S_R10], w[S_R4H]
    out[R40] = w[S_R40] + f4(0.5) * w[S_HALF]
    out[FAST], out[SLOW], out[LONG] = h * w[T_FAST], h * w[T_SLOW], h * w[T_LONG]
    out[FEATURES] = w[SEASONAL].sum(0)
    return out


def weights(regret: F32, eta: F32) -> F32:
    """BOA's weights f32[EXPERTS, rows], floored so that no expert is ever lost."""
    z = eta * regret
    z -= z.max(0)
    w: F32 = np.exp(z, out=z)
    w *= eta
    w *= f4(1 - 1e-4 * EXPERTS) / w.sum(0)
    w += f4(1e-4)
    return w


def share(step: float, tau: float) -> float:
    """Weight of a sample in an EWMA with time constant `tau`."""
    return float(1 - np.exp(-step / tau))


def _rate(share: float, first: F32, on: F32 | Bools) -> F32:
    """Weight of a sample: that of a running mean at first, nothing where there is none."""
    out: F32 = np.maximum(f4(share), first) * np.asarray(on, f4)
    return out


def lag(step: float, tau: float) -> float:
    """By how many seconds such an EWMA trails a ramp."""
    a = share(step, tau)
    return step * (1 - a) / a


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

# before anything was learned: mostly the last values, hardly a trend
_REGRET = np.array([4, 4, 2, 4, 2, 0, 0, 0, -4, -4, -4], f4).reshape(EXPERTS, 1)
_WEIGHT = np.stack([fold(weights(_REGRET, np.full_like(_REGRET, 0.5)), h) for _, h in HORIZONS])


class Ahead(NamedTuple):
    """Forecast f32[horizons, rows], how far the trend is believed f32[rows] and how much of it is in the forecast."""

    value: F32
    trend: F32
    share: F32
    slope: F32
    """Per second."""


class Ensemble(Columns):
    """Features, their origins not judged yet, and regrets of each row; relative to its origin."""

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
        "ring": Field((RING, FEATURES + 2), np.nan),
        "regret": Field((3, EXPERTS), _REGRET),
        "spread": Field((3, EXPERTS), 1e-2),
        "weight": Field((3, FEATURES + 1), _WEIGHT),
        "loss": Field((3, 4)),
    }
    last: F32
    count: F32
    means: F32
    residuals: F32
    scale: F32
    usual_slope: F32
    stride: F32
    """Usual size of a move from one sample to the next, of those that are not zero."""
    moves: F32
    sloped: F32
    """Samples from which the usual slopes are known: at the live step only, since slopes of seconds are."""
    went_on: F32
    """How many believed trends (of `trends`, both fading to a prior of four in five) came nearer than the mixture."""
    trends: F32
    ring: F32
    regret: F32
    spread: F32
    weight: F32
    """Coefficients of the features and, last, of the season ahead."""
    loss: F32
    """EW mean absolute error of: ours, the last value, the season, season + 10-minute shift."""

    def features(
        self, x: F32, season: F32, fresh: Bools, on: Bools, step: float, live: bool
    ) -> tuple[F32, F32]:
        """Take a sample: f32[FEATURES, rows] of now, and slopes f32[TRENDS, rows] per second.

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
        by = np.empty_like(x)
        for mean, tau in zip(self.means, TAUS, strict=True):
            np.subtract(x, mean, out=by)
            by *= _rate(share(step, tau), one, g)
            mean += by
        bound = np.where(self.count > 50, f4(8) * self.scale, f4(np.inf))
        near = self.residuals[2]
        clipped = np.minimum(np.maximum(r, near - bound), near + bound)
        for i, (mean, tau) in enumerate(zip(self.residuals, RESIDUAL_TAUS, strict=True)):
            np.subtract(clipped if i else r, mean, out=by)
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
        lags = np.array([lag(step, tau) for tau in TAUS], f4)
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
        out = np.empty((FEATURES, len(x)), f4)
        out[X], out[M10], out[R], out[R10 : R4H + 1] = x, self.means[2], r, self.residuals
        out[FAST:] = slopes[1:]
        return out, slopes[:TRENDS]

    def resume(self, x: F32, season: F32, fresh: Bools, gap: F32) -> None:
        """Forget what lies behind a gap of so many seconds f32[rows], as far as means had not held it any longer."""
        rows = np.flatnonzero(fresh & (gap > f4(GAP)) & (self.count > 0))
        if not len(rows):
            return
        x, gap = x[rows], gap[rows]
        self.last[rows] = x  # no move from one sample to the next
        self.means[:, rows] = x  # a slope over a gap is none
        for mean, tau in zip(self.residuals, RESIDUAL_TAUS, strict=True):
            mean[rows] += (f4(1) - np.exp(-gap / f4(tau))) * (x - season[rows] - mean[rows])

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

    def ahead(self, now: F32, slopes: F32, seasons: F32) -> Ahead:
        """Forecasts from features and slopes of now and the seasons ahead f32[3, rows]."""
        value = np.einsum("hfr,fr->hr", self.weight[:, :FEATURES], now)
        value += self.weight[:, FEATURES] * seasons
        trend, slope = self._trend(now[X], slopes)
        share_of = trend * self._trusted() if trend.any() else trend
        if share_of is not trend:
            for row, (_, horizon) in zip(value, HORIZONS, strict=True):
                row += share_of * (now[X] + f4(horizon) * slope - row)
        value[:, self.count == 0] = np.nan
        return Ahead(value, trend, share_of, slope)

    def _trend(self, x: F32, slopes: F32) -> tuple[F32, F32]:
        """How far the strangest slope is believed (0..1), and it."""
        believed, slope = np.zeros_like(x), np.zeros_like(x)
        odd = (np.abs(slopes) > f4(BELIEVE) * self.usual_slope).any(0)
        row = np.flatnonzero(odd & (self.sloped > 200))
        if len(row):
            # where hardly anything moves, a single move is no trend either
            least = f4(LEAST) * self.stride[row] / LAGS
            usual = np.maximum(self.usual_slope[:, row], least) + f4(1e-9) * (np.abs(x[row]) + f4(1e-6))
            believed[row], slope[row] = _strangest(slopes[:, row], usual)
        return believed, slope

    def _trusted(self) -> F32:
        """0 where trends hardly ever went on, 1 where four in five did."""
        out: F32 = np.minimum(np.maximum((self.went_on / self.trends - f4(0.3)) * f4(2), f4(0)), f4(1))
        return out

    def learn(self, x: F32, season: F32, on: Bools, slots: tuple[int | None, ...]) -> None:
        """Judge what the origins in `slots` (one ring slot per horizon, None: nothing to judge) said of x."""
        unit = f4(1) / np.maximum(self.scale, f4(1e-9) * np.maximum(np.abs(x), f4(1e-3)))
        for h, slot in enumerate(slots):
            if slot is None:
                continue
            then = self.ring[slot]
            good = on & ~np.isnan(then[X])
            said = experts(then, season, HORIZONS[h][1])
            mixed = np.einsum("fr,fr->r", self.weight[h, :FEATURES], then[:FEATURES])
            mixed += self.weight[h, FEATURES] * season
            self._judge(h, x, said, mixed, then, good)
            slant = np.sign(mixed - x) * unit
            regret = np.subtract(mixed, said, out=said)
            regret *= slant
            np.maximum(regret, f4(-4), out=regret)
            np.minimum(regret, f4(4), out=regret)
            np.copyto(regret, f4(0), where=~good)
            keep = np.where(good, f4(MEMORY), f4(1))
            square = regret * regret
            self.spread[h] *= keep
            self.spread[h] += square
            eta = f4(np.log(EXPERTS)) / self.spread[h]
            np.sqrt(eta, out=eta)
            np.minimum(eta, f4(0.5), out=eta)
            self.regret[h] *= keep
            self.regret[h] += regret
            square *= eta
            self.regret[h] -= square
            self.weight[h] = fold(weights(self.regret[h], eta), HORIZONS[h][1])

    def _judge(self, h: int, x: F32, said: F32, mixed: F32, then: F32, good: Bools) -> None:
        on = good & (then[TREND] > f4(0.3))
        nearer = np.abs(then[X] + f4(HORIZONS[h][1]) * then[SLOPE] - x) < np.abs(mixed - x)
        for count, seen, prior in ((self.went_on, on & nearer, f4(2)), (self.trends, on, f4(2.5))):
            count += seen
            count += f4(TREND_FADES) * good * (prior - count)
        errors = np.abs(np.stack([mixed, said[LAST], said[S], said[S_R10]]) - x)
        rate = np.where(good, f4(share(BLOCK, 86400.0)), f4(0))
        self.loss[h] += rate * np.where(good, errors - self.loss[h], f4(0))
