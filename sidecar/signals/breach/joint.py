"""Rules that ask for several things at once (`a > 1 and b < 2`): what each line of one stands for, seen from its limit.

Such a line is true when each of its conditions is, and a condition when one of the series that match is. So it is as
near as its farthest condition, and a condition as near as its nearest series, in what the forecasts of each may be off
by; an equality, which is not forecast, stays as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidecar.signals.breach import breach
from sidecar.signals.breach.sight import Scale, Sight, Spans, look
from sidecar.signals.models import Array, f4
from sidecar.types import F32, F64, HORIZONS, I64, Bools

FAR = 1e3  # deviations: what an equality is away that does not hold


class Joint(NamedTuple):
    """The lines i64[lines] that have several conditions, and the parts that those are made of, one per series.

    A condition's parts begin at `conditions`, a line's conditions at `firsts`. `names` tell lines apart whose first
    conditions are equal.
    """

    lines: I64 = np.empty(0, np.int64)
    parts: breach.Limits = breach.NONE
    conditions: I64 = np.empty(0, np.int64)
    firsts: I64 = np.empty(0, np.int64)
    names: I64 = np.empty(0, np.int64)

    @property
    def starts(self) -> I64:
        """Where each line's parts begin."""
        return self.conditions[self.firsts]

    def any(self, parts: Bools) -> Bools:
        """Whether one of each line's parts is among some."""
        out: Bools = np.logical_or.reduceat(parts, self.starts) if len(self.lines) else np.zeros(0, bool)
        return out

    def every(self, held: Bools) -> Bools:
        """Whether each line is true, from whether its parts are."""
        some = np.logical_or.reduceat(held, self.conditions)
        out: Bools = np.logical_and.reduceat(some, self.firsts)
        return out


class Together:
    """What lines of several conditions come to, from their parts."""

    def __init__(self, joint: Joint) -> None:
        self.of = joint
        self._row, self._op, self._value, _ = joint.parts
        self._sign = breach.SIGN[self._op]
        self._equal = self._sign == 0
        self._scale = Scale(self._row, self._sign, self._value)
        self._unit = np.ones(len(self._row), f4)
        """What forecasts of each part may be off by."""
        self._x, self.held = np.empty(0), np.zeros(0, bool)
        """Values of the parts, and which of them hold."""
        self._starts, self._sizes = joint.starts, np.diff(np.append(joint.starts, len(self._row)))

    def sign(self) -> F32:
        """1 for lines of which something can be foreseen, 0 where all are equalities."""
        return np.maximum.reduceat(np.abs(self._sign), self._starts)

    def take(self, observed: F64, forecasts: F64) -> tuple[breach.Odds, Bools, Bools]:
        """New values f64[rows] and forecasts f64[9, rows]: odds of each line, whether it is true, and whether known.

        What comes together is at most as likely as the least likely, what has nothing to do with each other as the
        product: it is said between the two, until it is learned what these do.
        """
        x = self._x = observed[self._row]
        ahead = forecasts[:, self._row].reshape(3, len(HORIZONS), -1)
        said, held = breach.odds(self.of.parts, x, *ahead), breach.true_now(self._op, self._value, x)
        self.held, known = held, ~np.isnan(x)
        p = np.where(self._equal & known, held, said.probability)
        some = np.fmax.reduceat(p, self.of.conditions, axis=1)
        least, product = (how.reduceat(some, self.of.firsts, axis=1) for how in (np.minimum, np.multiply))
        both = np.sqrt(least * product).astype(f4)
        np.minimum(both, f4(breach.AT_MOST), out=both)
        np.copyto(both, f4(0), where=both < f4(1 - breach.AT_MOST))
        np.copyto(both, f4(np.nan), where=self.sign() == 0)
        over = self.of.every(held)
        eta = np.where(held, f4(0), np.where(np.isnan(said.eta), f4(np.inf), said.eta))
        eta = np.maximum.reduceat(np.minimum.reduceat(eta, self.of.conditions), self.of.firsts)
        np.copyto(eta, f4(np.nan), where=np.isinf(eta))
        return breach.told(np.where(over, f4(1), both), eta), over, self.of.every(known)

    def survey(self, spans: Spans) -> None:
        """Take the rows' scales as they are now."""
        self._scale.survey(spans)
        sigma = look(spans, self._row, self._sign).sigma[-1]
        self._unit = np.maximum(
            np.nan_to_num(sigma), f4(1e-9) * np.abs(self._scale.level).astype(f4) + f4(1e-30)
        )

    def height(self, values: F64 | None = None) -> F64:
        """How far each line is over its limit f64[lines], from values f64[rows] of its rows, or those of now; NaN: a
        condition is not known."""
        x = self._x if values is None else values[self._row]
        return self._height(self._scale.height(x) / self._unit)

    def week(self, spans: Spans, ahead: int) -> F32:
        """The same of so many blocks after now, a week ago."""
        return self._height(self._scale.week(spans, ahead) / self._unit).astype(f4)

    def sight(self, spans: Spans) -> Sight:
        """What is known of each line."""
        mine, out = look(spans, self._row, self._sign), Sight(len(self.of.lines))
        x = self._scale.height(self._x)
        ratio = np.where(self._equal, f4(1), mine.sigma / self._unit)
        out.sigma[:] = np.add.reduceat(ratio, self._starts, axis=1) / self._sizes
        out.slope[:] = self._height((x + mine.slope) / self._unit) - self._height(x / self._unit)
        out.trend[:] = np.minimum.reduceat(np.where(self._equal, f4(1), mine.trend), self._starts)
        out.known[:] = np.logical_and.reduceat(mine.known, self._starts)
        return out

    def _height(self, heights: Array) -> Array:
        stays = np.where(np.isnan(self._x), np.nan, np.where(self.held, FAR, -FAR))
        some = np.fmax.reduceat(np.where(self._equal, stays, heights), self.of.conditions)
        out: Array = np.minimum.reduceat(some, self.of.firsts)
        return out
