"""The scores that the members of small groups had, one row a minute for a week: what challengers are fitted to.

Kept here and not asked of Prometheus again: it is what the engine said with all that it knew then, two bytes a number,
and costs no query and no replay. It is saved with what came of the last fit, but without any model: what is read from
disk are numbers and names, and a model that had joined is fitted to them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sidecar.signals.detect.groups import LEAST, MOST, GroupId
from sidecar.signals.known.snapshot import Members, Snapshot
from sidecar.signals.models import Array
from sidecar.types import F32, F64, I64, labels_of

MINUTE, WEEK = 60.0, 7 * 86400.0
SIZES = 3, 64  # members of a group that is kept
ROOM = 32 << 20  # bytes of one engine's groups; those beyond are not kept
VERSION = 1

MemberId = tuple[str, bytes]
"""Watch and key of a series."""


class Kept(NamedTuple):
    """The past of one group: unix seconds f64[times], and its members' scores f32[times, members]."""

    at: F64
    members: tuple[MemberId, ...]
    scores: F32


class Decided(NamedTuple):
    """What the last fit of a group decided, and when: the model that joined, empty: none did."""

    at: float
    model: str = ""


class _Group(msgspec.Struct):
    by: str
    name: str
    labels: dict[str, str]
    size: int
    decided: Decided | None


class _Header(msgspec.Struct):
    version: int
    step: float
    count: int
    members: list[tuple[str, str]]
    groups: list[_Group]


class Past:
    """A ring of rows over all small groups of one engine."""

    def __init__(self, step: float, room: int = ROOM) -> None:
        self.step, self.stride = step, max(MINUTE, step)
        self._rows = int(WEEK / self.stride)
        self._room = room // (2 * self._rows)
        self._count, self.last = 0, -np.inf
        """Rows ever kept, and when the last one was."""
        self._of: Members | None = None
        self._at = np.zeros(self._rows)
        self._scores = np.zeros((self._rows, 0), np.float16)
        self._score = np.zeros((self._rows, 0), np.float16)
        self._columns: dict[MemberId, int] = {}
        self._groups: dict[GroupId, tuple[int, I64]] = {}
        """Column of its own score, and those of its members."""
        self._taken: tuple[I64, I64] = np.empty(0, np.int64), np.empty(0, np.int64)
        """Which rows and which groups of the snapshot go into the columns."""

    @property
    def groups(self) -> list[GroupId]:
        """Those that are kept."""
        return list(self._groups)

    def due(self, at: float) -> bool:
        """Whether a row is to be kept now; also when the clock was set back."""
        return at >= self.last + self.stride - 1e-6 or at < self.last

    def keep(self, snapshot: Snapshot) -> None:
        """Keep what a snapshot says."""
        if snapshot.groups.of is not self._of:
            self._follow(snapshot)
        row, self.last = self._count % self._rows, snapshot.at
        rows, groups = self._taken
        self._at[row] = snapshot.at
        self._scores[row] = np.clip(snapshot.columns["raw"][rows], LEAST, MOST)
        self._score[row] = snapshot.groups.score[groups]
        self._count += 1

    @property
    def kept(self) -> int:
        """How many rows there are."""
        return min(self._count, self._rows)

    def lately(self, group: GroupId, rows: int) -> F32:
        """A group's own scores in the last rows, oldest first."""
        own, _ = self._groups[group]
        return np.asarray(self._score[self._latest(min(rows, self.kept)), own], np.float32)

    def _latest(self, rows: int) -> I64:
        return np.arange(self._count - rows, self._count) % self._rows

    def of(self, group: GroupId) -> Kept:
        """What is kept of one of the `groups`, oldest first."""
        _, columns = self._groups[group]
        rows = self._latest(self.kept)
        names = {column: name for name, column in self._columns.items()}
        return Kept(
            self._at[rows],
            tuple(names[column] for column in columns.tolist()),
            self._scores[np.ix_(rows, columns)].astype(np.float32),
        )

    def _follow(self, snapshot: Snapshot) -> None:
        """Other series or groups than before: each that stays keeps its column's past."""
        self._of = of = snapshot.groups.of
        sizes = of.sizes
        wanted = np.flatnonzero((sizes >= SIZES[0]) & (sizes <= SIZES[1]))
        wanted = wanted[np.cumsum(sizes[wanted]) <= self._room]
        spans = [of.rows[of.starts[g] : of.starts[g + 1]] for g in wanted.tolist()]
        rows = np.concatenate(spans) if spans else np.empty(0, np.int64)
        members = [(snapshot.watch_of[row], snapshot.keys[row] or b"") for row in rows.tolist()]
        ids = [(of.names[g], of.labels[g]) for g in wanted.tolist()]
        self._scores = self._moved(self._scores, [self._columns.get(name, -1) for name in members])
        self._score = self._moved(self._score, [self._groups[g][0] if g in self._groups else -1 for g in ids])
        self._columns = {name: column for column, name in enumerate(members)}
        ends = np.cumsum([0, *map(len, spans)])
        self._groups = {g: (i, np.arange(ends[i], ends[i + 1])) for i, g in enumerate(ids)}
        self._taken = rows, wanted

    def _moved(self, old: Array, source: list[int]) -> Array:
        """Columns taken from where they were (-1: they were not)."""
        filled = self.kept
        new = np.zeros((self._rows, len(source)), old.dtype)  # not touched where nothing is kept yet
        was = np.array(source, np.int64)
        new[:filled, was < 0] = np.nan
        new[:filled, was >= 0] = old[:filled, was[was >= 0]]
        return new

    # ------------------------------------------------------------------ state

    def dump(self, decided: Mapping[GroupId, Decided | None]) -> Iterator[tuple[str, Any]]:
        """What must be saved: a header, then array by array."""
        groups = [
            _Group(*own, dict(labels), len(columns), decided.get((own, labels)))
            for (own, labels), (_, columns) in self._groups.items()
        ]
        members = [(watch, key.decode("utf-8", "replace")) for watch, key in self._columns]
        yield "past", _Header(VERSION, self.step, self._count, members, groups)
        for name, ring in self._rings().items():
            yield name, ring[: self.kept]

    @classmethod
    def load(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> tuple[Past, dict[GroupId, Decided]]:
        """What `dump` wrote; ValueError or KeyError when it does not fit."""
        try:
            head = msgspec.convert(header, _Header)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if head.version != VERSION or not 0 < head.step <= WEEK or head.count < 0:
            raise ValueError(f"a past of version {head.version}, step {head.step:g} and {head.count} rows")
        past = cls(head.step)
        ends = np.cumsum([0, *(group.size for group in head.groups)])
        if ends[-1] != len(head.members) or len(head.members) > past._room:
            raise ValueError(f"{len(head.members)} members, groups of {ends[-1]}")
        past._count = head.count
        past._scores = np.zeros((past._rows, len(head.members)), np.float16)
        past._score = np.zeros((past._rows, len(head.groups)), np.float16)
        for name, ring in past._rings().items():
            if arrays[name].shape != (past.kept, *ring.shape[1:]):
                raise ValueError(f"{name}: {arrays[name].shape} does not fit")
            ring[: past.kept] = arrays[name]
        past._columns = {(watch, key.encode()): column for column, (watch, key) in enumerate(head.members)}
        ids: list[GroupId] = [((one.by, one.name), labels_of(one.labels)) for one in head.groups]
        past._groups = {id: (i, np.arange(ends[i], ends[i + 1])) for i, id in enumerate(ids)}
        said = (one.decided for one in head.groups)
        return past, {id: one for id, one in zip(ids, said, strict=True) if one is not None}

    def _rings(self) -> dict[str, Array]:
        return {"at": self._at, "scores": self._scores, "score": self._score}
