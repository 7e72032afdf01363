"""A fitted model as arrays, and how it goes on from sample to sample: no library of its own is needed for that.

All models see what is left of a series when its curve of the week and its regressors have been taken off, in units of
its own. Linear ones (ARIMA, ETS, structural) are their state-space form with the gain that a long past has led to:
s' = A s + g (r - z s), a forecast is z A^(h-1) s (Durbin, Koopman, "Time series analysis by state space methods",
2012, section 4.3). A recurrent net is one LSTM cell with a linear head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.types import F32, F64, HORIZONS

MODELS: Mapping[str, str] = {
    "arima": "models",
    "ets": "models",
    "uc": "models",
    "prophet": "prophet",
    "lstm": "deep",
}
"""Every model, and the extra that brings its library."""
GRID = 300.0
"""Seconds between two samples that a model learns from and goes on with."""
WEEK = round(7 * 86400 / GRID)
AHEAD = tuple(round(h / GRID) for _, h in HORIZONS)
"""How many of them lie until each horizon."""
LONGEST = AHEAD[-1]


class Linear(NamedTuple):
    """State space of one model, its state's last entry being 1; float64 throughout."""

    transition: F64
    gain: F64
    design: F64
    state: F64

    @property
    def size(self) -> int:
        """Entries of the state."""
        return len(self.state)


class Cell(NamedTuple):
    """One LSTM cell of n units with one input, and a linear head for the horizons; gates as torch orders them."""

    into: F64
    """[4 n]"""
    back: F64
    """[4 n, n]"""
    bias: F64
    head: F64
    """[horizons, n + 1]; the last column is added."""
    state: F64
    """[2 n]: what it says and what it holds."""

    @property
    def size(self) -> int:
        """Entries of the state."""
        return len(self.state)


class Fitted(NamedTuple):
    """What a fit in the worker gives back."""

    model: str
    at: float
    """Unix seconds of the last sample that its state knows, on the grid."""
    curve: F32
    """[WEEK]: what is usual at each point of the week on the wall clock."""
    regressors: tuple[str, ...]
    beta: F64
    """What one more of each adds."""
    scale: float
    """Unit of what is left."""
    error: F64
    """[horizons]: mean absolute error on the last part of the past, which it had not been fitted to."""
    core: Linear | Cell


class Linears:
    """Linear models side by side, padded to the largest; axis 0 is the model."""

    def __init__(self, cores: Sequence[Linear]) -> None:
        size, n = max(core.size for core in cores), len(cores)
        self.transition, self.state = np.zeros((n, size, size)), np.zeros((n, size))
        self.gain, self.design = np.zeros((n, size)), np.zeros((n, size))
        self.ahead = np.zeros((n, len(AHEAD), size))
        for i, core in enumerate(cores):
            m = core.size
            self.transition[i, :m, :m], self.state[i, :m] = core.transition, core.state
            self.gain[i, :m], self.design[i, :m] = core.gain, core.design
            row, step = core.design, 1
            for j, blocks in enumerate(AHEAD):
                while step < blocks:
                    row, step = row @ core.transition, step + 1
                self.ahead[i, j, :m] = row

    def peek(self, left: F64) -> tuple[F64, F64]:
        """The state after one more sample f64[n] (NaN: there is none), and what it says f64[horizons, n]."""
        error = left - np.einsum("nm,nm->n", self.design, self.state)
        after = np.einsum("nij,nj->ni", self.transition, self.state)
        after += np.nan_to_num(error)[:, None] * self.gain
        return after, np.einsum("nhm,nm->hn", self.ahead, after)


class Cells:
    """LSTM cells of one size side by side; axis 0 is the model."""

    def __init__(self, cores: Sequence[Cell]) -> None:
        self.into, self.back, self.bias, self.head, self.state = (
            np.stack([getattr(core, name) for core in cores]) for name in Cell._fields
        )

    def peek(self, left: F64) -> tuple[F64, F64]:
        """As `Linears.peek`; a sample that is not there is taken for the usual."""
        said, held = np.split(self.state, 2, axis=1)
        gates = (
            np.einsum("ngh,nh->ng", self.back, said) + self.bias + self.into * np.nan_to_num(left)[:, None]
        )
        into, forget, new, out = np.split(gates, 4, axis=1)
        held = _sigmoid(forget) * held + _sigmoid(into) * np.tanh(new)
        said = _sigmoid(out) * np.tanh(held)
        after = np.concatenate([said, held], axis=1)
        return after, np.einsum("nhu,nu->hn", self.head[:, :, :-1], said) + self.head[:, :, -1].T


def bank(cores: Sequence[Linear | Cell]) -> Linears | Cells:
    """Models of one kind side by side."""
    if isinstance(cores[0], Cell):
        return Cells([core for core in cores if isinstance(core, Cell)])
    return Linears([core for core in cores if isinstance(core, Linear)])


def kind(core: Linear | Cell) -> tuple[str, int]:
    """Which cores can lie side by side."""
    return (type(core).__name__, core.size if isinstance(core, Cell) else 0)


def past(core: Linear | Cell, left: F64) -> tuple[Linear | Cell, F64]:
    """Go through samples f64[times]: the core after them, and what it said at each f64[horizons, times]."""
    beside = bank([core])
    out = np.empty((len(AHEAD), len(left)))
    for i, value in enumerate(left):
        beside.state, said = beside.peek(np.array([value]))
        out[:, i] = said[:, 0]
    return core._replace(state=beside.state[0]), out


def _sigmoid(x: F64) -> F64:
    out: F64 = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return out
