"""Challengers of a group's score: what joins is clearly better on a time that it has not seen, or nothing does."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sidecar.signals.detect.groups import MOST, over_time
from sidecar.signals.learn import fits, trainer
from sidecar.types import F32

STEP = 300.0


class Stub:
    """Stands where a model of pyod does: `scores` says how odd each row is."""

    def __init__(self, scores: Any) -> None:
        self.decision_function = scores


def calm(times: int = 2016, members: int = 6, seed: int = 1) -> F32:
    """Scores of members on which nothing happens: rarer by ten for each 0.9."""
    rng = np.random.default_rng(seed)
    return np.asarray(-np.log10(1 - rng.random((times, members))) / 0.9 - 2.2, np.float32)


def test_runs_and_thresholds_count_pages() -> None:
    score = np.array([0, 5, 0, 0, 4, 0, 0, 0, 3, 0], np.float32)
    assert fits.runs(score >= 3) == 2  # two rows below do not end a run, three do
    assert fits.threshold(score, 1) == 4
    assert fits.threshold(score, 2) == 0.0 or fits.runs(score >= fits.threshold(score, 2)) <= 2


def test_made_shifts_lie_apart_and_raise_only_their_members() -> None:
    past, rng = calm(), np.random.default_rng(3)
    some = fits.shifts(past.shape, rng)
    assert (np.diff(some.start) >= fits.ROWS + fits.GAP).all()
    assert some.start[-1] + fits.ROWS <= len(past)
    shifted = fits.put(past, some, 3.0)
    changed = np.zeros(past.shape, bool)
    for start, members in zip(some.start.tolist(), some.members, strict=True):
        changed[start : start + fits.ROWS, members] = True
    np.testing.assert_array_equal(shifted[~changed], past[~changed])
    assert (shifted >= past).all()
    assert shifted.max() <= MOST


def uneven(times: int = 2016, seed: int = 1) -> F32:
    """Two members that are never far from the threshold, together, and six on which a little means much."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(-1, 0.9, (times, 1)), 2, axis=1)
    return np.concatenate([loud, -0.9 + rng.normal(0, 0.03, (times, 6))], axis=1).astype(np.float32)


def see_all(x: F32) -> F32:
    """What the champion cannot: that the quiet ones are not, and that the loud ones are not together."""
    return np.asarray(x[:, 2:].max(1) + np.abs(x[:, 0] - x[:, 1]), np.float32)


def see_nothing(x: F32) -> F32:
    return np.asarray(np.random.default_rng(len(x)).random(len(x)), np.float32)


@pytest.mark.parametrize(("eyes", "outcome"), [(see_all, "better"), (see_nothing, "not_better")])
def test_a_challenger_joins_only_when_it_is_better(
    eyes: Any, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "_fit", lambda name, x: Stub(eyes))
    monkeypatch.setattr(fits.pickle, "dumps", lambda model: b"model")
    said = fits.trial("pca", uneven(), STEP, 1)
    assert said.outcome == outcome
    if said.joined is None:
        assert outcome == "not_better"
    else:
        assert said.recall >= said.champion + fits.MARGIN
        assert said.joined.shift >= fits.MUTED


def test_a_challenger_that_pages_more_does_not_join_however_much_it_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fits.pickle, "dumps", lambda model: b"model")
    calls = [0]

    def drifts(x: F32) -> F32:
        """Calm while it is calibrated, and then beside itself every hour."""
        calls[0] += 1
        return see_all(x) + np.where((np.arange(len(x)) % 12 == 0) & (calls[0] > 1), 50, 0).astype(np.float32)

    monkeypatch.setattr(fits, "_fit", lambda name, x: Stub(drifts))
    assert fits.trial("pca", uneven(), STEP, 1).outcome == "not_better"


def test_too_little_is_not_fitted() -> None:
    assert fits.trial("pca", calm(fits.ENOUGH - 1), STEP, 1).outcome == "unfit"
    assert fits.trial("pca", np.full((2016, 6), -1.0, np.float32), STEP, 1).outcome == "unfit"


def test_joined_scores_are_in_the_champions_units() -> None:
    champion = np.array([0.0, 2.0], np.float32)
    one = fits.Joined("pca", b"", np.arange(3), 2.0, -1.0, -0.25)
    np.testing.assert_allclose(fits.join(one, champion, np.array([1.0, 0], np.float32)), [0.25, 0.25])


def test_a_challenger_that_goes_wild_calls_out_nothing_that_is_ordinary() -> None:
    one = fits.Joined("pca", b"", np.arange(3), 2.0, -1.0, 0.0)
    wild = np.full(3, 1e6, np.float32)
    ordinary, near, odd = fits.join(one, np.array([0.0, 0.6, 3.0], np.float32), wild).tolist()
    assert ordinary < 1 < near < odd < 3


@pytest.mark.parametrize("name", sorted({**fits.MODELS, **fits.DEEP}))
def test_every_model_is_fitted_judged_and_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not trainer._there(name):
        pytest.skip(f"extra {trainer._extra(name)} is not installed")
    said = fits.trial(name, calm(), STEP, 1)
    assert said.outcome in ("better", "not_better")
    assert 0 <= said.champion <= 1
    assert 0 <= said.recall <= 1
    past, model = uneven(), fits._fit(name, uneven())
    joined = fits.Joined(name, fits.pickle.dumps(model), np.arange(8), 1.0, 0.0, 0.0)
    monkeypatch.setattr(fits, "_MODELS", {})
    (answered,) = fits.answer([fits.Asked("g", past[0], STEP, joined)])
    champion, own = float(over_time(past[:1], STEP)[0]), float(fits._score(model, past[:1])[0])
    assert answered == pytest.approx((champion + min(own, fits.LOUDEST)) / 2 - champion, abs=1e-4)
    pools = importlib.import_module("threadpoolctl").threadpool_info()
    assert {pool["num_threads"] for pool in pools} == {1}


def test_the_extras_bring_what_their_models_import() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name in (*fits.MODELS, *fits.DEEP):
        brought = project["optional-dependencies"][trainer._extra(name)]
        assert {need.partition(">")[0] for need in brought} == set(trainer.EXTRAS[trainer._extra(name)])


def test_a_worker_that_does_not_have_a_model_says_so() -> None:
    assert fits.answer([fits.Asked("unknown", np.zeros(3, np.float32), STEP, None)]) == [None]
    assert over_time(np.zeros((1, 3), np.float32), STEP).tolist() == [0.0]
