"""Odds of limits, learned from what came true, with their lines coming, going and being saved."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.breach.crossings import FEATURES, ODDS, Crossings
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import LimitLines
from sidecar.signals.models.logistic import Logistic
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, engine, key, watch

STEP = 300.0


def run(e: Engine, x: F64, since: int = 0) -> list[LimitLines]:
    """The limit table at each tick of values f64[ticks, series]."""
    keys = [key(i=str(i)) for i in range(x.shape[1])]
    return [
        e.tick(Instant(START + (since + i) * STEP), {"w": Vector(keys, row)}, 100).limits
        for i, row in enumerate(x)
    ]


def teeth(days: int, series: int, top: float, seed: int = 0) -> F64:
    """Saw-teeth of five hours that turn at `top`, or a little below or above."""
    rng, ticks = np.random.default_rng(seed), days * 288
    x = np.empty((ticks, series))
    value, turn = rng.uniform(20, top, series), top + rng.normal(0, 1, series)
    for i in range(ticks):
        value += 1.0
        back = value > turn
        value[back], turn[back] = 20 + rng.normal(0, 1, back.sum()), top + rng.normal(0, 1, back.sum())
        x[i] = value + rng.normal(0, 0.1, series)
    return x


def test_before_anything_came_true_the_odds_are_those_of_the_forecast() -> None:
    model = Crossings(STEP).model
    phi = np.random.default_rng(0).normal(0, 1, (50, FEATURES)).astype(np.float32)
    for h in range(3):
        np.testing.assert_allclose(model.say(h, phi), 1 / (1 + np.exp(-phi[:, ODDS])), rtol=1e-6)


def test_a_regression_finds_the_odds_that_things_come_with() -> None:
    rng, model = np.random.default_rng(1), Logistic(np.zeros((1, 2)))
    for _ in range(2000):
        x = np.stack([rng.normal(0, 1, 20), np.ones(20)], 1)
        model.learn(0, x, rng.random(20) < 1 / (1 + np.exp(-(2 * x[:, 0] - 1))))
    np.testing.assert_allclose(model.theta[0], [2, -1], atol=0.15)


def test_regressions_that_learned_apart_know_together_what_one_would() -> None:
    rng = np.random.default_rng(1)
    whole, parts = Logistic(np.zeros((1, 2))), [Logistic(np.zeros((1, 2))) for _ in range(2)]
    for i in range(2000):
        x = np.stack([rng.normal(i % 2, 1, 20), np.ones(20)], 1)
        came = rng.random(20) < 1 / (1 + np.exp(-(2 * x[:, 0] - 1)))
        for model in (whole, parts[i % 2]):
            model.learn(0, x, came)
    one, other = parts
    one.absorb(other)
    np.testing.assert_allclose(one.theta, whole.theta, atol=0.05)
    np.testing.assert_allclose(one.information, whole.information, rtol=0.1)
    kept = one.theta.copy()
    one.absorb(Logistic(np.zeros((1, 2))))
    np.testing.assert_allclose(one.theta, kept)


def test_teeth_that_turn_below_the_limit_are_no_longer_announced() -> None:
    """A line says that they cross; what came true says that they turn."""
    below, above = teeth(2, 30, 76.0), teeth(2, 30, 90.0, 1)
    said = []
    for x in (below, above):
        e = engine(watch(step=STEP, limits=(Limit(">", 82.0),)))
        tables = run(e, x)
        near = (x[460:] > 72) & (x[460:] < 75)
        p = np.stack([t.probability[2] for t in tables[460:]])
        said.append(p[near].mean())
    assert said[0] < 0.15 < 0.75 < said[1]


def test_odds_never_fall_with_the_horizon_and_are_certain_only_of_what_is() -> None:
    x = teeth(1, 6, 90.0)
    limits = (Limit(">", 82.0), Limit(">", 82.0, 1200.0, "long"), Limit("<", 25.0), Limit("==", 30.0))
    e = engine(watch(step=STEP, limits=limits))
    for row, table in zip(x, run(e, x), strict=True):
        of = np.array([limits.index(limit) for limit in table.limit])
        p, mine = table.probability, row[table.row]
        over = ((of < 2) & (mine > 82)) | ((of == 2) & (mine < 25)) | ((of == 3) & (mine == 30))
        np.testing.assert_array_equal((p == 1).all(0), over)
        assert (np.diff(p, axis=0)[:, ~np.isnan(p[0])] >= 0).all()
        assert (p[:, (of < 3) & ~over & ~np.isnan(p[0])] <= 0.999).all()
        assert (p[0, (of == 1) & ~over] <= 0).all() or np.isnan(p[0]).any()  # twenty minutes are more than 15
        assert np.isnan(p[:, (of == 3) & ~over]).all()
        np.testing.assert_array_equal(table.eta[over], 0)


def test_what_must_hold_is_learned_as_such() -> None:
    """Peaks of ten minutes cross the limit each day, and never for the half hour of its `for:`."""
    ticks, rng = np.arange(6 * 288), np.random.default_rng(3)
    x = 50 + 5 * np.sin(2 * np.pi * ticks / 288)[:, None] + rng.normal(0, 0.5, (len(ticks), 8))
    x[(ticks % 288 >= 100) & (ticks % 288 < 102)] += 40
    limits = (Limit(">", 80.0), Limit(">", 80.0, 1800.0, "long"))
    tables = run(engine(watch(step=STEP, limits=limits)), x)
    before = np.flatnonzero((ticks % 288 >= 93) & (ticks % 288 < 99) & (ticks > 4 * 288))
    short, long = (
        np.mean([tables[i].probability[2, [one == limit for one in tables[i].limit]] for i in before])
        for limit in limits
    )
    assert short > 0.4
    assert long < 0.7 * short


def test_lines_keep_what_they_did_when_others_come_and_go() -> None:
    x = teeth(2, 4, 90.0)
    e = engine(watch(step=STEP, limits=(Limit(">", 82.0),)))
    run(e, x[:-20])
    before = e.crossings.marks.origins.copy()
    assert before.max() > 50
    e.watch({"w": watch(step=STEP, limits=(Limit("<", 10.0), Limit(">", 82.0)))})
    run(e, x[-20:], len(x) - 20)
    lines = e.crossings._limits
    np.testing.assert_array_less(before.max() - 1, e.crossings.marks.origins[:, lines.op == 0].max())
    assert e.crossings.marks.origins[:, lines.op == 2].max() <= 20


def test_what_was_learned_of_limits_outlives_a_restart() -> None:
    x = teeth(2, 4, 90.0)
    mine = watch(step=STEP, limits=(Limit(">", 82.0),))
    e = engine(mine)
    run(e, x[:-30])
    again = Engine.load(*dumped(e), {"w": mine})
    for kept, loaded in zip(
        run(e, x[-30:-28], len(x) - 30), run(again, x[-30:-28], len(x) - 30), strict=True
    ):
        np.testing.assert_allclose(loaded.probability, kept.probability, atol=3e-3)
    assert again.crossings.rate[1].min() > 200


def test_a_damaged_model_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Logistic(np.zeros((3, 4))).restore(Logistic(np.zeros((3, 5))).state())


def test_only_what_was_within_its_limit_for_an_hour_is_worth_foreseeing() -> None:
    x = np.full((2 * 288, 2), 50.0) + np.random.default_rng(0).normal(0, 1, (2 * 288, 2))
    x[::8, 0] = 90.0  # each forty minutes
    e = engine(watch(step=STEP, limits=(Limit(">", 82.0),)))
    run(e, x)
    assert (e.crossings.marks.origins[:, 0] == 0).all()
    assert (e.crossings.marks.origins[:, 1] > 200).all()


def test_the_hours_in_which_a_limit_is_crossed_are_known() -> None:
    ticks = np.arange(3 * 288)
    hour = (START + ticks * STEP) % 86400 // 3600
    x = np.where(hour == 10, 90.0, 50.0)[:, None] + np.random.default_rng(0).normal(0, 1, (len(ticks), 1))
    e = engine(watch(step=STEP, limits=(Limit(">", 82.0),)))
    run(e, x)
    share = e.crossings.marks.share[:, 0]
    assert np.flatnonzero(share > 0.3).tolist() == [10]
