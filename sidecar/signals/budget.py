"""Which output series are exported when there is not room for all: odd ones first, and what is shown stays an hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.snapshot import Snapshot
from sidecar.types import F32, F64, I64, Bools, Instant

STAYS = 3600.0  # seconds: so that no rule's `for:` is reset by a series that comes and goes
SCORES = 2  # output series of a row's score and confidence


class Shown(NamedTuple):
    """Of one snapshot: rows with score, rows with band and forecasts, limit lines; and how much was left out."""

    rows: I64
    detailed: I64
    lines: I64
    dropped: int


class _Held:
    """Until when each row of one engine, or each of its limit lines, is to stay."""

    def __init__(self) -> None:
        self.of: Sequence[object] = ()
        self.until: F64 = np.empty(0)

    def follow(self, of: Sequence[object]) -> F64:
        """Take the rows as they are now; a row that changed hands is held no more."""
        if of is not self.of:
            until = np.zeros(len(of))
            n = min(len(of), len(self.of))
            same = np.fromiter((a is b for a, b in zip(of, self.of, strict=False)), bool, n)
            until[:n] = np.where(same, self.until[:n], 0)
            self.of, self.until = of, until
        return self.until


class Budget:
    """At most `most` output series over all engines."""

    def __init__(self, most: int, per_row: int, per_line: int) -> None:
        self._most, self._per_row, self._per_line = most, per_row, per_line
        self._held: dict[tuple[float, str], _Held] = {}

    def choose(self, snapshots: Sequence[Snapshot], now: Instant) -> list[Shown]:
        """Scores and confidences first, then breaches, then bands and forecasts of what is interesting."""
        scores = [s.columns["score"] for s in snapshots]
        alive = [~np.isnan(s.columns["score"]) | ~np.isnan(s.columns["confidence"]) for s in snapshots]
        chances = [np.nan_to_num(s.limits.probability[-1], nan=-1.0) for s in snapshots]
        room = self._most
        rows, room = self._take(
            snapshots, "rows", [s.keys for s in snapshots], scores, alive, room, SCORES, now
        )
        said = [p >= 0 for p in chances]
        of = [s.limits.limit for s in snapshots]
        lines, room = self._take(
            snapshots, "lines", of, [2 * p for p in chances], said, room, self._per_line, now
        )
        interest, chosen = [], []
        for snapshot, score, chance, kept in zip(snapshots, scores, chances, rows, strict=True):
            both = np.nan_to_num(score)
            np.maximum.at(both, snapshot.limits.row, (2 * chance).astype(np.float32))
            interest.append(both)
            mask = np.zeros(len(score), bool)
            mask[kept] = True
            chosen.append(mask)
        keys = [s.keys for s in snapshots]
        detailed, room = self._take(snapshots, "detailed", keys, interest, chosen, room, self._per_row, now)
        return [
            Shown(
                r,
                d,
                line,
                SCORES * int(a.sum() - len(r))
                + self._per_line * int(p.sum() - len(line))
                + self._per_row * int(a.sum() - len(d)),
            )
            for r, d, line, a, p in zip(rows, detailed, lines, alive, said, strict=True)
        ]

    def _take(
        self,
        snapshots: Sequence[Snapshot],
        what: str,
        of: Sequence[Sequence[object]],
        interest: Sequence[F32],
        wanted: Sequence[Bools],
        room: int,
        cost: int,
        now: Instant,
    ) -> tuple[list[I64], int]:
        """As many of the wanted as there is room for: odd ones, then held ones, then by interest."""
        until = [
            self._held.setdefault((s.step, what), _Held()).follow(items)
            for s, items in zip(snapshots, of, strict=True)
        ]
        index = [np.flatnonzero(w) for w in wanted]
        places = room // cost
        if sum(map(len, index)) > places:
            rank = np.concatenate(
                [
                    np.where(i[k] >= 1, 2e6, np.where(u[k] > now, 1e6, 0.0)) + np.nan_to_num(i[k])
                    for i, u, k in zip(interest, until, index, strict=True)
                ]
            )
            best = np.zeros(len(rank), bool)
            best[np.argsort(-rank, kind="stable")[:places]] = True
            ends = np.cumsum([len(k) for k in index])[:-1]
            index = [k[b] for k, b in zip(index, np.split(best, ends), strict=True)]
        for u, k in zip(until, index, strict=True):
            u[k] = np.maximum(u[k], now + STAYS)
        return index, room - cost * sum(map(len, index))
