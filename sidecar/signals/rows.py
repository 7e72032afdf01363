"""Which series lives in which row: admit, configure, age, free; history moves in and out through nurseries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sidecar.signals import series
from sidecar.signals.accept import accept
from sidecar.signals.belief import NONE, Beliefs
from sidecar.signals.block import Block
from sidecar.signals.models.rare import ABSENT
from sidecar.signals.watches import Watch
from sidecar.types import I64, Instant, Labels

LARGEST, SMALLEST = (
    10240,
    64,
)  # rows of a block: many for numpy's cost per call, few for the processor's cache
FORGET_AFTER = 3600.0  # seconds without a sample until a row is given to others
FORGET_ZERO = 86400.0  # the same where absent means zero


class Rows:
    """The rows of one engine, in blocks, and the watches whose series live there."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.table = series.Table()
        self.blocks: list[Block] = []
        self.watches: dict[str, Watch] = {}
        self.beliefs: Beliefs = NONE
        self.at = Instant(0.0)
        """Of the last tick."""
        self.learned: set[str] = set()  # watches whose history was
        self.taught = 0.0  # until when history was learned, for who is saved before the first tick
        self._zeroed: dict[str, dict[int, float]] = {}
        """Of watches whose absence means zero: rows that are absent, and since when."""
        self._workloads: dict[tuple[str, Labels], tuple[float, int]] = {}
        """When the newest series of each workload came, and its row."""

    def watch(self, watches: Mapping[str, Watch]) -> None:
        """Take a new set of watches; rows of those that are gone are freed."""
        for name in self.table.watches():
            if name not in watches or watches[name].identity != self.watches[name].identity:
                self.forget(self.table.drop_watch(name))
                self.learned.discard(name)
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
            missing = max(need - self.capacity, self.capacity // 4)
            size = min(math.ceil(missing / SMALLEST) * SMALLEST, LARGEST)
            self.blocks.append(Block(size, self.step, self.watches[watch].tz))
        self.table.capacity = self.capacity
        self._configure(self.watches[watch], np.array(rows))
        for row in rows:
            key = self.table.keys[row]
            if key is not None and self.at:  # those of the very first tick succeed nobody
                self._workloads[(watch, series.workload(key))] = at, row

    def _configure(self, watch: Watch, rows: I64) -> None:
        low, high = watch.bounds
        for lo, hi, block in self.spans():
            mine = rows[(rows >= lo) & (rows < hi)] - lo
            life = block.life
            life.up[mine] = watch.direction != "down"
            life.down[mine] = watch.direction != "up"
            life.least[mine] = watch.min_deviation
            life.least_relative[mine] = watch.min_relative_deviation
            life.low[mine] = -np.inf if low is None else low
            life.high[mine] = np.inf if high is None else high
            life.missed[mine] = watch.absent == "alarm"
            life.belief[mine] = self.beliefs.of(watch.name, watch.kind)

    def forget(self, rows: Sequence[int]) -> None:
        """Make rows fresh that the table has freed."""
        gone = np.array(rows, np.int64)
        for lo, hi, block in self.spans():
            block.forget(gone[(gone >= lo) & (gone < hi)] - lo)
        for absent in self._zeroed.values():
            for row in rows:
                absent.pop(row, None)

    def age(self, at: float) -> list[int]:
        """What vanished keeps its score for `absent_for`, unless a successor came; later its row is freed.

        Gives the rows of which no score is to be said any more.
        """
        self._workloads = {k: b for k, b in self._workloads.items() if b[0] > at - FORGET_AFTER}
        quiet: list[int] = []
        lasted = np.concatenate([b.rare.lasted[ABSENT] for b in self.blocks]) if self.blocks else np.empty(0)
        since = (pair for gone in self._zeroed.values() for pair in gone.items())
        free = [row for row, began in since if began < at - FORGET_ZERO]
        for row in np.flatnonzero(lasted > 0):
            watch = self.watches.get(self._name(int(row)))
            if watch is None or (key := self.table.keys[row]) is None:
                continue
            began = at - float(lasted[row])
            born, heir = self._workloads.get((watch.name, series.workload(key)), (-np.inf, row))
            succeeded = heir != row and born > began - 600
            if watch.absent != "alarm" or lasted[row] > watch.absent_for or succeeded:
                quiet.append(int(row))
            if succeeded or lasted[row] > max(FORGET_AFTER, watch.absent_for):
                free.append(int(row))
        if free:
            self.table.drop(free)
            self.forget(free)
        return quiet + free

    def _name(self, row: int) -> str:
        return self.table.watch_of[row] if row < len(self.table.watch_of) else ""

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
