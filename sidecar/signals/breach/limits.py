"""The limit table: one line per row and limit, made when rows or watches change, and the odds of its lines."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from sidecar.signals.breach import breach
from sidecar.signals.breach.joint import Joint
from sidecar.signals.ingest import series
from sidecar.signals.ingest.series import View
from sidecar.signals.known.ledger import UNTOLD
from sidecar.signals.known.snapshot import LimitLines
from sidecar.signals.models import f4
from sidecar.signals.watch.conditions import Other
from sidecar.signals.watch.watches import Limit, Watch, announced
from sidecar.types import F32, F64, HORIZONS, I64, Bools


class Lines:
    """The lines of an engine's rows, in the order of the rows; never changed once made."""

    def __init__(self, view: View, watches: Mapping[str, Watch]) -> None:
        """Lines of the rows of watches; limits that are only a part of their rule are left out, as are those whose
        other conditions no series of ours matches."""
        told = {name: announced(watch.limits) for name, watch in watches.items()}
        named = {watch.query: name for name, watch in watches.items()}
        partners = _Partners(view, named)
        pairs, parts = list[tuple[int, Limit]](), list[list[tuple[I64, Other]]]()
        for row, name in enumerate(view.watch_of):
            for limit in told.get(name, ()):
                others = [(partners.of(row, other), other) for other in limit.also]
                if all(len(rows) for rows, _ in others):
                    pairs.append((row, limit))
                    parts.append(others)
        self.limit: Sequence[Limit] = [limit for _, limit in pairs]
        self.columns = breach.Limits(
            row=np.array([row for row, _ in pairs], np.int64),
            op=np.array([breach.OPS.index(limit.op) for _, limit in pairs], np.int8),
            value=np.array([limit.value for _, limit in pairs], np.float64),
            hold=np.array([limit.hold for _, limit in pairs], np.float32),
        )
        self.joint = self._together(parts)

    def _together(self, parts: Sequence[Sequence[tuple[I64, Other]]]) -> Joint:
        lines = [i for i, others in enumerate(parts) if others]
        table, conditions, firsts = list[tuple[int, int, float, float]](), list[int](), list[int]()
        for i in lines:
            row, op, value, hold = (column[i].item() for column in self.columns)
            firsts.append(len(conditions))
            conditions.append(len(table))
            table.append((row, op, value, hold))
            for rows, other in parts[i]:
                conditions.append(len(table))
                table += [(r, breach.OPS.index(other.op), other.value, hold) for r in rows.tolist()]
        row, op, value, held = np.array(table, float).reshape(-1, 4).T
        limits = breach.Limits(row.astype(np.int64), op.astype(np.int8), value, held.astype(f4))
        names = [zlib.crc32(self.limit[i].together.encode()) for i in lines]
        ints = (np.array(column, np.int64) for column in (lines, conditions, firsts, names))
        return Joint(next(ints), limits, *ints)


class _Partners:
    """Series of watches by what a condition matches them on."""

    def __init__(self, view: View, named: Mapping[str, str]) -> None:
        self._view, self._named = view, named
        self._by = dict[tuple[str, bool, tuple[str, ...]], dict[object, list[int]]]()

    def of(self, row: int, other: Other) -> I64:
        """Rows of the other's query that match a row; none where it is asked at another step."""
        name, key = self._named.get(other.query, ""), self._view.keys[row]
        if not name or key is None:
            return np.empty(0, np.int64)
        which = name, other.on, other.labels
        if which not in self._by:
            by = self._by[which] = {}
            for mine in self._view.rows.get(name, ()):
                if (text := self._view.keys[mine]) is not None:
                    by.setdefault(_matched(text, other), []).append(mine)
        return np.array(self._by[which].get(_matched(key, other), []), np.int64)


def _matched(key: bytes, other: Other) -> object:
    """The labels on which PromQL would match a series."""
    labels = dict(series.labels(key))
    if other.on:
        return tuple(labels.get(name, "") for name in other.labels)
    return frozenset((name, value) for name, value in labels.items() if name not in other.labels and value)


class Odds:
    """What is said of each line at one tick."""

    def __init__(self, lines: Lines, said: breach.Odds | None = None) -> None:
        self._lines, n = lines, len(lines.limit)
        self._silent, self.doubted = np.empty(0, np.int64), np.zeros(n, bool)
        """Lines of which nothing is announced, and why: bool[lines] of rows that are forecast without skill."""
        self._said = said or breach.told(np.full((len(HORIZONS), n), np.nan, f4), np.full(n, np.nan, f4))

    def hold(self, before: Odds, rows: I64, observed: F64, forecasts: F64) -> None:
        """Of these rows say what was said before, of lines that were not there what columns say that are held."""
        c = self._lines.columns
        touched, joint = np.isin(c.row, rows), self._lines.joint
        touched[joint.lines] = joint.any(np.isin(joint.parts.row, rows))
        held = np.flatnonzero(touched)
        if before._lines is self._lines:
            said = breach.Odds(*(column[..., held] for column in before._said))
        else:
            held = np.setdiff1d(held, self._lines.joint.lines)  # those have more than a row
            some = breach.Limits(c.row[held], c.op[held], c.value[held], c.hold[held])
            said = breach.odds(
                some, observed[some.row], *forecasts[:, some.row].reshape(3, len(HORIZONS), -1)
            )
        for mine, column in zip(self._said, said, strict=True):
            mine[..., held] = column

    def doubt(self, rows: Bools) -> None:
        """Nothing is to be announced of these rows bool[rows], nor taken for announced."""
        self.doubted = rows[self._lines.columns.row]

    def raw(self) -> F32:
        """Odds f32[lines] of the longest horizon, also of what its ledger silences."""
        longest = self._said.probability[-1]
        return np.asarray(np.where(self.doubted & (longest < 1), np.minimum(longest, UNTOLD), longest))

    def silence(self, lines: Bools) -> None:
        """Of these lines nothing is to be announced."""
        self._silent = np.flatnonzero(lines)

    def lines(self) -> LimitLines:
        """The table with its odds."""
        said = self._said
        if len(self._silent):
            p = said.probability.copy()
            mine = p[:, self._silent]
            p[:, self._silent] = np.where(mine < 1, np.minimum(mine, UNTOLD), mine)
            said = said._replace(probability=p)
        return LimitLines(self._lines.columns.row, self._lines.limit, *said)
