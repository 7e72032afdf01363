"""The loop that asks, learns, ticks and saves, on a source in memory instead of Prometheus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from sidecar.adapters.state import StateFiles
from sidecar.signals.detect.belief import Beliefs
from sidecar.signals.forecast.guestbook import Party
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.models.fitted import WEEK, Fitted, Linear
from sidecar.signals.tick import watcher as module
from sidecar.types import Instant, Rejected, Unavailable
from tests.unit.made import key
from tests.unit.watching import KEYS, OTHER, STEP, Bench, band, w


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "RETRY", 0.2)
    monkeypatch.setattr(module, "LOOK", 0.05)
    made = Bench(tmp_path / "state")
    yield made
    await made.stop()


# --------------------------------------------------------------------------- learning


async def test_the_first_tick_has_a_band(bench: Bench) -> None:
    bench.start(w())
    assert bench.watcher.missing() == ["learning history: 0%"]
    snapshot = await bench.ticks(1)
    assert band(snapshot)
    assert band(snapshot, 1)
    assert bench.watcher.missing() == []
    assert bench.value("history_progress_ratio") == 1
    assert bench.value("series") == 2


async def test_what_was_learned_is_saved_at_once(bench: Bench) -> None:
    bench.start(w())
    await bench.until(lambda: (bench.folder / "0.2.state").exists())


async def test_without_watches_it_is_ready_and_waits(bench: Bench) -> None:
    bench.start()
    await bench.until(lambda: not bench.watcher.missing())
    assert bench.watcher.progress == 1


async def test_a_history_that_cannot_be_asked_now_is_learned_later(bench: Bench) -> None:
    bench.source.failing["earliest x"] = Unavailable("down")
    bench.start(w())
    assert not band(await bench.ticks(1))
    bench.source.failing.clear()
    await bench.until(lambda: band(bench.snapshot()))  # type: ignore[arg-type]


async def test_a_history_that_is_refused_is_not_asked_again(bench: Bench) -> None:
    bench.source.failing["earliest x"] = Rejected("too many samples")
    bench.start(w(), w("v", query="y"))
    snapshot = await bench.ticks(6)
    assert bench.source.asked.count("earliest x") == 1
    said = dict(zip(snapshot.watch_of, snapshot.columns["lower"], strict=True))
    assert np.isnan(said["w"])
    assert said["v"] > 0


async def test_a_part_of_history_that_fails_is_left_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.source.failing["range x"] = Unavailable("too slow")
    bench.start(w())
    snapshot = await bench.ticks(2)
    assert np.isfinite(snapshot.columns["confidence"]).all()
    assert "history of watch w: too slow" in [r.getMessage() for r in caplog.records]


async def test_ticks_do_not_wait_for_ever_for_history(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    bench.source.slow["range x"] = 0.5
    bench.start(w())
    assert not band(await bench.ticks(1))
    await bench.until(lambda: band(bench.snapshot()))  # type: ignore[arg-type]


# --------------------------------------------------------------------------- answers


async def test_a_failing_query_harms_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.start(w(), w("v", query="y"))
    await bench.ticks(1)
    bench.source.failing["instant x"] = Unavailable("http://p: query x: 503 overloaded")
    await bench.ticks(6)
    snapshot = await bench.ticks(1)
    score = dict(zip(snapshot.watch_of, snapshot.columns["score"], strict=True))
    assert np.isnan(score["w"])
    assert score["v"] >= 0
    assert bench.watcher.errors == {"w": "http://p: query x: 503 overloaded"}
    assert bench.value("watch_failures_total", watch="w") >= 6  # type: ignore[operator]
    assert sum("503 overloaded" in r.getMessage() for r in caplog.records) == 1  # said once
    succeeded = bench.watcher.succeeded["w"]
    bench.source.failing.clear()
    await bench.until(lambda: bench.watcher.succeeded["w"] > succeeded)
    assert bench.watcher.errors == {}


async def test_a_slow_query_is_not_waited_for(bench: Bench) -> None:
    one, slow = w(step=0.3), w("v", query="y", step=0.3)
    bench.source.slow["instant y"] = 0.6
    bench.start(one, slow)
    await bench.until(lambda: "v" in bench.watcher.errors and "w" in bench.watcher.succeeded)
    assert bench.watcher.errors["v"].startswith("no answer within 0.24 s: slow query, or more queries")


async def test_a_tick_that_fails_ends_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.start(w())
    await bench.ticks(1)
    good = bench.source.instant

    async def torn(query: str, at: Instant, within: float) -> Vector:
        return Vector(KEYS, np.zeros(7))

    bench.source.instant = torn  # type: ignore[method-assign]
    await bench.until(lambda: bench.snapshot() is None)
    bench.source.instant = good  # type: ignore[method-assign]
    assert band(await bench.ticks(1))
    assert any("a tick of step 0.2 failed" in r.getMessage() for r in caplog.records)


async def test_an_empty_answer_at_first(bench: Bench) -> None:
    bench.source.keys["x"] = []
    bench.start(w())
    assert (await bench.ticks(2)).keys == ()


# --------------------------------------------------------------------------- reloads


async def test_watches_come_go_and_change(bench: Bench) -> None:
    bench.start(w(), w("v", query="y"))
    await bench.ticks(1)
    bench.watcher.watch([w(query="z"), w("new", query="n")])
    await bench.until(lambda: set(bench.snapshot().watches) == {"w", "new"})  # type: ignore[union-attr]
    await bench.until(lambda: all(band(bench.snapshot(), row) for row in range(4)))  # type: ignore[arg-type]
    snapshot = bench.snapshot()
    assert snapshot is not None
    assert snapshot.watches["w"].query == "z"
    assert sorted(snapshot.watch_of) == ["new", "new", "w", "w"]
    assert "v" not in bench.watcher.succeeded
    assert bench.value("watch_last_success_timestamp_seconds", watch="v") is None
    assert bench.value("watch_failures_total", watch="v") is None


async def test_a_watch_that_comes_back_learns_again(bench: Bench) -> None:
    bench.start(w())
    await bench.ticks(1)
    bench.watcher.watch([w("v", query="y")])
    await bench.until(lambda: set(bench.snapshot().watches) == {"v"})  # type: ignore[union-attr]
    bench.watcher.watch([w()])
    await bench.until(lambda: set(bench.snapshot().watches) == {"w"})  # type: ignore[union-attr]
    await bench.until(lambda: band(bench.snapshot()))  # type: ignore[arg-type]


async def test_a_watch_of_another_step_learns_again(bench: Bench) -> None:
    bench.start(w())
    await bench.ticks(1)
    bench.watcher.watch([w(step=OTHER)])
    await bench.until(lambda: OTHER in bench.known.snapshots and STEP not in bench.known.snapshots)
    await bench.until(lambda: band(bench.snapshot(OTHER)))  # type: ignore[arg-type]


async def test_a_tick_on_its_way_does_not_undo_a_reload(bench: Bench) -> None:
    bench.start(w(step=1.0))
    await bench.ticks(1, 1.0)
    bench.source.slow["instant x"] = 0.6
    asked = bench.source.asked.count("instant x")
    await bench.until(lambda: bench.source.asked.count("instant x") > asked)  # it waits for this answer now
    bench.watcher.watch([w(step=1.0), w("v", query="y", step=1.0)])
    await bench.until(lambda: "range y" in bench.source.asked)
    bench.source.slow.clear()
    snapshot = await bench.ticks(1, 1.0)
    await bench.until(lambda: "v" in bench.snapshot(1.0).watch_of)  # type: ignore[union-attr]
    snapshot = await bench.ticks(1, 1.0)
    assert band(snapshot, snapshot.watch_of.index("v"))


async def test_an_answer_to_the_old_query_is_not_the_new_one_s(bench: Bench) -> None:
    bench.start(w(step=1.0))
    await bench.ticks(1, 1.0)
    bench.source.keys["x"] = [key(old="1")]
    bench.source.slow["instant x"] = 0.4
    asked = bench.source.asked.count("instant x")
    await bench.until(lambda: bench.source.asked.count("instant x") > asked)
    bench.watcher.watch([w(query="z", step=1.0)])
    for _ in range(3):
        assert key(old="1") not in (await bench.ticks(1, 1.0)).keys


async def test_reloads_without_pause_break_nothing(bench: Bench) -> None:
    one, two = [w(), w("v", query="y", step=OTHER)], [w(step=OTHER), w("v", query="z")]
    bench.start(*one)
    for i in range(60):
        bench.watcher.watch(two if i % 2 else one)
        await asyncio.sleep(0.02)
    await bench.until(
        lambda: all(s in bench.known.snapshots and band(bench.known.snapshots[s]) for s in (STEP, OTHER))
    )


# --------------------------------------------------------------------------- clock, restart


async def test_a_clock_set_back_is_believed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.start(w())
    now = (await bench.ticks(1)).at
    bench.shift -= 3600
    snapshot = await bench.ticks(1)
    assert snapshot.at < now - 3000
    assert any("the clock was set back by" in r.getMessage() for r in caplog.records)
    assert band(await bench.ticks(1))


async def test_no_instant_is_ticked_twice(bench: Bench) -> None:
    bench.start(w())
    seen = [(await bench.ticks(1)).at]
    bench.shift -= 0.5  # a little back: its time comes again
    for _ in range(3):
        seen.append((await bench.ticks(1)).at)
    assert seen == sorted(set(seen))


async def test_a_restart_keeps_the_bands(bench: Bench) -> None:
    bench.start(w())
    await bench.ticks(2)
    await bench.stop()
    bench.source.asked.clear()
    bench.source.failing["range x"] = Unavailable("not needed")
    bench.shift += 60
    bench.start(w())
    snapshot = await bench.ticks(1)
    assert band(snapshot)
    assert (snapshot.columns["score"] < 1).all()
    assert "earliest x" not in bench.source.asked


async def test_a_crash_before_the_first_tick_loses_nothing(bench: Bench) -> None:
    state = bench.folder / "0.2.state"
    bench.start(w(), w("v", query="y"))
    await bench.until(lambda: state.exists())
    saved = state.read_bytes()
    await bench.stop()
    state.write_bytes(saved)
    bench.source.asked.clear()
    bench.start(w(), w("v", query="y"))
    assert band(await bench.ticks(1))
    assert not [asked for asked in bench.source.asked if asked.startswith("earliest")]


async def test_a_restart_learns_what_was_missed(bench: Bench) -> None:
    bench.start(w())
    first = await bench.ticks(1)
    await bench.stop()
    bench.shift += 60
    bench.start(w())
    snapshot = await bench.ticks(1)
    grown = (snapshot.columns["age"][0] - first.columns["age"][0]) * 86400
    assert grown == pytest.approx(snapshot.at - first.at, abs=10 * STEP)  # a busy machine leaves ticks out


async def test_a_damaged_state_is_learned_anew(bench: Bench) -> None:
    bench.start(w())
    await bench.ticks(1)
    await bench.stop()
    state = bench.folder / "0.2.state"
    state.write_bytes(state.read_bytes()[:-100])
    bench.start(w())
    assert band(await bench.ticks(1))
    assert (bench.folder / "0.2.damaged").exists()


async def test_a_state_of_a_future_version_is_set_aside(bench: Bench) -> None:
    StateFiles(bench.folder).save(STEP, iter([("engine", {"version": 99, "step": STEP})]))
    bench.start(w())
    assert band(await bench.ticks(1))
    assert bench.value("state_damaged_total") == 1
    assert (bench.folder / "0.2.damaged").exists()


async def test_a_state_that_nobody_needs_now_is_left_alone(bench: Bench) -> None:
    bench.start(w(step=OTHER))
    await bench.ticks(1, OTHER)
    await bench.stop()
    before = (bench.folder / "0.4.state").read_bytes()
    bench.start(w())
    await bench.ticks(1)
    await bench.stop()
    assert (bench.folder / "0.4.state").read_bytes() == before


async def test_a_disk_that_is_full_stops_no_tick(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.start(w())
    await bench.ticks(1)
    (bench.folder / "0.2.state").unlink()
    (bench.folder / "0.2.state").mkdir()
    (bench.folder / "0.2.state" / "in the way").write_text("")
    with caplog.at_level(logging.ERROR):
        await bench.stop()
    assert any(r.getMessage().startswith("state of step 0.2 not saved: ") for r in caplog.records)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2, 0.4, 0.7])
async def test_stopped_at_any_instant_it_starts_again(bench: Bench, after: float) -> None:
    bench.start(w(), w("v", query="y"))
    await asyncio.sleep(after)
    await bench.stop()
    bench.start(w(), w("v", query="y"))
    snapshot = await bench.ticks(1)
    assert all(band(snapshot, row) for row in range(4))


# --------------------------------------------------------------------------- feedback


async def test_what_feedback_showed_reaches_every_engine_and_what_is_expected_its_rows(bench: Bench) -> None:
    bench.start(w(), w("slow", "y", OTHER))
    await bench.ticks(1)
    await bench.ticks(1, OTHER)
    bench.watcher.beliefs = Beliefs(watches={"w": -1.0}, everywhere=0.5)
    await bench.ticks(2)
    await bench.ticks(1, OTHER)
    engines = bench.watcher._engines
    beliefs = {step: e.blocks[0].life.belief[e.table.rows(name)] for step, name, e in (
        (STEP, "w", engines[STEP]), (OTHER, "slow", engines[OTHER]),
    )}  # fmt: skip
    assert {step: found.tolist() for step, found in beliefs.items()} == {STEP: [-0.5] * 2, OTHER: [0.5] * 2}
    level = engines[STEP].blocks[0].level
    level.mean60[:2] = 7.0
    await bench.watcher.accept({"w": KEYS[:1], "gone": KEYS})
    assert abs(level.mean60[0]) < 1 < level.mean60[1]


async def test_fitted_models_are_seated_and_saved(bench: Bench) -> None:
    bench.start(w())
    await bench.ticks(1)
    core = Linear(np.eye(2), np.array([1.0, 0]), np.array([1.0, 0]), np.array([0.0, 1]))
    curve, error = np.full(WEEK, 10, np.float32), np.ones(3)
    guest = Fitted("arima", float(bench.clock()), curve, (), np.empty(0), 1.0, error, core)
    party = Party(("w", KEYS[0]), "UTC", (guest,), bench.clock())
    seated = await bench.watcher.invite(STEP, [party], lambda *_: True)
    assert seated.fitted == {("w", KEYS[0]): party.fitted}
    assert (await bench.watcher.invite(OTHER, [party], lambda *_: True)).fitted == {}
    await bench.ticks(2)
    await bench.stop()
    bench.start(w())
    await bench.ticks(1)
    assert (await bench.watcher.invite(STEP, [], lambda *_: True)).fitted == seated.fitted
