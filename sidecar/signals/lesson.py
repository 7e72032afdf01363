"""History of some watches of one step and time zone, taught together to a nursery and then moved into the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidecar.signals.block import Block
from sidecar.signals.calendar import UTC
from sidecar.signals.engine import Engine, replay
from sidecar.signals.frame import Matrix
from sidecar.signals.history import LearningConfig, Span, spans
from sidecar.signals.watches import Watch
from sidecar.types import Instant


class Lesson:
    """Watches that are taught at once, so that numpy has long columns to work on."""

    def __init__(self, step: float, resumed: bool, tz: str = UTC) -> None:
        self.step, self.resumed, self.tz = step, resumed, tz
        """`resumed`: from saved state, so only what has been missed since."""
        self.watches: list[Watch] = []
        self.spans: list[Span] = []
        self._keys: list[list[bytes]] = []
        self._begin = np.inf
        self._nursery: Block | None = None

    @property
    def series(self) -> int:
        """How many series are taught."""
        return sum(map(len, self._keys))

    def add(self, watch: Watch, keys: list[bytes], begin: Instant) -> None:
        """One more watch, with the series that are worth teaching and since when there is history."""
        self.watches.append(watch)
        self._keys.append(keys)
        self._begin = min(self._begin, begin)

    def plan(self, now: Instant, learning: LearningConfig) -> None:
        """Which ranges will be asked."""
        self.spans = spans(now, Instant(float(self._begin)), learning, self.step, self.series)

    def resume(self, engine: Engine) -> None:
        """Start from what an engine already knows."""
        nursery = self._block()
        lo = 0
        for watch, keys in zip(self.watches, self._keys, strict=True):
            engine.lend(watch.name, keys, nursery, lo)
            lo += len(keys)

    def replay(self, span: Span, matrices: Sequence[Matrix | None]) -> None:
        """Teach one range answer of every watch (None: it could not be asked)."""
        nursery = self._block()
        at = np.array([])
        asked = np.zeros(nursery.rows, bool)
        columns: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Matrix]] = []
        lo = 0
        for keys, matrix in zip(self._keys, matrices, strict=True):
            asked[lo : lo + len(keys)] = matrix is not None
            if matrix is not None and len(matrix.at):
                place = {key: lo + i for i, key in enumerate(keys)}
                rows = np.fromiter((place.get(key, -1) for key in matrix.keys), np.int64, len(matrix.keys))
                columns.append((rows, matrix))
                at = matrix.at if len(matrix.at) > len(at) else at
            lo += len(keys)
        values = np.full((len(at), nursery.rows), np.nan)
        for rows, matrix in columns:
            known = rows >= 0
            values[: len(matrix.at), rows[known]] = matrix.values[:, known]
        replay(nursery, at, values, span.step, asked)

    def adopt(self, engine: Engine, now: Instant, room: int) -> None:
        """Move what was learned into the engine, with at most `room` new series."""
        lo, before = 0, len(engine.table)
        for watch, keys in zip(self.watches, self._keys, strict=True):
            now_is = engine.watches.get(watch.name)
            if (
                now_is is not None and now_is.identity == watch.identity
            ):  # a reload may have changed it meanwhile
                engine.adopt(now, watch.name, keys, self._block(), lo, room - len(engine.table) + before)
            lo += len(keys)
        self._nursery = None

    def _block(self) -> Block:
        if self._nursery is None:
            self._nursery = Block(self.series, self.step, self.tz)
        return self._nursery
