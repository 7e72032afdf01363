"""Forecasts without skill: the best naive one is said instead, and nothing is announced from them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from sidecar.adapters.state import StateFiles
from sidecar.signals.forecast.ahead import Ahead
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.models.mixture import EXPERTS, LAST, PATIENCE, Mixture
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.watcher import Watcher
from sidecar.signals.watch.watches import Limit
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Instant
from tests.unit.made import START, engine, key, watch
from tests.unit.watching import Memory

STEP = 300.0
KEYS = [key(i=str(i)) for i in range(4)]


def judged(mixture: Mixture, off: float, naive: float, blocks: int) -> int:
    """Learn that the mixture was off by so much, and the last value by `naive`; blocks until the answer turned."""
    before = bool(mixture.behind[0, 0] > 0)
    for block in range(blocks):
        said = np.full((1, EXPERTS, 1), 9.0, np.float32)
        said[0, LAST] = naive
        zero, one = np.zeros((1, 1), np.float32), slice(0, 1)
        with np.errstate(all="ignore"):
            mixture.learn(one, said, zero + np.float32(off), zero, zero[0] + 1, np.ones((1, 1), bool))
        if bool(mixture.behind[0, 0] > 0) != before:
            return block
    return blocks


def test_skill_is_lost_and_found_after_half_a_day() -> None:
    mixture = Mixture(1)
    assert PATIENCE <= judged(mixture, 1.2, 1.0, 500) < 2 * PATIENCE
    judged(mixture, 1.2, 1.0, 500)
    assert judged(mixture, 0.8, 1.0, 500) >= PATIENCE


def test_a_little_worse_is_no_reason() -> None:
    mixture = Mixture(1)
    assert judged(mixture, 1.04, 1.0, 1000) == 1000


def wave(days: float) -> F64:
    """A daily wave with noise f64[ticks, series], which tops 90 for some hours a day."""
    at = START + np.arange(round(days * 288)) * STEP
    noise = np.random.default_rng(3).normal(0, 0.5, (len(at), len(KEYS)))
    return np.asarray(60 + 40 * np.sin(2 * np.pi * at / 86400)[:, None] + noise)


def told(e: Engine, at: float, x: F64) -> Snapshot:
    return e.tick(Instant(at), {"w": Vector(KEYS, x)}, 100)


@pytest.fixture(scope="module")
def before() -> tuple[Engine, float, F64]:
    """An engine on the way to a daily peak whose odds announce it; and its next tick."""
    e, x = engine(watch(step=STEP, limits=(Limit(">", 90.0),))), wave(5)
    for i, row in enumerate(x):
        said = told(e, START + i * STEP, row)
        p = said.limits.probability[-1]
        if i > 4 * 288 and (p > 0.6).all() and (p < 1).all():
            return e, START + (i + 1) * STEP, x[i + 1]
    raise AssertionError("it was never announced")


def test_without_skill_the_naive_is_said_and_nothing_announced(before: tuple[Engine, float, F64]) -> None:
    e, at, x = copy.deepcopy(before[0]), *before[1:]
    (block,) = e.blocks
    block.ahead.mixture.behind[:, :2] = PATIENCE
    block.ahead.mixture.loss[:, 1, :2] = 0  # the last value was the best
    said = told(e, at, x)
    np.testing.assert_allclose(said.columns["f60"][:2], x[:2], atol=1e-4)
    assert (np.abs(said.columns["f60"][2:4] - x[2:4]) > 2).all()
    assert (said.limits.probability[-1, :2] < 0.5).all()
    assert (said.limits.probability[-1, 2:4] > 0.5).all()


def test_where_the_naive_one_crosses_too_nothing_is_announced(before: tuple[Engine, float, F64]) -> None:
    """Neither said nor taken for announced."""
    e, at, x = copy.deepcopy(before[0]), *before[1:]
    mixture = e.blocks[0].ahead.mixture
    mixture.behind[:, :2], mixture.loss[:, 2, :2] = PATIENCE, 0  # the season was the best
    said = told(e, at, x)
    assert (said.columns["f60"][:2] > 90).all()
    assert (said.limits.probability[-1, :2] < 0.5).all()
    assert (said.limits.probability[-1, 2:4] > 0.5).all()
    assert (np.asarray(e._odds.raw())[:2] < 0.5).all()
    assert e.crossings.silent.tolist() == [True, True, False, False]


def test_a_trend_that_is_believed_is_skill() -> None:
    ahead = Ahead(3, STEP, "UTC")
    ahead.mixture.behind[:, :2] = PATIENCE
    assert ahead.skilled().tolist() == [False, False, True]
    ahead.trend.told[0] = 0.5
    assert ahead.skilled().tolist() == [True, False, True]
    ahead.plain = False
    assert ahead.skilled().all()


@pytest.mark.parametrize("wanted", [True, False])
def test_the_config_says_whether(wanted: bool, tmp_path: Path) -> None:
    learning, telemetry = LearningConfig(naive_without_skill=wanted), Telemetry()
    watcher = Watcher(Memory(), StateFiles(tmp_path), Known(), learning, telemetry, lambda: START)
    assert watcher._new(STEP).plain is wanted


def test_that_can_be_switched_off(before: tuple[Engine, float, F64]) -> None:
    e, at, x = copy.deepcopy(before[0]), *before[1:]
    e.plain = False
    e.blocks[0].ahead.mixture.behind[:] = PATIENCE
    said = told(e, at, x)
    assert (np.abs(said.columns["f60"][:4] - x) > 2).all()
    assert (said.limits.probability[-1] > 0.5).all()
