"""What feedback would have been worth: runs judged by their labels one after the other, each series a watch.

Also for labels drawn from the confidence itself: then there is nothing to learn, and what is lost is the price.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidecar.signals.detect.belief import LEAST, NONE, Verdict, learned, moved
from sidecar.signals.models import f4
from sidecar.types import F64, Bools
from tests.quality.reliability import Run

FROM = 1.0  # score of a run that somebody looks at
LAST = 400  # runs of a set


def table(results: dict[str, list[Run]]) -> list[tuple[str, ...]]:
    """Log loss and Brier score of the prior and of the confidence moved by what was said before."""
    lines = [
        ("set", "runs", "loss: prior", "with feedback", "Brier: prior", "with feedback", "loss if calibrated")
    ]
    for name, every in results.items():
        runs = sorted((r for r in every if r.score >= FROM), key=lambda r: r.start)[-LAST:]
        if not runs:
            continue
        prior = np.clip([r.confidence for r in runs], LEAST, 1 - LEAST)
        real = np.array([r.real for r in runs])
        drawn = np.random.default_rng(0).random(len(runs)) < prior
        said, chance = _told(runs, prior, real), _told(runs, prior, drawn)
        numbers = (_loss(prior, real), _loss(said, real), _brier(prior, real), _brier(said, real))
        price = f"{_loss(prior, drawn):.3f} -> {_loss(chance, drawn):.3f}"
        lines.append((name, str(len(runs)), *(f"{x:.3f}" for x in numbers), price))
    return lines


def _told(runs: Sequence[Run], prior: F64, real: Bools) -> F64:
    """Confidence in each run after all verdicts before it."""
    beliefs, verdicts, out = NONE, list[Verdict](), []
    for run, p, y in zip(runs, prior.tolist(), real.tolist(), strict=True):
        out.append(float(moved(np.array([p], f4), f4(beliefs.of(run.series, run.set)))[0]))
        verdicts.append(Verdict(run.series, run.set, p, y))
        beliefs = learned(verdicts)
    return np.array(out)


def _loss(p: F64, real: Bools) -> float:
    p = np.clip(p, LEAST, 1 - LEAST)
    return float(-np.mean(np.log(np.where(real, p, 1 - p))))


def _brier(p: F64, real: Bools) -> float:
    return float(np.mean((p - real) ** 2))
