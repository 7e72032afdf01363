"""Are the words true? Of runs over a score that were given a confidence p, a share p should be real."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from sidecar.signals.detect import groups
from sidecar.signals.detect.block import CAP, THRESHOLD
from sidecar.signals.forecast.calibrate import Curve
from sidecar.types import F64
from tests.quality.data import GROUPS, File
from tests.quality.ours import Said

FROM, GAP = 0.3, 3
GROWN = 3.0  # days: the fit is of rows whose history no longer lowers the confidence


class Run(NamedTuple):
    """A time over the score `FROM`: its highest score and confidence, the row's age, whether it was real, and whose."""

    set: str
    score: float
    confidence: float
    age: float
    real: bool
    series: str
    start: float


def runs(file: File, said: Said) -> list[Run]:
    """Runs of every member; those during an event whose root lies elsewhere are neither. And of a group, where it is
    labelled."""
    out = list[Run]()
    for j, real in enumerate(file.real.T):
        mine = said.raw[:, j], said.confidence[:, j], said.age[:, j]
        out += _runs(file, file.set, f"{file.name}.{j}", *mine, real)
    if file.set in GROUPS:
        score, believed = (
            np.where(file.test, x, np.nan)
            for x in (said.score, groups.believed(said.score, said.raw, said.age))
        )
        out += _runs(file, of_groups(file.set), file.name, score, believed, said.age.max(1), file.label)
    return out


def of_groups(name: str) -> str:
    """What the groups of a set are called beside its members."""
    return f"{name} groups"


def _runs(
    file: File, of: str, series: str, score: F64, confidence: F64, age: F64, real: F64
) -> Iterator[Run]:
    over = np.flatnonzero(np.nan_to_num(score, nan=-9.0) >= FROM)
    for run in np.split(over, np.flatnonzero(np.diff(over) > GAP) + 1) if len(over) else ():
        label = real[max(0, run[0] - 2) : run[-1] + 3]
        is_real = bool((label == 1).any())
        if is_real or not np.isnan(label).any():
            peak, sure = min(float(score[run].max()), CAP / THRESHOLD), float(np.nanmax(confidence[run]))
            yield Run(of, peak, sure, float(age[run[0]]), is_real, series, float(file.at[run[0]]))


def table(results: dict[str, list[Run]]) -> list[tuple[str, ...]]:
    """Share of real runs by bins of confidence and of score, and the fit."""
    lines = [("bin", *(f"{name}: share (runs)" for name in results), "mean of sets")]
    for what, edges in (
        ("confidence", (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.01)),
        ("score", (0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.7)),
    ):
        for lo, hi in itertools.pairwise(edges):
            cells, shares = [], []
            for mine in results.values():
                real = [r.real for r in mine if lo <= getattr(r, what) < hi]
                cells.append(f"{np.mean(real):.2f} ({len(real)})" if real else "-")
                shares += [float(np.mean(real))] if len(real) >= 5 else []
            lines.append((f"{what} {lo:g}-{hi:g}", *cells, f"{np.mean(shares):.2f}" if shares else "-"))
    return lines


def fit(results: dict[str, list[Run]], curve: Curve) -> list[str]:
    """Log odds by score: of each set, and of all with equal weight for each set."""
    out, everything, weights = [], [], []
    for name, every in results.items():
        mine = [r for r in every if r.age >= GROWN]
        if len({r.real for r in mine}) == 2:
            everything += mine
            weights += [1 / len(mine)] * len(mine)
            out.append(f"  {name}: {_fit(mine, np.ones(len(mine)), curve.bends)}")
    if everything:
        out.insert(0, f"all sets alike: {_fit(everything, np.array(weights) * 1000, curve.bends)}")
    return out


def _fit(mine: list[Run], weights: F64, bends: Sequence[float]) -> str:
    score, real = np.array([r.score for r in mine]), np.array([r.real for r in mine])
    beyond = np.stack([np.maximum(score - bend, 0) for bend in bends], 1)
    model = LogisticRegression(C=100).fit(beyond, real, weights)
    slopes = ", ".join(f"{slope:.2f}" for slope in model.coef_[0])
    return f"INTERCEPT {model.intercept_[0]:.2f}, SLOPES {slopes} ({len(mine)} runs)"
