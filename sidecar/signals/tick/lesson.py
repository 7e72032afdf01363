"""History of some watches of one step and time zone, taught together and then moved into the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.breach.crossings import Crossings
from sidecar.signals.breach.limits import Lines
from sidecar.signals.detect.block import Block
from sidecar.signals.detect.explained import Explained
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.ingest.series import View
from sidecar.signals.ingest.stays import SLEEP_ZERO
from sidecar.signals.known.snapshot import blank
from sidecar.signals.learn.history import LearningConfig, Span, spans
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models.ridge import Pool
from sidecar.signals.tick.engine import Engine, replay
from sidecar.signals.watch.calendar import UTC
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, Bools, Instant

LARGEST = 10240  # of a nursery: what one has learned exists twice while it is taken over
ODDS = 14 * 86400.0  # seconds before now of which odds are learned: later ones forget what was before


class Piece(NamedTuple):
    """Some series of a watch, that lie side by side in one nursery from row `first` on."""

    watch: Watch
    keys: list[bytes]
    nursery: int
    first: int


class Lesson:
    """Watches that are taught at once, so that numpy has long columns to work on."""

    def __init__(self, step: float, resumed: bool, tz: str = UTC) -> None:
        self.step, self.resumed, self.tz = step, resumed, tz
        """`resumed`: from saved state, so only what has been missed since."""
        self.watches: list[Watch] = []
        self.spans: list[Span] = []
        self._keys: list[list[bytes]] = []
        self._begin = np.inf
        self._last = np.empty(0)
        """When each series had its last sample."""
        self._nurseries: dict[int, Block] = {}
        self._pool, self._crossings = Pool(), Crossings(step)
        self._odds_since = np.inf
        """From when on odds are learned."""
        self._explained = Explained(step)

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
        if not self.resumed and any(watch.limits for watch in self.watches):  # else the engine knows them
            self._odds_since = now - ODDS

    def resume(self, engine: Engine) -> None:
        """Start from what an engine already knows."""
        self._pool.absorb(engine.pool)
        self._make()
        for piece in self._pieces():
            engine.lend(piece.watch.name, piece.keys, self._nurseries[piece.nursery], piece.first)
        self._explained.take(engine.explained)
        self._last = np.full(self.series, self._begin)

    def replay(self, span: Span, matrices: Sequence[Matrix | None], trust: Trust | None = None) -> None:
        """Teach one range answer of every watch (None: it could not be asked), save planned events."""
        self._make()
        at = np.array([])
        asked = np.zeros(self.series, bool)
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
        values = np.full((len(at), self.series), np.nan)
        for rows, matrix in columns:
            known = rows >= 0
            values[: len(matrix.at), rows[known]] = matrix.values[:, known]
        self._zero(at, values, asked)
        taught = (trust or Trust(0.0)).past(at, self.watches, self._keys)
        cut = [(i * LARGEST, i * LARGEST + n.rows, n) for i, n in self._nurseries.items()]
        said, forecasts = blank(self.series)
        for now in range(len(at)):  # all at once, since they share what they learn of forecasting
            when = slice(now, now + 1)
            for lo, hi, nursery in cut:
                part = slice(lo, hi)
                out = {name: column[part] for name, column in said.items()}
                replay(nursery, at[when], values[when, part], span.step, asked[part], taught[when, part], out)
            if at[now] >= self._odds_since:
                self._crossings.tick(float(at[now]), cut, said["observed"], forecasts, span.step)
        self._explained.replay(at, values, span.step, taught)

    def adopt(self, engine: Engine, now: Instant, room: int) -> None:
        """Move what was learned into the engine, with at most `room` new series."""
        self._make()
        before = len(engine.table)
        rows = np.full(self.series, -1)  # in the engine
        known = set() if self.resumed else set(engine.learned)  # those are here only for what they explain
        for piece in self._pieces():
            self._nurseries.pop(piece.nursery - 1, None)  # so that what was learned is hardly there twice
            watch, now_is = piece.watch, engine.watches.get(piece.watch.name)
            if now_is is None or now_is.identity != watch.identity:  # a reload may have changed it meanwhile
                continue
            if watch.name in known:
                continue
            left = room - len(engine.table) + before
            engine.adopt(now, watch.name, piece.keys, self._nurseries[piece.nursery], piece.first, left)
            lo = piece.nursery * LARGEST + piece.first
            rows[lo : lo + len(piece.keys)] = engine.table.find(watch.name, piece.keys)
        self._nurseries = {}
        if not self.resumed:  # else it was the engine's own, and less
            engine.pool.absorb(self._pool)
            engine.take_odds(self._crossings, rows)
        engine.explained.link(engine.table.view(), engine.watches, engine.beliefs, engine.asleep)
        engine.explained.take(self._explained, float(engine.missed(now)))

    def _zero(self, at: F64, values: F64, asked: Bools) -> None:
        """What was not there was zero where its watch says so, as it is live; but not while nothing else was there
        either: then it is Prometheus that was away."""
        means: Bools = np.repeat([w.absent == "zero" for w in self.watches], list(map(len, self._keys)))
        if not means.any() or not len(at):
            return
        there = np.isfinite(values)
        last = np.where(there, at[:, None], -np.inf)
        last[0] = np.maximum(last[0], self._last)
        np.maximum.accumulate(last, out=last)
        self._last = last[-1]
        up = there[:, ~means].any(axis=1, keepdims=True) | means.all()
        values[~there & (at[:, None] - last <= SLEEP_ZERO) & means & asked & up] = 0

    def _pieces(self) -> Iterator[Piece]:
        """Every watch's series, cut where a nursery ends."""
        lo = 0
        for watch, keys in zip(self.watches, self._keys, strict=True):
            done = 0
            while done < len(keys):
                nursery, first = divmod(lo + done, LARGEST)
                part = keys[done : done + LARGEST - first]
                yield Piece(watch, part, nursery, first)
                done += len(part)
            lo += len(keys)

    def _make(self) -> None:
        if not self._nurseries:
            sizes = (min(LARGEST, self.series - lo) for lo in range(0, self.series, LARGEST))
            self._nurseries = {i: Block(size, self.step, self.tz, self._pool) for i, size in enumerate(sizes)}
            self._last = np.full(self.series, -np.inf)
            for watch, keys, nursery, first in self._pieces():  # which way is odd decides what tails learn
                self._nurseries[nursery].life.configure(watch, np.arange(first, first + len(keys)))
            view, watches = self._view(), {watch.name: watch for watch in self.watches}
            if any(watch.explained_by for watch in self.watches):
                self._explained.link(view, watches)
            if not self.resumed:
                lines = Lines(view, watches)
                self._crossings.follow(
                    lines.columns, [view.keys[row] for row in lines.columns.row], lines.joint
                )

    def _view(self) -> View:
        keys, names, rows = list[bytes](), list[str](), dict[str, tuple[int, ...]]()
        for watch, mine in zip(self.watches, self._keys, strict=True):
            rows[watch.name] = tuple(range(len(keys), len(keys) + len(mine)))
            keys += mine
            names += [watch.name] * len(mine)
        return View(tuple(keys), tuple(names), rows)


def together(todo: Iterable[Watch], known: Iterable[Watch]) -> list[tuple[Watch, ...]]:
    """Watches that must be taught at once: what is explained with what explains it, even if that is known already."""
    by_query = {(watch.query, watch.tz): watch for watch in known}
    groups: dict[str, tuple[Watch, ...]] = {}
    for watch in todo:
        by = (by_query.get((query, watch.tz)) for query in watch.explained_by)
        joined = {w.name: w for mine in (watch, *by) if mine for w in (*groups.get(mine.name, ()), mine)}
        groups.update(dict.fromkeys(joined, tuple(joined.values())))
    return list(dict.fromkeys(groups.values()))


def known_until(engine: Engine | None, group: Iterable[Watch]) -> Instant | None:
    """When all of a group were last ticked, if the history of each was learned."""
    until = [engine.known_until(watch) if engine else None for watch in group]
    return None if None in until else until[0]
