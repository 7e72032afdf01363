"""A value that stands, a spread that widens, what creeps away, and what coarse history hands on to a live step."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest

from sidecar.signals.detect.block import MEANT, SLOWER, Block
from sidecar.signals.known.why import words
from sidecar.signals.models.level import DIFF, MEAN, SLOW, Level
from sidecar.signals.models.spread import CAP, FLOOR, Spread, SpreadTail, evidence
from sidecar.signals.models.still import Still
from sidecar.signals.tick.engine import replay
from tests.unit.test_models import run, signal

DAY = 86400.0


def stood(step: float, before: int, now: int) -> float:
    """E of a value that stands for `now` ticks, where it never stood for longer than `before`."""
    model, yes, no = Still(1), np.ones(1, bool), np.zeros(1, bool)
    for same in [no, *[yes] * before, no]:
        model.learn(same, yes, step)
    for _ in range(now - 1):
        model.learn(yes, yes, step)
    return float(model.score(yes, np.float32([3.0]), step)[0])


def test_a_flat_line_is_odd_where_values_never_stood() -> None:
    assert stood(60.0, before=1, now=29) == -np.inf
    assert stood(60.0, before=1, now=30) >= 1
    assert stood(60.0, before=20, now=119) == -np.inf
    assert stood(60.0, before=20, now=120) == pytest.approx(1, abs=0.01)
    assert stood(60.0, before=1, now=12 * 60) == -np.inf, "after twelve hours it is how the series is"


def test_a_flat_line_is_as_odd_again_only_when_it_is_longer() -> None:
    model, yes, no = Still(1), np.ones(1, bool), np.zeros(1, bool)
    for same in [*[yes] * 60, no, *[yes] * 90]:
        model.learn(same, yes, 60.0)
    assert model.score(yes, np.float32([3.0]), 60.0)[0] == -np.inf


def test_while_nothing_comes_a_value_neither_stands_nor_moves() -> None:
    model, yes, no = Still(1), np.ones(1, bool), np.zeros(1, bool)
    for same, fresh in [(yes, yes)] * 5 + [(no, no)] * 5:
        model.learn(same, fresh, 60.0)
    assert model.stood[0] == 300


def test_a_wider_spread_raises_the_score_but_not_to_an_alarm() -> None:
    at, x = signal(2 * 1440, rows=2)
    x[-180:, 1] += np.random.default_rng(5).normal(0, 12, 180)
    block = Block(2, 60.0)
    run(block, at, x)
    e = block.spread_tail.score(block.spread.ratio(), np.full(1, FLOOR, np.float32), np.zeros(1, np.float32))[
        0
    ]
    said = evidence(e + 3, block.life.age)
    assert said[1] == np.float32(CAP)
    assert e[0, 1] > e[0, 0] + 2


def test_spread_is_bounded_by_what_one_move_can_do() -> None:
    model, on = Spread(2), np.ones(2, bool)
    for i in range(2000):
        model.learn(np.float32([1, 1]), np.float32([i, i]), on, 60.0)
    model.learn(np.float32([1e6, 1]), np.float32([2000, 2000]), on, 60.0)
    assert 0 < model.ratio()[0, 0] < 0.06


def test_a_flat_line_is_told_as_such() -> None:
    at, x = signal(3 * 288, rows=2, step=300.0)
    x[-40:, 1] = x[-40, 1]
    said = run(Block(2, 300.0), at, x)
    assert said["raw"][-1, 1] >= 1 > said["raw"][-1, 0]
    assert words(int(said["why"][-1, 1]), up=True) == "it stands still, which is rare here"


def test_what_creeps_away_within_hours_is_seen_against_the_last_days() -> None:
    at, x = signal(4 * 288, rows=2, step=300.0)
    x[-60:, 1] += np.arange(60) * 0.6  # five hours, from nothing to 18 sigma
    block = Block(2, 300.0)
    run(block, at[:-20], x[:-20])
    with np.errstate(all="ignore"):
        slow = block.score(at[-20], x[-20], np.ones(2, bool)).residuals.r[SLOW]
    assert slow[1] > 15
    assert abs(slow[0]) < 8


def coarse(days: float) -> Block:
    """A nursery of a 15 s step that knows `days` at five minutes."""
    return deepcopy(_coarse(days))


@cache
def _coarse(days: float) -> Block:
    at = 1_700_000_100.0 + np.arange(0, days * DAY, 300.0)
    rng = np.random.default_rng(4)
    x = 100 + rng.normal(0, 2, (len(at), 2))
    nightly = (at % DAY) < 1800
    x[nightly, 1] += 80
    nursery = Block(2, 15.0)
    replay(nursery, at, x, 300.0)
    return nursery


def test_a_job_of_every_night_is_known_from_coarse_history() -> None:
    nursery = coarse(8.0)
    day = 1_700_006_400.0 + 9 * DAY  # a midnight
    at = day - 3600 + np.arange(0, 5400, 15.0)
    x = 100 + np.random.default_rng(6).normal(0, 2, (len(at), 2))
    x[at >= day, :] += 80
    score = run(nursery, at, x)["score"]
    assert np.nanmax(score[:, 0]) > 1.5
    assert np.nanmax(score[:, 1]) < 1


def test_history_is_carried_to_the_live_step_once() -> None:
    nursery = coarse(3.0)
    seen, moves = nursery.life.seen.copy(), nursery.tail.threshold[DIFF].copy()
    target = Block(2, 15.0)
    target.copy_rows(np.arange(2), nursery, np.arange(2))
    assert (target.life.seen == DAY / 15).all()
    assert (seen == 3 * 288).all()
    assert (target.tail.threshold[DIFF] > moves + 1).all()
    again = Block(2, 15.0)
    again.copy_rows(np.arange(2), nursery, np.arange(2))
    np.testing.assert_array_equal(again.tail.threshold, target.tail.threshold)


def test_in_its_first_day_a_series_may_stand_still() -> None:
    model, yes = Still(2), np.ones(2, bool)
    for _ in range(29):
        model.learn(yes, yes, 60.0)
    young, old = model.score(yes, np.float32([0.9, 1.1]), 60.0)
    assert young == -np.inf
    assert old >= 1


def test_the_longest_time_that_a_value_stood_fades_over_two_weeks() -> None:
    model, yes, no = Still(1), np.ones(1, bool), np.zeros(1, bool)
    for same in [*[yes] * 10, no]:
        model.learn(same, yes, 3600.0)
    longest = float(model.longest[0])
    for _ in range(14 * 24):
        model.learn(no, yes, 3600.0)
    assert model.longest[0] == pytest.approx(longest * np.exp(-1), rel=0.01)


def test_the_first_moves_are_what_is_usual() -> None:
    model, on = Spread(1), np.ones(1, bool)
    for seen, move in enumerate((3.0, 1.0)):
        model.learn(np.float32([move]), np.float32([seen]), on, 60.0)
    assert (model.late[0], model.week[0]) == (2.0, 2.0)


def test_what_creeps_away_is_seen_once_two_days_are_known() -> None:
    at, x = signal(3 * 288, rows=1, step=300.0)
    block, seen = Block(1, 300.0), []
    for until in (int(1.9 * 288), len(at)):
        run(block, at[until - 500 if seen else 0 : until], x[until - 500 if seen else 0 : until])
        with np.errstate(all="ignore"):
            seen.append(block.score(at[until - 1] + 300, x[until - 1], np.ones(1, bool)).kinds[SLOW, 0])
    assert seen[0] == -np.inf
    assert np.isfinite(seen[1])


def test_a_shift_that_coarse_history_ends_in_is_not_held_at_the_live_step() -> None:
    nursery = coarse(3.0)
    for tick in range(6):
        nursery.teach(
            1_700_000_100.0 + 3 * DAY + tick * 300, np.array([160.0, 100.0]), 300.0, np.ones(2, bool)
        )
    assert nursery.lasting.lasted[0] > 0
    target = Block(2, 15.0)
    target.copy_rows(np.arange(2), nursery, np.arange(2))
    assert (target.lasting.lasted == 0).all()


def test_while_prometheus_was_away_nothing_in_history_was_missing() -> None:
    at = 1_700_000_100.0 + np.arange(0, DAY, 300.0)
    x = 100 + np.random.default_rng(4).normal(0, 2, (len(at), 2))
    x[-144:-2] = np.nan
    away, alone = Block(2, 15.0), Block(2, 15.0)
    replay(away, at, x, 300.0)
    x[-144:-2, 1] = 100
    replay(alone, at, x, 300.0)
    assert away.life.presence[0] == pytest.approx(1, abs=0.01)
    assert alone.life.presence[0] < 0.8


@pytest.mark.parametrize(
    ("step", "quiet", "runs"), [(15.0, 20, 1), (15.0, 21, 2), (300.0, 2, 1), (300.0, 3, 2)]
)
def test_a_run_over_a_tail_ends_after_five_minutes_and_two_ticks(step: float, quiet: int, runs: int) -> None:
    """What rises slowly dips below its threshold again and again: it is one run, and lifts the threshold once."""
    model, one, on = SpreadTail(1), np.ones((1, 1), np.float32), np.ones(1, bool)
    model.graded[:] = 1000
    for size in [-1.0] * 60 + [2.0] + [-1.0] * quiet + [2.0] + [-1.0] * 60:
        t = one * size + model.threshold
        model.learn(one, one.copy(), t, one[0] * 1000, on, on, 86400 / step)
    assert model.runs[0, 0] == runs


def test_a_level_that_was_accepted_is_not_off_its_mean_while_its_scale_grows() -> None:
    """A bound around the profile would hold both means at the bound, and they would climb with it for hours."""
    level, x, on = Level(1), np.full(1, 100, np.float32), np.ones(1, bool)
    limit, week = np.full((5, 1), 3, np.float32), np.zeros(1, np.float32)
    level.learn(x, level.residuals(x, *level.now(x), week, 60.0), limit, on, on, 60.0)
    assert level.mean60 < level.mean5 <= 6, "one sample moves them by no more than two bounds' worth"
    level.settle(np.array([0]), x, week)
    for _ in range(30):
        res = level.residuals(x, *level.now(x), week, 60.0)
        assert abs(res.r[MEAN, 0]) < 1e-4
        limit *= 1.1
        level.learn(x, res, limit, on, on, 60.0)


def test_what_is_off_for_a_while_or_creeps_counts_for_less_than_its_tail_says() -> None:
    at, x = signal(3 * 288, rows=2, step=300.0)
    block = Block(2, 300.0)
    run(block, at[:-1], x[:-1])
    with np.errstate(all="ignore"):
        said = block.score(at[-1], x[-1], np.ones(2, bool))
    by_tail = (said.t - block.tail.threshold) * block.tail.slope
    taken = (by_tail - said.kinds[: len(by_tail)])[:, 0]
    np.testing.assert_allclose(taken, [0, 0, 0, MEANT, SLOWER], atol=1e-4)
