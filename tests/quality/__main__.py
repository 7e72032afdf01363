"""`python -m tests.quality --data FOLDER [--quick] [--only WHAT] [--no-peers]`: print the tables."""

from __future__ import annotations

import argparse
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np

from sidecar.signals.forecast.calibrate import GROUP, SERIES
from tests.quality import breach, causes, detection, forecast, reliability, told
from tests.quality.data import GROUPS, SETS, File, load, scorer
from tests.quality.measure import Job, Result, join, measure

PARTS = ("detection", "forecast", "breach", "reliability", "causes")
PROCESSES = 2


def show(title: str, lines: list[tuple[str, ...]]) -> None:
    """Print a table."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def jobs(files: list[File], parts: list[str], peers: bool) -> list[Job]:
    """Ours by step, as columns of one engine; the peers file by file. The longest first."""
    by_step: dict[float, list[File]] = {}
    for file in files:
        by_step.setdefault(file.step, []).append(file)
    ours = list[Job]()
    if {"detection", "forecast", "reliability"}.intersection(parts):
        ours = [Job(same, True, "forecast" in parts) for same in by_step.values()]
    if "breach" in parts:  # limits are judged where an hour has several samples
        fleets: dict[tuple[str, float], list[File]] = {}
        for file in files:
            if file.step <= 600:
                fleets.setdefault((file.set, file.step), []).append(file)
        ours += [Job(same, True, False, True) for same in fleets.values()]
    ours.sort(key=lambda job: -max(len(file.at) for file in job.files))
    others = [Job([file], False, False) for file in sorted(files, key=lambda file: -file.values.size)]
    return ours + (others if peers and "detection" in parts else [])


def results(work: list[Job]) -> dict[str, list[Result]]:
    """Do the jobs; what was found, by set."""
    began, done = time.monotonic(), dict[tuple[str, str], Result]()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes: one core each
    with get_context("spawn").Pool(PROCESSES) as pool:
        for found in pool.imap_unordered(measure, work):
            for one in found:
                key = one.file.set, one.file.name
                done[key] = join(done[key], one) if key in done else one
            names = sorted({one.file.set for one in found})
            print(f"{time.monotonic() - began:4.0f}s {len(found)} of {' '.join(names)}", file=sys.stderr)
    every = {name: [done[key] for key in sorted(done) if key[0] == name] for name in SETS}
    return {name: mine for name, mine in every.items() if mine}


def tables(found: dict[str, list[Result]], parts: list[str], score: ModuleType) -> None:
    """Print what is wanted."""
    if "detection" in parts:
        judge = detection.Judge(score, found)
        show(
            "Detection: event recall within .01, .1, .5 false pages per series and day (each set its threshold)",
            detection.budgets(judge),
        )
        show(
            f"One threshold for all sets: 1, and the one with a mean of {detection.MEAN:g} false pages a day\n"
            "Aim: mean recall .65 at .1, Microsoft .65, no set above .2, p95 of the series below .4",
            detection.one_threshold(judge),
        )
        show("Calm: pages on series without an event, at score 1 (aim: .1 a day)", detection.calm(judge))
    if "forecast" in parts:
        errors = {name: [e for r in mine for e in r.errors] for name, mine in found.items()}
        show(
            "Forecasts: error relative to same-time-yesterday (less is better), coverage of the 90 % interval",
            forecast.table(errors),
        )
    if "breach" in parts:
        show(
            "Limits at the 99th and 99.9th percentile of the first half, both ways: Brier skill, calibration error,\n"
            "F1 of announcements ten minutes ahead; predict_linear over its best window of 15m, 1h, 4h",
            breach.table({name: [line for r in mine for line in r.lines] for name, mine in found.items()}),
        )
    if "reliability" in parts:
        every = [run for mine in found.values() for r in mine for run in r.runs]
        runs, joint = (
            {name: mine for name in names if (mine := [run for run in every if run.set == name])}
            for names in (SETS, [reliability.of_groups(name) for name in GROUPS])
        )
        show("Reliability: share of runs that are real", reliability.table(runs))
        show("Reliability of groups", reliability.table(joint))
        print("\nFit of calibrate.py, log odds by score")
        print("\n".join(reliability.fit(runs, SERIES) + reliability.fit(joint, GROUP)))
        show("Feedback: what verdicts on the last runs over 1 would have been worth", told.table(runs))


def main(argv: list[str] | None = None) -> int:
    """Measure all sets, or with --quick a few files of each."""
    parser = argparse.ArgumentParser(prog="quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a few files of each set")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of the tables; repeatable")
    parser.add_argument("--no-peers", action="store_true", help="detection: ours alone, for tuning")
    args = parser.parse_args(argv)
    if not args.data.is_dir():
        print(f"quality: no folder {args.data}: nothing to measure on (DATA=folder names another)")
        return 0
    began, parts = time.monotonic(), args.only or list(PARTS)
    try:
        score = scorer(args.data)
    except FileNotFoundError as missing:
        print(f"quality: {missing} is not there: it judges the scores, and lies beside the data folder")
        return 0
    files = list[File]()
    for name in SETS:
        mine = load(args.data, name)
        files += mine[:: max(1, len(mine) // 3)][:3] if args.quick else mine
    if set(parts) != {"causes"}:
        found = results(jobs(files, parts, not args.no_peers))
        with np.errstate(invalid="ignore"):
            tables(found, parts, score)
    if "causes" in parts:
        show(
            "Causes: the right service first / among the first three (AC@1/AC@3)\n"
            "Aim: PetShop .95/1.0 and Nezha .95/.95 with calls, .60/.95 and .70/.80 without",
            causes.table(args.data),
        )
        show("Causes while it happens", causes.late(args.data))
        show("What the likelihood is worth, with half of the alerts false", causes.sure(args.data))
        show(
            "Metrics of one machine: share of those named by experts among as many first ones",
            causes.metrics(args.data),
        )
        show("Diagnosis, from what is kept of each series", causes.speed())
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
