"""One tick after the other: rows that come, vanish and are given away, watches that change, state on disk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.tick.engine import HOLD, Engine, replay
from sidecar.signals.watch.watches import Limit
from sidecar.types import F64, Instant
from tests.unit.made import START, State, dumped, engine, key, learned, noisy, ticked, vector, watch

A, B = key(pod="a", job="j"), key(pod="b", job="j")


def score(snapshot: Snapshot, of: bytes) -> float:
    """Score of a series; NaN when it says nothing."""
    rows = [i for i, k in enumerate(snapshot.keys) if k == of]
    return float(snapshot.columns["score"][rows[0]]) if rows else np.nan


def later(e: Engine, answers: Mapping[str, Vector], ticks: int = 1) -> Snapshot:
    """Some ticks with the same answers."""
    return ticked(e, lambda _: answers, ticks, e.at + e.step)


def ten(*keys: bytes) -> dict[str, Vector]:
    return {"w": vector(dict.fromkeys(keys, 10.0))}


@pytest.fixture(scope="module")
def original() -> Engine:
    """An engine that knows four days of the series A and B, around 10."""
    e = engine(watch())
    rng = np.random.default_rng(1)
    e.adopt(START, "w", [A, B], learned(15.0, 2, lambda _: 10 + rng.normal(0, 1, 2)), 0, 100)
    answer = noisy([A, B])
    ticked(e, lambda i: {"w": answer(i)}, 3)
    return e


@pytest.fixture(scope="module")
def state(original: Engine) -> State:
    """The same, as it is saved."""
    return dumped(original)


def loaded(state, **more: object) -> Engine:
    return Engine.load(*state, {"w": watch(**more)})


# --------------------------------------------------------------------------- coming and going


def test_an_empty_answer_and_no_watch_at_all() -> None:
    e = engine(watch())
    assert later(e, {"w": vector({})}).keys == ()
    assert later(e, {}).keys == ()
    e.watch({})
    assert len(later(e, {}).limits.row) == 0


def test_a_vanished_series_keeps_its_score_for_a_while_and_its_row_for_longer(state: State) -> None:
    e = loaded(state, absent_for=60.0)
    later(e, ten(A))
    assert score(later(e, ten(A)), B) > 1
    assert score(later(e, ten(A), 2), B) > 1
    snapshot = later(e, ten(A), 2)
    assert np.isnan(score(snapshot, B))
    assert B in snapshot.keys
    assert np.isnan(
        [snapshot.columns[name][1] for name in ("confidence", "f15", "expected", "observed")]
    ).all()
    assert (len(e.table), e.living) == (2, 1)
    snapshot = later(e, ten(A), 400)
    assert snapshot.keys == (A, B)
    assert score(later(e, ten(A, B)), B) < 1  # scored as soon as it is back
    assert e.living == 2


def test_a_successor_ends_the_alarm_and_is_scored_at_once(state: State) -> None:
    e = loaded(state)
    later(e, ten(A), 2)
    c = key(pod="c", job="j")
    snapshot = later(e, ten(A, c))
    assert np.isnan(score(snapshot, B))
    assert score(snapshot, c) < 1
    snapshot = later(e, ten(A, c), 250)
    assert snapshot.keys == (A, None, c)  # what it knew is known to its successor


def test_a_successor_that_came_while_promantis_was_away(state: State) -> None:
    e = loaded(state)
    snapshot = later(e, ten(A, key(pod="c", job="j")), 3)
    assert np.isnan(score(snapshot, B))


def test_nobody_is_his_own_successor(state: State) -> None:
    e = loaded(state)
    later(e, ten(A, B))
    late = key(pod="late", job="other")
    answer = noisy([A, late])
    ticked(e, lambda i: {"w": answer(i)}, 35, e.at + 15)  # less than ten minutes ago
    assert late in later(e, ten(A), 2).keys


@pytest.mark.parametrize("absent", ["ignore", "zero"])
def test_absence_that_is_no_alarm(state: State, absent: str) -> None:
    e = loaded(state, absent=absent, direction="up")
    snapshot = later(e, ten(A), 4)
    assert not score(snapshot, B) > 1
    observed = snapshot.columns["observed"][1]
    assert observed == 0 if absent == "zero" else np.isnan(observed)


def test_absent_as_zero_is_a_drop_to_zero(state: State) -> None:
    e = loaded(state, absent="zero")
    assert score(later(e, ten(A)), B) > 1
    assert e.living == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_no_number_says_nothing_and_teaches_nothing(state: State, value: float) -> None:
    e = loaded(state)
    snapshot = later(e, {"w": vector({A: 10.0, B: value})}, 5)
    assert np.isnan(score(snapshot, B))
    assert np.isnan(snapshot.columns["expected"][1])
    snapshot = later(e, ten(A, B), 2)
    assert score(snapshot, B) < 1
    assert np.isfinite([column[1] for name, column in snapshot.columns.items() if name != "since"]).all()


def test_infinity_is_beyond_a_limit(state: State) -> None:
    e = loaded(state, limits=(Limit(">", 50.0, alertname="High"),))
    snapshot = later(e, {"w": vector({A: 10.0, B: np.inf})})
    assert snapshot.limits.probability[:, 1].tolist() == [1, 1, 1]
    assert snapshot.limits.eta[1] == 0
    assert snapshot.finding(1).observed == np.inf


def test_rows_are_admitted_while_there_is_room() -> None:
    e = engine(watch(), watch("v"))
    keys = [key(i=str(i)) for i in range(200)]
    e.tick(START, {"w": vector(dict.fromkeys(keys, 1.0)), "v": vector(dict.fromkeys(keys, 1.0))}, 250)
    assert len(e.table) == 250
    assert e.dropped == {"budget": 150, "duplicate": 0}


# --------------------------------------------------------------------------- unanswered


def test_a_failed_query_keeps_what_was_said_for_a_while(state: State) -> None:
    e = loaded(state, limits=(Limit(">", 50.0),))
    before = later(e, ten(A, B))
    held = later(e, {}, HOLD)
    for name in ("score", "confidence", "expected", "f15", "observed"):
        np.testing.assert_array_equal(held.columns[name], before.columns[name], err_msg=name)
    np.testing.assert_array_equal(held.limits.probability, before.limits.probability)
    assert np.isnan(later(e, {}).columns["score"]).all()
    assert (later(e, ten(A, B)).columns["score"] < 1).all()  # no alarm when it answers again


def test_a_row_given_to_another_series_does_not_hold_its_words() -> None:
    e = engine(watch(), watch("v", query="y"))
    answer = noisy([A, B])
    ticked(e, lambda i: {"w": answer(i), "v": vector({})})
    e.watch({"v": watch("v", query="y")})  # frees the rows of w
    nursery = Block(1, 15.0)
    e.adopt(e.at, "v", [key(i="1")], nursery, 0, 10)
    snapshot = later(e, {})  # v is not answered
    assert np.isnan(snapshot.columns["observed"]).all()


# --------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump", [-7200.0, -86400.0 * 40, 86400.0 * 40])
def test_any_jump_of_the_clock(state: State, jump: float) -> None:
    e = loaded(state, limits=(Limit(">", 50.0),))
    later(e, {"w": vector({A: 60.0, B: 10.0})})
    now = Instant(e.at + jump)
    snapshot = e.tick(now, {"w": vector({A: 60.0, B: 10.0})}, 100)
    assert score(snapshot, B) < 1
    assert not snapshot.columns["since"][0] > now
    snapshot = later(e, ten(A, B), 300)
    assert np.isfinite(snapshot.columns["f60"]).all()


# --------------------------------------------------------------------------- watches that change


def test_limits_follow_rows_and_watches(state: State) -> None:
    e = loaded(state, limits=(Limit(">", 50.0, alertname="One"),))
    first = later(e, ten(A, B)).limits
    assert (first.row.tolist(), [lim.value for lim in first.limit]) == ([0, 1], [50, 50])
    assert later(e, ten(A, B)).limits.limit is first.limit
    e.watch({"w": watch(limits=(Limit(">", 5.0), Limit("<", 1.0)))})
    second = later(e, ten(A, B)).limits
    assert second.row.tolist() == [0, 0, 1, 1]
    assert second.probability[0].tolist()[::2] == [1, 1]
    third = later(e, ten(A, B, key(i="c"))).limits
    assert third.row.tolist() == [0, 0, 1, 1, 2, 2]
    assert first.row.tolist() == [0, 1]
    e.watch({})
    assert len(later(e, {}).limits.row) == 0


def test_another_query_under_the_same_name_starts_anew(state: State) -> None:
    e = loaded(state)
    assert e.known_until(watch()) == e.at
    assert e.known_until(watch(query="other")) is None
    assert e.known_until(watch("v")) is None
    e.watch({"w": watch(query="other")})
    assert len(e.table) == 0
    snapshot = later(e, ten(A))
    assert np.isnan(snapshot.columns["score"]).all()


def test_a_late_answer_of_a_watch_that_is_gone(state: State) -> None:
    e = loaded(state)
    e.watch({"v": watch("v", query="y")})
    assert later(e, ten(A, B)).keys == (None, None)


# --------------------------------------------------------------------------- state and history


def test_a_restored_engine_says_the_same(original: Engine, state: State) -> None:
    e, again = original, loaded(state)
    answer = noisy([B, A, key(i="c")], seed=5)
    for i in range(50):
        given = {"w": answer(i)}
        at = Instant(e.at + 15)
        one, two = e.tick(at, given, 100), again.tick(at, given, 100)
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], two.columns[name], err_msg=name)
    assert one.keys == two.keys


def test_restored_with_other_watches(state: State) -> None:
    assert len(Engine.load(*state, {}).table) == 0
    assert len(loaded(state, query="other").table) == 0
    e = Engine.load(*state, {"v": watch("v"), "w": watch(direction="down")})
    assert len(e.table) == 2
    assert (
        score(later(e, {"w": vector({A: 40.0, B: 10.0}), "v": vector({A: 1.0})}), A) < 1
    )  # up is nothing now


@pytest.mark.parametrize("broken", [{"version": 1}, {"blocks": [128]}, {"blocks": [64, 64]}])
def test_state_that_does_not_fit_is_refused(state: State, broken: dict[str, object]) -> None:
    header, arrays = state
    with pytest.raises((ValueError, KeyError)):
        Engine.load({**header, **broken}, arrays, {"w": watch()})


def test_what_was_learned_is_moved_to_rows_that_tick_already() -> None:
    e = engine(watch())
    rng = np.random.default_rng(1)
    keys = [key(i=str(i)) for i in range(70)]  # over two blocks

    def sample(_: float) -> F64:
        return np.arange(70) * 100 + rng.normal(0, 1, 70)

    e.tick(START, {"w": Vector(keys[::-1], sample(0)[::-1])}, 100)
    nursery = Block(70, 15.0)
    at = START - np.arange(200, 0, -1) * 15.0
    replay(nursery, at, np.array([sample(t) for t in at]), 15.0)
    e.adopt(e.at, "w", keys, nursery, 0, 100)
    snapshot = later(e, {"w": Vector(keys, sample(0))})
    np.testing.assert_allclose(snapshot.columns["expected"][::-1], np.arange(70) * 100, atol=5)
    back = Block(70, 15.0)
    e.lend("w", keys, back, 0)
    np.testing.assert_allclose(back.life.origin, np.arange(70) * 100, atol=5)


def test_adopting_keeps_to_the_room_and_to_the_watches() -> None:
    e = engine(watch())
    e.adopt(START, "gone", [A], Block(1, 15.0), 0, 10)
    e.adopt(START, "w", [A, B], Block(2, 15.0), 0, 1)
    assert e.table.view()[:2] == ((A,), ("w",))
