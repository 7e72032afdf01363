"""Odds are put right by how often such odds came true, and left alone where they were right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sidecar.signals.models.bend import Bend
from sidecar.types import F64


def taught(true: Callable[[F64], F64], rows: int = 200, steps: int = 400) -> Bend:
    """After many probabilities of which `true(p)` came true."""
    rng, bend = np.random.default_rng(0), Bend(1)
    for _ in range(steps):
        p = rng.uniform(0.01, 0.99, rows)
        bend.learn(0, p, rng.random(rows) < true(p))
    return bend


P: F64 = np.array([0.02, 0.1, 0.5, 0.7, 0.85, 0.95])


def test_what_was_too_sure_is_put_right() -> None:
    odds = np.log(P / (1 - P))
    true = 1 / (1 + np.exp(-0.5 * np.maximum(odds, 0) - np.minimum(odds, 0)))
    said = taught(lambda p: 1 / (1 + np.exp(-np.log(p / (1 - p)) * np.where(p > 0.5, 0.5, 1)))).say(0, P)
    np.testing.assert_allclose(said[:5], true[:5], atol=0.04)
    assert said[-1] < 0.9
    assert (np.diff(said) > 0).all()


def test_what_was_right_stays() -> None:
    np.testing.assert_allclose(taught(lambda p: p).say(0, P), P, atol=0.03)
    np.testing.assert_array_equal(Bend(1).say(0, P[:2]), P[:2])


def test_a_few_rows_move_little() -> None:
    bend = Bend(1)
    bend.learn(0, np.full(4, 0.9), np.zeros(4, bool))
    assert bend.say(0, np.array([0.9]))[0] > 0.88


def test_what_is_too_sure_of_two_horizons_is_doubted_of_the_third() -> None:
    rng, bend = np.random.default_rng(0), Bend(3)
    for _ in range(300):
        for model in (0, 1):
            p = rng.uniform(0.5, 0.99, 50)
            bend.learn(model, p, rng.random(50) < p / 2)
    doubted, third = (bend.say(model, np.array([0.8]))[0] for model in (0, 2))
    assert doubted < 0.45
    assert third < 0.6


def test_what_two_learned_apart_is_known_by_both() -> None:
    one, other = taught(lambda p: p / 2), taught(lambda p: p / 2, steps=200)
    one_known, before = one.known.copy(), one.say(0, P)
    one.absorb(other)
    np.testing.assert_allclose(one.say(0, P), before, atol=0.02)
    np.testing.assert_allclose(one.known, one_known + other.known)
    fresh = Bend(1)
    fresh.absorb(other)
    np.testing.assert_allclose(fresh.say(0, P), other.say(0, P), atol=1e-9)


def test_a_damaged_state_is_refused() -> None:
    bend = taught(lambda p: p / 2, steps=20)
    again = Bend(1)
    again.restore(bend.state())
    np.testing.assert_array_equal(again.say(0, P), bend.say(0, P))
    again.restore({})  # saved before there was one
    with pytest.raises(ValueError, match="does not fit"):
        again.restore({"bend.by": np.zeros((3, 5)), "bend.known": np.zeros((2, 5))})
