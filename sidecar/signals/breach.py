"""Forecast + limit -> probability and time of breach; pure.

The probability that the value is beyond the limit at a horizon comes from a logistic distribution that has the
forecast's own quantiles; between horizons it is interpolated, and it never falls with the horizon, because a breach
before is a breach. `for:` shortens the horizon: a condition that must hold for five minutes has to begin five earlier.
"""

from __future__ import annotations

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
    for code in np.unique(op):
        mine = op == code
        out[mine] = _COMPARE[code](x[mine], value[mine])
    return out & ~np.isnan(x)


def odds(limits: Limits, x: F64, forecast: F64, lower: F64, upper: F64) -> Odds:
    """Odds of each line, from its row's value f64[lines] and forecasts with intervals f64[3, lines]."""
    over = true_now(limits.op, limits.value, x)
    s = SIGN[limits.op].astype(np.float64)
    gap = s * (limits.value - forecast)  # how far the forecast is on the good side
    up, down = upper - forecast, forecast - lower
    # the side of the distribution that lies towards the limit
    toward = np.where(gap > 0, np.where(s > 0, up, down), np.where(s > 0, down, up))
    width = np.maximum(toward, 1e-9 * (np.abs(limits.value) + 1e-9)) / _LOGIT
    p = 1 / (1 + np.exp(np.clip(gap / width, -30, 30)))
    p = np.maximum.accumulate(np.concatenate([np.zeros((1, p.shape[1])), p]), axis=0)
    p = np.stack([_at(p, h - limits.hold) for _, h in HORIZONS])
    p = np.where(over, 1.0, np.minimum(p, AT_MOST))
    p[:, (s == 0) & ~over] = np.nan  # equality is not forecast
    p[:, np.isnan(x)] = np.nan
    return Odds(p.astype(f4), _eta(limits, x, forecast, over))


def _at(p: F64, seconds: F32) -> F64:
    """Interpolate p f64[4, lines] (now and the horizons) at seconds f32[lines]."""
    i = np.clip(np.searchsorted(_ENDS, seconds, side="right") - 1, 0, len(_ENDS) - 2)
    part = np.clip((seconds - _ENDS[i]) / (_ENDS[i + 1] - _ENDS[i]), 0, 1)
    line = np.arange(p.shape[1])
    out: F64 = p[i, line] * (1 - part) + p[i + 1, line] * part
    return out


def _eta(limits: Limits, x: F64, forecast: F64, over: Bools) -> F32:
    """First crossing of the straight line through now and the forecasts."""
    eta = np.full(len(x), np.nan)
    s = SIGN[limits.op].astype(np.float64)
    at, before = 0.0, s * x
    limit = s * limits.value
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, (_, horizon) in zip(s * forecast, HORIZONS, strict=True):
            crosses = np.isnan(eta) & (before <= limit) & (row > limit) & (s != 0)
            reach = at + (horizon - at) * (limit - before) / (row - before)
            eta = np.where(crosses, reach, eta)
            at, before = horizon, row
    # 0 says that it is true, so what only touches the limit is a second away
    return np.where(over, 0.0, np.maximum(eta, 1.0)).astype(f4)
