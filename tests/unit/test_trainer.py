"""The trainer: it fits what is due, lets join what is better, and stands back whenever the worker is late or gone."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sidecar.adapters.state import StateFiles
from sidecar.signals.detect.groups import Grouping
from sidecar.signals.ingest.ports import telling
from sidecar.signals.ingest.series import View
from sidecar.signals.known.snapshot import Known, LimitLines, Snapshot
from sidecar.signals.learn import fits, trainer
from sidecar.signals.learn.past import Past
from sidecar.signals.learn.trainer import Trainer, worker
from sidecar.telemetry import Telemetry
from sidecar.types import F32, Instant, JsonObject, Unavailable
from tests.unit.made import START, key, watch

STEP = 300.0
TICKS = 1500
KEYS = [key(g="a", i=str(i)) for i in range(8)]
VIEW = View(tuple(KEYS), ("w",) * 8, {"w": tuple(range(8))})
WATCHES = {"w": watch(step=STEP, group_by=("g",))}
NOTHING = LimitLines(np.empty(0, np.int64), [], np.empty((3, 0), np.float32), *np.empty((3, 0), np.float32))


def uneven(times: int) -> F32:
    """Two members that are never far from the threshold, together, and six on which a little means much."""
    rng = np.random.default_rng(1)
    loud = np.repeat(rng.uniform(-1, 0.9, (times, 1)), 2, axis=1)
    return np.concatenate([loud, -0.9 + rng.normal(0, 0.03, (times, 6))], axis=1).astype(np.float32)


class Site:
    """A trainer, what it knows, and what it told the journal."""

    def __init__(
        self,
        pool: Any = lambda: ThreadPoolExecutor(1),
        retrain: float = 86400.0,
        store: StateFiles | None = None,
    ) -> None:
        self.known, self.telemetry, self.facts = Known(), Telemetry(), list[tuple[str, JsonObject]]()
        self.now = START
        self.trainer = Trainer(self.known, retrain, self.telemetry, lambda: self.now, self.tell, pool, store)
        self._grouping = Grouping()

    async def tell(self, kind: str, data: JsonObject) -> None:
        self.facts.append((kind, data))

    def snapshot(self, raw: F32, view: View = VIEW) -> Snapshot:
        self.now = Instant(self.now + STEP)
        groups = self._grouping.score(view, WATCHES, raw, STEP)
        return Snapshot(
            self.now, STEP, view.keys, view.watch_of, view.rows, WATCHES, {"raw": raw}, NOTHING, {}, groups=groups
        )  # fmt: skip

    async def tick(self, raw: F32, view: View = VIEW) -> float:
        """The group's score after the trainer has followed a tick."""
        said = self.snapshot(raw, view)
        self.known.publish(said)
        await self.trainer._follow(said)
        return float(self.known.snapshots[STEP].groups.score[0])

    def count(self, metric: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"promantis_{metric}", labels) or 0.0


class Stub:
    """Stands where a model of pyod does: it sees that quiet ones are not, and that loud ones are not together."""

    def decision_function(self, x: F32) -> F32:
        return np.asarray(x[:, 2:].max(1) + np.abs(x[:, 0] - x[:, 1]), np.float32)


@pytest.fixture
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pyod were there with one model that is worth it."""
    monkeypatch.setattr(trainer, "_there", lambda model: model == "pca")
    monkeypatch.setattr(fits, "_fit", lambda name, x: Stub())
    monkeypatch.setattr(fits, "_MODELS", {})


async def taught(site: Site) -> Site:
    for raw in uneven(TICKS):
        await site.tick(raw)
    await site.trainer.fit_due()
    return site


ODD = np.array([-1, -1, 0.5, -0.9, -0.9, -0.9, -0.9, -0.9], np.float32)


@pytest.mark.usefixtures("one_model")
async def test_what_is_better_joins_and_what_no_longer_is_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    site = await taught(Site())
    group = {"watch": "w", "labels": {"g": "a"}}
    (done, fact), (swapped, change) = site.facts
    assert (done, swapped) == ("fit.done", "fit.swapped")
    assert fact.items() >= {**group, "why": "scheduled"}.items()
    assert [t["outcome"] for t in fact["trials"]] == ["better"]
    assert change == {**group, "from": None, "to": "pca"}
    assert site.count("fits_total", model="pca", outcome="better") == 1
    assert site.count("groups_joined") == 1
    assert await site.tick(ODD) > 0.5  # alone, the champion says 0
    assert await site.tick(uneven(1)[0]) < 1
    await site.trainer.fit_due()
    assert len(site.facts) == 2  # not due
    monkeypatch.setattr(fits, "trial", lambda name, *_: fits.Trial(name, "not_better", 0.5, 0.5))
    site.now = Instant(site.now + 86400)
    await site.tick(ODD)
    await site.trainer.fit_due()
    assert site.facts[-1] == ("fit.swapped", {**group, "from": "pca", "to": None})
    assert await site.tick(ODD) == 0
    assert site.count("groups_joined") == 0


@pytest.mark.usefixtures("one_model")
async def test_a_model_does_not_score_other_members_than_it_was_fitted_to() -> None:
    site = await taught(Site())
    mixed = View(tuple(reversed(KEYS)), VIEW.watch_of, VIEW.rows)
    assert await site.tick(ODD[::-1].copy(), mixed) > 0.5  # the same ones in other rows
    other = View((*KEYS[:-1], key(g="a", i="new")), VIEW.watch_of, VIEW.rows)
    assert await site.tick(ODD, other) == 0


@pytest.mark.usefixtures("one_model")
async def test_what_pages_alone_leaves_at_its_second_page() -> None:
    site = await taught(Site())
    loud = np.array(
        [0.9, 0.5, 0.5, -0.9, -0.9, -0.9, -0.9, -0.9], np.float32
    )  # together .7: no page, but for the model
    both = np.array([3, 3, -0.9, -0.9, -0.9, -0.9, -0.9, -0.9], np.float32)
    for raw in (loud, loud, both, uneven(1)[0]):
        assert len(site.facts) == 2
        await site.tick(raw)
    assert await site.tick(loud) > 1
    assert site.facts[2:] == [
        ("fit.swapped", {"watch": "w", "labels": {"g": "a"}, "from": "pca", "to": None})
    ]
    assert await site.tick(loud) < 1
    assert site.count("groups_joined") == 0


async def restarted(folder: Path, now: Instant, pool: Any = lambda: ThreadPoolExecutor(1)) -> Site:
    """Another process on the same folder, a while later."""
    site = Site(pool, store=StateFiles(folder))
    site.now = Instant(now + 600)
    site.trainer.restore()
    await site.trainer.fit_again()
    return site


@pytest.mark.usefixtures("one_model")
async def test_what_joined_survives_a_restart_and_so_does_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await taught(Site(store=StateFiles(tmp_path)))
    first.trainer.save()
    monkeypatch.setattr(fits, "_MODELS", {})  # those of the worker that is gone
    site = await restarted(tmp_path, first.now)
    assert site.trainer._pasts[STEP].kept == first.trainer._pasts[STEP].kept
    assert site.count("groups_joined") == 1
    assert await site.tick(ODD) > 0.5
    assert await site.tick(uneven(1)[0]) < 1
    before, now = (s.trainer._adopted[STEP, (("watch", "w"), (("g", "a"),))] for s in (first, site))
    assert now.members == before.members
    assert now.joined.slope == pytest.approx(before.joined.slope, rel=0.05)  # of a past that was rounded
    await site.trainer.fit_due()
    assert site.facts == []  # as it was decided; the next fit is due when it would have been
    site.now = Instant(site.now + 86400)
    await site.tick(ODD)
    await site.trainer.fit_due()
    assert [kind for kind, _ in site.facts] == ["fit.done", "fit.swapped"]


@pytest.mark.usefixtures("one_model")
async def test_what_joined_and_cannot_be_fitted_again_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await taught(Site(store=StateFiles(tmp_path)))
    first.trainer.save()
    monkeypatch.setattr(fits, "_prepared", lambda name, past: "missing")
    site = await restarted(tmp_path, first.now)
    assert await site.tick(ODD) == 0
    assert site.facts[0] == (
        "fit.swapped",
        {"watch": "w", "labels": {"g": "a"}, "from": "pca", "to": None},
    )


@pytest.mark.usefixtures("one_model")
async def test_a_past_that_does_not_fit_is_set_aside(tmp_path: Path) -> None:
    first = Site(store=StateFiles(tmp_path))
    await first.tick(ODD)
    past = first.trainer._pasts[STEP]
    whole = dict(past.dump({}))
    head = msgspec.to_builtins(whole["past"])
    for wrong in (
        {"past": {**head, "version": 0}},
        {"past": {**head, "step": 0.0}},
        {"past": {**head, "step": 1e9}},
        {"past": {**head, "count": -1}},
        {"past": {**head, "count": 2}},
        {"past": {**head, "members": head["members"][1:]}},
        {"past": {**head, "groups": "none"}},
        {"scores": whole["scores"][:, 1:]},
        {"past": {**head, "groups": [{**head["groups"][0], "size": -8}]}},
    ):
        StateFiles(tmp_path).save(STEP, iter({**whole, **wrong}.items()))
        site = await restarted(tmp_path, first.now)
        assert not site.trainer._pasts
        assert site.trainer._store.damaged == 1
    StateFiles(tmp_path).save(STEP, iter(whole.items()))
    assert (await restarted(tmp_path, first.now)).trainer._pasts


class Never(Executor):
    """A worker that is always late."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        return Future()


@pytest.mark.usefixtures("one_model")
async def test_an_answer_that_comes_late_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    site = await taught(Site())
    monkeypatch.setattr(trainer, "PATIENCE", 0.01)
    site.trainer._worker.pool = Never()
    assert await site.tick(ODD) == 0
    assert site.count("group_answers_late_total") == 1
    site.trainer._worker.pool = None
    old = site.snapshot(ODD)
    newer = site.snapshot(ODD)
    site.known.publish(newer)
    await site.trainer._follow(old)
    assert site.known.snapshots[STEP] is newer
    assert site.count("group_answers_late_total") == 2


@pytest.mark.usefixtures("one_model")
async def test_a_group_that_pages_far_more_than_promised_is_fitted_again_the_next_day() -> None:
    site = await taught(Site(retrain=5 * 86400.0))
    for raw in uneven(5):
        await site.tick(raw)
    site.now = Instant(site.now + 86400)
    for i in range(40):
        await site.tick(np.full(8, 3.0 if i % 8 == 0 else -1.0, np.float32))
    await site.trainer.fit_due()
    assert [fact["why"] for kind, fact in site.facts if kind == "fit.done"] == ["scheduled", "drift"]


@pytest.mark.usefixtures("one_model")
async def test_a_journal_that_cannot_be_written_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()

    async def tell(kind: str, data: JsonObject) -> None:
        raise Unavailable("the disk is full")

    site.trainer._tell = telling(tell)
    await taught(site)
    assert "fit.done is not in the journal: the disk is full" in caplog.text
    assert await site.tick(ODD) > 0.5


async def test_a_worker_that_died_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(pool=worker)
    assert await site.trainer._worker.ask(None, os._exit, 1) is None
    assert "the worker of fits failed: BrokenProcessPool" in caplog.text
    assert await site.trainer._worker.ask(None, abs, -1) == 1
    assert await site.trainer._worker.ask(None, int, "x") is None
    assert "the worker of fits failed: ValueError" in caplog.text
    assert site.trainer._worker.pool is None


async def test_it_runs_until_cancelled_and_keeps_what_ticked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_there", lambda model: model == "pca")
    kept, loop = asyncio.Event(), asyncio.get_running_loop()

    class Watched(Past):
        def keep(self, snapshot: Snapshot) -> None:
            super().keep(snapshot)
            loop.call_soon_threadsafe(kept.set)

    monkeypatch.setattr(trainer, "Past", Watched)
    site = Site(store=StateFiles(tmp_path))
    task = asyncio.create_task(site.trainer.run())
    site.trainer.ticked(site.snapshot(ODD))
    await kept.wait()
    assert site.trainer._pasts[STEP].kept == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = Site(store=StateFiles(tmp_path))
    again.trainer.restore()
    assert again.trainer._pasts[STEP].kept == 1  # saved at the end


@pytest.mark.skipif(importlib.util.find_spec("pyod") is None, reason="extra fits is not installed")
async def test_the_real_models_are_fitted_in_a_worker_and_never_imported_here(tmp_path: Path) -> None:
    before = set(sys.modules)
    site = await taught(Site(pool=worker, store=StateFiles(tmp_path)))
    (done, fact), (_, change) = site.facts
    assert done == "fit.done"
    assert {t["model"] for t in fact["trials"]} >= set(fits.MODELS)
    assert {t["model"]: t["outcome"] for t in fact["trials"]}["gmm"] == "better"
    assert change["to"] is not None
    assert await site.tick(ODD) > 0.5
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"pyod", "sklearn", "scipy", "numba", "torch"}
    said = await site.tick(uneven(9)[8])
    site.trainer.save()
    site.trainer._worker.rest()
    again = await restarted(tmp_path, site.now, worker)  # another worker, which fits it anew
    assert await again.tick(ODD) > 0.5
    assert await again.tick(uneven(9)[8]) == pytest.approx(said, abs=0.1)
    again.trainer._worker.rest()
