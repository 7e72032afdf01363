"""A query's answer, and one tick of it as columns. Row i is the same series everywhere; NaN = no sample."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.types import F64, Bools, Instant


class Vector(NamedTuple):
    """The answer of one instant query: raw bytes of each series' label object, and its value."""

    keys: list[bytes]
    values: F64


class Matrix(NamedTuple):
    """The answer of one range query: `values[i, j]` is series j at `at[i]`, NaN where it has no sample."""

    keys: list[bytes]
    at: F64
    values: F64


class Frame(NamedTuple):
    """All series of one step at one tick; NaN = no sample."""

    at: Instant
    values: F64
    asked: Bools
    """Whether the row's watch was answered: only then does NaN mean absent."""
