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

EVERYWHERE, KIND, WATCH = 0.3, 0.5, 1.0
"""Standard deviations of the three offsets, in log odds. With them, the runs of ../shared/data, told one after the
other with each series a watch, gain .19 nats of log loss a run (Microsoft) and .22 (SMD), and lose .01 (NAB)."""
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
    first = 1 + len(kinds)
    column = np.stack([np.zeros(len(verdicts), np.int64), 1 + kind, first + watch])  # of each verdict
    spread = np.concatenate([[EVERYWHERE], np.full(len(kinds), KIND), np.full(len(watches), WATCH)])
    prior = np.clip([v.prior for v in verdicts], LEAST, 1 - LEAST)
    found = _mode(
        column,
        np.log(prior / (1 - prior)),
        np.array([v.real for v in verdicts], float),
        np.array([v.weight for v in verdicts]),
        spread**-2,
    ).tolist()
    return Beliefs(
        found[0],
        dict(zip(kinds.tolist(), found[1:first], strict=True)),
        dict(zip(watches.tolist(), found[first:], strict=True)),
    )


def _mode(column: I64, logit: F64, real: F64, weight: F64, precision: F64) -> F64:
    """Offsets f64[columns] that minimise the penalised log loss: convex, by damped Newton steps."""
    size = len(precision)

    def log_odds(offset: F64) -> F64:
        out: F64 = logit + offset[column].sum(0)
        return out

    def loss(offset: F64) -> float:
        eta = log_odds(offset)
        return float(weight @ (np.logaddexp(0, eta) - real * eta) + 0.5 * precision @ offset**2)

    offset, best = np.zeros(size), loss(np.zeros(size))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-log_odds(offset)))
        slope, bend = precision * offset, np.diag(precision)
        for mine in column:
            np.add.at(slope, mine, weight * (p - real))
            for other in column:
                np.add.at(bend, (mine, other), weight * p * (1 - p))
        step = np.linalg.solve(bend, slope)
        for _ in range(HALVINGS):
            now = loss(offset - step)
            if now <= best:
                break
            step /= 2
        else:
            break
        gained, offset, best = best - now, offset - step, now
        if gained < DONE:
            break
    return offset
