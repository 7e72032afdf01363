"""Promantis itself over a file, tick by tick, nothing looked at twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sidecar.signals.block import Block
from sidecar.signals.snapshot import COLUMNS
from sidecar.types import F64, HORIZONS
from tests.quality.data import File


class Said(NamedTuple):
    """f64[times, members] each; `ahead[h]` is value, lower and upper."""

    raw: F64
    confidence: F64
    age: F64
    ahead: list[tuple[F64, F64, F64]]


def run(files: list[File]) -> list[Said]:
    """What is said of each file at each tick; all files have the same clock."""
    values = np.concatenate([file.values for file in files], axis=1)
    times, rows = values.shape
    block, on = Block(rows, files[0].step), np.ones(rows, bool)
    out = {name: np.empty(rows, kind) for name, kind in COLUMNS.items()}
    ahead = [f"f{name[:-1]}{kind}" for name, _ in HORIZONS for kind in ("", "_lower", "_upper")]
    kept = {name: np.empty((times, rows)) for name in ("raw", "confidence", "age", *ahead)}
    for i, at in enumerate(files[0].at.tolist()):
        block.tick(at, values[i], on, on, out)
        for name, column in kept.items():
            column[i] = out[name]
    said, lo = [], 0
    for file in files:
        mine = {name: column[:, lo : lo + file.values.shape[1]] for name, column in kept.items()}
        triples = [(mine[a], mine[b], mine[c]) for a, b, c in zip(*[iter(ahead)] * 3, strict=True)]
        said.append(Said(mine["raw"], mine["confidence"], mine["age"], triples))
        lo += file.values.shape[1]
    return said
