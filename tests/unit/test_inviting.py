"""Who gets fitted models and when; the past is in memory, fits are those of the real worker where it can fit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest

from sidecar.signals.forecast import modelling
from sidecar.signals.forecast.guestbook import Stay
from sidecar.signals.forecast.guests import Seated
from sidecar.signals.forecast.hired import process
from sidecar.signals.forecast.modelling import Past, Tried
from sidecar.signals.ingest.changes import Change
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models.fitted import GRID, WEEK, Fitted, Linear
from sidecar.signals.tick import inviting
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.inviting import Inviting, wanted
from sidecar.signals.watch.calendar import Planned, Window
from sidecar.signals.watch.selectors import ways
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Duration, Instant, JsonObject, Unavailable
from tests.unit.made import START, key, vector, watch

KEYS = [key(i=name) for name in "abc"]
STEP = 300.0
LIMITED = watch("w", "x", STEP, limits=(Limit(">", 100.0),), models=("arima",))
BARE = watch("w", "x", STEP, limits=LIMITED.limits)
CORE = Linear(np.eye(2), np.array([1.0, 0]), np.array([1.0, 0]), np.array([0.0, 1]))


def fitted(model: str, past: Past) -> Fitted:
    curve, error = np.zeros(WEEK, np.float32), np.ones(3)
    return Fitted(
        model, float(past.at[-1]), curve, past.regressors, np.ones(len(past.regressors)), 1.0, error, CORE
    )


class Source:
    """Stands for Prometheus: `values` of each query by time and series."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float, float]] = []
        self.values: dict[str, Callable[[F64], F64]] = {}
        self.keys = KEYS
        self.failing = False

    async def instant(self, *_: object) -> Any:
        raise AssertionError

    earliest = instant

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        self.asked.append((query, start, end, step))
        if self.failing:
            raise Unavailable("gone")
        at = np.arange(start, end + 1, step)
        usual = np.stack([50 + 10 * i + np.sin(at / 900) for i in range(len(self.keys))], axis=1)
        return Matrix(self.keys, at, self.values[query](at) if query in self.values else usual)


class Site:
    """An engine with three series in the place of the watcher, and who invites guests to it."""

    def __init__(
        self, *watches: Watch, pool: Callable[[], Executor] = lambda: ThreadPoolExecutor(1), **learning: Any
    ) -> None:
        self.trust, self.source, self.facts = Trust(43200.0), Source(), list[JsonObject]()
        self.watches = {one.name: one for one in watches}
        self.engine, self.telemetry, self.now = Engine(STEP), Telemetry(), START
        self.engine.watch(self.watches)
        config = LearningConfig(**learning)
        self.inviting = Inviting(self, self.source, config, self.telemetry, lambda: self.now, self.tell, pool)

    async def invite(self, step: float, parties: Any, stay: Stay) -> Seated:
        return self.engine.invite(parties, stay)

    async def tell(self, kind: str, data: JsonObject) -> None:
        assert kind == "fit.done"
        self.facts.append(data)

    def tick(self, ticks: int = 60, **values: float) -> Snapshot:
        said = None
        for i in range(ticks):
            self.now = Instant(self.now + STEP)
            x = {
                k: values.get(n, 50 + 10 * j) + np.sin(i)
                for j, (k, n) in enumerate(zip(KEYS, "abc", strict=True))
            }
            said = self.engine.tick(self.now, {name: vector(x) for name in self.watches}, 100)
        assert said is not None
        self.inviting.ticked(said)
        return said

    def count(self, metric: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"promantis_{metric}", labels) or 0.0


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if statsmodels were there; a test that needs it asks for it."""
    monkeypatch.setattr(inviting, "_there", lambda model: model in ("arima", "ets", "uc"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Past]]:
    """Fits that take no time; what was fitted."""
    done: list[tuple[str, Past]] = []

    def fit(model: str, past: Past, within: float) -> Tried:
        done.append((model, past))
        return Tried(model, "fitted", "", 2.0, fitted(model, past))

    monkeypatch.setattr(modelling, "fit", fit)
    return done


def test_the_nearest_to_its_limit_comes_first() -> None:
    site = Site(LIMITED, watch("free", "y", STEP))
    said = site.tick(a=60, b=95, c=80)
    assert [one.who for one in sorted(wanted(said, ("arima",), ()), key=lambda one: one.rank)] == [
        ("w", KEYS[i]) for i in (1, 2, 0)
    ]


def test_a_watch_can_ask_for_models_without_a_limit_and_do_without_them_with_one() -> None:
    site = Site(
        watch("w", "x", STEP, limits=LIMITED.limits, models=()), watch("asks", "y", STEP, models=("ets",))
    )
    found = wanted(site.tick(), ("arima",), ())
    assert {(one.who[0], one.models) for one in found} == {("asks", ("ets",))}


def test_without_being_asked_a_limit_gets_models_only_where_something_acts_on_it() -> None:
    said = Site(BARE).tick()
    sale = Planned("sale", ways('{i="b"}'), lambda start, end: [])
    assert wanted(said, ("arima",), ()) == []
    assert [one.who[1] for one in wanted(said, ("arima",), (sale,))] == [KEYS[1]]
    driven = Site(msgspec.structs.replace(BARE, regressors=("load",))).tick()
    assert len(wanted(driven, ("arima",), ())) == 3
    assert wanted(driven, (), ()) == []


async def test_fits_are_told_seated_and_not_done_again_before_their_time(quick: list[Any]) -> None:
    site = Site(msgspec.structs.replace(LIMITED, models=("arima", "ets")))
    site.tick(b=95)
    assert await site.inviting.fit_due() == 12
    assert [model for model, _ in quick] == ["arima", "ets"] * 3
    assert list(site.engine.guests.parties) == [("w", KEYS[i]) for i in (1, 2, 0)]
    assert site.facts[0] == {
        "series": "w",
        "labels": {"i": "b"},
        "why": "new",
        "trials": [{"model": m, "outcome": "fitted", "seconds": 2.0} for m in ("arima", "ets")],
    }
    assert site.count("fits_total", model="arima", outcome="fitted") == 3
    site.tick(1)
    assert await site.inviting.fit_due() == 0
    assert site.count("series_modelled") == 3
    assert site.count("model_weight", model="ets") == 0  # nothing came true yet
    site.now = Instant(site.now + 7 * 86400)
    site.tick(1)
    assert await site.inviting.fit_due() == 12
    assert [fact["why"] for fact in site.facts[3:]] == ["scheduled"] * 3


async def test_the_past_is_asked_once_for_all_series_of_a_watch(quick: list[Any]) -> None:
    site = Site(LIMITED)
    site.tick()
    await site.inviting.fit_due()
    ((query, start, end, step),) = site.source.asked
    assert (query, step) == ("x", GRID)
    assert end - start == inviting.LONGEST
    past = quick[0][1]
    assert past.at[-1] == site.now
    assert past.slot[-1] == round(site.now / GRID) % WEEK
    assert len(past.at) == len(past.values) == inviting.LONGEST / GRID + 1


async def test_there_are_never_more_than_the_budget(quick: list[Any]) -> None:
    site = Site(LIMITED, max_modelled=2)
    site.tick(b=95, c=90)
    await site.inviting.fit_due()
    assert list(site.engine.guests.parties) == [("w", KEYS[1]), ("w", KEYS[2])]
    site.tick(60, a=99, b=20)
    await site.inviting.fit_due()
    assert len(site.engine.guests) == 2  # nearly as valuable as before: it stays
    site.now = Instant(site.now + 7 * 86400)
    site.tick(60, a=99, b=20)
    await site.inviting.fit_due()
    assert len(site.engine.guests) == 2


async def test_a_fit_that_fails_is_dropped_with_its_reason_and_tried_the_next_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(model: str, past: Past, within: float) -> Tried:
        if model == "uc":
            return Tried(model, "late", "no result within 60 s", 60.0)
        return Tried(model, "unfit", "12 samples of five minutes, 864 are needed")

    monkeypatch.setattr(modelling, "fit", fit)
    site = Site(msgspec.structs.replace(LIMITED, models=("arima", "uc")))
    site.tick()
    assert await site.inviting.fit_due() == 180
    assert len(site.engine.guests) == 0
    assert [t["reason"] for t in site.facts[0]["trials"]] == [
        "12 samples of five minutes, 864 are needed",
        "no result within 60 s",
    ]
    assert site.count("fits_total", model="uc", outcome="late") == 3
    site.tick(1)
    assert await site.inviting.fit_due() == 0
    site.now = Instant(site.now + 86400)
    site.tick(1)
    assert await site.inviting.fit_due() == 180


async def test_a_prometheus_that_does_not_answer_is_asked_again_an_hour_later(
    quick: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(LIMITED)
    site.tick()
    site.source.failing = True
    await site.inviting.fit_due()
    assert "no models are fitted to watch w now: gone" in caplog.text
    site.source.failing = False
    assert await site.inviting.fit_due() == 0
    site.now = Instant(site.now + 3700)
    site.tick(1)
    assert await site.inviting.fit_due() > 0
    assert quick


async def test_events_deployments_and_queries_are_regressors(quick: list[Any]) -> None:
    limited = watch("w", "x", STEP, limits=LIMITED.limits, regressors=("load",))
    site = Site(limited, Watch("regressor_1", "load", "regressor", STEP))
    when = START - 86400
    site.trust.plan(
        (
            Planned("sale", (), lambda start, end: [Window(Instant(when), Instant(when + 3600))]),
            Planned("never", (), lambda start, end: []),
        )
    )
    site.inviting.deployed([Change(frozenset(), ((),))], Instant(START - 7200))
    site.source.values["load"] = lambda at: np.stack([at - START] * 3, axis=1)
    site.tick()
    await site.inviting.fit_due()
    past = quick[0][1]
    assert past.regressors == ("event:sale", "deployed", "query:load")
    assert past.x[:, 0].sum() == past.x[:, 1].sum() == 12
    assert past.at[past.x[:, 0] > 0][0] == when
    np.testing.assert_array_equal(past.x[:, 2], past.at - START)
    assert [fact["trials"][0]["regressors"] for fact in site.facts] == [list(past.regressors)] * 3


async def test_it_rests_as_long_as_its_share_says(quick: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    site = Site(LIMITED, fit_share=0.2)
    site.tick()
    with pytest.raises(asyncio.CancelledError):
        await site.inviting.run()
    assert rests == [pytest.approx(6 * 4), 60]  # six seconds of fits, then nothing is due


async def test_without_any_library_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inviting, "_there", lambda model: False)
    site = Site(LIMITED)
    site.tick()
    assert await site.inviting.fit_due() == 0
    assert site.source.asked == []


@pytest.mark.timeout(300)  # statsmodels is imported by a process that yields to all others
async def test_the_real_models_are_fitted_in_a_worker_and_never_imported_here() -> None:
    pytest.importorskip("statsmodels", reason="extra models is not installed")
    before = set(sys.modules)
    site = Site(LIMITED, pool=process, max_modelled=1, history=Duration(4 * 86400))
    rng = np.random.default_rng(1)
    site.source.values["x"] = lambda at: 50 + rng.normal(0, 1, (len(at), 3)).cumsum(axis=0) % 7
    site.tick()
    assert await site.inviting.fit_due() > 0
    (fact,) = site.facts
    assert [t["outcome"] for t in fact["trials"]] == ["fitted"], fact
    assert len(site.engine.guests) == 1
    site.inviting._worker.rest()
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"statsmodels", "pandas", "scipy", "patsy"}
