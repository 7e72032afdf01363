"""A watcher on a source in memory instead of Prometheus; steps are 0.2 s, so that nobody waits for long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sidecar.adapters.state import StateFiles
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.tick.watcher import Watcher
from sidecar.signals.watch.watches import Watch
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Instant
from tests.unit.made import START, key, watch

STEP, OTHER = 0.2, 0.4
KEYS = [key(i="a"), key(i="b")]
HISTORY = 60.0


def w(name: str = "w", query: str = "x", step: float = STEP) -> Watch:
    """A watch of that step."""
    return watch(name, query, step)


def level(at: F64 | float) -> F64:
    """What the series were and are: near 10, never twice the same."""
    return 10 + np.sin(np.asarray(at, np.float64) * 12.9898) * 0.5


class Memory:
    """Stands for Prometheus: every query has two series since a minute before START."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.slow: dict[str, float] = {}
        self.keys: dict[str, list[bytes]] = {}

    async def _turn(self, kind: str, query: str) -> None:
        self.asked.append(f"{kind} {query}")
        await asyncio.sleep(self.slow.get(f"{kind} {query}", 0.0))
        if error := self.failing.get(f"{kind} {query}"):
            raise error

    async def instant(self, query: str, at: Instant, within: float) -> Vector:
        keys = self.keys.get(query, KEYS)
        await self._turn("instant", query)
        return Vector(keys, np.full(len(keys), float(level(at))))

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        await self._turn("range", query)
        at = start + np.arange(round((end - start) / step) + 1) * step
        values = np.where(at >= START - HISTORY, level(at), np.nan)
        keys = self.keys.get(query, KEYS)
        return Matrix(keys, at, np.repeat(values[:, None], len(keys), axis=1))

    async def earliest(self, query: str, now: Instant, history: float) -> Instant:
        await self._turn("earliest", query)
        return Instant(START - HISTORY)


class Bench:
    """A watcher, its source, its store, and a clock that `shift` moves."""

    def __init__(self, folder: Path) -> None:
        self.source, self.folder = Memory(), folder
        self.shift, self._task = 0.0, None
        self.telemetry: Telemetry
        self.watcher: Watcher
        self.known: Known
        self._began = time.monotonic()
        self._task: asyncio.Task[None] | None

    def clock(self) -> Instant:
        return Instant(START + self.shift + time.monotonic() - self._began)

    def start(self, *watches: Watch) -> None:
        self.known, self.telemetry = Known(), Telemetry()
        self.watcher = Watcher(
            self.source, StateFiles(self.folder), self.known, LearningConfig(), self.telemetry, self.clock
        )
        self.watcher.watch(watches)
        self._task = asyncio.create_task(self.watcher.run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def until(self, what: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for something; what went wrong inside the watcher is raised here."""
        async with asyncio.timeout(seconds):
            while not what():
                if self._task and self._task.done():
                    self._task.result()
                await asyncio.sleep(0.005)

    def snapshot(self, step: float = STEP) -> Snapshot | None:
        return self.known.snapshots.get(step)

    async def ticks(self, count: int, step: float = STEP) -> Snapshot:
        """The snapshot after that many further ones."""
        for _ in range(count):
            at = self._at(step)
            await self.until(lambda at=at: self._at(step) not in (None, at))
        said = self.snapshot(step)
        assert said is not None
        return said

    def _at(self, step: float) -> float | None:
        said = self.snapshot(step)
        return said.at if said else None

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"promantis_{name}", labels)


def band(snapshot: Snapshot, row: int = 0) -> bool:
    """Whether a row has a band that is not trivial, and a verdict."""
    c = {name: float(column[row]) for name, column in snapshot.columns.items()}
    return bool(0 < c["lower"] < c["expected"] < c["upper"] < 20 and c["score"] >= 0 and 9 < c["f60"] < 11)
