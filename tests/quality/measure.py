"""All that is measured on one file: the work of one process."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.types import F64
from tests.quality import forecast, ours, peers, reliability
from tests.quality.data import GROUPS, File


class Result(NamedTuple):
    """All that is measured on one file."""

    file: File
    scores: dict[str, F64]
    errors: list[forecast.Errors]
    runs: list[reliability.Run]


def measure(files: list[File]) -> list[Result]:
    """Run ours and the peers over files of one clock."""
    out = []
    for file, said in zip(files, ours.run(files), strict=True):
        scores = {
            "Promantis": peers.top2(said.raw),
            "random": peers.chance(file),
            "1-day mean/std": peers.usual(file),
            "seasonal robust z": peers.seasonal(file),
        }
        scores |= peers.group_models(file) if file.set in GROUPS else {"IForest": peers.forest(file)}
        out.append(Result(file, scores, forecast.judge(file, said), reliability.runs(file, said)))
    return out
