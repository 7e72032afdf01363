"""Lessons: what is taught in slices is what is taught at once, and it is never in memory twice."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from sidecar.signals import models
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.known.snapshot import FORECASTS
from sidecar.signals.learn.history import LearningConfig, Span
from sidecar.signals.learn.trust import Trust
from sidecar.signals.tick import lesson, rows
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.lesson import Lesson
from sidecar.signals.watch.watches import Limit
from sidecar.types import F64, Instant
from tests.unit.made import START, engine, key, watch

SERIES = [[key(w=str(w), i=str(i)) for i in range(n)] for w, n in enumerate((150, 700, 90))]
WATCHES = [watch(f"w{w}", f"q{w}") for w in range(len(SERIES))]


def taught(e: Engine, resumed: bool = False, begin: float = START - 3600) -> Lesson:
    """A lesson that has seen an hour of every watch, its series in another order than they were added."""
    out, rng = Lesson(15.0, resumed), np.random.default_rng(1)
    for w, keys in zip(WATCHES, SERIES, strict=True):
        out.add(w, keys, Instant(begin))
    if resumed:
        out.resume(e)
    at = np.arange(begin, START, 15.0)
    matrices = [Matrix(keys[::-1], at, rng.normal(10, 1, (len(at), len(keys)))) for keys in SERIES]
    out.replay(Span(Instant(begin), Instant(START - 15), 15.0), matrices, Trust(0.0))
    return out


def said(e: Engine) -> dict[str, np.ndarray]:
    """What the engine says of the next two ticks."""
    for i in range(2):
        rng = np.random.default_rng(i)
        answers = {w.name: Vector(k, rng.normal(10, 1, len(k))) for w, k in zip(WATCHES, SERIES, strict=True)}
        snapshot = e.tick(Instant(START + i * 15), answers, 0)
    return {str(k): c[: len(snapshot.keys)] for k, c in snapshot.columns.items()}


@pytest.mark.parametrize("resumed", [False, True])
def test_slices_teach_what_one_lesson_teaches(monkeypatch: pytest.MonkeyPatch, resumed: bool) -> None:
    whole, sliced = engine(*WATCHES), engine(*WATCHES)
    for e, largest in ((whole, 10_000), (sliced, 256)):
        monkeypatch.setattr(lesson, "LARGEST", largest)
        taught(e).adopt(e, START, 1000)
        if resumed:
            taught(e, True, START - 900).adopt(e, START, 0)
        assert len(e.table) == 940
    one, other = said(whole), said(sliced)
    assert np.isfinite(one["score"]).all()
    for name in one:  # what all rows of a lesson have in common is summed in another order
        rtol = 1e-6 if name in FORECASTS else 0
        np.testing.assert_allclose(one[name], other[name], rtol=rtol, err_msg=name)


def test_what_was_learned_is_hardly_ever_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lesson, rows):
        monkeypatch.setattr(module, "LARGEST", 64)
    monkeypatch.setattr(models, "APART", math.inf)  # pages of their own are not traced
    e = engine(*WATCHES)
    tracemalloc.start()
    learner = taught(e, begin=START - 300)
    tracemalloc.reset_peak()
    learner.adopt(e, START, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    state = sum(array.nbytes for block in e.blocks for array in block.state().values())
    assert state < peak < 1.4 * state


def test_history_is_taught_with_the_direction_of_its_watch() -> None:
    """Leaps the way that is no harm must not hide the other one, as they do not where they were seen live."""
    begin, step, keys, rng = Instant(START - 1.5 * 86400), 60.0, [key(i="a")], np.random.default_rng(2)
    at = np.arange(begin, START, step)
    leaps = np.where(rng.random(len(at)) < 0.004, rng.uniform(20, 80, len(at)), 0)
    harm = {"up": 1.0, "down": -1.0}
    watches = {name: watch(name, name, step=step, direction=name) for name in harm}
    values = {name: (100 + rng.normal(0, 1, len(at)) - leaps * way)[:, None] for name, way in harm.items()}
    scores = []
    for past in ("taught", "seen"):
        e = engine(*watches.values())
        if past == "taught":
            pupil = Lesson(step, False)
            for mine in watches.values():
                pupil.add(mine, keys, begin)
            pupil.replay(Span(begin, Instant(at[-1]), step), [Matrix(keys, at, x) for x in values.values()])
            pupil.adopt(e, START, 2)
        else:
            for i, now in enumerate(at.tolist()):
                e.tick(Instant(now), {name: Vector(keys, x[i]) for name, x in values.items()}, 2)
        odd = {name: Vector(keys, np.array([100 + 12 * way])) for name, way in harm.items()}
        said = e.tick(START, odd, 2)
        scores.append([float(said.columns["raw"][said.rows[name][0]]) for name in harm])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert min(scores[0]) > 1.5


def test_what_was_not_there_was_zero_where_the_watch_says_so() -> None:
    """Nobody orders at night: a night is no news when history had some."""
    begin, step, keys, mine = Instant(START - 4 * 86400), 60.0, [key(i="a")], watch(step=60.0, absent="zero")

    def orders(at: F64) -> F64:
        asleep = np.sin(2 * np.pi * at / 86400) < -0.2
        return np.where(asleep, np.nan, np.random.default_rng(3).normal(30, 2, len(at)))[:, None]

    e, pupil, live = Engine(step), Lesson(step, False), START - 1440 * step
    e.watch({"w": mine})
    pupil.add(mine, keys, begin)
    for start, end, width in ((begin, live, 300.0), (live, START, step)):
        at = np.arange(start, end, width)
        pupil.replay(Span(Instant(start), Instant(at[-1]), width), [Matrix(keys, at, orders(at))])
    pupil.adopt(e, START, 1)
    day = START + np.arange(1440) * step
    for now, x in zip(day.tolist(), orders(day), strict=True):
        there = np.isfinite(x)
        said = e.tick(Instant(now), {"w": Vector(keys if there[0] else [], x[there])}, 1)
        assert not said.columns["score"][0] >= 1, now


@pytest.mark.parametrize("up", [True, False])
def test_nothing_was_zero_while_prometheus_was_away(up: bool) -> None:
    zero, other = watch("a", "a", absent="zero"), watch("b", "b")
    keys, at = [key(i="1")], START - 3600 + np.arange(240) * 15.0
    pupil, e = Lesson(15.0, False), engine(zero, other)
    values = np.full((len(at), 1), 5.0)
    values[100:130] = np.nan
    for one in (zero, other):
        pupil.add(one, keys, Instant(at[0]))
    elsewhere = np.full_like(values, 7.0) if up else values
    span = Span(Instant(at[0]), Instant(at[-1]), 15.0)
    pupil.replay(span, [Matrix(keys, at, values), Matrix(keys, at, elsewhere)])
    pupil.adopt(e, START, 2)
    assert e.blocks[0].life.seen[e.table.rows("a")[0]] == (240 if up else 210)


@pytest.mark.parametrize("step", [60.0, 300.0])
def test_what_history_shows_of_limits_is_known_at_the_first_tick(step: float) -> None:
    """Teeth that always turn below their limit: a line says that they cross."""
    one, n = watch(step=step, limits=(Limit(">", 82.0), Limit("<", 10.0))), 30
    keys, at = [key(i=str(i)) for i in range(n)], START + np.arange(-3 * 288, 0) * 300.0
    x = np.stack([20 + (np.arange(-3 * 288, 0) + 5 * i) % 56 for i in range(n)], axis=1).astype(float)
    x += np.random.default_rng(0).normal(0, 0.1, x.shape)
    known, cold = engine(one), engine(one)
    for e in (known, cold):
        pupil = Lesson(step, resumed=False)
        pupil.add(one, keys, Instant(float(at[0])))
        if e is known:
            pupil.plan(START, LearningConfig())
        pupil.replay(Span(Instant(float(at[0])), Instant(float(at[-1])), 300.0), [Matrix(keys, at, x)])
        pupil.adopt(e, START, n)
    tables = [e.tick(START, {"w": Vector(keys, x[-1] + step / 300)}, 0).limits for e in (known, cold)]
    near = (x[-1] > 66) & (x[-1] < 74.5)
    assert near.sum() > 2
    of = np.array([limit.op == ">" for limit in tables[0].limit])
    said, first = (table.probability[2, of][near] for table in tables)
    assert said.max() < 0.2
    assert first.mean() > 2 * said.mean()
    assert (known.crossings.marks.origins[0, of] > 500).all()
    assert (cold.crossings.marks.origins == 0).all()


def test_what_an_engine_saw_of_a_limit_is_not_replaced_by_history() -> None:
    """A second lesson of other series adds to what all limits have in common; the lines of the first stay."""
    watches = [watch(name, name, step=300.0, limits=(Limit(">", 5.0),)) for name in ("a", "b")]
    at, e = START + np.arange(-2 * 288, 0) * 300.0, engine(*watches)
    for i, one in enumerate(watches):
        pupil = Lesson(300.0, resumed=False)
        pupil.add(one, [key(i="0")], Instant(float(at[0])))
        pupil.plan(START, LearningConfig())
        x = np.random.default_rng(i).normal(0, 1 + i, (len(at), 1))
        pupil.replay(
            Span(Instant(float(at[0])), Instant(float(at[-1])), 300.0), [Matrix([key(i="0")], at, x)]
        )
        before = e.crossings.rate[1].copy(), e.crossings.marks.origins.copy()
        pupil.adopt(e, START, 2)
        assert (e.crossings.rate[1] > before[0] + 100).all()
        np.testing.assert_array_equal(e.crossings.marks.origins[:, : before[1].shape[1]], before[1])
