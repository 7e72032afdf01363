"""What the tests of the signals are made of: keys, answers, watches, and series with a past."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.models import Array
from sidecar.signals.tick.engine import Engine, replay
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, Instant

State = tuple[Mapping[str, Any], Mapping[str, Array]]
"""Header and arrays of an engine."""
START = Instant(1_700_000_100.0)
"""A multiple of five minutes."""


def key(**labels: str) -> bytes:
    """A label object as Prometheus writes it."""
    return json.dumps(dict(sorted(labels.items())), separators=(",", ":"), ensure_ascii=False).encode()


def vector(samples: Mapping[bytes, float]) -> Vector:
    """An answer of these samples."""
    return Vector(list(samples), np.array(list(samples.values()), np.float64))


def watch(name: str = "w", query: str = "x", step: float = 15.0, **more: Any) -> Watch:
    """A watch as the config would make it."""
    return Watch(name=name, query=query, source="config", step=step, **more)


def engine(*watches: Watch) -> Engine:
    """A fresh engine with these watches."""
    made = Engine(watches[0].step)
    made.watch({watch.name: watch for watch in watches})
    return made


def dumped(made: Engine) -> State:
    """What an engine would save, as it is now."""
    (_, header), *arrays = made.dump()
    return header, {name: array.copy() for name, array in arrays}


def ticked(
    made: Engine, answer: Callable[[int], Mapping[str, Vector]], ticks: int = 60, start: float = START
) -> Snapshot:
    """The snapshot after some ticks, the last one at `start + (ticks - 1) * step`."""
    said = None
    for i in range(ticks):
        said = made.tick(Instant(start + i * made.step), answer(i), 1000)
    assert said is not None
    return said


def noisy(keys: Sequence[bytes], level: float = 10.0, seed: int = 1) -> Callable[[int], Vector]:
    """Answers around a level."""
    rng = np.random.default_rng(seed)
    return lambda _: Vector(list(keys), level + rng.normal(0, 1, len(keys)))


def learned(step: float, rows: int, sample: Callable[[float], F64], days: float = 3.0) -> Block:
    """A nursery that knows some days at five minutes, and the 2,880 last ticks before START."""
    nursery = Block(rows, step)
    live = START - 2880 * step
    for start, end, width in ((live - days * 86400, live, max(300.0, step)), (live, START, step)):
        at = np.arange(start, end, width)
        replay(nursery, at, np.array([sample(t) for t in at.tolist()]), width)
    return nursery
