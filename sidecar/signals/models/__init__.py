"""Columnar models, one idea a file. Every array's last axis is the row; rows never touch one another."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from sidecar.types import I64

f4 = np.float32
Array = npt.NDArray[Any]
APART = 131_072  # bytes: what glibc gives pages of its own, until it has seen something larger go


def zeros(shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """Zeros for what is kept long. What is large has pages of its own: they cost no memory until they are written, and
    go back to the system with the array, where those of the heap would be left as holes between what is still used."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < APART:
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype).reshape(shape)


class Field(NamedTuple):
    """One column, or `shape` of them: the value of a fresh row and the type."""

    shape: tuple[int, ...] = ()
    fresh: float | Array = 0.0
    dtype: type[np.generic] = np.float32


FEW = 2048
"""Rows up to which a call costs more than its work."""


def together(numbers: Iterable[int], rows: int) -> list[slice]:
    """Which of these parts of an array, each of so many rows, are worked on in one call: neighbours where rows are
    few, since it is the calls that cost; else one by one, so that the work stays in the processor's cache.

    >>> together([0, 1, 3], 20), together([0, 1], 20_000)
    ([slice(0, 2, None), slice(3, 4, None)], [slice(0, 1, None), slice(1, 2, None)])
    """
    runs: list[slice] = []
    for i in numbers:
        if runs and rows <= FEW and runs[-1].stop == i:
            runs[-1] = slice(runs[-1].start, i + 1)
        else:
            runs.append(slice(i, i + 1))
    return runs


class Columns:
    """State as named arrays `[*shape, rows]`; what a model must remember is exactly its fields."""

    fields: ClassVar[Mapping[str, Field]] = {}

    def __init__(self, rows: int) -> None:
        self.rows = rows
        for name, field in self.fields.items():
            made = zeros((*field.shape, rows), field.dtype)
            if np.ndim(field.fresh) or field.fresh != 0:
                made[...] = field.fresh
            setattr(self, name, made)

    def forget(self, rows: I64) -> None:
        """Make rows fresh, because other series take them."""
        for name, field in self.fields.items():
            getattr(self, name)[..., rows] = field.fresh

    def state(self) -> dict[str, Array]:
        """The arrays themselves, not copies."""
        return {name: getattr(self, name) for name in self.fields}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over saved arrays; ValueError when one does not fit this version."""
        for name, field in self.fields.items():
            array = state[name]
            if array.shape != (*field.shape, self.rows) or array.dtype != field.dtype:
                raise ValueError(f"{type(self).__name__}.{name}: {array.dtype}{array.shape} does not fit")
        for name in self.fields:
            getattr(self, name)[...] = state[name]

    def copy_rows(self, to: I64, source: Columns, rows: I64) -> None:
        """Overwrite our rows `to` with another model's rows."""
        for name in self.fields:
            getattr(self, name)[..., to] = getattr(source, name)[..., rows]
