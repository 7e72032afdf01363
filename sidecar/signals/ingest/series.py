"""Series <-> row: admit under a budget, find again by the raw bytes of the label object, age out.

A series is known by the bytes of its label object as Prometheus writes it, which are stable from answer to answer, so
that a tick makes no Python object per series; while the set of series stays the same, not even a look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.signals.watch.calendar import UTC
from sidecar.types import I64, Labels, labels_of

_NAME = re.compile(rb'"__name__":"[^"\\]*",?')
_DECODER = msgspec.json.Decoder(dict[str, str])
PER_INSTANCE = (
    "pod",
    "pod_name",
    "exported_pod",
    "pod_uid",
    "pod_ip",
    "instance",
    "exported_instance",
    "container_id",
    "id",
    "uid",
)
"""Labels that tell copies of one workload apart."""
_PLACE = (b"node", b"host_ip", b"hostname")
"""Where a copy runs; but where no pod is named, what the series is about."""
_POD = re.compile(rb'"(?:exported_)?pod(?:_name)?":')
_SAFE = rb"bcdfghjklmnpqrstvwxz2456789"  # what Kubernetes makes random names of
_HASHES = re.compile(
    # of a ReplicaSet, a ControllerRevision or a Job, and of its pod
    rb"-(?:[4-9bcdf]{8,10}|[0-9]{8,10})(?:-[%(safe)s]{5})?(?=[\"_/.:])"
    rb"|-(?=[0-9]*[a-z])(?=[a-z]*[0-9])[%(safe)s]{5}(?=\")"  # of a pod alone
    rb"|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
    rb"|(?<![0-9A-Za-z])[0-9a-f]{12,64}(?![0-9A-Za-z])" % {b"safe": _SAFE}
)


def labels(key: bytes) -> Labels:
    """Labels of a series without its metric name.

    >>> labels(b'{"__name__":"up","job":"shop"}')
    (('job', 'shop'),)
    """
    found = _DECODER.decode(key)
    found.pop("__name__", None)
    return labels_of(found)


def nameless(key: bytes) -> bytes:
    """A label object without its metric name.

    >>> nameless(b'{"__name__":"up","job":"shop"}')
    b'{"job":"shop"}'
    """
    return _NAME.sub(b"", key, count=1) if b'"__name__"' in key else key


def workload(key: bytes, per_instance: tuple[str, ...] = PER_INSTANCE) -> bytes:
    """What is left of a label object when a pod is replaced by its successor; only good for comparing.

    >>> workload(b'{"job":"shop","pod":"shop-7d9f8b6c5-x2x9k"}')
    b'{"job":"shop"}'
    >>> workload(b'{"created_by":"shop-7d9f8b6c5","name":"k8s_shop-7d9f8b6c5-x2x9k_web"}')
    b'{"created_by":"shop","name":"k8s_shop_web"}'
    """
    named = _HASHES.sub(b"", _without(tuple(name.encode() for name in per_instance)).sub(b"", nameless(key)))
    named = _without(_PLACE).sub(b"", named) if _POD.search(key) else named
    return named.replace(b",}", b"}")


@lru_cache
def _without(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    some = b"|".join(map(re.escape, names)) or b"(?!)"
    return re.compile(rb'"(?:%s)":"(?:[^"\\]|\\.)*",?' % some)


class Placed(NamedTuple):
    """Row of each series of an answer (-1: not admitted), the rows that are new, and why others are not."""

    rows: I64
    new: list[int]
    over_budget: int = 0
    duplicate: int = 0


class View(NamedTuple):
    """Key (None: free) and watch by row, and the rows of each watch."""

    keys: tuple[bytes | None, ...]
    watch_of: tuple[str, ...]
    rows: dict[str, tuple[int, ...]]


class _Watched:
    """The series of one watch."""

    def __init__(self) -> None:
        self.rows: dict[bytes, int] = {}
        self.nameless: dict[bytes, bytes] = {}
        """Key that took each label set: two metrics with equal labels cannot both be exported."""
        self.keys: list[bytes] = []
        self.placed: I64 = np.empty(0, np.int64)
        self.all: I64 | None = None
        """The values of `rows`, made anew after a change."""


class Table:
    """All series of one engine."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.watch_of: list[str] = []
        self.zone_of: list[str] = []
        """Time zone of each row: a block of rows has one."""
        self.capacity = 0
        """Rows of all blocks."""
        self._watched: dict[str, _Watched] = {}
        self._free: dict[str, list[int]] = {}
        """Of each time zone."""
        self._view: View | None = None

    def __len__(self) -> int:
        return len(self.keys) - sum(map(len, self._free.values()))

    def view(self) -> View:
        """The table as it is, frozen: later changes do not reach it."""
        if self._view is None:
            rows = {name: tuple(mine.rows.values()) for name, mine in self._watched.items()}
            self._view = View(tuple(self.keys), tuple(self.watch_of), rows)
        return self._view

    def rows(self, watch: str) -> I64:
        """All rows of a watch."""
        found = self._watched.get(watch)
        if found is None:
            return np.empty(0, np.int64)
        if found.all is None:
            found.all = np.fromiter(found.rows.values(), np.int64, len(found.rows))
        return found.all

    def find(self, watch: str, keys: list[bytes]) -> I64:
        """Rows of these series, -1 for those that have none."""
        mine = self._watched.get(watch)
        rows = mine.rows if mine else {}
        return np.fromiter((rows.get(key, -1) for key in keys), np.int64, len(keys))

    def watches(self) -> list[str]:
        """Names that have rows."""
        return list(self._watched)

    def place(self, watch: str, keys: list[bytes], room: int, tz: str = UTC) -> Placed:
        """Rows of an answer; at most `room` new ones are admitted, all of the watch's time zone."""
        mine = self._watched.setdefault(watch, _Watched())
        if keys == mine.keys:
            return Placed(mine.placed, [])
        rows = np.fromiter((mine.rows.get(key, -1) for key in keys), np.int64, len(keys))
        new: list[int] = []
        over_budget = duplicate = 0
        unknown = np.flatnonzero(rows < 0)
        here = set(keys) if len(unknown) else set[bytes]()
        for i in unknown:
            key = keys[i]
            bare = nameless(key)
            holder = mine.nameless.get(bare)
            if holder is not None and holder not in here:  # the metric has another name now
                rows[i] = self._rename(mine, holder, key)
            elif holder is not None:
                duplicate += 1
            elif len(new) >= room:
                over_budget += 1
            else:
                row = self._take(watch, key, tz)
                mine.rows[key], mine.nameless[bare], mine.all = row, key, None
                new.append(row)
                rows[i] = row
        if over_budget:
            mine.keys, mine.placed = [], rows
        else:  # the table's own bytes: those of the answer would weigh as much again
            mine.placed, own = rows, self.keys
            mine.keys = [(row >= 0 and own[row]) or key for row, key in zip(rows.tolist(), keys, strict=True)]
        return Placed(rows, new, over_budget, duplicate)

    def _rename(self, mine: _Watched, old: bytes, new: bytes) -> int:
        row = mine.rows[new] = mine.rows.pop(old)
        mine.nameless[nameless(new)] = self.keys[row] = new
        mine.all = self._view = None
        return row

    def restore(
        self, keys: list[bytes | None], watch_of: list[str], zone_of: list[str], capacity: int
    ) -> None:
        """Take over saved rows."""
        self.keys, self.watch_of, self._view = keys, watch_of, None
        self.zone_of, self.capacity = zone_of, capacity
        self._watched, self._free = {}, {}
        self._release(row for row, key in enumerate(keys) if key is None)
        for row, (key, watch) in enumerate(zip(keys, watch_of, strict=True)):
            if key is not None:
                mine = self._watched.setdefault(watch, _Watched())
                mine.rows[key] = row
                mine.nameless[nameless(key)] = key

    def drop(self, rows: list[int]) -> None:
        """Free rows for others."""
        for row in rows:
            key, watch = self.keys[row], self.watch_of[row]
            mine = self._watched.get(watch)
            if key is None or mine is None:
                continue
            mine.rows.pop(key, None)
            mine.all = None
            mine.nameless.pop(nameless(key), None)
            mine.keys = []
            if not mine.rows:
                del self._watched[watch]
            self.keys[row], self.watch_of[row] = None, ""
            self._release((row,))
        self._view = None

    def drop_watch(self, watch: str) -> list[int]:
        """Free every row of a watch that is no more."""
        rows = [int(row) for row in self.rows(watch)]
        self.drop(rows)
        self._watched.pop(watch, None)
        return rows

    def _take(self, watch: str, key: bytes, tz: str) -> int:
        self._view = None
        if free := self._free.get(tz):
            row = free.pop()
            self.keys[row], self.watch_of[row] = key, watch
            return row
        row = len(self.keys)
        if row and self.zone_of[-1] != tz:  # what is left of the last block is for its own time zone
            left = self.capacity - row
            self.keys += [None] * left
            self.watch_of += [""] * left
            self.zone_of += self.zone_of[-1:] * left
            self._release(reversed(range(row, self.capacity)))
        self.keys.append(key)
        self.watch_of.append(watch)
        self.zone_of.append(tz)
        return len(self.keys) - 1

    def _release(self, rows: Iterable[int]) -> None:
        for row in rows:
            self._free.setdefault(self.zone_of[row], []).append(row)
