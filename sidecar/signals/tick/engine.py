"""One tick of all series of one step: place, score, learn, look ahead, snapshot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from sidecar.signals.breach.crossings import Crossings
from sidecar.signals.breach.limits import Lines, Odds
from sidecar.signals.detect.block import Block
from sidecar.signals.detect.groups import Grouping, lately
from sidecar.signals.detect.scales import BOUND
from sidecar.signals.forecast.ensemble import BLOCK
from sidecar.signals.ingest.frame import Frame, Vector
from sidecar.signals.ingest.series import PER_INSTANCE, View
from sidecar.signals.known.ledger import Decided
from sidecar.signals.known.snapshot import Skill, Snapshot, blank
from sidecar.signals.learn.trust import Doubt, Trust, none
from sidecar.signals.models import Array
from sidecar.signals.tick import saved
from sidecar.signals.tick.outlook import Outlooks, seen
from sidecar.signals.tick.rows import Rows
from sidecar.signals.watch.calendar import Planned
from sidecar.signals.watch.watches import Watch
from sidecar.types import F32, F64, HORIZONS, I64, Bools, Instant

SET_BACK = 60.0  # seconds by which a clock may go back before its new time is believed
HOLD = 3  # ticks for which an unanswered watch keeps what was said


class Engine(Rows):
    """All series that are asked every `step` seconds. Not thread-safe: one tick at a time."""

    def __init__(self, step: float, per_instance: tuple[str, ...] = PER_INSTANCE) -> None:
        super().__init__(step, per_instance)
        self.dropped = {"budget": 0, "duplicate": 0}
        self._columns: dict[str, Array] = {}
        self._said: tuple[bytes | None, ...] = ()
        """Key of each row in `_columns`."""
        self._unanswered: dict[str, int] = {}
        self._limits: tuple[object, Lines] | None = None
        self._odds = Odds(self._limit_lines())
        self._grouping = Grouping()
        self._outlooks = Outlooks()
        self._skills: tuple[tuple[object, int], Mapping[str, Skill]] | None = None
        self._decided = Decided()

    def watch(self, watches: Mapping[str, Watch]) -> None:
        """Take a new set of watches; rows of those that are gone are freed."""
        super().watch(watches)
        self._limits = None

    def dump(self) -> Iterator[tuple[str, Any]]:
        """What must be saved: a header, then array by array."""
        return saved.dump(self)

    @classmethod
    def load(
        cls,
        header: Mapping[str, Any],
        arrays: Mapping[str, Array],
        watches: Mapping[str, Watch],
        per_instance: tuple[str, ...] = PER_INSTANCE,
    ) -> Engine:
        """An engine as `dump` wrote it, with today's watches; ValueError or KeyError when it does not fit."""
        engine = cls(header["step"], per_instance)
        saved.fill(engine, header, arrays, watches)
        return engine

    # ------------------------------------------------------------------ ticks

    def tick(
        self,
        at: Instant,
        answers: Mapping[str, Vector],
        room: int,
        trust: Trust | None = None,
    ) -> Snapshot:
        """Score, learn and forecast what was answered; `room` is how many more series may be admitted.

        Of an instant that has passed nothing is taken, unless it lies so far back that the clock must have been set.
        """
        if self._columns and at <= self.at <= at + max(SET_BACK, self.step):
            return self.snapshot(self.at)._replace(decided=Decided())
        frame = self.frame(at, answers, room)
        view, rows = self.table.view(), self.capacity
        if trust is None:
            return self.advance(frame)
        return self.advance(frame, trust.doubt(self.step, at, view, self.watches, rows), trust.calendar)

    def frame(self, at: Instant, answers: Mapping[str, Vector], room: int) -> Frame:
        """Answers as columns; admits new series."""
        placed: list[tuple[str, I64, F64]] = []
        for name, answer in answers.items():
            if name not in self.watches:
                continue  # came back after a reload took its watch away
            found = self.table.place(name, answer.keys, room, self.watches[name].tz)
            self.dropped["budget"] += found.over_budget
            self.dropped["duplicate"] += found.duplicate
            if found.new:
                room -= len(found.new)
                self.admit(name, found.new, at)
            known = found.rows >= 0
            placed.append((name, found.rows[known], answer.values[known]))
        values = np.full(self.capacity, np.nan)
        asked, here = np.zeros(self.capacity, bool), np.zeros(self.capacity, bool)
        for name, rows, numbers in placed:
            asked[self.table.rows(name)] = True
            values[rows], here[rows] = numbers, True
        freed = self.see(at, asked, here)
        asked[freed] = asked[self.asleep] = False
        values[asked & ~here & self.stays.zero] = 0
        asked[here & ~(np.abs(values) < BOUND)] = False  # it is there: a ratio of nothing is no absence
        self.bequeath(at, values)
        self._unanswered = {
            name: 0 if name in answers else self._unanswered.get(name, 0) + 1 for name in self.watches
        }
        return Frame(at, values, asked)

    def advance(
        self, frame: Frame, doubt: Doubt | None = None, calendar: tuple[Planned, ...] = ()
    ) -> Snapshot:
        """One tick of every block; what is in doubt is not learned, but where a planned event is known to guests."""
        columns, forecasts = blank(self.capacity)
        seated = self._ask_guests(frame, calendar)
        doubt = none(self.capacity) if doubt is None else doubt
        trust = np.ones(self.capacity, bool)
        for lo, hi, block in self.spans():
            s = slice(lo, hi)
            out = {name: column[s] for name, column in columns.items()}
            block.level.missed += self.missed(frame.at)
            block.ahead.plain = self.plain
            trust[s] = doubt.trusted(block, frame.at, s)
            join = partial(self.guests.join, lo, hi) if seated else None
            block.tick(frame.at, frame.values[s], frame.asked[s], trust[s], out, join)
        if seated:
            self.guests.learn(frame.at, (np.append(trust, False))[self.guests.rows])
            self._outlooks.note(columns)
        self.explained.link(self.table.view(), self.watches, self.beliefs, self.asleep)
        self.explained.tick(frame.at, frame.values, trust, columns, float(self.missed(frame.at)))
        lines = self._limit_lines()
        odds = Odds(lines, self.crossings.tick(frame.at, self.spans(), columns["observed"], forecasts))
        held = self._hold(columns)
        if len(held):
            odds.hold(self._odds, held, columns["observed"], forecasts)
        self._judge(frame.at, odds)
        for lo, hi, block in self.spans():  # only now: odds are of where the line would go
            out = {name: column[lo:hi] for name, column in columns.items()}
            block.bound(out)
            doubt.calm(block.life, out, slice(lo, hi))
            passed = self.step * (1 + float(self.missed(frame.at)))
            block.life.lately = lately(out["raw"], block.life.lately, passed)
            out["lately"][:] = np.where(np.isnan(out["raw"]), np.float32(np.nan), block.life.lately)
        self._columns, self._odds, self.at = columns, odds, frame.at
        quiet = self.stays.quiet(self.asleep)
        for name in ("score", "confidence", "raw", "lately", "since"):
            columns[name][quiet] = np.nan
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
            groups=self._grouping.score(view, self.watches, self._columns["lately"], self.step),
            decided=self._decided,
            record=self.record.kept(),
        )

    def _ask_guests(self, frame: Frame, calendar: tuple[Planned, ...]) -> bool:
        """Ask the fitted models, if there are any."""
        guests = self.guests
        if not guests.parties:
            return False
        guests.place(self.table.view(), self.table.find)
        watches = [self.watches[watch] for watch, _ in guests.parties]
        values = np.append(frame.values, np.nan)[guests.rows]
        values = seen(np.where(np.abs(values) < BOUND, values, np.nan), watches)
        outlook = self._outlooks.ahead(self, frame.at, frame.values, guests.names, calendar)
        guests.look(frame.at, values, outlook)
        return True

    def _hold(self, columns: dict[str, Array]) -> I64:
        """One failed query must not reset the `for:` of rules on our metrics. The rows that were held."""
        every = [np.empty(0, np.int64)]
        held = {name for name, n in self._unanswered.items() if 0 < n <= HOLD}
        for name in held if self._columns else ():
            rows = self.table.rows(name)
            keys, said = self.table.keys, self._said
            still = (row < len(said) and said[row] is keys[row] for row in rows.tolist())
            rows = rows[np.fromiter(still, bool, len(rows))]
            for key, column in columns.items():
                column[rows] = self._columns[key][rows]
            every.append(rows)
        return np.concatenate(every)

    def take_odds(self, other: Crossings, rows: I64) -> None:
        """Take in what was learned elsewhere of limits, of rows that are `rows` here (-1: none)."""
        self._limit_lines()
        self.crossings.absorb(other, rows)

    # ------------------------------------------------------------------ what is said

    def _limit_lines(self) -> Lines:
        """The limit table; made anew only when rows or watches changed."""
        view = self.table.view()
        if self._limits is None or self._limits[0] is not view:
            lines = self._lines(view)
            rows = lines.columns.row
            of = [view.keys[row] for row in rows.tolist()]
            was = self.crossings.follow(lines.columns, of, lines.joint)
            for ledger in (self.ledger, *self.peers):
                ledger.follow(lines.limit, rows, was)
            self._limits = view, lines
        return self._limits[1]

    def _lines(self, view: View) -> Lines:
        return Lines(view, self.watches)

    def _judge(self, at: Instant, odds: Odds) -> None:
        """Count what came true of what was said of limits."""
        crossings = self.crossings
        odds.doubt(~np.concatenate([np.zeros(0, bool), *(block.ahead.skilled() for block in self.blocks)]))
        self._decided = self.ledger.tick(at, odds.raw(), crossings.known, crossings.marks.began)
        crossings.silent = self.ledger.silent | odds.doubted
        odds.silence(crossings.silent)
        self.record.judge(self._decided)
        if crossings.judged.any():
            self.record.odds(at, crossings.judged)
            crossings.judged[:] = 0

    def _skill(self) -> Mapping[str, Skill]:
        """Of each watch; made anew when rows changed or a five-minute block ended: between, it hardly moves."""
        stamp = self.table.view(), math.floor(self.at / BLOCK)
        if self._skills is None or self._skills[0][0] is not stamp[0] or self._skills[0][1] != stamp[1]:
            self._skills = stamp, self._measure()
        return self._skills[1]

    def _measure(self) -> Mapping[str, Skill]:
        out, joined = {}, np.ones((len(HORIZONS), self.capacity), np.float32)
        guests, shares = self.guests.losses()
        joined[:, guests] = shares
        for name in self.table.watches() if self.blocks else ():
            rows, losses, covered = self.table.rows(name), list[F32](), list[F32]()
            for lo, hi, block in self.spans():
                mine = rows[(rows >= lo) & (rows < hi)] - lo
                mine = mine[block.intervals.judged[0, mine] > 12]
                scale = np.maximum(block.ensemble.scale[mine], np.float32(1e-12))  # one series, one voice
                loss_of = block.ahead.mixture.loss[:, :4, mine]
                loss_of[:, 0] *= joined[:, mine + lo]
                losses.append(np.divide(loss_of, scale))
                covered.append(block.intervals.covered[:, mine])
            loss = np.concatenate(losses, axis=-1)
            if loss.shape[-1]:
                out[name] = Skill(loss.mean(-1), np.concatenate(covered, axis=-1).mean(-1))
        return out


def replay(
    nursery: Block,
    at: F64,
    values: F64,
    step: float,
    asked: Bools | None = None,
    trust: Bools | None = None,
    out: Mapping[str, Array] | None = None,
) -> None:
    """Teach a nursery some history: values f64[times, rows], NaN where there is no sample.

    A step coarser than the nursery's own teaches all but what counts in samples; the live step teaches everything.
    Of rows that were not `asked` (all are by default) a missing sample is no absence. What is not in `trust`
    bool[times, rows] is not learned. What was observed and forecast last stands in the columns of `out` afterwards.
    """
    asked = np.ones(nursery.rows, bool) if asked is None else asked
    trust = np.ones(values.shape, bool) if trust is None else trust
    out = blank(nursery.rows)[0] if out is None else out
    for now, x, on in zip(at.tolist(), values, trust, strict=True):
        if step > nursery.step:
            known = np.where(on, x, np.nan)  # where nothing is, it is Prometheus that was away
            there = np.isfinite(known)
            was = asked & on & ((nursery.life.age > 0) | there) & there.any()
            nursery.teach(now, known, step, was, out)
        else:
            # a series that was not there yet is not absent
            nursery.tick(now, x, asked & ((nursery.life.age > 0) | np.isfinite(x)), on, out)
