"""Promantis itself over files, tick by tick, nothing looked at twice: the product's own backtest."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.signals.detect import groups
from sidecar.signals.replay import backtest
from sidecar.types import F64, HORIZONS
from tests.quality.data import GROUPS, File

SCORES = ("raw", "lately", "confidence", "age")
AHEAD = tuple(f"f{name[:-1]}{kind}" for name, _ in HORIZONS for kind in ("", "_lower", "_upper"))


class Said(NamedTuple):
    """f64[times, members] each, `score` f64[times]; `ahead[h]` is value, lower and upper, none if not wanted."""

    score: F64
    """Of the file: its only member's, or the group's."""
    raw: F64
    confidence: F64
    age: F64
    ahead: list[tuple[F64, F64, F64]]


def run(files: list[File], ahead: bool) -> list[Said]:
    """What is said of each file at each tick; all files have the same step and run as columns of one engine."""
    recordings = [backtest.Recording(file.name, file.at, file.values) for file in files]
    said = []
    for file, one in zip(files, backtest.run(recordings, files[0].step, SCORES + AHEAD * ahead), strict=True):
        score = groups.over_time(one["lately"], file.step) if file.set in GROUPS else one["raw"][:, 0]
        names = iter(AHEAD * ahead)
        triples = [(one[a], one[b], one[c]) for a, b, c in zip(names, names, names, strict=True)]
        said.append(Said(score, one["raw"], one["confidence"], one["age"], triples))
    return said
