"""Honest numbers: intervals from a series' own recent errors, and confidence from score and history.

Intervals: the error is measured in units of a mixed volatility (one hour, six hours, three days, this hour of the day)
and two quantiles of it are tracked online, so the interval is asymmetric and adapts (quantile tracking as in
Angelopoulos et al., "Conformal PID control", 2023; research/forecast.md). The judged tick rotates through the block, so
that coverage holds at every tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.forecast.ensemble import BLOCK
from sidecar.signals.models import Columns, Field, f4, together
from sidecar.types import F32, Bools

VOLATILITY_TAUS = (3600.0, 21600.0, 259200.0)
VOLATILITY_RATES = np.array([min(1.0, BLOCK / tau) for tau in VOLATILITY_TAUS], f4).reshape(3, 1)
VOLATILITY_WEIGHTS = (0.4, 0.25, 0.2)
HOUR_WEIGHT = 0.15  # of the slowest volatility in the hour of the day
HOUR_RATE = 1 / 60  # per block: five days of an hour
COVERAGE = 0.9
TAILS = np.array([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], f4).reshape(2, 1)
RATE = 0.03
ASLEEP = 100.0  # volatilities
FEW = 12
COVERAGE_TAU = 7 * 86400.0
PENDING = (3, 6, 12)  # blocks of each horizon


class Intervals(Columns):
    """Volatility, tracked quantiles and forecasts not judged yet, for each row and horizon."""

    fields: ClassVar = {
        "volatility": Field((3, len(VOLATILITY_TAUS))),
        "judged": Field((3,)),
        "quantile": Field((3, 2), np.array([-2, 2], f4).reshape(2, 1)),
        "pace": Field((3,), 2.0),
        "sigma": Field((3,)),
        "covered": Field((3,), COVERAGE),
        "said": Field((sum(PENDING), 2), np.nan),
        "hours": Field((24,), 1.0, np.float16),
    }
    volatility: F32
    judged: F32
    quantile: F32
    """Of error / sigma, lower and upper."""
    pace: F32
    sigma: F32
    covered: F32
    said: F32
    """Forecast and sigma of origins whose truth has not come."""
    hours: np.typing.NDArray[np.float16]
    """Error at the longest horizon in each hour of the day, in slowest volatilities."""

    @staticmethod
    def slot(horizon: int, block: int, wait: int) -> int:
        """Where the origin of a block is kept until its truth comes, `wait` blocks later."""
        return sum(PENDING[:horizon]) + block % wait

    def around(self, value: F32, scale: F32) -> tuple[F32, F32]:
        """Lower and upper f32[3, rows] around forecasts f32[3, rows].

        While few forecasts have been judged the interval is at least that of the series' usual deviation `scale`.
        """
        young, sigma = self.judged < FEW, self.sigma
        if young.any():
            sigma = np.where(young, np.maximum(sigma, f4(2) * scale), sigma)
        lower = value + sigma * np.minimum(self.quantile[:, 0], f4(0))
        upper = value + sigma * np.maximum(self.quantile[:, 1], f4(0))
        return lower, upper

    def turn(self, y: F32, hours: Sequence[int]) -> None:
        """Volatility of what will be said, for the hours of the day that lie at the horizons, around y f32[rows]."""
        for h in together(range(len(hours)), self.rows):
            self.sigma[h] = self._mix(h, y, hours[h])

    def learn(
        self, h: slice, slots: Sequence[int], y: F32, on: Bools, hour: int, ahead: Sequence[int]
    ) -> None:
        """Judge what stands in the slots of these horizons by the truth y f32[rows], in this hour of the day; `ahead`
        are the horizons' own."""
        pending = self.said[slots]
        said, sigma = pending[:, 0], pending[:, 1]
        good = on & ~np.isnan(said)
        g = good.astype(f4)
        error = np.where(good, y - said, f4(0))
        size = np.abs(error)
        judged, pace, covered = self.judged[h], self.pace[h], self.covered[h]
        quantile, volatility = self.quantile[h], self.volatility[h]
        judged += g
        n = np.maximum(judged, f4(1))
        u = error / np.maximum(sigma, f4(1e-12))
        np.copyto(u, f4(0), where=~good)
        # what a volatility is surprised by that slept until now says nothing of its quantiles
        rate = np.maximum(f4(RATE), f4(0.3) / np.sqrt(n)) * pace * g * (np.abs(u) < f4(ASLEEP))
        quantile += rate[:, None] * (TAILS - (u[:, None] < quantile))
        pace += f4(0.01) * g * (f4(1.5) * np.minimum(np.abs(u), f4(10)) - pace)
        inside = (u >= quantile[:, 0]) & (u <= quantile[:, 1])
        covered += f4(BLOCK / COVERAGE_TAU) * g * (inside - covered)
        least, whole, g3, one = f4(1e-7) * np.abs(y), size[:, None], g[:, None], (f4(1) / n)[:, None]
        for k in together(range(len(VOLATILITY_TAUS)), self.rows):
            v = volatility[:, k]
            # clipped against bursts, but a volatility of nothing must be able to wake up
            awake = (judged > 50)[:, None] & (v > least)
            bounded = np.where(awake, np.minimum(whole, f4(15) * v), whole)
            v += np.maximum(VOLATILITY_RATES[k], one) * g3 * (bounded - v)
        if h.stop == len(PENDING):
            usual = self.hours[hour].astype(f4)
            part = np.minimum(size[-1] / np.maximum(volatility[-1, -1], f4(1e-12)), f4(15))
            self.hours[hour] = usual + f4(HOUR_RATE) * g[-1] * (part - usual)
        self.sigma[h] = self._mix(h, y, ahead)

    def _mix(self, h: slice, y: F32, hours: Sequence[int]) -> F32:
        volatility = self.volatility[h]
        slow = volatility[:, -1]
        floor = f4(1e-2) * slow + f4(1e-9) * np.abs(y) + f4(1e-12)
        logs = np.log(np.maximum(volatility, floor[:, None]))
        mixed = np.einsum("hvr,v->hr", logs, np.array(VOLATILITY_WEIGHTS, f4))
        mixed += f4(HOUR_WEIGHT) * np.log(np.maximum(self.hours[hours].astype(f4) * slow, floor))
        out: F32 = np.exp(mixed)
        return out


class Curve(NamedTuple):
    """Log odds that a run with this peak is real: at a score of 0, and from each bend on so much more a score."""

    intercept: float
    bends: tuple[float, ...]
    slopes: tuple[float, ...]


# about what the runs of ../shared/data show (`make quality`)
SERIES = Curve(-2.5, (0.0, 2.0, 5.0), (1.25, -0.85, 3.0))
GROUP = Curve(-2.9, (0.0,), (2.9,))
ORDINARY = 0.8  # below this score confidence fades to nothing
YOUNG = 1.0  # days until history counts for two thirds


def confidence(score: F32, age: F32, presence: F32, curve: Curve = SERIES) -> F32:
    """Probability f32[rows] that what the score shows is real; low with little (`age` in days) or gappy history.

    >>> old, whole = np.float32([99, 99, 99, 1]), np.float32([1, 1, 1, 1])
    >>> [f"{p:.2f}" for p in confidence(np.float32([1, 3, 4.2, 3]), old, whole)]
    ['0.22', '0.60', '0.71', '0.38']
    """
    log_odds = np.full(len(score), f4(curve.intercept))
    for bend, slope in zip(curve.bends, curve.slopes, strict=True):
        log_odds += f4(slope) * np.maximum(score - f4(bend), f4(0))
    odds: F32 = np.exp(log_odds)
    known: F32 = f4(1) - np.exp(-age / f4(YOUNG))
    out: F32 = odds / (f4(1) + odds) * np.minimum(score / f4(ORDINARY), f4(1)) * known * presence
    return out
