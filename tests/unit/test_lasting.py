"""A change that lasts: held, and accepted in a stated time."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest

from sidecar.signals.detect.block import FORMER, THRESHOLD, Block
from sidecar.signals.models.lasting import HOLDS, MOST, REMEMBERS, TICKS, Lasting
from sidecar.signals.tick.engine import replay
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64
from tests.unit.made import watch
from tests.unit.test_models import copy_of, run

DAY = 86400.0
START = 1_700_000_100.0


@cache
def calm(step: float, ticks: int) -> Block:
    """It knows two series of noise until `START` and so many ticks more."""
    block, x = Block(2, step), noise(ticks)
    at = START // step * step + np.arange(ticks) * step
    live, every = ticks - min(ticks, 1440), round(max(1.0, 300 / step))  # the days before at five minutes
    replay(block, at[:live:every], x[:live:every], every * step)
    replay(block, at[live:], x[live:], step)
    return block


def noise(ticks: int) -> F64:
    return np.random.default_rng(2).normal(100, 2, (ticks, 2))


def lived(step: float, days: float, changed: F64, settings: Watch | None = None) -> dict[str, F64]:
    """What is said of a series with noise, and of one that is shifted by `changed` f64[ticks] at the end, in sigmas."""
    before = round(days * DAY / step)
    at = START // step * step + (before + np.arange(len(changed))) * step
    x = noise(before + len(changed))[before:]
    x[:, 1] += 2 * changed
    block = deepcopy(calm(step, before))
    block.life.configure(settings or watch(step=step), np.arange(2))
    return run(block, at, x)


def wave(at: F64, random: np.random.Generator) -> F64:
    """Six series of 100 with a daily wave of 20 and noise of 2."""
    return 100 + 20 * np.sin(2 * np.pi * at / DAY)[:, None] + random.normal(0, 2, (len(at), 6))


@cache
def _taught(step: float) -> Block:
    block, random, live = Block(6, step), np.random.default_rng(2), 400 * step
    for past, until, width in ((6 * DAY, live, max(300.0, step)), (live, 0.0, step)):
        at = START // step * step - np.arange(past, until, -width)
        replay(block, at, wave(at, random), width)
    return block


def taught(step: float) -> Block:
    """It knows them for six days until START, the last 400 samples at the step."""
    return deepcopy(_taught(step))


@pytest.mark.parametrize(("step", "holds"), [(60.0, HOLDS), (300.0, HOLDS), (900.0, MOST)])
def test_a_shift_is_held_and_then_accepted(step: float, holds: float) -> None:
    ticks = round(holds / step)
    shift = np.full(4 * ticks, 12.0)
    said = lived(step, 6.0, shift)
    score, expected = said["score"][:, 1], said["expected"][:, 1]
    assert (score[:ticks] >= 1).all()
    assert np.abs(expected[1:ticks] - 100).max() < 8, "what is expected stays while it is held"
    later = slice(ticks + 3, None)
    assert (score[later] < 1).all()
    assert np.abs(expected[later] - 124).max() < 12
    assert (said["score"][:, 0] < 1).all()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("step", "hours"), [(15.0, 5), (60.0, 8), (300.0, 16), (3600.0, 24)])
def test_a_level_that_stays_pages_once_and_for_the_stated_time(step: float, hours: int) -> None:
    """No fragments after it, however long it stays, though season and noise of half of the series grew with it."""
    block, hold = taught(step), min(max(HOLDS, TICKS * step), MOST)
    at = START // step * step + np.arange(hours * 3600 / step) * step
    x = wave(at, np.random.default_rng(3))
    x[:, :3] = 24 + 1.5 * x[:, :3] - 50
    x[:, 3:] -= 40
    odd = run(block, at, x)["score"] >= 1
    assert odd[1 : round(hold / step)].all()
    assert not odd[round((hold + 1800) / step) + 1 :].any()


@pytest.mark.timeout(300)
def test_an_accepted_level_is_less_and_less_odd_for_a_day() -> None:
    step, block = 300.0, taught(300.0)
    at = START // step * step + np.arange(360) * step
    x = wave(at, np.random.default_rng(3))
    x += 24
    x[30:36] += 36  # a second level, that is left for the first one within the hour
    score = run(block, at, x)["score"]
    assert (score[:12] >= 1).all()
    assert (score[30:36] >= 1).all()
    accepted = score[38:80]
    assert (accepted < 1).all()
    assert (accepted[0] > 0.4).all(), "about half of the threshold"
    least = FORMER / THRESHOLD * (1 - (np.arange(len(accepted)) + 38 - 12) * step / REMEMBERS)
    assert (accepted >= least[:, None] - 0.02).all()
    assert np.median(score[310:350]) == 0, "a day after it is as ever"


def test_coming_home_from_a_second_level_is_no_news() -> None:
    step, block = 300.0, taught(300.0)
    at = START // step * step + np.arange(70) * step
    x = wave(at, np.random.default_rng(3))
    x[:60] += np.repeat([24.0, 60.0], 30)[:, None]
    score = run(block, at, x)["score"]
    for begin in (0, 30):
        assert (score[begin : begin + 12] >= 1).all()
    assert (score[60:] < 1).all()


def test_a_spike_is_not_held() -> None:
    said = lived(60.0, 6.0, np.array([12.0, 0, 0, 0, 0, 0]))
    score = said["score"][:, 1]
    assert score[0] > 1
    assert (score[2:] < 1).all()


def test_what_is_not_trusted_changes_nothing() -> None:
    model = Lasting(2)
    x, on = np.array([5.0, 5.0], np.float32), np.array([True, False])
    zero = np.zeros(2, np.float32)
    for _ in range(3):
        stand = model.stand(x, zero, np.ones(2, bool))
        model.learn(stand, np.zeros(len(stand.rows), bool), np.ones(2, bool), zero, x, on, 60.0)
    assert model.lasted.tolist() == [180.0, 0.0]
    assert model.stand(x, zero, np.ones(2, bool)).away.tolist() == [True]
    assert model.stand(x / 4, zero, np.ones(2, bool)).away.tolist() == [True], "one such sample ends nothing"
    assert model.stand(x * 0, zero, np.ones(2, bool)).away.tolist() == [False]


def test_coming_back_to_a_level_that_is_remembered_is_no_news() -> None:
    step, away = 300.0, 36
    at = START // step * step + np.arange(2 * away) * step
    x = wave(at, np.random.default_rng(3))
    x[:away] += 24
    block, gone = taught(step), away
    run(block, at[:gone], x[:gone])
    remembered = block.lasting.lasted < 0
    assert remembered.any()
    score = run(block, at[gone:], x[gone:])["score"]
    assert (score[:, remembered] < 1).all()


def test_the_profile_learns_nothing_of_what_is_held() -> None:
    step, ticks = 60.0, 6 * 1440
    at = START // step * step + (ticks + np.arange(31)) * step
    x = noise(ticks + 31)[ticks:]
    x[:, 1] += 24
    block = deepcopy(calm(step, ticks))
    run(block, at[:1], x[:1])  # the first odd sample moves it by a clipped step
    before = copy_of(block)
    run(block, at[1:], x[1:])
    for table in ("day", "week"):
        one, other = (np.nan_to_num(s[f"season.{table}"]) for s in (before, copy_of(block)))
        changed = (one != other).any(axis=0)
        assert changed.tolist() == [True, False]


def test_only_the_side_that_counts_is_held() -> None:
    """A rise out of a deep dip is odd where rises count, but what stays below the usual is no harm there."""
    dip = np.concatenate([np.full(2, -40.0), np.full(40, -12.0)])
    score = lived(60.0, 6.0, dip, watch(step=60.0, direction="up"))["score"][:, 1]
    assert score[2] > 1
    assert (score[8:] < 1).all()


def test_what_is_smaller_than_the_least_deviation_is_not_held() -> None:
    shift = np.concatenate([np.full(5, 12.0), np.full(20, 8.0)])  # two units each
    score = lived(60.0, 6.0, shift, watch(step=60.0, min_deviation=20.0))["score"][:, 1]
    assert (score[:5] >= 1).all()
    assert (score[5:] < 1).all()
