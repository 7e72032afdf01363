"""Forecast + limit -> probability and time of breach; pure.

The probability that the value is beyond the limit at a horizon comes from a logistic distribution that has the
forecast's own quantiles; between horizons it is interpolated, and it never falls with the horizon, because a breach
before is a breach. Odds beyond 999 to 1 are not claimed: it is 0 below them, and 1 only when the condition is true.
`for:` shortens the horizon: a condition that must hold for five minutes has to begin five earlier.
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
# where the probability falls below 1 - AT_MOST: odds beyond 999 to 1 are claimed neither way
_OUT_OF_REACH = float(np.log(AT_MOST / (1 - AT_MOST))) / _LOGIT
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


NONE = Limits(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0), np.empty(0, np.float32))


class Odds(NamedTuple):
    """`probability` f32[3, lines] and `eta` f32[lines] in seconds (NaN: none expected within the last horizon); of
    crossings within it, eight in ten come between `soonest` and `latest`."""

    probability: F32
    eta: F32
    soonest: F32
    latest: F32


def told(probability: F32, eta: F32) -> Odds:
    """Odds and times, of which it is not known yet how far they may be off."""
    ends = np.where(eta == 0, f4(0), f4(np.nan))
    return Odds(probability, eta, ends, ends.copy())


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
    s = SIGN[limits.op]
    above = s > 0
    # the end of the interval that lies towards the limit, while the forecast is on the good side
    edge = upper if above.all() else np.where(above, upper, lower)
    away = ((limits.value - x) * s).astype(f4)  # how far now, and each forecast, is on the good side
    gap = (limits.value - forecast).astype(f4)
    toward = (edge - forecast).astype(f4)
    if edge is not upper:
        gap *= s
        toward *= s
    # most limits are far out of reach at every horizon: nothing is worked out for them
    near = ~((gap > toward * f4(_OUT_OF_REACH)).all(0) & (away > 0))
    i = np.flatnonzero(near)
    if 4 * len(i) > len(x):  # gathering them would cost more than it saves
        probability, eta = _near(limits, x, away, gap, toward, upper - lower)
        np.copyto(probability, f4(0), where=~near)
        return told(probability, eta)
    probability, eta = np.zeros((len(HORIZONS), len(x)), f4), np.full(len(x), np.nan, f4)
    if len(i):
        some = Limits(limits.row[i], limits.op[i], limits.value[i], limits.hold[i])
        span = upper[:, i] - lower[:, i]
        probability[:, i], eta[i] = _near(some, x[i], away[i], gap[:, i], toward[:, i], span)
    return told(probability, eta)


def _near(limits: Limits, x: F64, away: F32, gap: F32, toward: F32, span: F64) -> tuple[F32, F32]:
    over = true_now(limits.op, limits.value, x)
    toward = np.where(gap > 0, toward, span.astype(f4) - toward)
    return _chances(limits, x, away, gap, toward, over), _eta(away, gap, over)


def _chances(limits: Limits, x: F64, away: F32, gap: F32, toward: F32, over: Bools) -> F32:
    """Probability f32[3, lines] that the condition holds within each horizon."""
    size = np.abs(limits.value).astype(f4)
    z = gap / (np.maximum(toward, f4(1e-9) * (size + f4(1e-9))) / f4(_LOGIT))
    np.maximum(z, f4(-30), out=z)
    np.minimum(z, f4(30), out=z)
    np.exp(z, out=z)
    z += f4(1)
    ends = np.zeros((1 + len(HORIZONS), len(x)), f4)
    np.divide(f4(1), z, out=ends[1:])
    # what stands at a limit and stays there is not beyond it: `up < 1` while it is 1
    stands = (away == 0) & STRICT[limits.op]
    if stands.any():
        np.copyto(ends[1:], f4(0), where=stands & (np.abs(gap) <= f4(1e-6) * (size + f4(1e-6))))
    for sooner, later in itertools.pairwise(ends):
        np.fmax(sooner, later, out=later)  # a horizon below the step has no forecast
    p = np.stack([_at(ends, h - limits.hold) for _, h in HORIZONS])
    np.minimum(p, f4(AT_MOST), out=p)
    np.copyto(p, f4(0), where=p < f4(1 - AT_MOST))
    np.copyto(p, f4(1), where=over)
    # equality is not forecast, and nothing is said of what is not there
    np.copyto(p, f4(np.nan), where=(((SIGN[limits.op] == 0) | np.isnan(gap)) & ~over) | np.isnan(x))
    return p


def _at(p: F32, seconds: F32) -> F32:
    """Interpolate p f32[4, lines] (now and the horizons) at seconds f32[lines]."""
    if len(seconds) and (seconds == seconds[0]).all():  # one `for:` for all, as most often
        at = float(seconds[0])
        k = min(max(bisect.bisect_right(_ENDS.tolist(), at) - 1, 0), len(_ENDS) - 2)
        share = min(max((at - _ENDS[k]) / (_ENDS[k + 1] - _ENDS[k]), 0.0), 1.0)
        one: F32 = p[k] * (f4(1) - f4(share)) + p[k + 1] * f4(share)
        return one
    i = np.clip(np.searchsorted(_ENDS, seconds, side="right") - 1, 0, len(_ENDS) - 2)
    part = np.clip((seconds - _ENDS[i]) / (_ENDS[i + 1] - _ENDS[i]), 0, 1).astype(f4)
    line = np.arange(p.shape[1])
    out: F32 = p[i, line] * (f4(1) - part) + p[i + 1, line] * part
    return out


def _eta(away: F32, gap: F32, over: Bools) -> F32:
    """First crossing f32[lines] of the straight line through now and the forecasts, by their distances to the limit."""
    eta = np.full(len(away), np.nan, f4)
    at, before = np.zeros(len(away), f4), away
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, (_, horizon) in zip(gap, HORIZONS, strict=True):
            crosses = np.isnan(eta) & (before >= 0) & (row < 0)
            if crosses.any():
                np.copyto(eta, at + (f4(horizon) - at) * before / (before - row), where=crosses)
            said = ~np.isnan(row)
            if not said.all():
                at, before = np.where(said, f4(horizon), at), np.where(said, row, before)
            else:
                at, before = np.full_like(at, horizon), row
    np.maximum(eta, f4(1), out=eta)  # 0 says that it is true, so what only touches the limit is a second away
    np.copyto(eta, f4(0), where=over)
    return eta
