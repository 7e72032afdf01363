"""The first days of an install that finds a week of history: `python -m tests.quality.first --data FOLDER --set asd`.

Each file is one install. Its first week is taught as from Prometheus (five-minute samples, then the last 2,880 at the
live step), the days after are lived. Judged as in `breach`, with limits of the whole file, since it is the odds that
are looked at; `cold` is the same where the week taught forecasts but no odds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.lesson import Lesson
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, HORIZONS, Instant
from tests.quality import breach
from tests.quality.__main__ import show
from tests.quality.data import SETS, File, load

DAY, WEEK = 86400.0, 7 * 86400.0
GAP = 300.0  # seconds for which a range query repeats a sample
AFTER = (0.25, 1.0)  # days that are judged


def taught(file: File, watches: dict[str, Watch], keys: list[bytes], now: float, odds: bool) -> Engine:
    """An engine that has learned the history until `now`."""
    engine, lesson = Engine(file.step), Lesson(file.step, resumed=False)
    engine.watch(watches)
    for watch, key in zip(watches.values(), keys, strict=True):
        lesson.add(watch, [key], Instant(float(file.at[0])))
    lesson.plan(Instant(now), LearningConfig())
    if not odds:
        lesson._odds_since = np.inf
    for span in lesson.spans:
        at = np.arange(span.start, span.end + 1, span.step)
        last = np.searchsorted(file.at, at, side="right") - 1
        values = np.where(
            (last >= 0) & (at - file.at[last] <= GAP), file.values[np.maximum(last, 0)].T, np.nan
        )
        lesson.replay(span, [Matrix([key], at, x[:, None]) for key, x in zip(keys, values, strict=True)])
    lesson.adopt(engine, Instant(now), len(keys))
    return engine


def live(file: File, odds: bool, days: float) -> list[breach.Line]:
    """Each limit of a file, from a week after its first sample on."""
    n, now = file.values.shape[1], float(file.at[0] + WEEK)
    limits = [breach.limits(file.values[:, j], 1.0) for j in range(n)]
    keys = [b'{"n":"%d"}' % j for j in range(n)]
    watches = {str(j): Watch(str(j), str(j), "config", file.step, limits=tuple(limits[j])) for j in range(n)}
    engine = taught(file, watches, keys, now, odds)
    said = np.full((3, len(file.at), n, 4), np.nan, np.float32)
    for i in np.flatnonzero((file.at >= now) & (file.at < now + days * DAY)).tolist():
        answers = {
            str(j): Vector([key], x)
            for (j, key), x in zip(enumerate(keys), file.values[i, :, None], strict=True)
        }
        table = engine.tick(Instant(float(file.at[i])), answers, n)
        for row, limit, p in zip(
            table.limits.row.tolist(), table.limits.limit, table.limits.probability.T, strict=True
        ):
            j = int(table.watch_of[row])
            said[:, i, j, limits[j].index(limit)] = p
    none = np.full((3, len(file.at)), np.nan, np.float32)
    return [
        breach._line(file, file.values[:, j], limit, said[:, :, j, k], none)
        for j in range(n)
        for k, limit in enumerate(limits[j])
    ]


def _skill(lines: list[breach.Line], days: float, now: list[F64]) -> list[str]:
    """Brier skill at each horizon, over the first days."""
    out = list[str]()
    for h in range(len(HORIZONS)):
        parts = [(line.at >= t) & (line.at < t + days * DAY) for line, t in zip(lines, now, strict=True)]
        p = np.concatenate([line.odds[h, part] for line, part in zip(lines, parts, strict=True)])
        came = np.concatenate([line.came[h, part] for line, part in zip(lines, parts, strict=True)])
        rate = float(came.mean())
        out.append(f"{1 - float(np.mean((p - came) ** 2)) / max(1e-12, rate * (1 - rate)):.3f}")
    return out


def main() -> None:
    """Print the table of one set."""
    parser = argparse.ArgumentParser(prog="first", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--files", type=int, default=4)
    args = parser.parse_args()
    files = [file for file in load(args.data, args.set) if file.step <= 600][: args.files]
    rows = [("days", "history", *(name for name, _ in HORIZONS))]
    for odds in (False, True):
        lines, now = list[breach.Line](), list[F64]()
        for file in files:
            mine = live(file, odds, AFTER[-1])
            lines += mine
            now += [file.at[0] + WEEK] * len(mine)
        rows += [(f"{days:g}", "taught" if odds else "cold", *_skill(lines, days, now)) for days in AFTER]
    show(f"Brier skill in the first days of an install, {args.set}, {len(files)} files", rows)


if __name__ == "__main__":
    main()
