"""Which rows only have to catch up, and which have to learn their history from the start."""

from __future__ import annotations

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine, replay
from sidecar.signals.watch.watches import Watch
from sidecar.types import Instant

STEP, NOW = 15.0, 1_700_000_100.0
WATCH = Watch("cpu", "cpu", "config", STEP)
KEYS = [b'{"job":"a"}', b'{"job":"b"}']


def test_rows_that_ticks_have_just_admitted_do_not_count_as_known() -> None:
    engine = Engine(STEP)
    engine.watch({"cpu": WATCH})
    for tick in range(5):
        engine.tick(Instant(NOW + tick * STEP), {"cpu": Vector(KEYS, np.array([1.0, 2.0]))}, 10)
    assert engine.known_until(WATCH) is None


def test_rows_with_history_only_catch_up() -> None:
    engine, nursery = Engine(STEP), Block(2, STEP)
    engine.watch({"cpu": WATCH})
    at = NOW - np.arange(600, 0, -1) * STEP
    replay(nursery, at, np.random.default_rng(0).normal(5, 1, (600, 2)), STEP)
    engine.adopt(Instant(NOW), "cpu", KEYS, nursery, 0, 10)
    engine.tick(Instant(NOW), {"cpu": Vector(KEYS, np.array([5.0, 5.0]))}, 10)
    assert engine.known_until(WATCH) == NOW
    assert engine.known_until(Watch("cpu", "other", "config", STEP)) is None
