"""Which series lives in which row: admit, configure, age, free; history moves in and out through nurseries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sidecar.signals.breach.crossings import Crossings
from sidecar.signals.detect import heirs
from sidecar.signals.detect.accept import accept
from sidecar.signals.detect.belief import NONE, Beliefs
from sidecar.signals.detect.block import WARM, Block
from sidecar.signals.detect.explained import Explained
from sidecar.signals.detect.scales import BOUND
from sidecar.signals.forecast.guestbook import Party, Stay
from sidecar.signals.forecast.guests import Guests, Seated
from sidecar.signals.ingest import series
from sidecar.signals.ingest.changes import Change, concerned
from sidecar.signals.ingest.stays import Stays
from sidecar.signals.known.ledger import Ledger
from sidecar.signals.known.record import Record
from sidecar.signals.models import Array
from sidecar.signals.models.ridge import Pool
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, Bools, Instant

# rows of a block: many for numpy's cost per call, few for the processor's cache
LARGEST, SMALLEST = 20480, 64
SPARE = 8192  # rows at most that wait for more series, when they come by and by


class Rows:
    """The rows of one engine, in blocks, and the watches whose series live there."""

    def __init__(self, step: float, per_instance: tuple[str, ...] = series.PER_INSTANCE) -> None:
        """`per_instance`: labels that tell copies of one workload apart."""
        self.step, self.per_instance = step, per_instance
        self.table = series.Table()
        self.blocks: list[Block] = []
        self.pool, self.crossings = Pool(), Crossings(step)
        self.ledger, self.record = Ledger(step), Record()
        self.plain = True
        """Whether what has no skill is forecast naively, and not announced."""
        self.peers: list[Ledger] = []
        """Ledgers of what others say, which follow the same limit table."""
        self.explained = Explained(step, per_instance)
        self.guests = Guests(step)
        self.watches: dict[str, Watch] = {}
        self.beliefs: Beliefs = NONE
        self.at = Instant(0.0)
        """Of the last tick."""
        self.learned: set[str] = set()  # watches whose history was
        self.taught = 0.0  # until when history was learned, for who is saved before the first tick
        self.stays = Stays(0)
        self.asleep: Bools = np.zeros(0, bool)
        """Rows that are kept in case their series comes back."""

    @property
    def living(self) -> int:
        """How many series are watched: those that are asleep are not."""
        return len(self.table) - int(self.asleep.sum())

    def watch(self, watches: Mapping[str, Watch]) -> None:
        """Take a new set of watches; rows of those that are gone are freed."""
        for name in self.table.watches():
            if name not in watches or watches[name].identity != self.watches[name].identity:
                self.forget(self.table.drop_watch(name))
                self.learned.discard(name)
        self.guests.keep(
            lambda who: who[0] in watches and watches[who[0]].identity == self.watches[who[0]].identity
        )
        self.watches = dict(watches)
        for name in self.table.watches():
            self._configure(watches[name], self.table.rows(name))

    def believe(self, beliefs: Beliefs) -> None:
        """Move confidence by what feedback has shown, from the next tick on."""
        self.beliefs = beliefs
        for name in self.table.watches():
            self._configure(self.watches[name], self.table.rows(name))

    def accept(self, watch: str, keys: list[bytes]) -> None:
        """Take what these series are now for their new normal."""
        rows = self.table.find(watch, keys)
        for lo, hi, block in self.spans():
            accept(block, self.at, rows[(rows >= lo) & (rows < hi)] - lo)
        self.explained.accept(self.at, watch, keys)

    def invite(self, parties: Sequence[Party], stay: Stay) -> Seated:
        """Seat fitted models beside the experts of their series, and send away those of series that need none."""
        self.guests.invite(party for party in parties if party.who[0] in self.watches)
        self.guests.keep(lambda who: stay(*who))
        return self.guests.seated(self.at)

    def deployed(self, changes: Sequence[Change], at: float) -> None:
        """Note that workloads were deployed."""
        rows = [
            row
            for row, (key, watch) in enumerate(zip(self.table.keys, self.table.watch_of, strict=True))
            if key is not None and any(concerned(change, watch, key) for change in changes)
        ]
        for lo, hi, block in self.spans():
            block.life.changed[[row - lo for row in rows if lo <= row < hi]] = at
        self.explained.deployed(rows, at)

    @property
    def capacity(self) -> int:
        """Rows that there are, free ones too."""
        return sum(block.rows for block in self.blocks)

    def spans(self) -> Iterator[tuple[int, int, Block]]:
        """First row, end and models of each block."""
        lo = 0
        for block in self.blocks:
            yield lo, lo + block.rows, block
            lo += block.rows

    def missed(self, at: float) -> np.float32:
        """Ticks that never were since the last one, after a pause or a change of the clock."""
        return np.float32(max(0, round(abs(at - self.at) / self.step) - 1 if self.at else 0))

    def admit(self, watch: str, rows: list[int], at: float) -> None:
        """Make room for rows that the table has just given to series of a watch."""
        need = len(self.table.keys)
        while self.capacity < need:
            # few blocks, and few rows that nobody needs
            missing = max(need - self.capacity, min(self.capacity // 4, SPARE))
            size = min(math.ceil(missing / SMALLEST) * SMALLEST, LARGEST)
            self.blocks.append(Block(size, self.step, self.watches[watch].tz, self.pool))
            self._grow()
        self.table.capacity = self.capacity
        added = np.array(rows)
        self._configure(self.watches[watch], added)
        if self.at:  # those of the very first tick succeed nobody
            self.stays.born[added], self.stays.waiting[added] = at, 0
            self._tell_workloads(watch)

    def _grow(self) -> None:
        self.stays.grow(self.capacity)
        self.asleep = np.concatenate([self.asleep, np.zeros(self.capacity - len(self.asleep), bool)])

    def _tell_workloads(self, watch: str) -> None:
        """Work out what has not been: only watches to which series come need it."""
        mine = self.table.rows(watch)
        for row in mine[self.stays.workload[mine] == 0].tolist():
            key = self.table.keys[row]
            if key is not None:
                self.stays.workload[row] = hash((watch, series.workload(key, self.per_instance))) or 1

    def _configure(self, watch: Watch, rows: I64) -> None:
        self.stays.configure(watch, rows)
        belief = self.beliefs.of(watch.name, watch.kind)
        for lo, hi, block in self.spans():
            block.life.configure(watch, rows[(rows >= lo) & (rows < hi)] - lo, belief)

    def forget(self, rows: Sequence[int]) -> None:
        """Make rows fresh that the table has freed."""
        gone = np.array(rows, np.int64)
        for lo, hi, block in self.spans():
            block.forget(gone[(gone >= lo) & (gone < hi)] - lo)
        self.stays.forget(gone)
        self.asleep[gone] = False

    def see(self, at: float, answered: Bools, here: Bools) -> list[int]:
        """Note who is there, and forget those whose past is not kept any longer; the rows that are free now."""
        self.stays.see(at, answered, here, self.step)
        self.asleep = self.stays.asleep()
        if not self.asleep.any():
            return []
        known = (self.each("life", "age") >= 1) | (self.each("rare", "begun").max(0) >= 0.5)
        free: list[int] = self.stays.ended(self.asleep, known, self.living).tolist()
        if free:
            self.table.drop(free)
            self.forget(free)
        return free

    def bequeath(self, at: float, values: F64) -> None:
        """Let new series take over what their workload's others know, if their values f64[rows] fit."""
        waiting = self.stays.waiting
        if not (waiting >= 0).any():
            return
        new = np.flatnonzero(np.isin(waiting, heirs.LOOKS) & (np.abs(values) < BOUND))
        if len(new):
            known = np.where(self.each("life", "seen") >= WARM, self.each("life", "age"), 0)
            look = np.searchsorted(heirs.LOOKS, waiting[new])
            givers = heirs.donors(self.stays.workload, self.stays.gone, known, new, look)
            some = givers >= 0
            taken = heirs.inherit(list(self.spans()), at, new[some], givers[some], values)
            waiting[taken] = -1
        waiting[waiting >= 0] += 1
        waiting[waiting > heirs.LOOKS[-1]] = -1

    def each(self, model: str, field: str) -> Array:
        """One field of a model, of all rows."""
        return np.concatenate([getattr(block.models[model], field) for block in self.blocks], axis=-1)

    # ------------------------------------------------------------------ history

    def adopt(
        self, at: Instant, watch: str, keys: list[bytes], nursery: Block, first: int, room: int
    ) -> None:
        """Give the series of nursery rows from `first` on their rows here."""
        if watch not in self.watches:
            return
        self.taught = at
        found = self.table.place(watch, keys, room, self.watches[watch].tz)
        if found.new:
            self.admit(watch, found.new, at)
        for lo, hi, block in self.spans():
            mine = np.flatnonzero((found.rows >= lo) & (found.rows < hi))
            if len(mine):
                block.copy_rows(found.rows[mine] - lo, nursery, mine + first)
                block.level.missed[found.rows[mine] - lo] -= self.missed(at)  # they know of these ticks
        self.stays.waiting[found.rows[found.rows >= 0]] = -1  # they know better
        self._configure(self.watches[watch], found.rows[found.rows >= 0])
        self.learned.add(watch)

    def lend(self, watch: str, keys: list[bytes], nursery: Block, first: int) -> None:
        """The other way round: what is known of these series goes to nursery rows from `first` on."""
        rows = self.table.find(watch, keys)
        for lo, hi, block in self.spans():
            mine = np.flatnonzero((rows >= lo) & (rows < hi))
            if len(mine):
                nursery.copy_rows(mine + first, block, rows[mine] - lo)

    def known_until(self, watch: Watch) -> Instant | None:
        """When the watch was last ticked, if its history was learned: then only what came since has to be."""
        mine = self.watches.get(watch.name)
        known = mine is not None and mine.identity == watch.identity and watch.name in self.learned
        return self.at if known and self.at else None
