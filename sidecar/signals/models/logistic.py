"""One logistic regression per horizon for all limits of a fleet, fitted online by Newton's steps on what came true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sidecar.signals.models import Array
from sidecar.types import F32, F64, Bools

KEEP = 0.99998  # of the information, per step
PART = 0.25  # of a row: rows of one instant and neighbouring instants are alike
FAR = 12.0  # log odds beyond which nothing is told apart


class Logistic:
    """Coefficients f64[models, features] that begin as given, and their information matrices.

    `prior`: information on each coefficient before anything was seen.
    """

    def __init__(self, first: F64, prior: float = 3.0) -> None:
        self.theta, self._first, self.prior = first.copy(), first, prior
        self.information = np.tile(self.prior * np.eye(first.shape[1]), (len(first), 1, 1))

    def say(self, model: int, x: Array, own: F32 | float = 0.0) -> Array:
        """Probability of each row of x[rows, features], whose log odds are `own` more than those of others; of x's
        type."""
        odds = x @ self.theta[model].astype(x.dtype)
        odds += own
        far = x.dtype.type(FAR)
        np.minimum(np.maximum(odds, -far, out=odds), far, out=odds)
        np.exp(np.negative(odds, out=odds), out=odds)
        odds += x.dtype.type(1)
        out: Array = np.reciprocal(odds, out=odds)
        return out

    def learn(self, model: int, x: Array, came: Bools, own: F32 | float = 0.0) -> tuple[F64, F64]:
        """One step towards what came true of these rows; by how much each was off, and what it knew of that, f64[rows],
        for who learns their `own`."""
        rows = x.astype(np.float64)
        p: F64 = self.say(model, rows, own)
        weight = PART * p * (1 - p)
        if not len(x):
            return p, weight
        steady = self.prior * (1 - KEEP) * np.eye(rows.shape[1])
        self.information[model] = KEEP * self.information[model] + (rows * weight[:, None]).T @ rows + steady
        off = PART * (came - p)
        self.theta[model] += np.linalg.solve(self.information[model], rows.T @ off)
        return off, weight

    def absorb(self, other: Logistic) -> None:
        """Take in what another one learned apart, which began as this one: as if one had seen all of it."""
        first = self.prior * np.eye(self.theta.shape[1])
        for mine, theirs, theta, other_theta, begun in zip(
            self.information, other.information, self.theta, other.theta, self._first, strict=True
        ):
            known = mine @ theta + theirs @ other_theta - first @ begun
            mine += theirs - first
            theta[:] = np.linalg.solve(mine, known)

    def state(self) -> dict[str, Array]:
        """All that has to be saved."""
        return {"theta": self.theta, "information": self.information}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave; ValueError or KeyError when it does not fit."""
        for name, mine in self.state().items():
            if state[name].shape != mine.shape:
                raise ValueError(f"Logistic.{name}: {state[name].shape} does not fit")
            mine[:] = state[name]
