"""What the worker process does: fit a challenger to a group's past scores, judge it, score with it.

Nothing of pyod is imported before it is called, and never in the main process. Everything here is a plain function of
arrays, so that any `concurrent.futures.Executor` can run it; a fitted model travels as bytes that only a worker opens.

**Joining.** A challenger's score is put in the champion's units, such that 0 is as ordinary and 1 as rare (`PER_DAY`
pages, by the tail of its own runs), and the mean of the two stands. It counts up to `LOUDEST`, so what the champion
finds ordinary is never called out: fitted models go wild when members do what they never did. On the ASD servers such
ones that could join alone tripled the false pages of the weeks after (tests.quality.weekly).

**The judgement** is of what will be used, on a time that it has not seen. The past is cut in three. A challenger is
fitted to the first part and put in the champion's units on the second; on the last part both are compared at 1. It must
not page more often there, and find more of what is made: shifts in the scores of one member, of two, of three, or of a
third of them, a while each, of sizes among which the champion finds about half. It joins only if it finds `MARGIN` more
of all, and more by `SURE` deviations of the difference (McNemar). What is not clearly better changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sidecar.signals.detect.block import THRESHOLD
from sidecar.signals.detect.groups import MOST, over_time
from sidecar.signals.forecast.hired import one_thread, quiet
from sidecar.signals.models import f4
from sidecar.types import F32, F64, I64, Bools

MODELS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "iforest": ("pyod.models.iforest", "IForest", {"n_estimators": 50, "random_state": 0}),
    "ecod": ("pyod.models.ecod", "ECOD", {}),
    "gmm": ("pyod.models.gmm", "GMM", {"n_components": 3, "random_state": 0}),
    "pca": ("pyod.models.pca", "PCA", {"random_state": 0}),
}
DEEP: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "autoencoder": (
        "pyod.models.auto_encoder",
        "AutoEncoder",
        {"hidden_neuron_list": [16, 8], "epoch_num": 10, "verbose": 0, "random_state": 0},
    ),
}
"""Only where the extra `deep` is installed."""
QUIET = -1.0  # how ordinary a member is below this says nothing
TRAINED = 4000  # rows that a model is fitted to: pyod's models keep them, or sort them at each call
FEW = 256  # rows of a batch
PARTS = (0.4, 0.7)  # of the past: fitted to the time before the first, judged on that after the second
SHIFTS, ROWS, APART = 300, 5, 10  # shifts, rows of each, and at least from one to the next
ENOUGH = 1400  # rows of a past
FEWEST, LEAST_STD = 3, 1e-3  # members that move
MUTED = -0.5  # a challenger that can only join if the champion is muted by more does not
PER_DAY = 10.0**-THRESHOLD  # pages that a score of 1 promises
MANY = 8  # runs from where a tail is looked at
GAP = 2  # rows below the threshold that do not end a page
MARGIN, SURE = 0.1, 2.0
LOUDEST = 1.5


class Joined(NamedTuple):
    """A model that joins a group's champion, and where its score lies in the champion's units."""

    name: str
    model: bytes
    used: I64
    """Members that ever moved: the model knows only them."""
    slope: float
    offset: float
    """Its score times slope plus offset is in the champion's units."""
    shift: float
    """Added to what both say together, so that pages stay as rare as the champion's."""


class Trial(NamedTuple):
    """What came of one challenger. Recalls are shares of the second set of shifts."""

    model: str
    outcome: str
    """`better`, `not_better`, `missing` (not installed), `unfit` (too little to learn from)."""
    champion: float = float("nan")
    recall: float = float("nan")
    joined: Joined | None = None


def settle() -> None:
    """Make this process a quiet worker of one thread."""
    quiet()
    with contextlib.suppress(ImportError):  # comes with scikit-learn; without it nothing is fitted
        importlib.import_module("sklearn")
    one_thread()


def trial(name: str, past: F32, step: float, seed: int) -> Trial:
    """Fit a challenger to the past scores f[times, members] of a group, and judge it against the champion."""
    past = np.asarray(past, f4)
    fitted = _prepared(name, past)
    if isinstance(fitted, str):
        return Trial(name, fitted)
    (first, second), (model, used) = _cut(past), fitted

    def own(scores: F32) -> F32:
        return _score(model, _features(scores)[:, used])

    joined = calibrate(over_time(past[first:second], step), own(past[first:second]), step)
    rest, rng = past[second:], np.random.default_rng(seed)
    champion = over_time(rest, step)
    if joined and (
        joined.shift < MUTED or runs(join(joined, champion, own(rest)) >= 1) > runs(champion >= 1)
    ):
        joined = None
    size, some = _size(rest, shifts(rest.shape, rng), step), shifts(rest.shape, rng)
    shifted = put(rest, some, size)
    said = over_time(shifted, step)
    alone = _hit(said, some)
    both = _hit(join(joined, said, own(shifted)), some) if joined else alone
    gain, differ = int(both.sum()) - int(alone.sum()), int((both != alone).sum())
    better = joined and gain > 0 and gain >= MARGIN * len(alone) and gain >= SURE * np.sqrt(differ)
    joined = joined._replace(name=name, model=pickle.dumps(model), used=used) if joined and better else None
    outcome = "better" if joined else "not_better"
    return Trial(name, outcome, float(alone.mean()), float(both.mean()), joined)


def again(name: str, past: F32, step: float) -> Joined | None:
    """A model that had joined, fitted to the past again but not judged again; None where that cannot be."""
    past = np.asarray(past, f4)
    fitted = _prepared(name, past)
    if isinstance(fitted, str):
        return None
    (first, second), (model, used) = _cut(past), fitted
    middle = past[first:second]
    found = calibrate(over_time(middle, step), _score(model, _features(middle)[:, used]), step)
    return found._replace(name=name, model=pickle.dumps(model), used=used) if found else None


def _cut(past: F32) -> tuple[int, int]:
    first, second = (round(len(past) * part) for part in PARTS)
    return first, second


def _prepared(name: str, past: F32) -> tuple[Any, I64] | str:
    """A model fitted to the first part of a past, and the members that it knows; else why not."""
    x = _features(past[: _cut(past)[0]])
    used = np.flatnonzero(x.std(0) > LEAST_STD)
    if len(used) < FEWEST or len(past) < ENOUGH:
        return "unfit"
    try:
        return _fit(name, x[:, used]), used
    except ImportError:
        return "missing"
    except (ValueError, ArithmeticError):
        return "unfit"


def calibrate(champion: F32, own: F32, step: float) -> Joined | None:
    """How a challenger's scores f32[times] fit a champion's; None: it tells nothing apart."""
    edge, usual = rare(own, step), float(np.median(own))
    if not edge > usual:
        return None
    slope = (1 - float(np.median(champion))) / (edge - usual)
    joined = Joined("", b"", np.empty(0, np.int64), slope, 1 - slope * edge, 0.0)
    return joined._replace(shift=min(0.0, 1 - rare(join(joined, champion, own), step)))


def rare(score: F32, step: float) -> float:
    """The threshold that a score f32[times] would cross `PER_DAY` times a day, by the tail of its runs."""
    few, many = threshold(score, 1), threshold(score, MANY)
    runs_wanted = PER_DAY * len(score) * step / 86400.0
    return few + (few - many) / math.log(MANY) * max(0.0, -math.log(runs_wanted))


def join(joined: Joined, champion: F32, own: F32) -> F32:
    """What champion and challenger say together f32[times]."""
    scaled = np.minimum(own * f4(joined.slope) + f4(joined.offset), f4(LOUDEST))
    return np.asarray((champion + scaled) / 2 + f4(joined.shift), f4)


def threshold(score: F32, pages: int) -> float:
    """The lowest threshold that a score f32[times] crosses in at most so many runs.

    >>> threshold(np.array([0, 5, 0, 0, 0, 3, 4, 0, 0, 0, 2, 0], np.float32), 2)
    3.0
    """
    values = np.unique(score)[::-1]
    best = values[0]
    for value in values:
        if runs(score >= value) > pages:
            break
        best = value
    return float(best)


def runs(over: Bools) -> int:
    """How many runs there are, those `GAP` rows apart being one.

    >>> runs(np.array([0, 1, 0, 0, 1, 0, 0, 0, 1], bool))
    2
    """
    at = np.flatnonzero(over)
    return int((np.diff(at, prepend=-GAP - 2) > GAP + 1).sum())


class Shifts(NamedTuple):
    """Made anomalies: the first row of each, the members it is in, and how odd each is in each row, as a share."""

    start: I64
    members: list[I64]
    odd: list[F64]


def shifts(shape: tuple[int, ...], rng: np.random.Generator) -> Shifts:
    """Shifts for a past of this shape (times, members)."""
    times, members = shape
    width = times // min(SHIFTS, times // APART)
    start = np.arange(0, times - width, width)
    start += rng.integers(0, width - ROWS - GAP, len(start))
    counts = rng.choice([1, 2, 3, max(3, members // 3)], len(start)).tolist()
    which = [rng.choice(members, min(n, members), replace=False) for n in counts]
    odd = [rng.uniform(0.5, 1.5) * rng.uniform(0.7, 1.0, (ROWS, len(some))) for some in which]
    return Shifts(start, which, odd)


def put(past: F32, some: Shifts, size: float) -> F32:
    """The past with shifts of this size in it; a member that is odder already stays so."""
    out = past.copy()
    for start, members, odd in zip(some.start.tolist(), some.members, some.odd, strict=True):
        rows = slice(start, start + ROWS)
        out[rows, members] = np.fmax(out[rows, members], np.minimum(size * odd, MOST))
    return out


class Asked(NamedTuple):
    """One group whose score is joined: who, its members' scores now f32[members], seconds between ticks, and the model
    when it is new."""

    group: Any
    raw: F32
    step: float
    joined: Joined | None


def answer(batch: Sequence[Asked]) -> list[float | None]:
    """What each group's model adds to the champion's score; None when this worker does not have it."""
    out: list[float | None] = []
    for group, raw, step, fresh in batch:
        if fresh is not None:
            _MODELS[group] = fresh._replace(model=b""), pickle.loads(fresh.model)
            one_thread()
        if group not in _MODELS:
            out.append(None)
            continue
        joined, model = _MODELS[group]
        own = _score(model, _features(raw[None])[:, joined.used])
        champion = over_time(raw[None], step)
        out.append(float(join(joined, champion, own)[0] - champion[0]))
    return out


_MODELS: dict[Any, tuple[Joined, Any]] = {}
"""Of this worker process."""


def _features(scores: F32) -> F32:
    return np.asarray(np.nan_to_num(np.minimum(np.maximum(scores, f4(QUIET)), f4(MOST)), nan=QUIET), f4)


def _fit(name: str, x: F32) -> Any:
    module, kind, settings = {**MODELS, **DEEP}[name]
    model = getattr(importlib.import_module(module), kind)(**settings)
    one_thread()
    rows = np.unique(np.linspace(0, len(x) - 1, TRAINED).astype(int))
    return model.fit(x[rows])


def _score(model: Any, x: F32) -> F32:
    """ECOD ranks what it scores among its training rows and the rest of the batch: so batches are small."""
    size = FEW if hasattr(model, "X_train") else len(x)
    parts = [model.decision_function(x[lo : lo + size]) for lo in range(0, len(x), size)]
    return np.concatenate(parts).astype(f4)


def _size(past: F32, some: Shifts, step: float) -> float:
    """Such that the champion finds about half."""
    lo, hi = 0.0, MOST * 2
    for _ in range(12):
        size = (lo + hi) / 2
        found = _hit(over_time(put(past, some, size), step), some).mean()
        lo, hi = (lo, size) if found > 0.5 else (size, hi)
    return (lo + hi) / 2


def _hit(score: F32, some: Shifts) -> Bools:
    """Which shifts are at a score of 1 or over it in one of their rows."""
    rows = some.start[:, None] + np.arange(ROWS)
    return np.asarray((score[rows] >= 1).any(axis=1))
