"""Runs: times for which a series was over the threshold, as people speak of them; the last ones are remembered.

A run ends when the score was below 1 for `QUIET` seconds and two ticks at least, or when its series is gone. Per tick
there are only comparisons of columns; an object is made for a run that ends, and when somebody asks.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.detect.belief import NONE, Beliefs, moved
from sidecar.signals.ingest import series
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.models import f4
from sidecar.types import F32, I64, Instant, Labels

OVER = 1.0  # the score that is worth a look
QUIET = 300.0
LATELY = 86400.0  # seconds for which the last run is meant when no time is named
MOST = 1000  # ended runs that are remembered


class Run(NamedTuple):
    """One time over the threshold of one series."""

    watch: str
    kind: str
    key: bytes
    start: Instant
    end: Instant
    """When it was last over."""
    peak: float
    confidence: float
    """The highest that was said."""
    prior: float
    """The same, without what feedback had added."""
    going: bool

    @property
    def labels(self) -> Labels:
        """Of its series."""
        return series.labels(self.key)


class _Rows:
    """The runs that are going on in one engine, by row."""

    def __init__(self) -> None:
        self.keys: Sequence[bytes | None] = ()
        self.watch_of: Sequence[str] = ()
        self.kinds: Mapping[str, str] = {}
        self.beliefs = NONE
        self.offset, self.told = np.zeros(0, f4), np.zeros(0, bool)
        self.going = np.zeros(0, bool)
        self.start, self.last = np.zeros(0), np.zeros(0)
        self.peak, self.confidence, self.prior = (np.zeros(0, f4) for _ in range(3))

    def follow(self, said: Snapshot, beliefs: Beliefs) -> Iterator[Run]:
        """Fit to the rows of a snapshot; the runs of series that are gone."""
        if said.keys is self.keys and beliefs is self.beliefs:
            return
        rows = len(said.keys)
        going = np.flatnonzero(self.going).tolist()
        yield from self.end([row for row in going if row >= rows or said.keys[row] is not self.keys[row]])
        for name in ("going", "start", "last", "peak", "confidence", "prior"):
            old = getattr(self, name)[:rows]
            setattr(self, name, np.concatenate([old, np.zeros(rows - len(old), old.dtype)]))
        self.keys, self.watch_of, self.beliefs = said.keys, said.watch_of, beliefs
        self.kinds = {name: watch.kind for name, watch in said.watches.items()}
        self.offset, self.told = np.zeros(rows, f4), np.ones(rows, bool)
        for name, mine in said.rows.items():
            if not said.watches[name].told:
                self.told[list(mine)] = False
            elif beliefs is not NONE:
                self.offset[list(mine)] = beliefs.of(name, self.kinds[name])

    def take(self, said: Snapshot) -> Iterator[Run]:
        """One tick; the runs that end."""
        score, at = said.columns["score"], said.at
        over = np.flatnonzero((score >= OVER) & self.told)
        if len(over):
            new = over[~self.going[over]]
            self.start[new] = np.fmin(said.columns["since"][new], at)
            self.peak[new] = self.confidence[new] = self.prior[new] = 0
            self.going[new] = True
            self._raise(over, score[over], said.columns["confidence"][over])
            self.last[over] = at
        quiet = max(QUIET, 2 * said.step)
        yield from self.end(np.flatnonzero(self.going & (at - self.last > quiet)).tolist())

    def end(self, rows: Sequence[int]) -> Iterator[Run]:
        """End runs; of very many only as many are told as will be remembered."""
        self.going[rows] = False
        yield from (self.run(row, going=False) for row in rows[-MOST:])

    def _raise(self, over: I64, score: F32, confidence: F32) -> None:
        prior = confidence if self.beliefs is NONE else moved(confidence, -self.offset[over])
        for kept, now in ((self.peak, score), (self.confidence, confidence), (self.prior, prior)):
            kept[over] = np.fmax(kept[over], now)

    def run(self, row: int, going: bool) -> Run:
        """The run of a row."""
        watch, key = self.watch_of[row], self.keys[row]
        return Run(
            watch=watch,
            kind=self.kinds[watch],
            key=key or b"{}",
            start=Instant(float(self.start[row])),
            end=Instant(float(self.last[row])),
            peak=float(self.peak[row]),
            confidence=float(self.confidence[row]),
            prior=float(self.prior[row]),
            going=going,
        )


class Runs:
    """The last runs of every engine; may be asked from any thread."""

    def __init__(self) -> None:
        self._rows: dict[float, _Rows] = {}
        self._ended: deque[Run] = deque(maxlen=MOST)
        self._lock = threading.Lock()

    def note(self, said: Snapshot, beliefs: Beliefs = NONE) -> None:
        """Take a tick, whose confidence was moved by `beliefs`."""
        with self._lock:
            rows = self._rows.setdefault(said.step, _Rows())
            self._ended.extend(rows.follow(said, beliefs))
            self._ended.extend(rows.take(said))

    def retire(self, step: float) -> None:
        """End the runs of an engine that is no more."""
        with self._lock:
            if rows := self._rows.pop(step, None):
                self._ended.extend(rows.end(np.flatnonzero(rows.going).tolist()))

    def recent(self, limit: int) -> list[Run]:
        """The last runs, those that began last first."""
        with self._lock:
            found = list(self._ended)
            for rows in self._rows.values():
                going = np.flatnonzero(rows.going)
                going = going[np.argsort(-rows.start[going], kind="stable")][:limit]
                found += [rows.run(row, going=True) for row in going.tolist()]
        return sorted(found, key=lambda run: (-run.start, run.watch, run.key))[:limit]

    def find(
        self,
        wanted: Callable[[Mapping[str, str]], bool],
        now: Instant,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> list[Run]:
        """The runs of series that pass a test (`watch` is one of the labels) between two times, the last first.

        Without times: those that are going on, or else the one that began last, if it is not long ago.
        """
        runs = [run for run in self.recent(2 * MOST) if wanted({**dict(run.labels), "watch": run.watch})]
        if start is None and end is None:
            return [run for run in runs if run.going] or [run for run in runs[:1] if run.end > now - LATELY]
        first, last = -math.inf if start is None else start, math.inf if end is None else end
        return [run for run in runs if run.end >= first and run.start <= last]
