"""Guests in an engine: they help where they know better, do no harm where they do not, and survive a restart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from sidecar.signals.forecast import guests as module
from sidecar.signals.forecast.guestbook import Party
from sidecar.signals.forecast.guests import Guests
from sidecar.signals.ingest.changes import Change
from sidecar.signals.known.snapshot import FORECAST_OF
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models.fitted import AHEAD, WEEK, Fitted, Linear
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.calendar import Planned, Window
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, engine, key, vector, watch

STEP = 300.0
KEYS = [key(i="a"), key(i="b")]
OTHER = KEYS[1]
KEEPS = Linear(np.eye(2), np.array([1.0, 0]), np.array([1.0, 0]), np.array([0.0, 1]))
"""What is off now stays off."""
RETURNS = KEEPS._replace(transition=np.diag([0.0, 1]))
"""What is off now is back at once."""
FLAT = np.full(WEEK, 50.0, np.float32)


def guest(core: Linear = RETURNS, model: str = "good", curve: F64 = FLAT, **beta: float) -> Fitted:
    names = {name.replace("_", ":"): value for name, value in beta.items()}
    error = np.full(3, 2.0)
    return Fitted(model, START - STEP, curve, tuple(names), np.array(list(names.values())), 1.0, error, core)


def party(*guests: Fitted, who: bytes = KEYS[0]) -> Party:
    return Party(("w", who), "UTC", guests, START)


class Run(NamedTuple):
    """What was said at each tick f64[times, horizons], of the other row too, and what came f64[times]."""

    said: F64
    beside: F64
    values: F64
    engine: Engine

    def errors(self, since: int = 0) -> F64:
        return np.array(
            [np.abs(self.said[since:-h, i] - self.values[since + h :]).mean() for i, h in enumerate(AHEAD)]
        )


def bounced(i: int) -> float:
    """Off by up to 20 in one sample of ten, else 50 and a little."""
    rng = np.random.default_rng(i)
    return 50 + float(rng.normal(0, 0.5)) + (20 * float(rng.random()) if i % 10 == 3 else 0)


def walked(i: int) -> float:
    return 50 + float(np.random.default_rng(7).normal(0, 1, i + 1).sum())


def run(
    sample: Callable[[int], float],
    parties: Sequence[Party],
    ticks: int = 400,
    trust: Trust | None = None,
    row: int = 0,
) -> Run:
    made = engine(watch(step=STEP))
    said, values = np.full((2, ticks, 3), np.nan), np.array([sample(i) for i in range(ticks)])
    for i in range(ticks):
        x = {KEYS[0]: float(values[i]), OTHER: 50 + np.sin(i)}
        snapshot = made.tick(Instant(START + i * STEP), {"w": vector(x)}, 10, trust)
        if i == 0:
            made.invite(parties, lambda *_: True)
        said[:, i] = np.stack([snapshot.columns[f][:2] for f in FORECAST_OF.values()], axis=1)
    return Run(said[0], said[1], values, made)


@functools.cache
def alone() -> Run:
    return run(bounced, [])


@functools.cache
def helped() -> Run:
    return run(bounced, [party(guest())])


@functools.cache
def misled() -> Run:
    return run(walked, [party(guest(RETURNS, "bad", FLAT + 100))])


def test_one_that_knows_better_is_soon_listened_to() -> None:
    without, with_one = alone(), helped()
    assert (with_one.errors(150) < 0.9 * without.errors(150)).all()
    assert with_one.engine.guests.shares()["good"] > 0.5


def test_one_that_knows_nothing_does_no_harm() -> None:
    without, with_one = run(walked, []), misled()
    assert (with_one.errors(150) < 1.02 * without.errors(150)).all()
    assert with_one.engine.guests.shares()["bad"] < 0.05


def test_of_several_the_best_one_decides() -> None:
    one = helped().errors(150)
    several = run(bounced, [party(guest(KEEPS, "bad"), guest(), guest(RETURNS, "worse", FLAT + 8))])
    assert (several.errors(150) < 1.1 * one).all()


def test_rows_without_guests_say_what_they_said() -> None:
    without, with_one = alone(), helped()
    np.testing.assert_array_equal(without.beside, with_one.beside)


def test_the_interval_is_that_of_what_is_said() -> None:
    without, with_one = alone(), helped()
    widths = [
        float(
            np.diff([said.engine.snapshot(START).columns[f"f15_{end}"][0] for end in ("lower", "upper")])[0]
        )
        for said in (without, with_one)
    ]
    assert 0 < widths[1] < widths[0]


def test_the_skill_of_a_watch_is_that_of_what_is_said() -> None:
    without, with_one = alone(), helped()
    losses = [said.engine.snapshot(START).skill["w"].loss[0, 0] for said in (without, with_one)]
    assert losses[1] < losses[0]


def sale(*windows: tuple[float, float]) -> Planned:
    return Planned(
        "sale",
        (),
        lambda start, end: [Window(Instant(a), Instant(b)) for a, b in windows if a < end and b > start],
    )


def test_a_planned_event_is_seen_coming() -> None:
    begins = [200 + 60 * k for k in range(3)]
    planned = sale(*((START + b * STEP, START + (b + 12) * STEP) for b in begins))
    trust = Trust(43200.0)
    trust.plan((planned,))

    def sold(i: int) -> float:
        return bounced(i) + (40 if any(b <= i < b + 12 for b in begins) else 0)

    without, with_one = (run(sold, parties, trust=trust) for parties in ([], [party(guest(event_sale=40.0))]))
    before = np.array(begins) - 3
    assert np.abs(without.said[before, 0] - 50).max() < 25  # nobody told it
    assert np.abs(with_one.said[before, 0] - 90).max() < 5
    after = np.array(begins) + 9  # and at its end it knows that too
    assert np.abs(with_one.said[after, 0] - 50).max() < 5


def test_after_a_deployment_the_flag_is_up_for_an_hour() -> None:
    made = run(bounced, [party(guest(deployed=10.0))], 300).engine
    at = Instant(START + 300 * STEP)
    made.deployed([Change(frozenset(), ((),))], at)
    made.tick(at, {"w": vector({KEYS[0]: 50.0, OTHER: 50.0})}, 10)
    np.testing.assert_allclose(made.guests._say[:, 1, 0], [60, 60, 50])  # over in an hour


def test_a_query_is_carried_on_and_without_it_the_guest_is_silent() -> None:
    watches = {w.name: w for w in (watch(step=STEP, regressors=("load",)), watch("r", "load", STEP))}
    made = Engine(STEP)
    made.watch(watches)
    load = [100.0 + 10 * np.sin(i / 3) for i in range(400)]
    for i, x in enumerate(load):
        answers = {"w": vector({KEYS[0]: 50 + x}), "r": vector({key(): x})}
        made.tick(Instant(START + i * STEP), answers, 10)
        if i == 0:
            made.invite([party(guest(query_load=1.0))], lambda *_: True)
    said = made.guests._say[:, 1, 0]
    assert np.isfinite(said).all()
    columns = made.snapshot(START).columns
    np.testing.assert_allclose(said, [50 + columns[f][1] for f in FORECAST_OF.values()], atol=8)
    for i in (400, 401):
        made.tick(Instant(START + i * STEP), {"w": vector({KEYS[0]: 150.0}), "r": vector({})}, 10)
    assert np.isnan(made.guests._say[:, 1, 0]).all()


def test_they_survive_a_restart_and_go_on_as_if_there_had_been_none() -> None:
    made = run(bounced, [party(guest(), guest(KEEPS, "other"))], 150).engine
    header, arrays = dumped(made)
    again = Engine.load(header, arrays, made.watches)
    for i in range(150, 180):
        now, x = Instant(START + i * STEP), {"w": vector({KEYS[0]: bounced(i), OTHER: 50 + np.sin(i)})}
        ours, theirs = (one.tick(now, x, 10) for one in (made, again))
        for f in FORECAST_OF.values():
            np.testing.assert_array_equal(ours.columns[f], theirs.columns[f])
    assert again.guests.shares() == made.guests.shares()


def test_state_from_before_there_were_guests_is_taken() -> None:
    header, arrays = dumped(run(bounced, [], 30).engine)
    del header["guests"]
    assert len(Engine.load(header, arrays, {"w": watch(step=STEP)}).guests) == 0


def test_guests_that_are_fitted_again_keep_what_they_were_worth() -> None:
    made = run(bounced, [party(guest(), guest(KEEPS, "other"))]).engine
    before = made.guests.shares()
    fresh = [
        g._replace(at=START + 400 * STEP) for g in (guest(KEEPS, "other"), guest(), guest(RETURNS, "new"))
    ]
    made.invite([party(*fresh)], lambda *_: True)
    after = made.guests.shares()
    assert after["new"] < 0.5 < before["good"] < after["good"] + after["new"] + 0.05
    made.invite([], lambda watch, key: False)
    assert len(made.guests) == 0


def test_a_gap_is_bridged_and_a_long_one_makes_guests_silent() -> None:
    at = START + 100 * STEP
    few = Guests(STEP)
    few.invite([party(guest(KEEPS)._replace(at=at))])
    none = module.Outlook((), np.empty((4, 1, 0)))
    few.look(at + 5 * STEP, np.array([60.0]), none)
    assert few._say[0, 1, 0] == 60
    few.look(at + (module.LOST + 6) * STEP, np.array([60.0]), none)
    assert np.isnan(few._say[0, 1, 0])
    assert few.worn(at + (module.LOST + 6) * STEP) == {("w", KEYS[0])}


def test_those_of_which_a_watch_is_gone_leave() -> None:
    made = run(bounced, [party(guest())], 30).engine
    made.watch({"v": watch("v", "y", STEP)})
    assert len(made.guests) == 0


def test_one_that_errs_much_more_than_when_it_was_fitted_is_worn() -> None:
    assert helped().engine.guests.worn(START + 400 * STEP) == set()
    assert misled().engine.guests.worn(START + 400 * STEP) == {("w", KEYS[0])}


@pytest.mark.parametrize("step", [15.0, 60.0])
def test_at_finer_steps_they_go_on_once_in_five_minutes(step: float) -> None:
    made = engine(watch(step=step))
    made.tick(START, {"w": vector({KEYS[0]: 50.0})}, 10)
    made.invite([party(guest(KEEPS)._replace(at=START))], lambda *_: True)
    for i in range(1, round(2 * STEP / step)):
        made.tick(Instant(START + i * step), {"w": vector({KEYS[0]: 50.0 + i})}, 10)
        np.testing.assert_allclose(made.guests._say[:, 1, 0], 50 + i)  # as of now, not of the last block
    assert made.guests._states()[0].tolist() == [i, 1]
