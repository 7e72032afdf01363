"""What a series should be, given others: recursive least squares on 1 to 8 regressors, all rows at once.

Features are [1, x, sqrt(x)] of each regressor x: exact for what is proportional, close for what saturates or bends
upwards, the same in any unit, and nearly straight beyond what was seen. Kept are the fading means of their products
(the information form: nothing blows up while a regressor stands still), in float64 since neighbouring features are
nearly equal. They are solved every quarter of an hour with a ridge that is the prior of Bayesian regression, so that
what the data does not tell is taken for nothing. A residual has bounded influence (Huber): an anomaly is not learned
as the curve.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, F64, Bools

MEMORY = 14 * 86400.0  # seconds after which a sample counts for a third
SCALE_MEMORY = 3 * 86400.0
SOLVE = 900.0  # seconds between solutions
ALIKE = 600.0  # seconds within which samples tell much the same: the prior weighs as much as one of them
GROWN = 43200.0  # seconds of samples until a curve is believed
CLIP = 3.0  # scales beyond which a residual pulls no harder
USUAL = 2.5  # standard deviations of a regressor around its mean: beyond, the curve is prolonged
DOUBT = 0.5  # of what prolonging it adds
LEVEL_TAU = 3600.0  # of the levels that stand for knowing a series by itself
JUDGE_MEMORY = 7 * 86400.0
EARN, LOSE = 0.8, 0.95  # squared error with the curve by that without
MOST = 25.0  # a single squared error counts for at most so many usual ones


class Curve(NamedTuple):
    """What the regressors say now."""

    features: F64
    """f64[1 + 2 k, rows]."""
    value: F64
    """f64[rows]; NaN: nothing."""
    doubt: F64
    """How far it may be wrong because the curve is prolonged."""
    noise: F64
    """How many times as far as usual the target may lie off it: noise grows with the level."""


def features(x: F64) -> F64:
    """[1, x, sqrt(x)] f64[1 + 2 k, rows] of regressors f64[k, rows]; roots keep the sign."""
    k = len(x)
    out = np.ones((1 + 2 * k, x.shape[1]))
    out[1 : k + 1] = x
    np.sqrt(np.abs(x), out=out[k + 1 :])
    np.copysign(out[k + 1 :], x, out=out[k + 1 :])
    return out


def _fields(regressors: int) -> dict[str, Field]:
    n = 1 + 2 * regressors
    return {
        "products": Field((n * (n + 1) // 2,), dtype=np.float64),
        "cross": Field((n,), dtype=np.float64),
        "square": Field(dtype=np.float64),
        "weight": Field((n,), np.nan, np.float64),
        "age": Field(),
        "known": Field(),
        "scale": Field(),
        "levels": Field((2,), dtype=np.float64),
        "errors": Field((2,)),
        "earned": Field(dtype=np.bool_),
    }


class Conditional(Columns):
    """The curve of each row. `of(k)` is the class for k regressors."""

    regressors: ClassVar[int] = 1
    fields: ClassVar = _fields(1)
    products: F64
    """Fading means of products of features: the upper triangle, row by row."""
    cross: F64
    """The same of feature and target; the first is the target's mean."""
    square: F64
    weight: F64
    age: F32
    """Seconds of samples learned; `known`: of those, with a curve to compare with."""
    known: F32
    scale: F32
    """Usual size of a residual."""
    levels: F64
    """Fading means of the target and of the residual."""
    errors: F32
    """Fading mean squared distance from each of them: the series by itself, and given the others."""
    earned: Bools
    """Whether the second is clearly smaller: only then is the curve to be used."""

    def curve(self, x: F64) -> Curve:
        """What regressors f64[k, rows] say; changes nothing."""
        f = features(x)
        value: F64 = np.einsum("fr,fr->r", self.weight, f)
        doubt = np.zeros(self.rows)
        mean = self.products[1 : self.regressors + 1]
        spread = self.products[[self._at(i, i) for i in range(1, self.regressors + 1)]] - mean * mean
        reach = USUAL * np.sqrt(np.maximum(spread, 0))
        usual = np.minimum(np.maximum(x, mean - reach), mean + reach)
        beyond = np.flatnonzero((usual != x).any(0))
        if len(beyond):
            inside = np.einsum("fr,fr->r", self.weight[:, beyond], features(usual[:, beyond]))
            doubt[beyond] = DOUBT * np.abs(value[beyond] - inside)
        value[self.age < GROWN] = np.nan
        return Curve(f, value, doubt, np.fmax(1, np.abs(value) / np.sqrt(self.square)))

    def learn(self, at: float, y: F64, curve: Curve, on: Bools, step: float) -> None:
        """Learn targets y f64[rows] where `on` and all is there; solve when it is time."""
        f = curve.features
        good = on & np.isfinite(y) & np.isfinite(f).all(0)
        f, y = np.where(good, f, 0), np.where(good, y, 0)
        r = y - np.einsum("fr,fr->r", self.weight, f)
        solved = good & np.isfinite(r)
        np.copyto(r, 0, where=~solved)
        size = np.abs(r)
        # a scale that clips by itself would lock at zero: one that is nothing against y must be able to wake up
        most = np.where(self.scale > 1e-7 * np.abs(y), CLIP * self.scale, np.inf)
        pull = np.minimum(1, most / np.maximum(size, 1e-300))
        rate = np.maximum(step / (self.age + step), step / MEMORY) * pull * good
        row = 0
        for i, feature in enumerate(f):
            left = self.products[row : row + len(f) - i]
            left += rate * (feature * f[i:] - left)
            row += len(f) - i
        self.cross += rate * (f * y - self.cross)
        self.square += rate * (y * y - self.square)
        self._judge(y, r, solved, step)
        slow = np.maximum(f4(step) / (self.known + f4(step)), f4(step / SCALE_MEMORY))
        self.scale += (slow * solved * (np.minimum(size, most) - self.scale)).astype(f4)
        self.age += f4(step) * good
        self.known += f4(step) * solved
        if math.floor(at / SOLVE) != math.floor((at - step) / SOLVE):
            self._solve()

    def _judge(self, y: F64, r: F64, on: Bools, step: float) -> None:
        """Compare what would be expected from the last hour of the series with what would be with the curve."""
        now = np.stack([y, r])
        first = on & (self.known == 0)
        self.levels[:, first] = now[:, first]
        away = now - self.levels
        square = np.minimum(away * away, 1e36).astype(f4)
        usual = np.where(self.known > f4(ALIKE), f4(MOST) * self.errors[0], f4(np.inf))
        np.copyto(usual, f4(np.inf), where=usual == 0)
        rate = np.maximum(f4(step) / (self.known + f4(step)), f4(step / JUDGE_MEMORY)) * on
        self.errors += rate * (np.minimum(square, usual) - self.errors)
        self.levels += (1 - math.exp(-step / LEVEL_TAU)) * on * away
        alone, given = self.errors
        self.earned &= given < f4(LOSE) * alone
        self.earned |= (given < f4(EARN) * alone) & (self.known >= f4(GROWN / 2))

    def _solve(self) -> None:
        """Coefficients from the means: (C + ridge) w = c in units in which every feature has a mean square of one."""
        rows = np.flatnonzero(self.age > 0)
        if not len(rows):
            return
        n = len(self.cross)
        i, j = np.triu_indices(n)
        c = np.empty((len(rows), n, n))
        c[:, i, j] = c[:, j, i] = self.products[:, rows].T
        unit = np.sqrt(np.einsum("rii->ri", c))
        unit[unit == 0] = 1
        c /= unit[:, :, None] * unit[:, None, :]
        # variance of the noise by that of the target, for as many samples as tell something new
        whole = np.maximum(self.square[rows] - self.cross[0, rows] ** 2, 0)
        noise = np.where(self.known[rows] > 0, self.scale[rows].astype(np.float64) ** 2, whole)
        share = np.minimum(noise / np.maximum(whole, 1e-300), 1)
        ridge = np.maximum(share * ALIKE / np.minimum(self.age[rows], MEMORY), 1e-9)
        diagonal = np.einsum("rii->ri", c)
        diagonal += ridge[:, None]
        diagonal[:, 0] += 1e-12 - ridge  # the level itself is no effect
        solution = np.linalg.solve(c, (self.cross[:, rows].T / unit)[..., None])[..., 0]
        self.weight[:, rows] = (solution / unit).T

    def _at(self, i: int, j: int) -> int:
        """Where the product of features i <= j stands.

        >>> Conditional(1)._at(1, 1), Conditional(1)._at(2, 2)
        (3, 5)
        """
        n = len(self.cross)
        return i * n - i * (i - 1) // 2 + j - i


def of(count: int) -> type[Conditional]:
    """The model for so many regressors."""

    class Of(Conditional):
        regressors: ClassVar[int] = count
        fields: ClassVar = _fields(count)

    return Of


def prequential(at: F64, y: F64, x: F64, step: float) -> tuple[F64, F64]:
    """Residuals and expectations f64[times, rows] of targets f64[times, rows] given f64[times, k, rows], each from
    what was before it; NaN where nothing is known yet."""
    model = of(x.shape[1])(y.shape[1])
    said = np.full(y.shape, np.nan)
    with np.errstate(all="ignore"):
        for i, now in enumerate(at.tolist()):
            curve = model.curve(x[i])
            said[i] = curve.value
            model.learn(now, y[i], curve, np.ones(y.shape[1], bool), step)
    return y - said, said
