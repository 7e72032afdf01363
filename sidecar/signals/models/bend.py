"""Odds that were too sure, or not sure enough, put right by how often such odds came true: over all limits of a fleet.

The log odds are moved by an amount that is linear between a few knots, about where something is announced. Each amount
is learned online by Newton's steps and shrunk to none: a slow second opinion on what a regression says (the idea of
Platt's and of beta calibration, with one parameter for each size of odds). What is too sure of one horizon is mostly so
of all, and few likely ones are seen of the shorter ones: so there is an amount of all, and what each adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sidecar.signals.models import Array
from sidecar.types import F64, Bools

KNOTS = np.array([-1.0, 0.0, 1.0, 2.0])
"""Log odds; below the first what is moved fades within one, beyond the last it grows or shrinks with the odds."""
KEEP, PART = 0.9995, 0.25  # of what is known, per step; of a row, since rows of one instant are alike
PRIOR = 10.0
MOST_LESS = 0.5  # by which an amount may fall for each log odds beyond the last knot
LEAST, MOST = 1 / (1 + np.exp(1 - KNOTS[0])), 0.999
"""Probabilities below the first are as they are, and beyond the second nothing is told apart."""


class Bend:
    """Amounts f64[models + 1, knots], and how much more for each log odds beyond the last; the last row is of all."""

    def __init__(self, models: int) -> None:
        self.by, self.known = np.zeros((2, models + 1, len(KNOTS) + 1))

    def say(self, model: int, p: Array) -> Array:
        """Probabilities [rows], put right; of their type."""
        out, some = p.copy(), np.flatnonzero(p > LEAST)  # most are far below
        odds, parts = _seen(p[some].astype(np.float64))
        out[some] = 1 / (1 + np.exp(-odds - parts @ (self.by[model] + self.by[-1])))
        return out

    def learn(self, model: int, p: F64, came: Bools) -> None:
        """One step towards what came true of these probabilities, as they were before they were put right."""
        if not len(p):
            return
        parts, said = _seen(p)[1], self.say(model, p)
        known, off = PART * ((parts**2).T @ (said * (1 - said))), PART * (parts.T @ (came - said))
        for row, keep in ((model, KEEP), (-1, KEEP ** (1 / (len(self.by) - 1)))):
            self.known[row] = keep * self.known[row] + known
            self.by[row] += (off - (1 - keep) * PRIOR * self.by[row]) / (PRIOR + self.known[row])
            self.by[row, -1] = max(self.by[row, -1], -MOST_LESS)  # larger odds stay at least as large

    def absorb(self, other: Bend) -> None:
        """Take in what another one learned apart, each by what it knows."""
        whole = PRIOR + self.known + other.known
        self.by[:] = ((PRIOR + self.known) * self.by + (PRIOR + other.known) * other.by) / whole
        self.by[:, -1] = np.maximum(self.by[:, -1], -MOST_LESS)
        self.known += other.known

    def state(self) -> dict[str, Array]:
        """All that has to be saved."""
        return {"bend.by": self.by, "bend.known": self.known}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave, where it was saved; ValueError when it does not fit."""
        for name, mine in self.state().items():
            saved = state.get(name, mine)
            if saved.shape != mine.shape:
                raise ValueError(f"{name}: {saved.shape} does not fit")
            mine[:] = saved


def _seen(p: F64) -> tuple[F64, F64]:
    """Log odds, how much of each knot f64[rows, knots + 1], and how far beyond the last."""
    p = np.clip(p, LEAST, MOST)
    odds = np.log(p / (1 - p))
    near = np.clip(odds, KNOTS[0] - 1, KNOTS[-1])[:, None]
    beyond = np.maximum(odds - KNOTS[-1], 0)[:, None]
    return odds, np.concatenate([np.maximum(1 - np.abs(near - KNOTS), 0), beyond], axis=1)
