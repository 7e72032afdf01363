"""A ring of rows of some series, one row for each stride of time, so that a past can also be filled in later."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sidecar.signals.ingest.frame import Matrix
from sidecar.types import F32, F64, I64, Bools


class Slots:
    """`count` rows; values f32[count, n], NaN where nothing is known or what came is not to be trusted."""

    def __init__(self, stride: float, count: int) -> None:
        self.stride, self.count = stride, count
        self.at: F64 = np.full(count, -np.inf)
        """When each row began."""
        self.values: F32 = np.zeros((count, 0), np.float32)
        self.trusted: Bools = np.zeros((count, 0), np.bool_)

    def put(self, at: float, values: F64, trusted: Bools) -> bool:
        """Keep the first sample of each stride: whether this was it."""
        slot, start = self._slot(at)
        if self.at[slot] == start:
            return False
        self.at[slot], self.values[slot], self.trusted[slot] = start, values, trusted
        return True

    def fill(self, columns: I64, matrix: Matrix, taken: I64, now: float) -> None:
        """Take columns `taken` of a past, where nothing is kept of them yet."""
        for i, at in enumerate(matrix.at.tolist()):
            slot, start = self._slot(at)
            if not now - self.count * self.stride < start <= now:
                continue
            if self.at[slot] < start:
                self.at[slot], self.values[slot], self.trusted[slot] = start, np.nan, False
            if self.at[slot] == start:
                empty = np.isnan(self.values[slot, columns])
                self.values[slot, columns[empty]] = matrix.values[i, taken[empty]]
                self.trusted[slot, columns[empty]] = True

    def past(self, columns: I64, now: float, before: float) -> F64:
        """What is trusted, oldest first, until `before` seconds ago: f64[times, columns]."""
        order = np.argsort(self.at)
        order = order[(self.at[order] < now - before) & (self.at[order] > now - self.count * self.stride)]
        there = np.ix_(order, columns)
        return np.where(self.trusted[there], self.values[there], np.nan).astype(np.float64)

    def since(self, begin: float, end: float) -> tuple[F64, F64]:
        """All of it between two times, oldest first."""
        order = np.argsort(self.at)
        order = order[(self.at[order] >= begin) & (self.at[order] <= end)]
        return self.at[order], self.values[order].astype(np.float64)

    def until(self, end: float) -> Callable[[int], tuple[F64, F64]]:
        """Any series until a time, oldest first; as it is now, whatever moves later."""
        values, order = self.values, np.argsort(self.at)
        order = order[np.isfinite(self.at[order]) & (self.at[order] < end)]
        at = self.at[order]
        return lambda column: (at, values[order, column].astype(np.float64))

    def move(self, was: I64) -> None:
        """Other series: column i is what column `was[i]` was, or new (-1)."""
        self.values, self.trusted = moved(self.values, was, np.nan), moved(self.trusted, was, False)

    def _slot(self, at: float) -> tuple[int, float]:
        number = int(at // self.stride)
        return number % self.count, number * self.stride


def moved(old: np.ndarray, source: I64, empty: object) -> np.ndarray:
    """The last axis taken from where it was (-1: it was not)."""
    new = np.full((*old.shape[:-1], len(source)), empty, old.dtype)
    new[..., source >= 0] = old[..., source[source >= 0]]
    return new
