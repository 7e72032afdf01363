"""The last two hours of what has a place in the topology, a row a minute, and what is usual for it.

What may explain an alert is kept beside the engines and not in them: a diagnosis needs level, scale and the window of
some series at the moment of an alert, and only of those whose service is known. What is usual is worked out in turns,
so many series a minute, in a thread of its own. What fills up slowly (pools, memory, disks) is held against its last
day instead: two hours would take a slow leak for the usual.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from threading import Lock

import numpy as np

from sidecar.signals.ingest import series
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.ingest.ports import Source
from sidecar.signals.ingest.slots import Slots, moved
from sidecar.signals.ingest.topology import Map, Place, Places, place
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.scene.usual import Usual, usual
from sidecar.signals.watch.kinds import guess_unit, guess_way
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, STOCKS, Candidates, Instant, PromantisError, spoken

log = logging.getLogger(__name__)

MINUTE, QUARTER = 60.0, 900.0
SLOTS = 152  # rows: two hours that teach, and the longest window before them
DAY = 96  # rows of a day
ENOUGH = 24  # of them, without which the last two hours must do
WINDOW, LONGEST = 600.0, 1800.0
"""Seconds before now that teach nothing, they may be bad; more where a rule waits for longer, up to the second."""
TURN, ROUNDS = 1000, 8
"""Series whose usual is worked out at once, and minutes until it was for all."""
MOST = 10_000  # series of one engine that are kept: 20 MB
ODD = 1.0  # a sample that scores as much teaches nothing
Id = tuple[str, bytes]
"""Watch and key of a series."""


class Ring:
    """One engine's."""

    def __init__(self, step: float) -> None:
        self.lock = Lock()
        """Held by who writes, and by who reads more than one thing."""
        self.suspects: Callable[[], Mapping[str, float]] = dict
        """Services and machines that are part of what is going on, since when."""
        self.near, self.day = Slots(max(MINUTE, step), SLOTS), Slots(max(QUARTER, step), DAY)
        self.ids: list[Id] = []
        self.column: dict[Id, int] = {}
        """Where each of `ids` is."""
        self.places: list[Place] = []
        self.names: list[str] = []
        self.rough: list[bool] = []
        self.units: list[str] = []
        self.ways: I64 = np.empty(0, np.int64)
        self.queries: list[str] = []
        self.floors: F64 = np.zeros(0)
        self.known = Usual(*(np.full(0, np.nan) for _ in Usual._fields))
        self.now: F64 = np.zeros(0)
        self.latest = -np.inf
        self._rows: I64 = np.empty(0, np.int64)
        self._places = Places()
        self._turn = 0
        self._window = WINDOW

    def follow(self, snapshot: Snapshot) -> list[str]:
        """Take a snapshot; the watches that are new here."""
        places = self._places
        if snapshot.keys is not places.keys or snapshot.watches is not places.watches:
            # it reads labels, which takes a while of many: nobody waits for that
            places = places.now(snapshot.watches, snapshot.watch_of, snapshot.keys, MOST)
        suspects = self.suspects()  # before the lock: who knows them holds one too, and reads rings
        with self.lock:
            new = [] if places is self._places else self._select(snapshot, places)
            self._take(snapshot, suspects)
        return new

    def _take(self, snapshot: Snapshot, suspects: Mapping[str, float]) -> None:
        self.now = np.asarray(snapshot.columns["observed"][self._rows], np.float64)
        self.latest = snapshot.at
        usually = ~(snapshot.columns["score"][self._rows] >= ODD)  # NaN is not odd
        self.day.put(snapshot.at, self.now, usually)
        if self.near.put(snapshot.at, self.now, usually):
            self._doubt(suspects)
            self._refresh()

    def _doubt(self, suspects: Mapping[str, float]) -> None:
        """Let nothing teach that is part of what is going on, from some minutes before its first alert on."""
        for i, (entity, _) in enumerate(self.places) if suspects else ():
            since = [suspects[one] for one in entity.split("->") if one in suspects]
            if since:
                self.near.trusted[self.near.at >= min(since) - WINDOW, i] = False
                self.day.trusted[self.day.at >= min(since) - WINDOW, i] = False

    def fill(self, watch: str, past: Matrix, day: Matrix | None) -> None:
        """Take the past of a watch, where nothing is kept of it yet."""
        with self.lock:
            self._fill(watch, past, day)

    def _fill(self, watch: str, past: Matrix, day: Matrix | None) -> None:
        column = self.column
        for slots, matrix in ((self.near, past), (self.day, day)):
            pairs = (
                [(column[watch, key], j) for j, key in enumerate(matrix.keys) if (watch, key) in column]
                if matrix
                else []
            )
            if matrix and pairs:
                mine, theirs = np.array(pairs, np.int64).T
                slots.fill(mine, matrix, theirs, self.latest)
        self._learn(np.array([i for (name, _), i in column.items() if name == watch], np.int64))

    def _select(self, snapshot: Snapshot, places: Places) -> list[str]:
        self._places, found = places, places.found
        rows = [row for row, one in enumerate(found) if one is not None]
        # a mean before a quantile: the first series of a kind is the one whose excess adds up along calls
        rows.sort(key=lambda row: (rough(snapshot.watches[snapshot.watch_of[row]]), row))
        before = self.column
        there = {watch for watch, _ in self.ids}
        ids = [(snapshot.watch_of[row], snapshot.keys[row] or b"") for row in rows]
        was = np.array([before.get(id, -1) for id in ids], np.int64)
        self.near.move(was)
        self.day.move(was)
        self.known = Usual(*(moved(column, was, np.nan) for column in self.known))
        self.floors = np.array([snapshot.watches[watch].min_deviation for watch, _ in ids])
        holds = [limit.hold for watch in snapshot.watches.values() for limit in watch.limits]
        self._window = min(max(WINDOW, max(holds, default=0.0) + 2 * MINUTE), LONGEST)
        self.column = {id: i for i, id in enumerate(ids)}
        self.ids, self.places = ids, [one for row in rows if (one := found[row]) is not None]
        self.names = [named(snapshot.watches[watch]) for watch, _ in ids]
        self.rough = [rough(snapshot.watches[watch]) for watch, _ in ids]
        self.units = [unit(snapshot.watches[watch]) for watch, _ in ids]
        self.queries = [snapshot.watches[watch].query for watch, _ in ids]
        self.ways = np.array([way(snapshot.watches[watch]) for watch, _ in ids], np.int64)
        self._rows = np.array(rows, np.int64)
        return sorted({watch for watch, _ in ids} - there)

    def _refresh(self) -> None:
        """What is usual for the next so many series, whole watches at a time."""
        turns = min(max(1, -(-len(self.ids) // TURN)), ROUNDS)
        names = sorted({watch for watch, _ in self.ids})
        mine = set(names[self._turn % turns :: turns])
        self._turn += 1
        self._learn(np.array([i for i, (watch, _) in enumerate(self.ids) if watch in mine], np.int64))

    def _learn(self, columns: I64) -> None:
        if not len(columns):
            return
        kinds = [self.places[i].kind for i in columns.tolist()]
        groups = [self.ids[i][0] for i in columns.tolist()]
        near = self.near.past(columns, self.latest, self._window)
        day = self.day.past(columns, self.latest, self._window)
        for kept, fresh in zip(
            self.known,
            usually(near, day, kinds, groups, self.floors[columns], self.ways[columns]),
            strict=True,
        ):
            kept[columns] = fresh

    def window(self, since: float) -> tuple[F64, F64]:
        """Times and values f64[times, n] of what came since (at least two samples), with the newest one of all."""
        at, values = self.near.since(min(since, self.latest - 2 * self.near.stride - MINUTE), self.latest)
        if len(at) and self.latest - at[-1] > 1:
            at, values = np.append(at, self.latest), np.vstack([values, self.now])
        return at, values


def usually(
    near: F64, day: F64, kinds: Sequence[str], groups: Sequence[str], floors: F64, ways: I64
) -> Usual:
    """What is usual by the last two hours; of what fills up slowly by the last day, where that is known."""
    out = usual(near, kinds, groups, floors, ways)
    stocks = np.flatnonzero([kind in STOCKS for kind in kinds])
    slow = stocks[np.isfinite(day[:, stocks]).sum(0) >= ENOUGH] if len(day) else stocks[:0]
    if len(slow):
        of = [kinds[i] for i in slow], [groups[i] for i in slow], floors[slow], ways[slow]
        by_day = usual(day[:, slow], *of)
        for column, fresh in zip(out, by_day._replace(just=by_day.level), strict=True):  # slow is not new
            column[slow] = fresh
    return out


class Recent:
    """The rings of all engines. `run()` until cancelled."""

    def __init__(self, source: Source, topology: Callable[[], Map]) -> None:
        self._source, self._topology = source, topology
        self.rings: dict[float, Ring] = {}
        self.suspects: Callable[[], Mapping[str, float]] = dict
        """Services and machines that are part of what is going on, since when."""
        self._newest: dict[float, Snapshot] = {}
        self._news = asyncio.Event()
        self._unfilled: asyncio.Queue[tuple[Ring, Watch]] = asyncio.Queue()

    def ticked(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of an engine; called in the event loop."""
        self._newest[snapshot.step] = snapshot
        self._news.set()

    async def run(self) -> None:
        """Keep what comes, and ask for the past of what is new."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_filling())
            while True:
                await self._news.wait()
                self._news.clear()
                newest, self._newest = self._newest, {}
                for step, snapshot in newest.items():
                    ring = self.rings.setdefault(step, Ring(step))
                    ring.suspects = self.suspects
                    for name in await asyncio.to_thread(ring.follow, snapshot):
                        self._unfilled.put_nowait((ring, snapshot.watches[name]))

    async def _keep_filling(self) -> None:
        while True:
            ring, watch = await self._unfilled.get()
            try:
                past = await self._range(ring.near, watch, ring.latest)
                day = await self._range(ring.day, watch, ring.latest) if watch.kind in STOCKS else None
            except PromantisError as error:
                log.warning("the last hours of watch %s are not known to a diagnosis: %s", watch.name, error)
                continue
            await asyncio.to_thread(ring.fill, watch.name, past, day)

    async def _range(self, slots: Slots, watch: Watch, now: float) -> Matrix:
        end = now // slots.stride * slots.stride
        start = end - (slots.count - 1) * slots.stride
        return await self._source.range(watch.query, Instant(start), Instant(end), slots.stride)

    def past(self, watch: str, key: bytes) -> tuple[F64, F64] | None:
        """Times and values of the last two hours of a series, the newest last; None where nothing is kept of it."""
        for ring in list(self.rings.values()):
            with ring.lock:
                if (column := ring.column.get((watch, key))) is not None:
                    at, values = ring.near.until(ring.latest)(column)
                    return np.append(at, ring.latest), np.append(values, ring.now[column])
        return None

    def candidates(self, since: float) -> Candidates:
        """All that may explain an alert, with what came since then."""
        rings = list(self.rings.values())
        with ExitStack() as stack:
            for ring in rings:
                stack.enter_context(ring.lock)
            return self._candidates(rings, since)

    def _candidates(self, rings: Sequence[Ring], since: float) -> Candidates:
        topology = self._topology()
        parts = [(ring, *ring.window(since)) for ring in rings]
        at, values = _joined([found for _, *found in parts])
        begin = float(at[0]) if len(at) else since
        known = _by_column([ring.known for ring in rings])
        ids = [id for ring in rings for id in ring.ids]
        places = [place for ring in rings for place in ring.places]
        names = [name for ring in rings for name in ring.names]
        units = [unit for ring in rings for unit in ring.units]
        ways = [way for ring in rings for way in ring.ways.tolist()]
        queries = [query for ring in rings for query in ring.queries]
        order = sorted(range(len(ids)), key=[bad for ring in rings for bad in ring.rough].__getitem__)
        pasts = [
            (past, i) for ring in rings for past in [ring.near.until(begin)] for i in range(len(ring.ids))
        ]

        def before(row: int) -> tuple[F64, F64]:
            past, column = pasts[order[row]]
            return past(column)

        return Candidates(
            [places[i].entity for i in order],
            [places[i].kind for i in order],
            [names[i] for i in order],
            known.level[order],
            known.scale[order],
            known.usual[order],
            known.just[order],
            at,
            values[:, order],
            topology.calls,
            topology.outside,
            topology.hosts,
            [ids[i] for i in order],
            before,
            [units[i] for i in order],
            [ways[i] for i in order],
            [queries[i] for i in order],
        )


def _by_column(known: Sequence[Usual]) -> Usual:
    return Usual(
        *(np.concatenate([np.empty(0), *(getattr(one, name) for one in known)]) for name in Usual._fields)
    )


def _joined(parts: Sequence[Sequence[F64]]) -> tuple[F64, F64]:
    """Columns with times of their own, side by side on all those times."""
    at = np.unique(np.concatenate([np.empty(0), *(times for times, _ in parts)]))
    out = [np.empty((len(at), 0))]
    for times, values in parts:
        column = np.full((len(at), values.shape[1]), np.nan)
        column[np.searchsorted(at, times)] = values
        out.append(column)
    return at, np.hstack(out)


async def then(
    source: Source, watches: Mapping[str, Watch], at: float, look: float, topology: Map
) -> Candidates:
    """The same as it was at an instant that has passed, asked of Prometheus."""
    end = Instant(at // MINUTE * MINUTE)
    told = [watch for watch in watches.values() if watch.told]
    told.sort(key=lambda watch: (rough(watch), watch.name))
    found: list[_Past] = []
    for watch in told:
        past = await source.range(watch.query, Instant(end - (SLOTS - 1) * MINUTE), end, MINUTE)
        day = None
        if watch.kind in STOCKS:
            day = await source.range(watch.query, Instant(end - (DAY - 1) * QUARTER), end, QUARTER)
        # in a thread, as below: of many series it takes a while, for which no alert must wait
        found += await asyncio.to_thread(_placed, watch, past, day)
    return await asyncio.to_thread(_then, found, end, at, look, topology)


_Past = tuple[Watch, bytes, Place, F64, F64]
"""A series that has a place: its last hours and its last day."""


def _placed(watch: Watch, past: Matrix, day: Matrix | None) -> list[_Past]:
    days: dict[bytes, F64] = dict(zip(day.keys, day.values.T, strict=True)) if day else {}
    return [
        (watch, key, where, column, days.get(key, np.full(DAY, np.nan)))
        for key, column in zip(past.keys, past.values.T, strict=True)
        if (where := place(watch, dict(series.labels(key)))) is not None
    ]


def _then(found: Sequence[_Past], end: float, at: float, look: float, topology: Map) -> Candidates:
    near: F64 = end - MINUTE * np.arange(SLOTS - 1, -1, -1, dtype=np.float64)
    long: F64 = end - QUARTER * np.arange(DAY - 1, -1, -1, dtype=np.float64)
    empty = np.empty((0, 0))
    values = np.stack([column for *_, column, _ in found], 1) if found else np.empty((SLOTS, 0))
    day_values = np.stack([column for *_, column in found], 1) if found else empty
    kinds = [where.kind for _, _, where, _, _ in found]
    groups = [watch.name for watch, *_ in found]
    floors = np.array([watch.min_deviation for watch, *_ in found])
    ways = np.array([way(watch) for watch, *_ in found], np.int64)
    day = day_values[long < at - WINDOW] if found else empty
    known = usually(values[near < at - WINDOW], day, kinds, groups, floors, ways)
    during = near >= at - look
    return Candidates(
        [where.entity for _, _, where, _, _ in found],
        kinds,
        [named(watch) for watch, *_ in found],
        known.level,
        known.scale,
        known.usual,
        known.just,
        near[during],
        values[during],
        topology.calls,
        topology.outside,
        topology.hosts,
        [(watch.name, key) for watch, key, *_ in found],
        lambda row: (near[~during], values[~during, row]),
        [unit(watch) for watch, *_ in found],
        ways.tolist(),
        [watch.query for watch, *_ in found],
    )


def rough(watch: Watch) -> bool:
    """Whether its excess does not add up along calls, as that of a quantile does not."""
    return "quantile" in watch.query


def unit(watch: Watch) -> str:
    """What its values count."""
    return guess_unit(watch.name, watch.query, watch.kind)


def way(watch: Watch) -> int:
    """Which way of it does harm."""
    return guess_way(watch.query, watch.kind, watch.direction)


def named(watch: Watch) -> str:
    """What a watch is called in a sentence."""
    return spoken(watch.query, watch.name)
