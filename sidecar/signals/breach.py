"""Forecast + limit -> probability and time of breach; pure.

The probability that the value is beyond the limit at a horizon comes from a logistic distribution that has the
forecast's own quantiles; between horizons it is interpolated, and it never falls with the horizon, because a breach
before is a breach. `for:` shortens the horizon: a condition that must hold for five minutes has to begin five earlier.
"""

from __future__ import annotations

import bisect
import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.signals.models import f4
from sidecar.types import F32, F64, HORIZONS, I64, Bools

AT_MOST = 0.999  # before it is true
_LOGIT = float(np.log(19.0))  # of 0.95: where the tracked quantiles lie
_ENDS = np.array([0.0, *(h for _, h in HORIZONS)])
OPS = (">", ">=", "<", "<=", "==", "!=")
SIGN = np.array([1, 1, -1, -1, 0, 0], f4)
STRICT = np.array([op in "<>" for op in OPS])
_COMPARE = (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)


class Limits(NamedTuple):
    """One line per row and limit: row, op (an index of `OPS`), value, seconds it must hold."""

    row: I64
    op: npt.NDArray[np.int8]
    value: F64
    hold: F32


class Odds(NamedTuple):
    """`probability` f32[3, lines] and `eta` f32[lines] in seconds (NaN: none expected within the last horizon)."""

    probability: F32
    eta: F32


def true_now(op: npt.NDArray[np.int8], value: F64, x: F64) -> Bools:
    """Whether each condition `x op value` holds, compared in float64 as Prometheus does; NaN never holds.

    >>> true_now(np.array([0, 2], np.int8), np.array([0.9, 0.1]), np.array([0.95, 0.5]))
    array([ True, False])
    """
    out = np.zeros(len(x), bool)
    for code, compare in enumerate(_COMPARE):
        mine = op == code
        if mine.any():
            out |= mine & compare(x, value)
    return out & ~np.isnan(x)


def odds(limits: Limits, x: F64, forecast: F64, lower: F64, upper: F64) -> Odds:
    """Odds of each line, from its row's value f64[lines] and forecasts with intervals f64[3, lines]."""
    over = true_now(limits.op, limits.value, x)
    s = SIGN[limits.op].astype(np.float64)
    gap = (limits.value - forecast) * s  # how far the forecast is on the good side
    # the side of the distribution that lies towards the limit
    toward = np.where((gap > 0) == (s > 0), upper - forecast, forecast - lower)
    np.maximum(toward, 1e-9 * (np.abs(limits.value) + 1e-9), out=toward)
    toward /= _LOGIT
    # what stands at a limit and stays there is not beyond it: `up < 1` while it is 1
    stands = (np.abs(gap) <= 1e-6 * (np.abs(limits.value) + 1e-6)) & (x == limits.value) & STRICT[limits.op]
    gap /= toward
    np.maximum(gap, -30, out=gap)
    np.minimum(gap, 30, out=gap)
    np.exp(gap, out=gap)
    gap += 1
    ends = np.zeros((1 + len(HORIZONS), len(x)))
    np.divide(1, gap, out=ends[1:])
    np.copyto(ends[1:], 0.0, where=stands)
    for sooner, later in itertools.pairwise(ends):
        np.fmax(sooner, later, out=later)  # a horizon below the step has no forecast
    p = np.empty_like(gap)
    for row, (_, h) in zip(p, HORIZONS, strict=True):
        row[:] = _at(ends, h - limits.hold)
    np.minimum(p, AT_MOST, out=p)
    np.copyto(p, 1.0, where=over)
    # equality is not forecast, and nothing is said of what is not there
    np.copyto(p, np.nan, where=(((s == 0) | np.isnan(forecast)) & ~over) | np.isnan(x))
    return Odds(p.astype(f4), _eta(limits, x, forecast, over))


def _at(p: F64, seconds: F32) -> F64:
    """Interpolate p f64[4, lines] (now and the horizons) at seconds f32[lines]."""
    if len(seconds) and (seconds == seconds[0]).all():  # one `for:` for all, as most often
        at = float(seconds[0])
        k = min(max(bisect.bisect_right(_ENDS.tolist(), at) - 1, 0), len(_ENDS) - 2)
        share = min(max((at - _ENDS[k]) / (_ENDS[k + 1] - _ENDS[k]), 0.0), 1.0)
        one: F64 = p[k] * (1 - share) + p[k + 1] * share
        return one
    i = np.clip(np.searchsorted(_ENDS, seconds, side="right") - 1, 0, len(_ENDS) - 2)
    part = np.clip((seconds - _ENDS[i]) / (_ENDS[i + 1] - _ENDS[i]), 0, 1)
    line = np.arange(p.shape[1])
    out: F64 = p[i, line] * (1 - part) + p[i + 1, line] * part
    return out


def _eta(limits: Limits, x: F64, forecast: F64, over: Bools) -> F32:
    """First crossing of the straight line through now and the forecasts."""
    eta = np.full(len(x), np.nan)
    s = SIGN[limits.op].astype(np.float64)
    at, before = np.zeros(len(x)), s * x
    limit = s * limits.value
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, (_, horizon) in zip(s * forecast, HORIZONS, strict=True):
            crosses = np.isnan(eta) & (before <= limit) & (row > limit) & (s != 0)
            if crosses.any():
                reach = at + (horizon - at) * (limit - before) / (row - before)
                np.copyto(eta, reach, where=crosses)
            said = ~np.isnan(row)
            at, before = np.where(said, horizon, at), np.where(said, row, before)
    np.maximum(eta, 1.0, out=eta)  # 0 says that it is true, so what only touches the limit is a second away
    np.copyto(eta, 0.0, where=over)
    return eta.astype(f4)
