"""The last two hours of what has a place in the topology, a row a minute, and what is usual for it.

What may explain an alert is kept beside the engines and not in them: a diagnosis needs level, scale and the window of
some series at the moment of an alert, and only of those whose service is known. What is usual is worked out in turns,
so many series a minute, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from sidecar.signals.frame import Matrix
from sidecar.signals.ports import Source
from sidecar.signals.snapshot import Snapshot
from sidecar.signals.topology import Map, Place, place, places
from sidecar.signals.usual import Usual, usual
from sidecar.signals.watches import Watch
from sidecar.types import F32, F64, I64, Bools, Candidates, Instant, PromantisError

log = logging.getLogger(__name__)

MINUTE = 60.0
SLOTS = 136  # rows: two hours that teach, and a window before them
WINDOW = 600.0  # seconds before now that teach nothing: they may be bad
TURN = 2000  # series whose usual is worked out at once
MOST = 20_000  # series of one engine that are kept: 14 MB
SHORT = 60  # characters of a query that fit into a sentence
ODD = 1.0  # a sample that scores as much teaches nothing
Id = tuple[str, bytes]
"""Watch and key of a series."""


class Ring:
    """One engine's."""

    def __init__(self, step: float) -> None:
        self.stride = max(MINUTE, step)
        self.at: F64 = np.full(SLOTS, -np.inf)
        self.ids: list[Id] = []
        self.places: list[Place] = []
        self.names: list[str] = []
        self.floors: F64 = np.zeros(0)
        self.values: F32 = np.zeros((SLOTS, 0), np.float32)
        self.trusted: Bools = np.zeros((SLOTS, 0), np.bool_)
        self.known = Usual(*(np.full(0, np.nan) for _ in Usual._fields))
        self.now: F64 = np.zeros(0)
        self.latest = -np.inf
        self._rows: I64 = np.empty(0, np.int64)
        self._view: object = None
        self._turn = 0

    def follow(self, snapshot: Snapshot) -> list[str]:
        """Take a snapshot; the watches whose series are new here."""
        new = [] if snapshot.keys is self._view else self._select(snapshot)
        self.now = np.asarray(snapshot.columns["observed"][self._rows], np.float64)
        self.latest = snapshot.at
        slot = self.slot(snapshot.at)
        start = snapshot.at // self.stride * self.stride
        if self.at[slot] != start:
            self.at[slot] = start
            self.values[slot] = self.now
            odd = snapshot.columns["score"][self._rows] >= ODD  # NaN is not odd
            self.trusted[slot] = ~odd
            self._refresh(snapshot.at)
        return new

    def slot(self, at: float) -> int:
        """Where a time is kept."""
        return int(at // self.stride) % SLOTS

    def fill(self, watch: str, matrix: Matrix) -> None:
        """Take the past of a watch, where nothing is kept of it yet."""
        column = {id: i for i, id in enumerate(self.ids)}
        pairs = [(j, column[watch, key]) for j, key in enumerate(matrix.keys) if (watch, key) in column]
        if not pairs:
            return
        theirs, mine = np.array(pairs).T
        for i, at in enumerate(matrix.at.tolist()):
            slot, start = self.slot(at), at // self.stride * self.stride
            if start > self.latest - SLOTS * self.stride and self.at[slot] < start:
                self.at[slot], self.values[slot], self.trusted[slot] = start, np.nan, False
            if self.at[slot] == start:
                empty = mine[np.isnan(self.values[slot, mine])]
                self.trusted[slot, empty] = True
                self.values[slot, mine] = np.where(
                    np.isnan(self.values[slot, mine]), matrix.values[i, theirs], self.values[slot, mine]
                )
        self._learn(np.unique(mine), self.latest)

    def _select(self, snapshot: Snapshot) -> list[str]:
        self._view = snapshot.keys
        found = places(snapshot.watches, snapshot.watch_of, snapshot.keys)
        rows = [row for row, one in enumerate(found) if one is not None][:MOST]
        # a mean before a quantile: the first series of a kind is the one whose excess adds up along calls
        rows.sort(key=lambda row: ("quantile" in snapshot.watches[snapshot.watch_of[row]].query, row))
        before = {id: i for i, id in enumerate(self.ids)}
        ids = [(snapshot.watch_of[row], snapshot.keys[row] or b"") for row in rows]
        was = np.array([before.get(id, -1) for id in ids], np.int64)
        self.values, self.trusted = _moved(self.values, was, np.nan), _moved(self.trusted, was, False)
        self.known = Usual(*(_moved(column, was, np.nan) for column in self.known))
        self.floors = np.array([snapshot.watches[watch].min_deviation for watch, _ in ids])
        self.ids, self.places = ids, [one for row in rows if (one := found[row]) is not None]
        self.names = [named(snapshot.watches[watch]) for watch, _ in ids]
        self._rows = np.array(rows, np.int64)
        return sorted({watch for (watch, _), old in zip(ids, was.tolist(), strict=True) if old < 0})

    def _refresh(self, now: float) -> None:
        """What is usual for the next so many series, whole watches at a time."""
        if not self.ids:
            return
        turns = max(1, -(-len(self.ids) // TURN))
        names = sorted({watch for watch, _ in self.ids})
        mine = set(names[self._turn % turns :: turns])
        self._turn += 1
        self._learn(np.array([i for i, (watch, _) in enumerate(self.ids) if watch in mine], np.int64), now)

    def _learn(self, columns: I64, now: float) -> None:
        order = np.argsort(self.at)
        order = order[(self.at[order] < now - WINDOW) & (self.at[order] > now - SLOTS * self.stride)]
        past = np.where(self.trusted[np.ix_(order, columns)], self.values[np.ix_(order, columns)], np.nan)
        kinds = [self.places[i].kind for i in columns.tolist()]
        groups = [self.ids[i][0] for i in columns.tolist()]
        for kept, fresh in zip(
            self.known, usual(past.astype(np.float64), kinds, groups, self.floors[columns]), strict=True
        ):
            kept[columns] = fresh

    def window(self, since: float) -> tuple[F64, F64]:
        """Times and values f64[times, n] of what came since, with the newest sample of all."""
        order = np.argsort(self.at)
        order = order[(self.at[order] >= since) & (self.at[order] <= self.latest)]
        at, values = self.at[order], self.values[order].astype(np.float64)
        if len(at) and self.latest - at[-1] > 1:
            at, values = np.append(at, self.latest), np.vstack([values, self.now])
        return at, values


def _moved(old: np.ndarray, source: I64, empty: object) -> np.ndarray:
    """The last axis taken from where it was (-1: it was not)."""
    new = np.full((*old.shape[:-1], len(source)), empty, old.dtype)
    new[..., source >= 0] = old[..., source[source >= 0]]
    return new


class Recent:
    """The rings of all engines. `run()` until cancelled."""

    def __init__(self, source: Source, topology: Callable[[], Map]) -> None:
        self._source, self._topology = source, topology
        self.rings: dict[float, Ring] = {}
        self._newest: dict[float, Snapshot] = {}
        self._news = asyncio.Event()

    def ticked(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of an engine; called in the event loop."""
        self._newest[snapshot.step] = snapshot
        self._news.set()

    async def run(self) -> None:
        """Keep what comes, and ask for the past of what is new."""
        while True:
            await self._news.wait()
            self._news.clear()
            newest, self._newest = self._newest, {}
            for step, snapshot in newest.items():
                ring = self.rings.setdefault(step, Ring(step))
                for name in await asyncio.to_thread(ring.follow, snapshot):
                    await self._fill(ring, name, snapshot)

    async def _fill(self, ring: Ring, name: str, snapshot: Snapshot) -> None:
        watch = snapshot.watches.get(name)
        if watch is None:
            return
        end = Instant(snapshot.at // ring.stride * ring.stride)
        start = Instant(end - (SLOTS - 1) * ring.stride)
        try:
            past = await self._source.range(watch.query, start, end, ring.stride)
        except PromantisError as error:
            log.warning("the last hours of watch %s are not known to a diagnosis: %s", name, error)
        else:
            await asyncio.to_thread(ring.fill, name, past)

    def candidates(self, since: float) -> Candidates:
        """All that may explain an alert, with what came since then."""
        topology = self._topology()
        parts = [(ring, *ring.window(since)) for ring in list(self.rings.values())]
        at = np.unique(np.concatenate([times for _, times, _ in parts])) if parts else np.empty(0)
        values = [_aligned(at, times, found) for _, times, found in parts]
        known = [
            np.concatenate([column, *more])
            for column, *more in _by_column([ring.known for ring, _, _ in parts])
        ]
        return Candidates(
            [one.entity for ring, _, _ in parts for one in ring.places],
            [one.kind for ring, _, _ in parts for one in ring.places],
            [name for ring, _, _ in parts for name in ring.names],
            known[0],
            known[1],
            known[2],
            known[3],
            at,
            np.hstack([np.empty((len(at), 0)), *values]),
            topology.calls,
            topology.outside,
            topology.hosts,
            [id for ring, _, _ in parts for id in ring.ids],
        )


def _by_column(known: Sequence[Usual]) -> list[list[F64]]:
    return [[np.empty(0), *(getattr(one, name) for one in known)] for name in Usual._fields]


def _aligned(at: F64, times: F64, values: F64) -> F64:
    out = np.full((len(at), values.shape[1]), np.nan)
    out[np.searchsorted(at, times)] = values
    return out


async def then(
    source: Source, watches: Mapping[str, Watch], at: float, look: float, topology: Map
) -> Candidates:
    """The same as it was at an instant that has passed, asked of Prometheus: two hours before it, a row a minute."""
    entities, kinds, names, floors = list[str](), list[str](), list[str](), list[float]()
    ids: list[Id] = []
    columns: list[F64] = []
    end = at // MINUTE * MINUTE
    times: F64 = end - MINUTE * np.arange(SLOTS - 1, -1, -1, dtype=np.float64)
    ordered = sorted(watches.values(), key=lambda watch: ("quantile" in watch.query, watch.name))
    for watch in ordered:
        if not watch.told:
            continue
        found = await source.range(watch.query, Instant(times[0]), Instant(end), MINUTE)
        for key, column in zip(found.keys, found.values.T, strict=True):
            where = place(watch, dict(msgspec.json.decode(key, type=dict[str, str])))
            if where is not None and len(column) == len(times):
                entities.append(where.entity)
                kinds.append(where.kind)
                names.append(named(watch))
                ids.append((watch.name, key))
                floors.append(watch.min_deviation)
                columns.append(column)
    values: F64 = np.stack(columns, 1) if columns else np.empty((SLOTS, 0))
    during = times >= at - look
    past = times < at - look
    groups = [watch for watch, _ in ids]
    known = usual(values[past], kinds, groups, np.array(floors))
    return Candidates(
        entities,
        kinds,
        names,
        known.level,
        known.scale,
        known.usual,
        known.just,
        times[during],
        values[during],
        topology.calls,
        topology.outside,
        topology.hosts,
        ids,
    )


def named(watch: Watch) -> str:
    """What a watch is called in a sentence."""
    query = " ".join(watch.query.split())
    return query if len(query) <= SHORT else watch.name
