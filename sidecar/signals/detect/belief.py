"""How far the user's own verdicts move confidence: an offset on its log odds, per watch, kind and install.

A run that was given the prior p (calibrate.py) is real with log odds logit(p) + everywhere + kind + watch. Each of the
three has a Gaussian prior around 0, so that a watch of which little was said believes its kind, and a kind all of the
install: a hierarchical logistic regression (Gelman and Hill, "Data Analysis Using Regression and Multilevel/
Hierarchical Models", 2007, ch. 14), of which the mode is taken by Newton steps. Only verdicts on runs count: silences
and outcomes of remedies say less of whether an anomaly was real, and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.models import f4
from sidecar.types import F32, F64, I64

EVERYWHERE, KIND, WATCH = 0.2, 0.3, 1.0
"""Standard deviations of the three offsets, in log odds: `make quality` tells what verdicts would have been worth."""
LEAST = 0.01
"""No prior is surer than this, or its opposite."""
STEPS, HALVINGS, DONE = 50, 30, 1e-6


class Verdict(NamedTuple):
    """What the user said of one run."""

    watch: str
    kind: str
    prior: float
    """Probability that it is real, before any feedback."""
    real: bool
    weight: float = 1.0


class Beliefs(NamedTuple):
    """Log odds that are added to confidence."""

    everywhere: float = 0.0
    kinds: Mapping[str, float] = {}
    watches: Mapping[str, float] = {}

    def of(self, watch: str, kind: str) -> float:
        """Of the runs of a watch, whether or not anything was said of it."""
        return self.everywhere + self.kinds.get(kind, 0.0) + self.watches.get(watch, 0.0)


NONE = Beliefs()


def moved(p: F32, offset: F32) -> F32:
    """Probabilities with `offset` added to their log odds; 0 and 1 stay.

    >>> moved(np.array([0.5, 0.0, 1.0], np.float32), np.float32(np.log(3))).tolist()
    [0.75, 0.0, 1.0]
    """
    odds = np.exp(offset)
    out: F32 = (p * odds / (f4(1) - p + p * odds)).astype(f4)
    return out


def learned(verdicts: Sequence[Verdict]) -> Beliefs:
    """The most probable offsets after these verdicts."""
    if not verdicts:
        return NONE
    kinds, kind = np.unique([v.kind for v in verdicts], return_inverse=True)
    watches, watch = np.unique([v.watch for v in verdicts], return_inverse=True)
    shared = np.concatenate([np.ones((len(kind), 1)), kind[:, None] == np.arange(len(kinds))], axis=1)
    prior = np.clip([v.prior for v in verdicts], LEAST, 1 - LEAST)
    offsets, own = _mode(
        shared,
        watch,
        np.log(prior / (1 - prior)),
        np.array([v.real for v in verdicts], float),
        np.array([v.weight for v in verdicts]),
    )
    return Beliefs(
        float(offsets[0]),
        dict(zip(kinds.tolist(), offsets[1:].tolist(), strict=True)),
        dict(zip(watches.tolist(), own.tolist(), strict=True)),
    )


def _mode(shared: F64, watch: I64, logit: F64, real: F64, weight: F64) -> tuple[F64, F64]:
    """Offsets of the columns that watches share f64[verdicts, columns], and of each watch f64[watches].

    They minimise the penalised log loss, which is convex: damped Newton steps. Watches touch each other only by what
    they share, so they are eliminated first, and a step costs as many operations as there are watches.
    """
    count = int(watch.max()) + 1
    tight = np.array([EVERYWHERE] + [KIND] * (shared.shape[1] - 1)) ** -2.0
    lone = WATCH**-2.0
    x, u = np.zeros(shared.shape[1]), np.zeros(count)

    def loss(x: F64, u: F64) -> float:
        eta = logit + shared @ x + u[watch]
        return float(weight @ (np.logaddexp(0, eta) - real * eta) + (tight @ x**2 + lone * u @ u) / 2)

    best = loss(x, u)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(logit + shared @ x + u[watch])))
        off, bend = weight * (p - real), weight * p * (1 - p)
        slope_x = shared.T @ off + tight * x
        slope_u = np.bincount(watch, off, count) + lone * u
        bend_u = np.bincount(watch, bend, count) + lone
        cross = np.stack([np.bincount(watch, bend * column, count) for column in shared.T])
        bend_x = shared.T @ (bend[:, None] * shared) + np.diag(tight) - (cross / bend_u) @ cross.T
        step_x = np.linalg.solve(bend_x, slope_x - cross @ (slope_u / bend_u))
        step_u = (slope_u - step_x @ cross) / bend_u
        for _ in range(HALVINGS):
            now = loss(x - step_x, u - step_u)
            if now <= best:
                break
            step_x, step_u = step_x / 2, step_u / 2
        else:
            break
        gained, best, x, u = best - now, now, x - step_x, u - step_u
        if gained < DONE:
            break
    return x, u
