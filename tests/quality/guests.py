"""`python -m tests.quality.guests --data FOLDER`: what fitted models add to the forecasts of series that have them.

A share of the series of NAB and ASD (five-minute steps), each run with its own experts alone and with guests that are
fitted to its past after 7, 14 and 28 days, as live: strictly one sample after the other, same-time-yesterday being 1.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sidecar.signals import backtest
from sidecar.signals.engine import Engine
from sidecar.signals.guestbook import Party
from sidecar.signals.modelling import Past, Tried, fit
from sidecar.signals.models.fitted import GRID, WEEK, Fitted
from sidecar.types import HORIZONS
from tests.quality import forecast
from tests.quality.__main__ import show
from tests.quality.data import File, load
from tests.quality.ours import AHEAD, Said

DAY = 86400.0
DAYS = (7, 14, 28)
LONGEST = 28 * 288
WEEK_SECONDS = 7 * DAY


class Fit(NamedTuple):
    """One fit that was done: of which file, after how many days."""

    file: str
    day: int
    tried: Tried


def subset(data: Path, name: str, every: int) -> list[File]:
    """Files of one column each, of every so many series that move."""
    columns = [
        file._replace(name=f"{file.name} {j}", values=file.values[:, [j]], real=file.real[:, [j]])
        for file in load(data, name)
        if file.step == GRID and len(file.at) > 8 * 288
        for j in range(file.values.shape[1])
    ]
    return [file for file in columns if np.nanstd(file.values) > 0][::every]


def fits(file: File, models: Sequence[str]) -> list[Fit]:
    """What each model makes of the past of a file, as it was after some days."""
    out = []
    for day in DAYS:
        n = int(np.searchsorted(file.at, file.at[0] + day * DAY))
        if n > len(file.at) - 288:
            break
        at = np.rint(file.at[max(0, n - LONGEST) : n] / GRID) * GRID
        past = Past(at, (at / GRID).astype(np.int64) % WEEK, file.values[max(0, n - LONGEST) : n, 0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out += [Fit(file.name, day, fit(model, past, 120.0)) for model in models]
    return out


def run(
    name: str, files: list[File], found: list[Fit], models: Sequence[str]
) -> tuple[str, tuple[str, ...], list[forecast.Errors]]:
    """The errors of a run in which these models are guests."""
    recordings = [backtest.Recording(file.name, file.at, file.values) for file in files]
    base = math.floor(min(file.at[0] for file in files) / WEEK_SECONDS) * WEEK_SECONDS
    moves = [math.floor((file.at[0] - base) / WEEK_SECONDS) * WEEK_SECONDS for file in files]
    due = [
        (file.at[0] - move + fit.day * DAY, i, move, fit.tried.fitted)
        for i, (file, move) in enumerate(zip(files, moves, strict=True))
        for fit in found
        if fit.file == file.name and fit.tried.fitted and fit.tried.model in models
    ]
    due.sort(key=lambda one: one[0])

    def seat(engine: Engine) -> None:
        now: dict[int, list[Fitted]] = {}
        while due and due[0][0] <= engine.at:
            _, i, move, guest = due.pop(0)
            now.setdefault(i, []).append(guest._replace(at=guest.at - move))
        parties = [
            Party(("backtest", b'{"file":"%d","column":"0"}' % i), "UTC", tuple(guests), engine.at)
            for i, guests in now.items()
        ]
        if parties:
            engine.invite(parties, lambda *_: True)

    errors = []
    for file, one in zip(files, backtest.run(recordings, GRID, AHEAD, between=seat), strict=True):
        names, nothing = iter(AHEAD), np.empty(0)
        ahead = [(one[a], one[b], one[c]) for a, b, c in zip(names, names, names, strict=True)]
        errors += forecast.judge(file, Said(nothing, nothing, nothing, nothing, ahead))
    return name, tuple(models), errors


def table(found: dict[tuple[str, tuple[str, ...]], list[forecast.Errors]]) -> list[tuple[str, ...]]:
    """Of each set and of guests: error at each horizon, how often it is less and more than without, coverage."""
    lines = [("set", "guests", "series", "error", "less by 1 %", "more by 1 %", "most", "covered", "Winkler")]
    for (name, models), errors in found.items():
        alone = found[name, ()]
        by = [[e for e in errors if e.horizon == h] for h in range(len(HORIZONS))]
        ratio = np.array([e.relative[0] / a.relative[0] for e, a in zip(errors, alone, strict=True)])
        lines.append(
            (
                name,
                " ".join(models) or "-",
                str(len(by[0])),
                " ".join(f"{np.exp(np.nanmean(np.log([e.relative[0] for e in mine]))):.3f}" for mine in by),
                f"{np.mean(ratio < 0.99):.2f}",
                f"{np.mean(ratio > 1.01):.2f}",
                f"{np.nanmax(ratio):.2f}",
                " ".join(f"{sum(e.inside for e in mine) / sum(e.judged for e in mine):.3f}" for mine in by),
                " ".join(
                    f"{np.exp(np.mean(np.log([max(e.winkler, 1e-6) for e in mine]))):.3f}" for mine in by
                ),
            )
        )
    return lines


def main() -> None:
    """Fit, run and print."""
    parser = argparse.ArgumentParser(prog="guests", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["arima", "ets", "uc"])
    parser.add_argument("--every", type=int, default=16, help="one of so many series of ASD")
    parser.add_argument("--each", action="store_true", help="each model alone, too")
    parser.add_argument("--sets", nargs="*", default=["nab", "asd"])
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    files = {name: subset(args.data, name, args.every if name == "asd" else 1) for name in args.sets}
    ways = [(), *([(model,) for model in args.models] if args.each else ()), tuple(args.models)]
    began = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(fits, file, args.models) for mine in files.values() for file in mine]
        found = [fit for task in tasks for fit in task.result()]
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        runs = [
            pool.submit(run, name, mine, found, way)
            for name, mine in files.items()
            for way in dict.fromkeys(ways)
        ]
        errors = {(name, way): of for name, way, of in (one.result() for one in runs)}
    lines = [("model", "fits", "mean seconds", "outcomes")]
    for model in args.models:
        mine = [fit.tried for fit in found if fit.tried.model == model]
        counts = Counter(tried.outcome for tried in mine)
        words = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        lines.append((model, str(len(mine)), f"{np.mean([t.seconds for t in mine]):.1f}", words))
    show("Fits", lines)
    show("Error relative to same-time-yesterday (less is better) without and with guests", table(errors))


if __name__ == "__main__":
    main()
