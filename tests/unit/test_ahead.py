"""Forecasts: what is usual, what is said, what is learned of it, and the traps in between."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from sidecar.signals.forecast.ahead import Ahead, Said
from sidecar.signals.models import Array, f4, profile
from sidecar.signals.models.mixture import EXPERTS, FEATURES, OWN, REGRESSORS, SEASON, Mixture, experts, fold
from sidecar.signals.models.ridge import Pool
from sidecar.types import F32, F64

DAY, START = 86400.0, 1_700_006_400.0 // 604800 * 604800


def run(ahead: Ahead, at: F64, x: Array, on: Array | None = None, step: float = 300.0) -> list[Said]:
    """What is said at each instant of values [times, rows]; the smooth day is flat."""
    days = np.zeros((4, ahead.rows), f4)
    said = []
    with np.errstate(all="ignore"):
        for i, now in enumerate(at.tolist()):
            there = ~np.isnan(x[i])
            learns = there if on is None else there & on[i]
            said.append(ahead.tick(now, x[i].astype(f4), there, learns, step, days))
    return said


def days(count: float, step: float = 300.0) -> F64:
    return START + np.arange(int(count * DAY / step)) * step


def wave(at: F64, rows: int = 3, noise: float = 1.0, seed: int = 1) -> F64:
    rng = np.random.default_rng(seed)
    return 20 * np.sin(2 * np.pi * at / DAY)[:, None] + rng.normal(0, noise, (len(at), rows))


def still(at: F64) -> F64:
    """Nothing, but for a count in three blocks of a hundred."""
    return np.where(np.random.default_rng(2).random((len(at), 2)) < 0.03, 5.0, 0.0)


class Lived(NamedTuple):
    """Twelve days of series of several shapes [times, rows], and what was said of all of them in one run."""

    x: dict[str, F64]
    said: dict[str, list[Said]]
    ahead: Ahead


@pytest.fixture(scope="module")
def lived() -> Lived:
    at = days(12)
    x = {
        "wave": wave(at),
        "noise": np.random.default_rng(0).normal(0, 1, (len(at), 2)),
        "still": still(at),
        "woken": np.where(at[:, None] < START + 2 * DAY, 0.0, wave(at)),
    }
    ahead = Ahead(sum(part.shape[1] for part in x.values()), 300.0, "UTC")
    said = run(ahead, at, np.concatenate([*x.values()], axis=1))
    ends = np.cumsum([part.shape[1] for part in x.values()]).tolist()
    parts = [slice(end - part.shape[1], end) for end, part in zip(ends, x.values(), strict=True)]
    of = {
        name: [Said(*(column[:, rows] for column in one)) for one in said]
        for name, rows in zip(x, parts, strict=True)
    }
    return Lived(x, of, ahead)


# --------------------------------------------------------------------------- the profile


def test_the_profile_keeps_a_week_within_a_hundredth_of_the_deviation() -> None:
    week, rng = profile.of(24)(4), np.random.default_rng(0)
    x = (rng.normal(0, 1, (168, 4)) * [1, 100, 1e-6, 1] + [0, 0, 0, 1e4]).astype(f4)
    scale = np.array([1, 100, 1e-6, 1], f4)
    for slot, values in enumerate(x):
        week.put(slot, values, scale)
    for slot, values in enumerate(x):
        assert (np.abs(week.get(slot) - values) <= 0.01 * scale + 1e-3 * (values > 1e3)).all()
    np.testing.assert_allclose(week.usual(168 + 5), np.median(x[5::24], axis=0), atol=0.01 * 100)


def test_a_value_far_away_coarsens_its_row_only_until_it_has_left() -> None:
    week, scale = profile.of(24)(2), np.ones(2, f4)
    for slot in range(24 * 20):
        x = np.array([slot % 24, 1e6 if slot == 30 else slot % 24], f4)
        week.put(slot, x, scale)
        if slot == 40:
            assert week.get(30)[1] == pytest.approx(1e6, rel=1e-3)
            assert week.unit[1] > 10 > 1 > week.unit[0]
    assert (week.unit < 1 / 8).all()
    np.testing.assert_allclose(week.usual(24 * 20 + 7), [7, 7], atol=0.1)


def test_what_is_missing_is_left_out_of_the_median_and_nothing_is_nan() -> None:
    week = profile.of(2)(1)
    for slot, value in enumerate([1, 5, np.nan, 5, 3, 5, 2, 5]):
        week.put(slot, np.array([value], f4), np.ones(1, f4))
    assert week.usual(8)[0] in (pytest.approx(2, abs=0.02), pytest.approx(3, abs=0.02))
    assert np.isnan(profile.of(2)(1).usual(0)).all()


# --------------------------------------------------------------------------- experts and their mixture


def test_the_coefficients_say_what_the_weighed_experts_say() -> None:
    rng = np.random.default_rng(0)
    f: F32 = rng.normal(0, 1, (FEATURES, 7)).astype(f4)
    w = rng.random((EXPERTS, 7)).astype(f4)
    w /= w.sum(0)
    own, shared = rng.normal(0, 1, (len(REGRESSORS), 7)).astype(f4), np.arange(len(REGRESSORS), dtype=f4)
    for h in range(3):
        this = slice(h, h + 1), shared[None], own[None]
        mixed = (w * experts(this[0], f[None], *this[1:])[0]).sum(0)
        folded = fold(this[0], w[None], *this[1:])[0]
        np.testing.assert_allclose((folded * f).sum(0), mixed, rtol=1e-3, atol=1e-3)


def test_a_wave_is_forecast_better_than_yesterday_and_the_last_value(lived: Lived) -> None:
    x, said = lived.x["wave"][: 10 * 288], lived.said["wave"][: 10 * 288]
    for h, wait in enumerate((3, 6, 12)):
        ours, last, yesterday = (
            np.abs(np.stack(f[:-wait]) - x[8 * 288 + wait :]).mean()
            for f in (
                [s.value[h] for s in said[8 * 288 :]],
                list(x[8 * 288 :]),
                list(x[7 * 288 + wait : -288 + wait]),
            )
        )
        assert ours < 0.85 * yesterday
        assert ours < 0.85 * last


def test_yesterday_and_last_week_are_those_of_the_block_that_they_are_for(lived: Lived) -> None:
    x, past = lived.x["noise"], lived.ahead._past
    now, tight, rows = len(x) - 1, 0.02, slice(3, 5)
    for place, wait in enumerate((0, 3, 6, 12)):
        np.testing.assert_allclose(past.yesterday[place, rows], x[now - 288 + wait], atol=tight)
        np.testing.assert_allclose(past.week[place, rows], x[now - 7 * 288 + wait], atol=tight)


def test_what_mostly_stands_still_is_forecast_exactly(lived: Lived) -> None:
    late = np.stack([s.value[2] for s in lived.said["still"][8 * 288 : 9 * 288]])
    assert (np.abs(late) < 1e-5).mean() > 0.95


# --------------------------------------------------------------------------- the traps


def test_a_scale_that_clips_by_itself_wakes_up(lived: Lived) -> None:
    """Constant for two days, then a wave: the interval must not stay at nothing for ever."""
    x, said = lived.x["woken"], lived.said["woken"]
    inside = [
        (said[i].lower[1] <= x[i + 6]) & (x[i + 6] <= said[i].upper[1]) for i in range(9 * 288, len(x) - 6)
    ]
    assert 0.85 < np.mean(inside) < 0.97


def test_gaps_teach_nothing_and_leave_no_nan() -> None:
    at = days(3)
    x = wave(at)
    ahead = Ahead(3, 300.0, "UTC")
    run(ahead, at[:-40], x[:-40])
    before = {f"{n}.{k}": a.copy() for n in ("mixture", "ridge") for k, a in ahead.models[n].state().items()}
    x[-40:] = np.nan
    run(ahead, at[-40:], x[-40:])
    for name, array in before.items():
        model, field = name.split(".")
        if name != "ridge.own":  # which goes on towards its solution
            np.testing.assert_array_equal(getattr(ahead.models[model], field), array, err_msg=name)
    for name, model in ahead.models.items():
        for field in ("regret", "own", "coefficient", "quantile", "pace", "volatility"):
            if hasattr(model, field):
                assert np.isfinite(getattr(model, field)).all(), (name, field)


def test_what_is_constant_has_no_width_and_what_was_never_there_no_forecast() -> None:
    at = days(3)
    x = np.stack([np.full(len(at), 3.5), np.full(len(at), np.nan)], 1)
    last = run(Ahead(2, 300.0, "UTC"), at, x)[-1]
    assert (last.value[:, 0] == 3.5).all()
    assert (last.upper[:, 0] - last.lower[:, 0] < 1e-3).all()
    assert np.isnan(last.value[:, 1]).all()


def test_residuals_go_along_when_the_profile_appears_on_the_second_day() -> None:
    at = days(1.5)
    x = wave(at, noise=0.01) + 100
    said = run(Ahead(3, 300.0, "UTC"), at, x)
    moves = np.abs(np.diff(np.stack([s.value[0] for s in said[200:]]), axis=0)).max(1)
    assert moves.max() < 8  # of a wave of 40


@pytest.mark.parametrize("step", [7.0, 420.0, 3600.0])
def test_steps_that_do_not_divide_the_day_are_learned_all_the_same(step: float) -> None:
    at = days(4 if step > 60 else 0.3, step)
    ahead = Ahead(2, step, "UTC")
    said = run(ahead, at, wave(at, 2), step=step)
    assert ahead.width * round(DAY / ahead.width) == pytest.approx(DAY)
    assert np.isfinite(said[-1].value).all()
    assert ahead.intervals.judged[2].min() > 2


# --------------------------------------------------------------------------- what rows have in common


def test_one_regression_is_shared_by_the_blocks_of_a_fleet_whoever_comes_first() -> None:
    at = days(2)
    x = wave(at, 4)
    pool, other, whole = Pool(), Pool(), Pool()
    run_together([Ahead(2, 300.0, "UTC", pool) for _ in range(2)], at, np.split(x, 2, axis=1))
    run_together([Ahead(2, 300.0, "UTC", other) for _ in range(2)], at, np.split(x, 2, axis=1)[::-1])
    run_together([Ahead(4, 300.0, "UTC", whole)], at, [x])
    np.testing.assert_allclose(pool.theta, other.theta, atol=1e-5)
    np.testing.assert_allclose(pool.theta, whole.theta, atol=1e-3)
    assert np.abs(whole.theta - Pool().theta).max() > 0.05


def run_together(blocks: list[Ahead], at: F64, values: list[F64]) -> None:
    for i in range(len(at)):
        for ahead, x in zip(blocks, values, strict=True):
            run(ahead, at[i : i + 1], x[i : i + 1])


def test_a_fleet_takes_in_what_another_learned_by_its_rows() -> None:
    at = days(2)
    mine, theirs = Pool(), Pool()
    run(Ahead(30, 300.0, "UTC", theirs), at, wave(at, 30))
    mine.absorb(theirs)
    np.testing.assert_allclose(mine.theta, theirs.theta, atol=1e-6)
    run(small := Ahead(1, 300.0, "UTC"), at, np.random.default_rng(0).normal(0, 1, (len(at), 1)).cumsum(0))
    before = small.pool.theta.copy()
    small.pool.absorb(theirs)
    assert np.abs(small.pool.theta - theirs.theta).max() < 0.5 * np.abs(before - theirs.theta).max()


def test_other_rows_and_ticks_without_samples_change_nothing_of_a_row_that_is_forgotten() -> None:
    at = days(3)
    ahead = Ahead(3, 300.0, "UTC")
    run(ahead, at, wave(at))
    before = {n: {k: a[..., 1:].copy() for k, a in m.state().items()} for n, m in ahead.models.items()}
    rows = np.array([0])
    for model in ahead.models.values():
        model.forget(rows)
    ahead.forget(rows)
    for name, fields in before.items():
        for field, array in fields.items():
            np.testing.assert_array_equal(getattr(ahead.models[name], field)[..., 1:], array)


def test_the_state_of_a_row_is_small() -> None:
    ahead = Ahead(64, 15.0, "UTC")
    size = {name: sum(a.nbytes for a in m.state().values()) / 64 for name, m in ahead.models.items()}
    assert size.pop("profile") <= 4096
    assert sum(size.values()) <= 3072


def test_a_ramp_is_forecast_along_its_slope_before_any_season_is_known() -> None:
    """What was learned in the first day is what was known then: not where the mean has gone since."""
    at = days(0.4)
    hours = (at - at[0])[:, None] / 3600
    x = 60 * hours + np.random.default_rng(2).normal(0, 0.02, (len(at), 3))
    said = run(Ahead(3, 300.0, "UTC"), at, x)[-1]
    for value, ahead in zip(said.value, (0.25, 0.5, 1.0), strict=True):
        np.testing.assert_allclose(value - x[-1], 60 * ahead, rtol=0.05)


def test_an_expert_far_off_on_the_other_side_has_not_helped() -> None:
    """Each error of the mixture is small and below the truth; what lies far above would have been no better."""
    mixture, y = Mixture(1), np.full(1, 0.05, f4)
    for _ in range(200):
        said = np.zeros((1, EXPERTS, 1), f4)
        said[0, SEASON], said[0, OWN] = 400.0, 0.1
        with np.errstate(all="ignore"):
            weight = mixture.learn(
                slice(2, 3), said, np.zeros((1, 1), f4), y[None], np.ones(1, f4), np.ones((1, 1), bool)
            )[0]
    assert weight[SEASON, 0] < 2e-4
    assert weight[OWN, 0] > 0.5


def test_a_ramp_is_not_off_when_its_samples_begin_to_come_more_often() -> None:
    """Of history each block has one sample, at its beginning; later its last one is almost a block later."""
    ahead = Ahead(1, 30.0, "UTC")
    coarse = days(1.0)
    fine = coarse[-1] + 300 + np.arange(240) * 30.0
    ramp = (np.concatenate([coarse, fine]) - START)[:, None] / 60
    run(ahead, coarse, ramp[: len(coarse)])
    usual = ahead.mixture.loss[:, 0, 0].copy()
    run(ahead, fine, ramp[len(coarse) :], step=30.0)
    assert (ahead.mixture.loss[:, 0, 0] < 1.25 * usual).all()
