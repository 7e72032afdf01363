"""Experts that are linear in thirteen features of the residual, and their mixture, as one coefficient per feature.

Every expert is told as its distance from the season ahead, so a forecast is the season ahead plus coefficients times
features. The weights are Bernstein online aggregation with the gradient trick (Wintenberger, "Optimal learning with
Bernstein online aggregation", 2017), per series and horizon, learned once per block (research/forecast.md, section 3).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, HORIZONS, I64, Bools

# R is the residual now, Mxx its EW means, MD25 and MD60 those of the medians of 5 and 12 blocks, TREND the robust slope
# over an hour; then what the smooth day, yesterday and last week say now, and what they and the season now say at the
# horizon; all less the season then
R, M10, M40, M4H, MD25, MD60, TREND, DAY_NOW, WEEK_NOW, YESTERDAY_NOW = range(10)
NOW = 10  # do not depend on the horizon
DAY_AHEAD, YESTERDAY, WEEK, AHEAD = range(NOW, 14)
FEATURES = 14
REGRESSORS = [R, M10, M40, M4H, MD25, MD60, TREND, DAY_NOW, DAY_AHEAD, YESTERDAY, WEEK, AHEAD]
"""Those that the ridge learns from."""
LAST, SEASON_R, SEASON_R10, SEASON = 0, 3, 4, 7
STAYS = [LAST, 10, 11]
"""The last value and the medians: what a series that mostly stands still is at, exactly."""
POOL, OWN = 18, 19
EXPERTS = 20
NAIVE = [LAST, SEASON, SEASON_R10, *STAYS[1:]]
"""What the mixture is measured against; the first three are those that skill is told by."""
MEMORY = 0.9985  # of regrets per block: 2.3 days
FLOOR = 1e-4  # weight of the worst expert
EXACT, EXACT_RATE = 1e-4, 1 / 144  # usual deviations that are none, and the rate of their share per block
# an error beyond so many usual ones is large, if that is less than the usual deviation
LARGE, MOST = 3.0, 1e3
# blocks, besides the day that errors are means of, until skill is believed to be lost or found
PATIENCE = 126
WORSE = 1.05  # times the error of the best naive forecast: what is closer is as good by chance
WILD = 10.0  # times what the mixture errs, now and usually: an expert as far off has not helped
REST_SLACK = 1.05  # by which standing still may have been worse than the mixture


def _fixed(horizon: float) -> F32:
    """Coefficients f32[POOL, FEATURES] of the experts that never learn."""
    rows: tuple[dict[int, float], ...] = (
        {R: 1, AHEAD: 1},  # the last value
        {M10: 1, AHEAD: 1},
        {M40: 1, AHEAD: 1},
        {R: 1},  # the season and how far off it is now
        {M10: 1},
        {M40: 1},
        {M40: 0.5},
        {},  # the season
        {YESTERDAY: 1, M40: 1, YESTERDAY_NOW: -1},  # yesterday, shifted
        {WEEK: 1, M40: 1, WEEK_NOW: -1},
        {MD25: 1, AHEAD: 1},
        {MD60: 1, AHEAD: 1},
        {M4H: 1},
        {R: 1, AHEAD: 1, TREND: horizon / 3600.0},  # the line through the last value
        {R: 1, DAY_NOW: -1, DAY_AHEAD: 1},
        {M10: 1, DAY_NOW: -1, DAY_AHEAD: 1},
        {M40: 1, DAY_NOW: -1, DAY_AHEAD: 1},
        {DAY_AHEAD: 1},
    )
    out = np.zeros((POOL, FEATURES), f4)
    for row, said in zip(out, rows, strict=True):
        row[list(said)] = list(said.values())
    return out


FIXED = np.stack([_fixed(h) for _, h in HORIZONS])


def experts(h: slice, f: F32, pool: F32, own: F32) -> F32:
    """What each expert says f32[horizons, EXPERTS, rows] from features f32[horizons, FEATURES, rows], less the season
    ahead.

    `pool` f32[horizons, REGRESSORS] and `own` f32[horizons, REGRESSORS, rows] are the coefficients of the two that
    learn; `h` are the horizons, here as below.
    """
    out = np.empty((len(f), EXPERTS, f.shape[-1]), f4)
    np.matmul(FIXED[h], f, out=out[:, :POOL])
    learned = f[:, REGRESSORS]
    out[:, POOL] = np.matmul(pool[:, None], learned)[:, 0]
    np.einsum("hpr,hpr->hr", own, learned, out=out[:, OWN])
    return out


def fold(h: slice, weight: F32, pool: F32, own: F32) -> F32:
    """Weights f32[horizons, EXPERTS, rows] as one coefficient per feature f32[horizons, FEATURES, rows]."""
    out: F32 = np.matmul(FIXED[h].transpose(0, 2, 1), weight[:, :POOL])
    out[:, REGRESSORS] += pool[:, :, None] * weight[:, POOL, None] + own * weight[:, OWN, None]
    return out


# before anything was learned: mostly the last values, and no trend
_REGRET = np.array([4, 2, 2, 4, 4, 2, 0, 0, -4, -4, 2, 0, 0, -4, 0, 0, 0, 0, 0, 0], f4).reshape(EXPERTS, 1)


def weights(regret: F32, eta: F32) -> F32:
    """BOA's weights f32[..., EXPERTS, rows], floored so that no expert is ever lost."""
    z = eta * regret
    z -= z.max(-2, keepdims=True)
    w: F32 = np.exp(z, out=z)
    w *= eta
    w *= f4(1 - FLOOR * EXPERTS) / w.sum(-2, keepdims=True)
    w += f4(FLOOR)
    return w


def first(pool: F32) -> F32:
    """Coefficients f32[3, FEATURES, 1] before anything was learned, with those of the pool f32[3, FEATURES]."""
    w = np.tile(weights(_REGRET, np.full_like(_REGRET, 0.5)), (len(HORIZONS), 1, 1))
    return fold(slice(None), w, pool, pool[..., None])


class Mixture(Columns):
    """Regrets of each row, horizon and expert."""

    fields: ClassVar = {
        "regret": Field((3, EXPERTS), _REGRET),
        "spread": Field((3, EXPERTS), 1e-2),
        "exact": Field((3, len(STAYS))),
        "loss": Field((3, 1 + len(NAIVE))),
        "behind": Field((3,), -PATIENCE, np.int8),
    }
    regret: F32
    spread: F32
    """Their squares."""
    exact: F32
    """Share of the truths of half a day that each of `STAYS` hit: above a half it is the median of what comes."""
    loss: F32
    """Mean absolute error, over a day, of the mixture and of each of `NAIVE`."""
    behind: npt.NDArray[np.int8]
    """Blocks in which the best naive forecast erred less, less those in which it did not, within `PATIENCE` either way:
    above 0 there is no skill."""

    def learn(self, h: slice, said: F32, mixed: F32, y: F32, unit: F32, good: Bools) -> F32:
        """Judge what was said f32[horizons, EXPERTS, rows] (overwritten), and together, by the truth y
        f32[horizons, rows]; the new weights.

        `unit` f32[rows] is one over the usual deviation.
        """
        loss, exact, spread, kept = self.loss[h], self.exact[h], self.spread[h], self.regret[h]
        on = good[:, None]
        off = np.abs(said - y[:, None])
        near = off[:, STAYS] * unit <= f4(EXACT)
        exact += f4(EXACT_RATE) * on * (near - exact)
        # of a ramp the errors are small though its profile is far off, and so its usual deviation large
        large = f4(LARGE) * loss[:, 0]
        finer = np.minimum(np.maximum(unit, f4(1) / large), f4(MOST) * unit)
        slant = np.sign(mixed - y) * np.where(large > 0, finer, unit)
        errors = np.concatenate([np.abs(mixed - y)[:, None], off[:, NAIVE]], axis=1)
        # a gradient knows no overshoot: small errors on one side would speak for whatever lies far beyond the other
        wild = off > f4(WILD) * np.maximum(errors[:, :1], loss[:, :1])
        loss += f4(EXACT_RATE / 2) * np.where(on, errors - loss, f4(0))
        self._count(h, good)
        regret = np.subtract(mixed[:, None], said, out=said)
        regret *= slant[:, None]
        np.maximum(regret, f4(-4), out=regret)
        np.minimum(regret, f4(4), out=regret)
        np.minimum(regret, f4(0), out=regret, where=wild)
        np.copyto(regret, f4(0), where=~on)
        keep = np.where(on, f4(MEMORY), f4(1))
        square = regret * regret
        spread *= keep
        spread += square
        eta = f4(np.log(EXPERTS)) / spread
        np.sqrt(eta, out=eta)
        np.minimum(eta, f4(0.5), out=eta)
        kept *= keep
        kept += regret
        square *= eta
        kept -= square
        return weights(kept, eta)

    def _count(self, h: slice, good: Bools) -> None:
        behind, loss = self.behind[h], self.loss[h]
        behind += np.where(loss[:, 0] > f4(WORSE) * loss[:, 1:4].min(1), good, -good.astype(np.int8))
        np.minimum(behind, np.int8(PATIENCE), out=behind)
        np.maximum(behind, np.int8(-PATIENCE), out=behind)

    def plain(self, h: int, season: F32, ahead: F32, now: F32) -> tuple[I64, F32]:
        """Rows whose mixture has no skill, and what the best of `NAIVE` says of them: the last value, the season ahead,
        or that and how far off it is now."""
        rows = np.flatnonzero(self.behind[h] > 0)
        if not len(rows):
            return rows, season[rows]
        said = np.stack([season[rows] + now[R, rows], ahead[rows], ahead[rows] + now[M10, rows]])
        best = self.loss[h, 1:4][:, rows].argmin(0)
        return rows, np.take_along_axis(said, best[None], 0)[0]

    def resting(self, h: int) -> tuple[I64, I64]:
        """Rows that mostly stand still, and which of `STAYS` says where: exact as no mixture is, and no worse."""
        ours, loss = f4(REST_SLACK) * self.loss[h, 0], self.loss[h, [1, 4, 5]]
        may = np.where((self.exact[h] > f4(0.5)) & (loss <= ours), self.exact[h], f4(0))
        rows = np.flatnonzero(may.any(0))
        return rows, may[:, rows].argmax(0)
