"""Which output series are exported when there is not room for all: odd ones first, and what is shown stays an hour."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.known.snapshot import Snapshot
from sidecar.types import F32, F64, I64, Bools, Instant

STAYS = 3600.0  # seconds: so that no rule's `for:` is reset by a series that comes and goes
SCORES = 2  # output series of a row's score and confidence


class Shown(NamedTuple):
    """Of one snapshot: rows with score, rows with band and forecasts, limit lines, groups; and how much is left out."""

    rows: I64
    detailed: I64
    lines: I64
    groups: I64
    dropped: int


class _Held:
    """Until when each row of one engine, or each of its limit lines, is to stay."""

    def __init__(self) -> None:
        self.of: object = None
        self.names: Sequence[Hashable] = ()
        self.until: F64 = np.empty(0)

    def follow(self, of: object, names: Callable[[], Sequence[Hashable]]) -> F64:
        """Take the rows as they are now, named anew when `of` is another object; each keeps what it was held for."""
        if of is not self.of:
            before, self.of, self.names = self.names, of, names()
            held = dict(zip(before, self.until.tolist(), strict=True))
            self.until = np.fromiter(
                (held.get(name, 0.0) for name in self.names), np.float64, len(self.names)
            )
        return self.until


class Budget:
    """At most `most` output series over all engines."""

    def __init__(self, most: int, per_row: int, per_line: int) -> None:
        self._most, self._per_row, self._per_line = most, per_row, per_line
        self._held: dict[tuple[float, str], _Held] = {}

    def choose(self, snapshots: Sequence[Snapshot], now: Instant) -> list[Shown]:
        """Scores of groups and of series first, then breaches, then bands and forecasts of what is interesting."""
        scores = [s.columns["score"] for s in snapshots]
        alive = [~np.isnan(s.columns["score"]) | ~np.isnan(s.columns["confidence"]) for s in snapshots]
        chances = [np.nan_to_num(np.fmax.reduce(s.limits.probability), nan=-1.0) for s in snapshots]
        joint = [s.groups.score for s in snapshots]
        scored = [~np.isnan(score) for score in joint]
        groups, room = self._take(snapshots, "groups", joint, scored, self._most, 1, now)
        rows, room = self._take(snapshots, "rows", scores, alive, room, SCORES, now)
        said = [p >= 0 for p in chances]
        lines, room = self._take(
            snapshots, "lines", [2 * p for p in chances], said, room, self._per_line, now
        )
        interest, chosen = [], []
        for snapshot, score, chance, kept in zip(snapshots, scores, chances, rows, strict=True):
            both = np.nan_to_num(score)
            np.maximum.at(both, snapshot.limits.row, (2 * chance).astype(np.float32))
            interest.append(both)
            mask = np.zeros(len(score), bool)
            mask[kept] = True
            chosen.append(mask)
        detailed, room = self._take(snapshots, "detailed", interest, chosen, room, self._per_row, now)
        return [
            Shown(
                r,
                d,
                line,
                g,
                SCORES * int(a.sum() - len(r))
                + self._per_line * int(p.sum() - len(line))
                + self._per_row * int(a.sum() - len(d))
                + int(m.sum() - len(g)),
            )
            for r, d, line, g, a, p, m in zip(rows, detailed, lines, groups, alive, said, scored, strict=True)
        ]

    def _take(
        self,
        snapshots: Sequence[Snapshot],
        what: str,
        interest: Sequence[F32],
        wanted: Sequence[Bools],
        room: int,
        cost: int,
        now: Instant,
    ) -> tuple[list[I64], int]:
        """As many of the wanted as there is room for: odd ones, then held ones, then by interest.

        Of the odd ones, too, those that are held come first.
        """
        until = [
            self._held.setdefault((s.step, what), _Held()).follow(*_NAMES.get(what, _rows)(s))
            for s in snapshots
        ]
        index = [np.flatnonzero(w) for w in wanted]
        places = room // cost
        if sum(map(len, index)) > places:
            rank = np.concatenate(
                [
                    2e6 * (i[k] >= 1) + 1e6 * (u[k] > now) + np.nan_to_num(i[k])
                    for i, u, k in zip(interest, until, index, strict=True)
                ]
            )
            best = np.zeros(len(rank), bool)
            best[np.argsort(-rank, kind="stable")[:places]] = True
            ends = np.cumsum([len(k) for k in index])[:-1]
            index = [k[b] for k, b in zip(index, np.split(best, ends), strict=True)]
        for u, k in zip(until, index, strict=True):
            u[k] = now + STAYS
        return index, room - cost * sum(map(len, index))


def _rows(s: Snapshot) -> tuple[object, Callable[[], Sequence[Hashable]]]:
    return s.keys, lambda: list(zip(s.watch_of, s.keys, strict=True))


def _lines(s: Snapshot) -> tuple[object, Callable[[], Sequence[Hashable]]]:
    row, limit = s.limits.row, s.limits.limit
    return limit, lambda: [
        (s.watch_of[r], s.keys[r], lim) for r, lim in zip(row.tolist(), limit, strict=True)
    ]


def _groups(s: Snapshot) -> tuple[object, Callable[[], Sequence[Hashable]]]:
    of = s.groups.of
    return of, lambda: list(zip(of.names, of.labels, strict=True))


_NAMES = {"lines": _lines, "groups": _groups}
