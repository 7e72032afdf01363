"""`python -m tests.quality.guests --data FOLDER`: what fitted models add to the forecasts of series that have them.

NAB and a share of ASD (steps of five minutes), strictly one sample after the other: what the engine's own experts say,
and what comes of it with guests that are fitted to the past after 7, 14 and 28 days. Same-time-yesterday is 1.
"""

from __future__ import annotations

import argparse
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

from sidecar.signals.forecast.guestbook import Party
from sidecar.signals.forecast.guests import Guests, Outlook
from sidecar.signals.forecast.modelling import Past, Tried, fit
from sidecar.signals.models.fitted import GRID, WEEK
from sidecar.types import F64, HORIZONS
from tests.quality import forecast, ours
from tests.quality.__main__ import show
from tests.quality.data import File, load
from tests.quality.ours import Said

DAY = 86400.0
DAYS = (7, 14, 28)
LONGEST = 28 * 288


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


def alone(files: list[File]) -> list[F64]:
    """What the own experts say of each file f64[horizons, times], all as columns of one engine."""
    return [np.stack([value[:, 0] for value, _, _ in said.ahead]) for said in ours.run(files, True)]


def joined(
    files: list[File], base: list[F64], found: list[Fit], models: Sequence[str], only: bool = False
) -> list[F64]:
    """The same with these models as guests, by the product's own mixture; files of one clock at once. `only`: what the
    first of them says by itself."""
    out, clocks = [of.copy() for of in base], dict[bytes, list[int]]()
    for i, file in enumerate(files):
        clocks.setdefault(file.at.tobytes(), []).append(i)
    for mine in clocks.values():
        at = np.rint(files[mine[0]].at / GRID) * GRID
        values = np.stack([files[i].values[:, 0] for i in mine], axis=1)
        origin = np.nanmean(values, axis=0)
        own = np.stack([base[i] for i in mine], axis=2) - origin
        guests, none = Guests(GRID), Outlook((), np.empty((1 + len(HORIZONS), len(mine), 0)))
        names = [files[i].name for i in mine]
        for n, now in enumerate(at.tolist()):
            due = [f for f in found if f.file in names and f.tried.fitted and f.tried.fitted.at == at[n - 1]]
            parties = (
                [
                    Party(
                        ("", str(seat).encode()),
                        "UTC",
                        tuple(
                            f.tried.fitted
                            for f in due
                            if f.file == name and f.tried.fitted and f.tried.model in models
                        ),
                        now,
                    )
                    for seat, name in enumerate(names)
                ]
                if due
                else []
            )
            guests.invite(parties)
            if not guests.parties:
                continue
            rows = np.array([int(key) for _, key in guests.parties])
            guests.rows = np.arange(len(rows))
            guests.look(now, values[n, rows], none)
            said = own[:, n, rows].astype(np.float32)
            guests.join(0, len(rows), said, origin[rows])
            if only:
                itself = guests._say[:, 1] - origin[rows]
                said = np.where(np.isfinite(itself), itself, said)
            guests.learn(now, np.ones(len(rows), bool))
            for seat, row in enumerate(rows.tolist()):
                out[mine[row]][:, n] = said[:, seat] + origin[row]
    return out


def errors(files: list[File], said: list[F64]) -> list[forecast.Errors]:
    """Judged as all forecasts are; nothing is said of intervals."""
    nothing = np.empty(0)
    return [
        error
        for file, of in zip(files, said, strict=True)
        for error in forecast.judge(
            file, Said(nothing, nothing, nothing, nothing, [(row[:, None],) * 3 for row in of])
        )
    ]


def table(found: dict[tuple[str, str], list[forecast.Errors]]) -> list[tuple[str, ...]]:
    """Of each set and of guests: error at each horizon, and on how many series and horizons it is less and more."""
    lines = [
        ("set", "guests", "series", "error at 15, 30, 60 min", "less by 1 %", "more by 1 %", "most", "least")
    ]
    for (name, models), mine in found.items():
        ratio = np.array([e.relative[0] / a.relative[0] for e, a in zip(mine, found[name, "-"], strict=True)])
        by = [[e.relative[0] for e in mine if e.horizon == h] for h in range(len(HORIZONS))]
        lines.append(
            (
                name,
                models,
                str(len(by[0])),
                " ".join(f"{np.exp(np.nanmean(np.log(of))):.4f}" for of in by),
                f"{np.mean(ratio < 0.99):.2f}",
                f"{np.mean(ratio > 1.01):.2f}",
                f"{np.nanmax(ratio):.3f}",
                f"{np.nanmin(ratio):.3f}",
            )
        )
    return lines


def measured(
    name: str, files: list[File], found: list[Fit], models: Sequence[str]
) -> dict[tuple[str, str], list[forecast.Errors]]:
    """Of one set: without guests, with each model, with all."""
    base = alone(files)
    out = {(name, "-"): errors(files, base)}
    for model in models if len(models) > 1 else ():
        out[name, model] = errors(files, joined(files, base, found, [model]))
        out[name, f"{model} by itself"] = errors(files, joined(files, base, found, [model], only=True))
    out[name, " ".join(models)] = errors(files, joined(files, base, found, models))
    return out


def main() -> None:
    """Fit, run and print."""
    parser = argparse.ArgumentParser(prog="guests", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["arima", "ets", "uc"])
    parser.add_argument("--every", type=int, default=8, help="one of so many series of ASD")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    files = {name: subset(args.data, name, args.every if name == "asd" else 1) for name in ("nab", "asd")}
    began = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(fits, file, args.models) for mine in files.values() for file in mine]
        found = [fit for task in tasks for fit in task.result()]
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
        runs = [pool.submit(measured, name, mine, found, args.models) for name, mine in files.items()]
        every = {way: of for one in runs for way, of in one.result().items()}
    lines = [("model", "fits", "mean seconds", "outcomes")]
    for model in args.models:
        mine = [fit.tried for fit in found if fit.tried.model == model]
        words = ", ".join(f"{n} {outcome}" for outcome, n in Counter(tried.outcome for tried in mine).items())
        lines.append((model, str(len(mine)), f"{np.mean([t.seconds for t in mine]):.1f}", words))
    show("Fits", lines)
    show("Error relative to same-time-yesterday (less is better) without and with guests", table(every))


if __name__ == "__main__":
    main()
