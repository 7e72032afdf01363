"""`python -m tests.quality --data FOLDER [--quick]`: print the tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tests.quality import forecast, reliability
from tests.quality.data import SETS, jobs, load, scorer
from tests.quality.measure import Result, measure

BUDGETS = [0.01, 0.1, 0.5]
DETECTORS = ("Promantis", "random", "1-day mean/std", "seasonal robust z", "IForest", "PCA")
CUSTOMARY = ("Promantis", "1-day mean/std", "seasonal robust z")
"""Those with a threshold of their own: a score of 1, or three deviations."""


def detection(score: Any, name: str, results: list[Result]) -> Iterator[tuple[str, ...]]:
    """One line per detector: recall inside each budget of false pages, and at its customary threshold."""
    for detector in DETECTORS:
        mine = [r for r in results if detector in r.scores]
        if not mine:
            continue
        series = []
        for r in mine:
            judged = r.file.test
            series.append(
                score.Series(r.file.name, r.file.at[judged], r.file.label[judged], r.scores[detector][judged])
            )
        args = score.args(["-", "--budgets", ",".join(map(str, BUDGETS))])
        score.prepare(series, args)
        recall = [f"{one.get('event_recall', 0.0):.2f}" for one in score.sweep(series, args)] or ["-"] * 3
        fixed = score.summarise(series, 1.0, args)
        at_one = (
            (f"{fixed['event_recall']:.2f}", f"{fixed['false_alerts_per_series_day']:.3f}")
            if detector in CUSTOMARY
            else ("-", "-")
        )
        yield name, f"{len(series)}/{fixed['events']}", detector, *recall, *at_one


def show(title: str, lines: list[tuple[str, ...]]) -> None:
    """Print a table."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def main(argv: list[str] | None = None) -> int:
    """Measure all sets, or with --quick a few files of each."""
    parser = argparse.ArgumentParser(prog="quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a few files of each set")
    args = parser.parse_args(argv)
    if not args.data.is_dir():
        print(f"quality: no folder {args.data}: nothing to measure on (DATA=folder names another)")
        return 0
    try:
        score = scorer(args.data)
    except FileNotFoundError as missing:
        print(f"quality: {missing} is not there: it judges the scores, and lies beside the data folder")
        return 0
    began, results = time.monotonic(), dict[str, list[Result]]()
    work = []
    for name in SETS:
        files = load(args.data, name)
        work += jobs(files[:: max(1, len(files) // 3)][:3] if args.quick else files)
    work.sort(key=lambda files: -len(files[0].at) * (1 + sum(f.values.shape[1] for f in files) / 50))
    with get_context("spawn").Pool(2) as pool:
        for done in pool.imap_unordered(measure, work):
            for result in done:
                results.setdefault(result.file.set, []).append(result)
            print(
                f"{time.monotonic() - began:4.0f}s {done[0].file.set} {len(done)}",
                file=sys.stderr,
                flush=True,
            )
    results = {name: results[name] for name in SETS if name in results}
    with np.errstate(invalid="ignore"):
        lines = [("set", "series/events", "detector", "@.01", "@.1", "@.5", "at 1", "false/day")]
        for name, mine in results.items():
            lines += detection(score, name, mine)
        show(
            "Detection: event recall within .01, .1, .5 false pages per series and day; at score 1 both",
            lines,
        )
        errors = {name: [e for r in mine for e in r.errors] for name, mine in results.items()}
        show(
            "Forecasts: error relative to same-time-yesterday (less is better), coverage of the 90 % interval",
            forecast.table(errors),
        )
        runs = {name: [run for r in mine for run in r.runs] for name, mine in results.items()}
        show("Reliability: share of runs that are real", reliability.table(runs))
    print("\nFit of calibrate.py, log odds by score")
    print("\n".join(reliability.fit(runs)))
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
