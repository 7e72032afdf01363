"""`scale: log`: a series that goes over several sizes is seen by factors, and told of in values."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from sidecar.signals.detect import scales
from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.known.snapshot import COLUMNS, FORECASTS
from sidecar.signals.learn.history import Span
from sidecar.signals.models import Array, f4
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.lesson import Lesson
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, key, watch

STEP = 60.0
KEYS = [key(i=str(i)) for i in range(4)]
WATCHES = {
    name: watch(name, name, step=STEP, **settings)
    for name, settings in {
        "linear": {"scale": "linear"},
        "log": {"scale": "log"},
        "bounded": {"scale": "log", "bounds": (0.01, 0.6)},
        "least": {"scale": "log", "min_deviation": 0.2},
    }.items()
}


def latency(at: F64, seed: int = 4) -> F64:
    """A wave between 20 and 500 ms in a day, with noise of a third of it, for each of the series."""
    noise = np.random.default_rng(seed).normal(0, 0.3, (len(at), len(KEYS)))
    return np.asarray(0.1 * np.exp(1.6 * np.sin(2 * np.pi * at / 86400))[:, None] * np.exp(noise))


def taught(name: str) -> Engine:
    """An engine that has just learned four days of one of the watches."""
    header, arrays = saved()
    return Engine.load(header, arrays, {name: WATCHES[name]})


@functools.cache
def saved() -> tuple[dict[str, Any], dict[str, Any]]:
    """All watches are taught together: rows do not touch each other, and it takes a quarter of the time."""
    begin, e, pupil = Instant(START - 4 * 86400), Engine(STEP), Lesson(STEP, False)
    e.watch(WATCHES)
    for mine in WATCHES.values():
        pupil.add(mine, KEYS, begin)
    live = START - 2880 * STEP
    for start, end, width in ((begin, live, 300.0), (live, START, STEP)):
        at = np.arange(start, end, width)
        span = Span(Instant(start), Instant(at[-1]), width)
        pupil.replay(span, [Matrix(KEYS, at, latency(at, int(width)))] * len(WATCHES))
    pupil.adopt(e, START, len(KEYS) * len(WATCHES))
    return dumped(e)


def tick(e: Engine, i: int, values: F64, keys: list[bytes] = KEYS) -> dict[str, Array]:
    """What is said of these series of its only watch."""
    (name,) = e.watches
    said = e.tick(Instant(START + i * STEP), {name: Vector(keys, values)}, len(keys))
    return {str(column): values[list(said.rows[name])] for column, values in said.columns.items()}


def usual(i: int) -> F64:
    return latency(np.array([START + i * STEP]), i)[0]


def by_scale(factor: float, scale: str) -> float:
    """The score of a first sample that lies off what is usual by a factor."""
    e = taught(scale)
    for i in range(5):
        tick(e, i, usual(i))
    return float(tick(e, 5, usual(5) * [factor, 1, 1, 1])["raw"][0])


def test_a_fall_that_differences_do_not_show_is_odd_by_its_factor() -> None:
    assert by_scale(1 / 20, "linear") < 1 < by_scale(1 / 20, "log")
    assert by_scale(1, "log") < 1


def test_what_is_said_is_said_in_values_and_within_the_bounds() -> None:
    e, outside = taught("bounded"), 0
    for i in range(60):
        x = usual(i)
        said = tick(e, i, x)
        np.testing.assert_array_equal(said["observed"], x)
        outside += int(((x < said["lower"]) | (x > said["upper"])).sum())
        for name in ("expected", "lower", "upper", *FORECASTS):
            assert (said[name] >= 0.01 * (1 - 1e-5)).all(), name
            assert (said[name] <= np.maximum(0.6, x) * (1 + 1e-5)).all(), name
    assert outside < 0.02 * 60 * len(KEYS)
    ahead = latency(np.array([START + 59 * STEP + 3600]))[0].mean()
    assert said["f60"].mean() == pytest.approx(ahead, rel=0.5)
    assert (said["upper"] - said["expected"] > 1.5 * (said["expected"] - said["lower"])).all()


def test_zero_is_odd_and_what_is_no_number_is_no_sample() -> None:
    e = taught("log")
    for i in range(5):
        tick(e, i, usual(i))
    said = tick(e, 5, np.array([0.0, np.nan, np.inf, -1.0]))
    assert said["score"][[0, 3]].min() > 1
    assert np.isnan(said["expected"][[1, 2]]).all()
    assert said["observed"][[0, 2, 3]].tolist() == [0.0, np.inf, -1.0]
    assert said["lower"][0] >= 0


@pytest.mark.parametrize("off", [-0.199, 0.199])
def test_what_is_nearer_than_the_least_deviation_is_never_odd(off: float) -> None:
    e = taught("least")
    expected = tick(e, 0, usual(0))["expected"]
    block, rows = e.blocks[0], e.table.rows("least")
    x = np.full(block.rows, np.nan)
    x[rows] = np.maximum(expected + off, 0.001)
    seen = scales.there(x, block.life.unit)
    with np.errstate(all="ignore"):
        said = block.score(START + 1, seen, np.ones(block.rows, bool))
    assert (said.e[rows] <= -0.5).all()


def test_a_share_is_the_same_share_at_every_size() -> None:
    one, unit = np.ones(3, np.float32), np.full(3, 1e-6, np.float32)
    at = np.array([0.01, 1.0, 1e4])
    slack = scales.slack(0 * one, f4(0.25) * one, scales.there(at, unit).astype(np.float32), unit)
    np.testing.assert_allclose(slack, -np.log(0.75), rtol=1e-3)  # the larger way: down to three quarters


def test_there_and_back() -> None:
    x = np.array([0.0, 1e-12, 0.5, -3.0, 1e20])
    unit = np.full(len(x), 0.01, np.float32)
    np.testing.assert_allclose(scales.back(scales.there(x, unit), unit), x, rtol=1e-6)
    assert np.isfinite(scales.back(np.array([1e4]), unit[:1])).all()


def test_rows_of_both_scales_lie_in_one_block_and_do_not_touch() -> None:
    at = START - 200 * STEP + np.arange(200) * STEP
    x = latency(at)
    alone, mixed = Block(4, STEP), Block(4, STEP)
    mixed.life.configure(watch(scale="log"), np.array([1, 3]))
    for block in (alone, mixed):
        out = {name: np.full(4, np.nan) for name in COLUMNS}
        for now, values in zip(at.tolist(), x, strict=True):
            block.tick(now, values, np.ones(4, bool), np.ones(4, bool), out)
        kept = {name: out[name].copy() for name in COLUMNS}
        if block is alone:
            before = kept
    for name in COLUMNS:
        rtol = 0.15 if name in FORECASTS else 0  # these have a regression in common
        np.testing.assert_allclose(kept[name][[0, 2]], before[name][[0, 2]], rtol=rtol, err_msg=name)
    assert (kept["expected"][[1, 3]] != before["expected"][[1, 3]]).all()


@pytest.mark.parametrize(
    ("other", "known"),
    [({"scale": "log"}, True), ({"scale": "linear"}, False), ({"scale": "log", "min_deviation": 0.1}, False)],
)
def test_another_scale_learns_anew_also_over_a_restart(other: dict[str, object], known: bool) -> None:
    e, changed = taught("log"), watch("log", "log", step=STEP, **other)
    tick(e, 0, usual(0))
    loaded = Engine.load(*dumped(e), {"log": changed})
    assert (len(loaded.table) == len(KEYS)) is known
    e.watch({"log": changed})
    assert (len(e.table) == len(KEYS)) is known


def test_a_new_pod_inherits_on_the_scale_of_its_watch() -> None:
    pods, e = [key(job="a", pod=f"a-{n}") for n in range(2)], Engine(STEP)
    e.watch({"w": watch(step=STEP, scale="log")})
    at = START - 1500 * STEP + np.arange(1500) * STEP
    for now, values in zip(at.tolist(), latency(at), strict=True):
        e.tick(Instant(now), {"w": Vector(pods[:1], values[:1])}, 2)
    said = tick(e, 0, usual(0)[:2], pods)
    assert np.isfinite(said["score"]).all()
    assert said["score"][1] < 1
