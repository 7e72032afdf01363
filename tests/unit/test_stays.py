"""Series that come, go and come back: deploys, nightly jobs, churn; all through the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest import stays
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.tick.engine import Engine
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, engine, key, learned, vector, watch

PODS = 50
HASH = "bcdfghjklmnpqrstvwxz2456789"


def pods(revision: str, count: int = PODS) -> list[bytes]:
    """Keys of a deployment's pods."""
    return [
        key(
            app="shop",
            created_by_name=f"shop-{revision}",
            instance=f"10.0.{len(revision)}.{i}:80",
            pod=f"shop-{revision}-x{HASH[i // 27]}{HASH[i % 27]}9k",
        )
        for i in range(count)
    ]


OLD, NEW = pods("7d9f8b6c5"), pods("86c57db685")


def wave(t: float) -> float:
    return float(10 + 4 * np.sin(2 * np.pi * t / 86400))


@cache
def past(step: float) -> Block:
    """Three days of fifty pods: a daily wave and some noise."""
    rng = np.random.default_rng(1)
    return learned(step, PODS, lambda t: wave(t) + rng.normal(0, 0.4, PODS))


def shop(step: float = 15.0) -> Engine:
    """An engine that knows these pods."""
    e = engine(watch(step=step))
    e.adopt(START, "w", OLD, past(step), 0, 1000)
    return e


def scores(said: Snapshot, keys: list[bytes]) -> F64:
    """What is said of these series; NaN for those that have no row."""
    row = {k: i for i, k in enumerate(said.keys)}
    return np.array([said.columns["score"][row[k]] if k in row else np.nan for k in keys], np.float64)


def play(
    e: Engine, ticks: int, sample: Callable[[float], Mapping[bytes, float]], room: int = 10_000
) -> list[Snapshot]:
    """Some more ticks."""
    out = []
    start = max(float(e.at) + e.step, START)
    for i in range(ticks):
        at = start + i * e.step
        out.append(e.tick(Instant(at), {"w": vector(sample(at))}, room))
    return out


class Pods:
    """Values of pods that do as they always did."""

    def __init__(self, keys: list[bytes], factor: float = 1.0) -> None:
        self.keys, self.factor, self.rng = keys, factor, np.random.default_rng(2)

    def __call__(self, t: float) -> dict[bytes, float]:
        values = self.factor * (wave(t) + self.rng.normal(0, 0.4, len(self.keys)))
        return dict(zip(self.keys, values.tolist(), strict=True))


# --------------------------------------------------------------------------- deploys


@pytest.mark.parametrize("step", [15.0, 60.0])
def test_all_pods_are_replaced_at_once(step: float) -> None:
    e = shop(step)
    play(e, 10, Pods(OLD))
    after = play(e, 240, Pods(NEW))
    assert np.nanmax([scores(said, OLD + NEW) for said in after]) < 1
    assert np.isfinite(scores(after[0], NEW)).mean() > 0.8  # an odd first value is looked at again
    assert np.isfinite(scores(after[4], NEW)).all()
    f15 = [said.columns["f15"][said.keys.index(NEW[0])] for said in after[1:8]]
    np.testing.assert_allclose(f15, wave(START), atol=1.5)
    odd = {**Pods(NEW)(e.at), NEW[3]: 40.0}
    assert scores(play(e, 1, lambda _: odd)[0], NEW)[3] > 1
    assert after[0].columns["age"][after[0].keys.index(NEW[0])] > 3


def test_a_rolling_deploy() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    for i in range(0, PODS, 5):  # the new ones come first
        play(e, 4, Pods(OLD[i:] + NEW[: i + 5]))
        said = play(e, 4, Pods(OLD[i + 5 :] + NEW[: i + 5]))
        assert not np.nanmax([scores(s, OLD + NEW) for s in said]) >= 1
    assert np.isfinite(scores(play(e, 1, Pods(NEW))[0], NEW)).all()


def test_a_pod_that_was_gone_before_its_successor_came() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    play(e, 2, Pods([]))
    said = play(e, 20, Pods(NEW))
    assert not np.nanmax([scores(s, OLD + NEW) for s in said]) >= 1
    assert np.isfinite(scores(said[4], NEW)).all()


def test_pods_of_another_size_raise_no_alarm() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    after = play(e, 400, Pods(NEW, 3.0))
    assert not np.nanmax([scores(said, NEW) for said in after]) >= 1
    assert np.isnan(scores(after[0], NEW)).all()  # they inherit nothing
    assert np.isfinite(scores(after[-1], NEW)).all()


def test_pods_that_begin_cold_inherit_when_they_are_warm() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    cold = play(e, 6, Pods(NEW, 0.1))
    assert np.isnan(scores(cold[-1], NEW)).all()
    warm = play(e, 34, Pods(NEW))
    assert not np.nanmax([scores(said, NEW) for said in warm]) >= 1
    assert np.isfinite(scores(warm[28], NEW)).all()


def test_another_workload_inherits_nothing() -> None:
    e = shop()
    other = [k.replace(b'"app":"shop"', b'"app":"till"') for k in NEW]
    assert np.isnan(scores(play(e, 3, Pods(OLD + other))[-1], other)).all()
    same = Engine(15.0, per_instance=("app", "pod", "instance"))
    assert same.per_instance == ("app", "pod", "instance")


def test_the_users_own_instance_labels() -> None:
    e, rng = Engine(15.0, ("worker",)), np.random.default_rng(1)
    e.watch({"w": watch()})
    old, new = key(job="j", worker="1"), key(job="j", worker="2")
    e.adopt(START, "w", [old], learned(15.0, 1, lambda _: 10 + rng.normal(0, 1, 1)), 0, 10)
    play(e, 3, lambda _: {old: 10.0})
    assert scores(play(e, 1, lambda _: {new: 10.0})[0], [new])[0] < 1


def test_a_successor_keeps_its_inheritance_over_a_restart() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    play(e, 4, Pods(NEW))
    again = Engine.load(*dumped(e), e.watches)
    said = play(again, 1, Pods(NEW))[0]
    assert np.isfinite(scores(said, NEW)).all()
    assert np.isnan(scores(said, OLD)).all()
    assert again.living == PODS


# --------------------------------------------------------------------------- jobs


@pytest.mark.parametrize("step", [15.0, 60.0])
def test_a_job_that_runs_every_night_is_ordinary_after_three(step: float) -> None:
    e, rng, job = engine(watch(step=step)), np.random.default_rng(3), key(job="backup")

    def night(i: int) -> list[float]:
        """Scores of the job, and after it."""
        begin = START - START % 86400 + i * 86400 + 2 * 3600 + rng.uniform(-60, 60)
        e.at = Instant(begin - begin % step - step)
        run = play(e, int(1200 / step), lambda _: {job: 80 + rng.normal(0, 3)})
        out = [scores(said, [job])[0] for said in run]
        # the rest of the day at one tick in ten: nothing but the absence is counted there
        return out + [scores(said, [job])[0] for said in play(e, int(3600 / step), lambda _: {})]

    for i in range(8):
        said = night(i + 1)
        e.stays.gone[e.stays.gone > 0] += 22 * 3600  # of these hours nothing is known but that it is gone
        if i >= 3:
            assert not np.nanmax(said) >= 1
            assert np.isfinite(said[: int(1200 / step)]).all()  # known at once
    e.tick(Instant(e.at + 7200), {"w": vector({job: 80.0})}, 10)
    odd = e.tick(Instant(e.at + step), {"w": vector({job: 300.0})}, 10)
    assert scores(odd, [job])[0] > 1


# --------------------------------------------------------------------------- how long a past is kept


def test_pasts_are_kept_for_as_long_as_is_said() -> None:
    e = engine(watch(step=3600.0))
    long, new, back, stays_here = (key(i=name) for name in ("long", "new", "back", "here"))
    play(e, 30, lambda _: {long: 1.0, stays_here: 1.0})
    play(e, 2, lambda _: {new: 1.0, back: 1.0, stays_here: 1.0})
    play(e, 2, lambda _: {stays_here: 1.0})
    play(e, 1, lambda _: {back: 1.0, stays_here: 1.0})
    hours = {}
    for hour in range(1, 200):
        said = play(e, 1, lambda _: {stays_here: 1.0})[0]
        for k in (long, new, back):
            if k in said.keys:
                hours[k] = hour
    assert hours == {long: 8 * 24 - 5, new: 26 - 3, back: 8 * 24}
    assert len(e.table) == 1


def test_who_would_be_forgotten_soonest_makes_room() -> None:
    rows = 3 * stays.SPARE
    s = stays.Stays(0)
    s.grow(rows)
    s.gone[:] = np.arange(rows) + 400
    known = np.zeros(rows, bool)
    known[-5:] = True
    s.succeeded[:3] = True
    gone = s.ended(s.asleep(), known, 100)
    assert len(gone) == rows - stays.SPARE
    assert {0, 1, 2} <= set(gone.tolist())
    assert not set(gone.tolist()) & set(range(rows - 5, rows))
    assert len(s.ended(s.asleep(), known, 4 * (rows - 10))) == 10  # a quarter of the living


def test_churn_of_half_of_all_series_an_hour_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 hours, in which all come eight times: rows are at most the living, and the spare ones."""
    monkeypatch.setattr(stays, "SPARE", 64)
    e, rng, count, step = engine(watch(step=300.0)), np.random.default_rng(4), 240, 300.0
    keys = [key(job="j", pod=f"p{i}", path=str(i % 7)) for i in range(count)]
    rows, born = [], count
    for i in range(int(16 * 3600 / step)):
        for _ in range(count // 24):  # half of them in twelve ticks
            keys[int(rng.integers(count))] = key(job="j", pod=f"p{born}", path=str(born % 7))
            born += 1
        e.tick(Instant(START + i * step), {"w": Vector(list(keys), rng.normal(10, 1, count))}, 10_000)
        rows.append(len(e.table))
    assert max(rows) <= count + 64
    assert e.living == count
    assert len(e.table.keys) <= count + 64 + count // 24  # those that came before others were let go
    assert e.capacity <= 1.5 * max(rows) + 64
    assert len(e.table.rows("w")) == len(e.table)
    assert e.stays.rows == e.capacity == len(e.asleep)


def test_the_budget_is_for_the_living() -> None:
    e = engine(watch())
    old, new = [key(pod=f"a{i}", i=str(i)) for i in range(10)], [key(i=f"n{i}") for i in range(10)]
    play(e, 2, lambda _: dict.fromkeys(old, 1.0), room=10)
    play(e, 25, lambda _: {}, room=0)
    assert (len(e.table), e.living) == (10, 0)
    play(e, 1, lambda _: dict.fromkeys(new, 1.0), room=10 - e.living)
    assert (len(e.table), e.living) == (20, 10)
    assert e.dropped["budget"] == 0
