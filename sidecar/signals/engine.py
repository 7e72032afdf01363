"""One tick of all series of one step: place, score, learn, look ahead, snapshot; dump and restore."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sidecar.signals import series
from sidecar.signals.block import BOUND, Block
from sidecar.signals.ensemble import BLOCK
from sidecar.signals.frame import Frame, Vector
from sidecar.signals.limits import Lines, Odds
from sidecar.signals.models import Array
from sidecar.signals.models.rare import ABSENT
from sidecar.signals.snapshot import Skill, Snapshot, blank
from sidecar.signals.watches import Watch
from sidecar.types import F32, F64, I64, Bools, Instant, Labels

LARGEST, SMALLEST = (
    10240,
    64,
)  # rows of a block: many for numpy's cost per call, few for the processor's cache
FORGET_AFTER = 3600.0  # seconds without a sample until a row is given to others
FORGET_ZERO = 86400.0  # the same where absent means zero
HOLD = 3  # ticks for which an unanswered watch keeps what was said
VERSION = 2  # of the dumped state


class Engine:
    """All series that are asked every `step` seconds. Not thread-safe: one tick at a time."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.table = series.Table()
        self.blocks: list[Block] = []
        self.watches: dict[str, Watch] = {}
        self.at = Instant(0.0)
        """Of the last tick."""
        self.learned: set[str] = set()  # watches whose history was
        self._taught = 0.0  # until when history was learned, for who is saved before the first tick
        self.dropped = {"budget": 0, "duplicate": 0}
        self._columns: dict[str, Array] = {}
        self._said: tuple[bytes | None, ...] = ()
        """Key of each row in `_columns`."""
        self._unanswered: dict[str, int] = {}
        self._zeroed: dict[str, dict[int, float]] = {}
        """Of watches whose absence means zero: rows that are absent, and since when."""
        self._workloads: dict[tuple[str, Labels], tuple[float, int]] = {}
        """When the newest series of each workload came, and its row."""
        self._limits: tuple[object, Lines] | None = None
        self._odds = Odds(self._limit_lines())
        self._skills: tuple[tuple[object, int], Mapping[str, Skill]] | None = None

    # ------------------------------------------------------------------ watches

    def watch(self, watches: Mapping[str, Watch]) -> None:
        """Take a new set of watches; rows of those that are gone are freed."""
        for name in self.table.watches():
            if name not in watches or watches[name].query != self.watches[name].query:
                self._forget(self.table.drop_watch(name))
                self.learned.discard(name)
        self.watches = dict(watches)
        self._limits = None
        for name in self.table.watches():
            self._configure(watches[name], self.table.rows(name))

    # ------------------------------------------------------------------ ticks

    def tick(
        self,
        at: Instant,
        answers: Mapping[str, Vector],
        room: int,
        trust: Bools | None = None,
    ) -> Snapshot:
        """Score, learn and forecast what was answered; `room` is how many more series may be admitted."""
        return self.advance(self.frame(at, answers, room), trust)

    def frame(self, at: Instant, answers: Mapping[str, Vector], room: int) -> Frame:
        """Answers as columns; admits new series."""
        placed: list[tuple[str, I64, F64]] = []
        for name, answer in answers.items():
            if name not in self.watches:
                continue  # came back after a reload took its watch away
            found = self.table.place(name, answer.keys, room)
            self.dropped["budget"] += found.over_budget
            self.dropped["duplicate"] += found.duplicate
            if found.new:
                room -= len(found.new)
                self._admit(name, found.new, at)
            known = found.rows >= 0
            placed.append((name, found.rows[known], answer.values[known]))
        values = np.full(self._capacity, np.nan)
        asked = np.zeros(self._capacity, bool)
        for name, rows, numbers in placed:
            mine = self.table.rows(name)
            asked[mine] = True
            if self.watches[name].absent == "zero":
                values[mine] = 0
                before, gone = self._zeroed.get(name, {}), np.setdiff1d(mine, rows)
                self._zeroed[name] = {row: before.get(row, at) for row in gone.tolist()}
            values[rows] = numbers
            asked[rows[~(np.abs(numbers) < BOUND)]] = False  # it is there: a ratio of nothing is no absence
        self._unanswered = {
            name: 0 if name in answers else self._unanswered.get(name, 0) + 1 for name in self.watches
        }
        return Frame(at, values, asked)

    def advance(self, frame: Frame, trust: Bools | None = None) -> Snapshot:
        """One tick of every block."""
        columns, forecasts = blank(self._capacity)
        odds = Odds(self._limit_lines())
        trust = np.ones(self._capacity, bool) if trust is None else trust
        for lo, hi, block in self._spans():
            s = slice(lo, hi)
            out = {name: column[s] for name, column in columns.items()}
            block.level.missed += self._missed(frame.at)
            block.tick(frame.at, frame.values[s], frame.asked[s], trust[s], out)
            odds.work_out(lo, hi, columns["observed"], forecasts)  # while they are in the processor's cache
        if self._hold(columns):
            odds.work_out(0, self._capacity, columns["observed"], forecasts)
        for lo, hi, block in self._spans():  # only now: odds are of where the line would go
            block.bound({name: column[lo:hi] for name, column in columns.items()})
        self._columns, self._odds, self.at = columns, odds, frame.at
        self._age(frame)
        self._said = self.table.view()[0]
        return self.snapshot(frame.at)

    def snapshot(self, at: Instant) -> Snapshot:
        """What the last tick knew."""
        view = self.table.view()
        return Snapshot(
            at=at,
            step=self.step,
            keys=view.keys,
            watch_of=view.watch_of,
            rows=view.rows,
            watches=self.watches,
            columns={name: column[: len(view.keys)] for name, column in self._columns.items()},
            limits=self._odds.lines(),
            skill=self._skill(),
        )

    # ------------------------------------------------------------------ history

    def adopt(
        self, at: Instant, watch: str, keys: list[bytes], nursery: Block, first: int, room: int
    ) -> None:
        """Give the series of nursery rows from `first` on their rows here."""
        if watch not in self.watches:
            return
        self._taught = at
        found = self.table.place(watch, keys, room)
        if found.new:
            self._admit(watch, found.new, at)
        for lo, hi, block in self._spans():
            mine = np.flatnonzero((found.rows >= lo) & (found.rows < hi))
            if len(mine):
                block.copy_rows(found.rows[mine] - lo, nursery, mine + first)
                block.level.missed[found.rows[mine] - lo] -= self._missed(at)  # they know of these ticks
        self._configure(self.watches[watch], found.rows[found.rows >= 0])
        self.learned.add(watch)

    def lend(self, watch: str, keys: list[bytes], nursery: Block, first: int) -> None:
        """The other way round: what is known of these series goes to nursery rows from `first` on."""
        rows = self.table.find(watch, keys)
        for lo, hi, block in self._spans():
            mine = np.flatnonzero((rows >= lo) & (rows < hi))
            if len(mine):
                nursery.copy_rows(mine + first, block, rows[mine] - lo)

    def known_until(self, watch: Watch) -> Instant | None:
        """When the watch was last ticked, if its history was learned: then only what came since has to be."""
        mine = self.watches.get(watch.name)
        known = mine is not None and mine.query == watch.query and watch.name in self.learned
        return self.at if known and self.at else None

    # ------------------------------------------------------------------ state on disk

    def dump(self) -> Iterator[tuple[str, Any]]:
        """Header, then array by array, so that saving needs no second copy of the state."""
        yield (
            "engine",
            {
                "version": VERSION,
                "step": self.step,
                "at": self.at or self._taught,
                "learned": sorted(self.learned),
                "queries": {name: watch.query for name, watch in self.watches.items()},
                "blocks": [block.rows for block in self.blocks],
            },
        )
        # names as arrays and block by block: one JSON of 100,000 keys would hold the interpreter lock for 50 ms
        number = {name: i for i, name in enumerate(self.watches)}
        for i, (lo, hi, block) in enumerate(self._spans()):
            keys = self.table.keys[lo:hi]
            yield f"{i}.keys", np.frombuffer(b"".join(key or b"" for key in keys), np.uint8)
            yield f"{i}.lengths", np.array([-1 if key is None else len(key) for key in keys], np.int64)
            yield f"{i}.watch", np.array([number.get(w, -1) for w in self.table.watch_of[lo:hi]], np.int64)
            for name, array in block.state().items():
                yield f"{i}.{name}", array

    @classmethod
    def load(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], watches: Mapping[str, Watch]
    ) -> Engine:
        """An engine as `dump` wrote it, with today's watches; ValueError or KeyError when it does not fit."""
        if header["version"] != VERSION:
            raise ValueError(f"state has version {header['version']}, this Promantis reads {VERSION}")
        engine = cls(header["step"])
        engine.at = Instant(header["at"])
        for i, rows in enumerate(header["blocks"]):
            block = Block(rows, engine.step)
            prefix = f"{i}."
            block.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
            engine.blocks.append(block)
        names, keys, watch_of = [*header["queries"], ""], list[bytes | None](), list[str]()
        for i in range(len(engine.blocks)):
            text, at = arrays[f"{i}.keys"].tobytes(), 0
            for length in arrays[f"{i}.lengths"].tolist():
                keys.append(text[at : at + length] if length >= 0 else None)
                at += max(0, length)
            watch_of += [names[number] for number in arrays[f"{i}.watch"].tolist()]
        engine.table.restore(keys, watch_of)
        known = {n for n, query in header["queries"].items() if n in watches and watches[n].query == query}
        for name in engine.table.watches():
            if name not in known:
                engine._forget(engine.table.drop_watch(name))
        engine.watches = {name: watches[name] for name in known}
        engine.learned = known.intersection(header["learned"])
        engine.watch(watches)
        return engine

    # ------------------------------------------------------------------ rows

    @property
    def _capacity(self) -> int:
        return sum(block.rows for block in self.blocks)

    def _spans(self) -> Iterator[tuple[int, int, Block]]:
        lo = 0
        for block in self.blocks:
            yield lo, lo + block.rows, block
            lo += block.rows

    def _admit(self, watch: str, rows: list[int], at: float) -> None:
        need = len(self.table.keys)
        while self._capacity < need:
            # few blocks, and few rows that nobody needs
            missing = max(need - self._capacity, self._capacity // 4)
            size = min(math.ceil(missing / SMALLEST) * SMALLEST, LARGEST)
            self.blocks.append(Block(size, self.step))
        self._configure(self.watches[watch], np.array(rows))
        self._limits = None
        for row in rows:
            key = self.table.keys[row]
            if key is not None and self.at:  # those of the very first tick succeed nobody
                self._workloads[(watch, series.workload(key))] = at, row

    def _configure(self, watch: Watch, rows: I64) -> None:
        low, high = watch.bounds
        for lo, hi, block in self._spans():
            mine = rows[(rows >= lo) & (rows < hi)] - lo
            life = block.life
            life.up[mine] = watch.direction != "down"
            life.down[mine] = watch.direction != "up"
            life.least[mine] = watch.min_deviation
            life.least_relative[mine] = watch.min_relative_deviation
            life.low[mine] = -np.inf if low is None else low
            life.high[mine] = np.inf if high is None else high
            life.missed[mine] = watch.absent == "alarm"

    def _forget(self, rows: Sequence[int]) -> None:
        gone = np.array(rows, np.int64)
        for lo, hi, block in self._spans():
            block.forget(gone[(gone >= lo) & (gone < hi)] - lo)
        for absent in self._zeroed.values():
            for row in rows:
                absent.pop(row, None)
        self._limits = None

    def _missed(self, at: float) -> np.float32:
        """Ticks that never were since the last one, after a pause or a change of the clock."""
        return np.float32(max(0, round(abs(at - self.at) / self.step) - 1 if self.at else 0))

    def _hold(self, columns: dict[str, Array]) -> bool:
        """One failed query must not reset the `for:` of rules on our metrics. Whether anything was held."""
        held = {name for name, n in self._unanswered.items() if 0 < n <= HOLD}
        for name in held if self._columns else ():
            rows = self.table.rows(name)
            keys, said = self.table.keys, self._said
            still = (row < len(said) and said[row] is keys[row] for row in rows.tolist())
            rows = rows[np.fromiter(still, bool, len(rows))]
            for key, column in columns.items():
                column[rows] = self._columns[key][rows]
        return bool(held)

    def _age(self, frame: Frame) -> None:
        """What vanished keeps its score for `absent_for`, unless a successor came; later its row is freed."""
        self._workloads = {k: b for k, b in self._workloads.items() if b[0] > frame.at - FORGET_AFTER}
        lasted = np.concatenate([b.rare.lasted[ABSENT] for b in self.blocks]) if self.blocks else np.empty(0)
        since = (pair for gone in self._zeroed.values() for pair in gone.items())
        free = [row for row, began in since if began < frame.at - FORGET_ZERO]
        for row in np.flatnonzero(lasted > 0):
            watch = self.watches.get(self._name(int(row)))
            if watch is None or (key := self.table.keys[row]) is None:
                continue
            began = frame.at - float(lasted[row])
            born, heir = self._workloads.get((watch.name, series.workload(key)), (-np.inf, row))
            succeeded = heir != row and born > began - 600
            if watch.absent != "alarm" or lasted[row] > watch.absent_for or succeeded:
                for name in ("score", "confidence", "raw", "since"):
                    self._columns[name][row] = np.nan
            if succeeded or lasted[row] > max(FORGET_AFTER, watch.absent_for):
                free.append(int(row))
        if free:
            for name in ("score", "confidence", "raw", "since"):
                self._columns[name][free] = np.nan
            self.table.drop(free)
            self._forget(free)

    def _name(self, row: int) -> str:
        return self.table.watch_of[row] if row < len(self.table.watch_of) else ""

    # ------------------------------------------------------------------ what is said

    def _limit_lines(self) -> Lines:
        """The limit table; made anew only when rows or watches changed."""
        view = self.table.view()
        if self._limits is None or self._limits[0] is not view:
            self._limits = view, Lines(view.watch_of, self.watches)
        return self._limits[1]

    def _skill(self) -> Mapping[str, Skill]:
        """Of each watch; made anew when rows changed or a five-minute block ended: between, it hardly moves."""
        stamp = self.table.view(), math.floor(self.at / BLOCK)
        if self._skills is None or self._skills[0][0] is not stamp[0] or self._skills[0][1] != stamp[1]:
            self._skills = stamp, self._measure()
        return self._skills[1]

    def _measure(self) -> Mapping[str, Skill]:
        out = {}
        for name in self.table.watches() if self.blocks else ():
            rows, losses, covered = self.table.rows(name), list[F32](), list[F32]()
            for lo, hi, block in self._spans():
                mine = rows[(rows >= lo) & (rows < hi)] - lo
                mine = mine[block.intervals.judged[0, mine] > 12]
                scale = np.maximum(block.ensemble.scale[mine], np.float32(1e-12))  # one series, one voice
                losses.append(np.divide(block.ensemble.loss[..., mine], scale))
                covered.append(block.intervals.covered[:, mine])
            loss = np.concatenate(losses, axis=-1)
            if loss.shape[-1]:
                out[name] = Skill(loss.mean(-1), np.concatenate(covered, axis=-1).mean(-1))
        return out


def replay(nursery: Block, at: F64, values: F64, step: float, asked: Bools | None = None) -> None:
    """Teach a nursery some history: values f64[times, rows], NaN where there is no sample.

    A step coarser than the nursery's own teaches profiles and forecasts only; the live step teaches everything.
    Of rows that were not `asked` (all are by default) a missing sample is no absence.
    """
    asked = np.ones(nursery.rows, bool) if asked is None else asked
    trust = np.ones(nursery.rows, bool)
    out, _ = blank(nursery.rows)
    for now, x in zip(at.tolist(), values, strict=True):
        if step > nursery.step:
            nursery.teach(now, x, step)
        else:
            # a series that was not there yet is not absent
            nursery.tick(now, x, asked & ((nursery.life.age > 0) | np.isfinite(x)), trust, out)
