"""Where numbers are counted from: what moves it changes nothing of what is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.detect.origin import FELL, RISES, shift
from sidecar.signals.known.snapshot import blank
from sidecar.signals.tick.engine import Engine, replay
from sidecar.types import F64, Instant
from tests.unit.made import START, engine, key, learned, vector, watch

STEP = 15.0


def play(
    sample: Callable[[int], float], ticks: int, e: Engine | None = None
) -> tuple[Engine, list[dict[str, float]]]:
    """What the engine says of one series."""
    e = e or engine(watch())
    out = []
    start = max(e.at + STEP, START)
    for i in range(ticks):
        snapshot = e.tick(Instant(start + i * STEP), {"w": vector({key(i="a"): sample(i)})}, 10)
        out.append({name: float(column[0]) for name, column in snapshot.columns.items()})
    return e, out


def test_a_moved_origin_changes_nothing_of_what_is_said() -> None:
    rng = np.random.default_rng(1)
    one = learned(STEP, 8, lambda t: 100 + 10 * np.sin(t / 14000) + rng.normal(0, 1, 8), days=0.5)
    other = Block(8, STEP)
    other.ahead.pool.restore(one.ahead.pool.state())
    other.restore({name: array.copy() for name, array in one.state().items()})
    shift(other, np.arange(8), np.linspace(-50, 50, 8))
    np.testing.assert_allclose(other.life.origin - one.life.origin, np.linspace(-50, 50, 8))
    said, again = blank(8)[0], blank(8)[0]
    everything = np.ones(8, bool)
    for i in range(300):  # all that was said of the future is judged, and new rings are filled
        at, x = START + i * STEP, 100 + 10 * np.sin((START + i * STEP) / 14000) + rng.normal(0, 1, 8)
        one.tick(at, x, everything, everything, said)
        other.tick(at, x, everything, everything, again)
        for name in said.keys() - {"lately"}:  # that one is the engine's
            np.testing.assert_allclose(said[name], again[name], rtol=1e-3, atol=2e-2, err_msg=name)


def known(first: float, coarse: bool) -> tuple[Engine, dict[str, float]]:
    """An engine that knows a first sample and then 500 around 5, and what it says."""
    rng, e = np.random.default_rng(2), engine(watch())
    past: F64 = np.concatenate([[first], 5 + rng.uniform(-1, 1, 400)]).reshape(-1, 1)
    if coarse:
        nursery = Block(1, STEP)
        replay(nursery, START - np.arange(401, 0, -1) * 300.0, past, 300.0)
        e.adopt(START, "w", [key(i="a")], nursery, 0, 10)
    else:
        play(lambda i: float(past[i, 0]), 401, e)
    e, said = play(lambda _: 5 + rng.uniform(-1, 1), 100, e)
    assert max(tick["score"] for tick in said[60:]) < 1
    return e, said[-1]


@pytest.mark.parametrize("coarse", [False, True])
def test_a_first_sample_that_was_none_of_this_series(coarse: bool) -> None:
    (e, said), (_, usual) = known(1e12, coarse), known(5.0, coarse)
    for name in ("expected", "lower", "upper", "f15", "f15_lower", "f15_upper", "f60"):
        assert said[name] == pytest.approx(usual[name], abs=0.4), name
    assert play(lambda _: 30.0, 1, e)[1][0]["score"] > 1


def test_zero_first_and_then_a_large_number_with_small_moves() -> None:
    rng = np.random.default_rng(3)
    e, said = play(lambda i: 0.0 if i == 0 else 1.7e9 + rng.normal(0, 1), 600)
    assert 1.7e9 - 50 < said[-1]["lower"] < said[-1]["upper"] < 1.7e9 + 50
    assert abs(e.blocks[0].life.origin[0] - 1.7e9) < 10


def test_a_series_that_is_zero_for_a_while_keeps_its_digits() -> None:
    rng = np.random.default_rng(4)
    e, _ = play(lambda _: 1e9 + rng.normal(0, 1), 200)
    before = e.blocks[0].life.origin[0]
    e, _ = play(lambda _: 0.0, 100, e)
    assert e.blocks[0].life.origin[0] == before


def test_another_unit_for_good() -> None:
    rng = np.random.default_rng(5)
    e, _ = play(lambda _: 1e12 + rng.normal(0, 1e10), 200)
    assert e.blocks[0].life.origin[0] > 1e11
    e, _ = play(lambda _: 5 + rng.normal(0, 1), 2500, e)
    life, level = e.blocks[0].life, e.blocks[0].level
    assert abs(life.origin[0] - 5) < 10
    assert abs(life.origin[0] + level.level[0] - 5) < 10


# --------------------------------------------------------------------------- counters


def test_a_counter_goes_on_after_its_reset() -> None:
    rng, total = np.random.default_rng(6), 1e6

    def count(i: int) -> float:
        nonlocal total
        total += rng.poisson(30)
        if i in (250, 300):
            total = 17.0
        return total

    _, said = play(count, 400)
    assert max(tick["score"] for tick in said[60:]) < 1
    for tick in said[260:]:
        assert tick["lower"] <= tick["observed"] <= tick["upper"]
        assert abs(tick["f60"] - tick["observed"]) < 2 * 240 * 30


@pytest.mark.parametrize("rises", [0, RISES - 1])
def test_what_hardly_ever_rose_is_no_counter(rises: int) -> None:
    e, _ = play(lambda i: 1000.0 + min(i, rises), 300)
    assert play(lambda _: 0.0, 1, e)[1][0]["score"] > 1
    assert e.blocks[0].life.rises[0] == FELL


def test_what_once_fell_is_no_counter() -> None:
    e, _ = play(lambda i: 1000.0 + i - (i > 20), 300)
    e, _ = play(lambda i: 1300.0 + i - 2 * (i == 100), 300, e)
    assert e.blocks[0].life.rises[0] == FELL
    assert play(lambda _: 10.0, 1, e)[1][0]["score"] > 1


def test_a_small_fall_is_no_reset() -> None:
    e, _ = play(lambda i: 1000.0 + i, 300)
    assert play(lambda _: 700.0, 1, e)[1][0]["score"] > 1
