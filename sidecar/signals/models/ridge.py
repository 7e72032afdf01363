"""A linear regression per row and horizon, shrunk to one that all rows share: direct forecasts of the residual.

Features and truths are in units of the usual deviation. A truth weighs one over its error (iteratively reweighted, so
that the absolute error is made small), old ones fade. The own coefficients solve (A + n A') c = b + n A' c', where A'
and c' are the fleet's: one Gauss-Seidel sweep per block keeps up (research/forecast.md, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from sidecar.signals.models import Array, Columns, Field, f4
from sidecar.signals.models.mixture import M40, REGRESSORS, R
from sidecar.types import F32, HORIZONS, I64, Bools

MEMORY, POOL_MEMORY = 0.9985, 0.9995  # per block
SHRINK = 30.0  # truths that the fleet counts for
CLIP, LEAST = 8.0, 0.3  # of features and truths; of the error that a truth weighs by
H, SIZE = len(HORIZONS), len(REGRESSORS)
PAIRS = SIZE * (SIZE + 1) // 2
_AT = np.zeros((SIZE, SIZE), int)
_AT[np.triu_indices(SIZE)] = np.arange(PAIRS)
_AT = np.maximum(_AT, _AT.T)  # where a pair lies in the packed triangle
_FIRST = np.zeros(SIZE, f4)
_FIRST[R], _FIRST[M40] = 0.1, 0.8


class Pool:
    """What all rows of a fleet have in common: one for all its blocks, so that it is learned once."""

    def __init__(self) -> None:
        self.gram, self.cross = np.zeros((H, SIZE, SIZE)), np.zeros((H, SIZE))
        self.weight, self.rows = np.zeros(H), np.zeros(H)
        """Per truth, each with its fading sum of weights; and how many rows spoke last."""
        self.theta: F32 = np.tile(_FIRST, (H, 1))
        self._block = -1
        self._clear()

    def _clear(self) -> None:
        """Sums of the block that lasts."""
        self._gram, self._cross = np.zeros_like(self.gram), np.zeros_like(self.cross)
        self._weight, self._rows = np.zeros(H), np.zeros(H)

    def begin(self, block: int) -> None:
        """When another five minutes have begun, take over what was added in the last ones: nobody is first."""
        if block == self._block:
            return
        self._block = block
        h = np.flatnonzero(self._rows)
        if len(h):
            n = self._rows[h]
            self.gram[h] = POOL_MEMORY * self.gram[h] + self._gram[h] / n[:, None, None]
            self.cross[h] = POOL_MEMORY * self.cross[h] + self._cross[h] / n[:, None]
            self.weight[h] = POOL_MEMORY * self.weight[h] + self._weight[h] / n
            self.rows[h] = n
            self._clear()
            self._solve()

    def add(self, h: slice, gram: F32, cross: F32, weight: F32, rows: I64) -> None:
        """Sums over the rows of one block, of each of these horizons."""
        self._gram[h] += gram
        self._cross[h] += cross
        self._weight[h] += weight
        self._rows[h] += rows

    def absorb(self, other: Pool) -> None:
        """Take in what another fleet learned, each with the share of its rows."""
        other.begin(-2)
        for h in np.flatnonzero(other.rows).tolist():
            share, n = other.rows[h] / (self.rows[h] + other.rows[h]), max(self.weight[h], other.weight[h])
            for name in ("gram", "cross"):
                mine, theirs = getattr(self, name), getattr(other, name)
                mine[h] = (1 - share) * n * mine[h] / max(self.weight[h], 1e-9) + share * n * theirs[h] / max(
                    other.weight[h], 1e-9
                )
            self.weight[h] = n
            self.rows[h] += other.rows[h]
        self._solve()

    def shrunk(self) -> tuple[F32, F32]:
        """A' of each horizon times the truths that it counts for, and that times the shared coefficients."""
        gram = SHRINK * (self.gram / self.weight[:, None, None] + 3e-3 * np.eye(SIZE))
        return gram.astype(f4), np.einsum("hij,hj->hi", gram, self.theta).astype(f4)

    def _solve(self) -> None:
        h = np.flatnonzero(self.weight)
        n = self.weight[h, None]
        steady = (1e-3 * (1 + 50 / n))[:, None] * np.eye(SIZE)
        self.theta[h] = np.linalg.solve(self.gram[h] / n[:, None] + steady, (self.cross[h] / n)[..., None])[
            ..., 0
        ]

    def state(self) -> dict[str, Array]:
        """All that has to be saved, the sums of the block that lasts included."""
        names = ("gram", "cross", "weight", "rows")
        return {f"{kind}{name}": getattr(self, kind + name) for kind in ("", "_") for name in names} | {
            "_block": np.array([self._block])
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave; ValueError or KeyError when it does not fit."""
        for name, mine in self.state().items():
            if name != "_block":
                mine[:] = state[name]
        self._block = int(state["_block"][0])
        self._solve()


class Ridge(Columns):
    """Normal equations and coefficients of each row and horizon."""

    fields: ClassVar = {
        "gram": Field((H, PAIRS)),
        "cross": Field((H, SIZE)),
        "own": Field((H, SIZE), np.tile(_FIRST, (H, 1))[..., None]),
    }
    gram: F32
    """The upper triangle, packed."""
    cross: F32
    own: F32

    def learn(self, h: slice, f: F32, target: F32, unit: F32, good: Bools, pool: Pool) -> None:
        """Add a truth: features f32[horizons, SIZE, rows] and targets f32[horizons, rows], both less the season
        ahead."""
        clip, f = f4(CLIP), f[:, REGRESSORS]
        f = np.minimum(np.maximum(f * unit, -clip), clip)
        y = np.minimum(np.maximum(target * unit, -clip), clip)
        error = np.abs(y - np.einsum("hpr,hpr->hr", self.own[h], f))
        w = good / np.maximum(error, f4(LEAST))
        np.copyto(w, f4(0), where=~good)  # 0 * NaN is NaN
        np.copyto(f, f4(0), where=~good[:, None])
        np.copyto(y, f4(0), where=~good)
        weighted = w[:, None] * f
        fade = np.where(good, f4(MEMORY), f4(1))[:, None]
        gram, cross = self.gram[h], self.cross[h]
        gram *= fade
        cross *= fade
        lo = 0
        for i in range(SIZE):
            gram[:, lo : lo + SIZE - i] += weighted[:, i, None] * f[:, i:]
            lo += SIZE - i
        cross += weighted * y[:, None]
        moved = np.matmul(weighted, y[..., None])[..., 0]
        pool.add(h, np.matmul(weighted, f.transpose(0, 2, 1)), moved, w.sum(-1), good.sum(-1))

    def sweep(self, pool: Pool) -> None:
        """Move the coefficients of all horizons towards their solution."""
        if not pool.weight.all():
            return
        shared, right = pool.shrunk()
        for i in range(SIZE):
            rest: F32 = self.cross[:, i] + right[:, i, None]
            rest -= np.einsum("hj,hjr->hr", shared[:, i], self.own)
            rest -= np.einsum("hjr,hjr->hr", self.gram[:, _AT[i]], self.own)
            rest /= self.gram[:, _AT[i, i]] + shared[:, i, i, None]
            self.own[:, i] += rest
