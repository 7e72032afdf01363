"""All that is measured on one job: ours over the files of one step, or the peers over one file."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.types import F64
from tests.quality import breach, forecast, ours, peers, reliability
from tests.quality.data import GROUPS, File


class Job(NamedTuple):
    """The work of one process; `ours` or else the peers, with or without forecasts."""

    files: list[File]
    ours: bool
    ahead: bool
    limits: bool = False
    """Breach odds instead of scores."""


class Result(NamedTuple):
    """What a job found about one file; the results of a file's jobs are joined by `join`."""

    file: File
    scores: dict[str, F64]
    errors: list[forecast.Errors]
    runs: list[reliability.Run]
    lines: list[breach.Line] = []  # noqa: RUF012  never changed


def measure(job: Job) -> list[Result]:
    """Run a job."""
    if job.limits:
        return [Result(job.files[0], {}, [], [], breach.run(job.files))]
    if not job.ours:
        return [Result(file, _peers(file), [], []) for file in job.files]
    return [
        Result(
            file,
            {"Promantis": said.score},
            forecast.judge(file, said) if job.ahead else [],
            reliability.runs(file, said),
        )
        for file, said in zip(job.files, ours.run(job.files, job.ahead), strict=True)
    ]


def _peers(file: File) -> dict[str, F64]:
    scores = {
        "random": peers.chance(file),
        "1-day mean/std": peers.usual(file),
        "seasonal robust z": peers.seasonal(file),
    }
    return scores | (peers.group_models(file) if file.set in GROUPS else {"IForest": peers.forest(file)})


def join(one: Result, other: Result) -> Result:
    """Two results of one file."""
    return Result(
        one.file,
        one.scores | other.scores,
        one.errors + other.errors,
        one.runs + other.runs,
        one.lines + other.lines,
    )
