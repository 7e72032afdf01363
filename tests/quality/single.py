"""`python -m tests.quality.single --data FOLDER`: would fitted models help single series, as they may help groups?

Models of pyod see the last ten deviations of a series, in half widths of its band. As for groups (fits.py) each
is fitted to the first part of the past, put into the score's units on the second, and on the third it is judged by what
it finds of made shifts, three to ten ticks long; the past is the first 70 % of a file. What is judged here is the rest,
by its labels: each model joined everywhere, and the one that each series would have chosen for itself, or none.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidecar.signals.learn import fits
from sidecar.signals.replay import backtest
from sidecar.types import F32, F64, Bools
from tests.quality.__main__ import show
from tests.quality.data import SETS, File, load, scorer

LAGS = 10
KNOWN = 0.7
"""Share of a file that is its past."""
FARTHEST = 4.0
SHIFT, APART = (3, 5, 10), 30
BUDGETS = "0.02,0.1,0.5"


class Series(NamedTuple):
    """What was said of one series f64[times]: its score, and how far off it was, where 1 is the edge of its band."""

    name: str
    at: F64
    step: float
    label: F64
    score: F32
    off: F64


def of(files: list[File], each: int) -> Iterator[Series]:
    """Every `each`th series of files of one step."""
    recordings = [backtest.Recording(file.name, file.at, file.values) for file in files]
    said = backtest.run(recordings, files[0].step, ("raw", "expected", "lower", "upper"))
    for file, one in zip(files, said, strict=True):
        for j in range(0, file.values.shape[1], each if file.values.shape[1] > 1 else 1):
            raw, half = one["raw"][:, j], np.maximum((one["upper"] - one["lower"])[:, j] / 2, 1e-9)
            off = np.nan_to_num(np.clip((file.values - one["expected"])[:, j] / half, -FARTHEST, FARTHEST))
            score = np.asarray(np.clip(raw, -3, 10), np.float32)  # NaN stays
            yield Series(f"{file.name}.{j}", file.at, file.step, file.real[:, j], score, off)


class Made(NamedTuple):
    """Shifts: first tick, ticks, and size of each."""

    start: Any
    ticks: Any
    size: F64

    def put(self, off: F64, score: F32, size: float, slope: float) -> tuple[F64, F32]:
        """Deviations and scores with these in them; a score rises by `slope` for ten times the deviation."""
        off, score = off.copy(), score.copy()
        for start, ticks, one in zip(self.start, self.ticks, self.size, strict=True):
            rows = slice(start, start + ticks)
            off[rows] += one * size
            score[rows] = np.fmax(score[rows], 1 + slope * np.log10(np.maximum(np.abs(off[rows]), 1e-3)))
        return off, score

    def hit(self, score: F32) -> Bools:
        """Which are at 1 or over it in one of their ticks."""
        return np.array([(score[a : a + n] >= 1).any() for a, n in zip(self.start, self.ticks, strict=True)])


def made(ticks: int, seed: int) -> Made:
    """Shifts for so many ticks."""
    random = np.random.default_rng(seed)
    start = np.arange(LAGS, ticks - LAGS, max(APART, ticks // fits.SHIFTS))
    size = random.uniform(0.5, 1.5, len(start)) * random.choice([-1, 1], len(start))
    return Made(start, random.choice(SHIFT, len(start)), size)


def windows(off: F64) -> F32:
    """The last deviations f32[times, LAGS] at each tick."""
    padded = np.concatenate([np.zeros(LAGS - 1), off])
    return np.lib.stride_tricks.sliding_window_view(padded, LAGS).astype(np.float32)


def _slope(off: F64, score: F32) -> float:
    """How a score rises with the deviation, where it is of use."""
    use = (np.abs(off) > 0.3) & (np.abs(off) < 3) & np.isfinite(score)
    if use.sum() < 50:
        return 2.0
    x = np.log10(np.abs(off[use]))
    return max(0.5, float(np.polyfit(x, score[use], 1)[0]))


def joined(one: Series) -> tuple[dict[str, F32], str]:
    """Joined scores by model, of those that calibrate; and the model that its own past chooses, empty: none."""
    x, past = windows(one.off), round(KNOWN * len(one.at))
    first, second = (round(past * part) for part in fits.PARTS)
    said = np.nan_to_num(one.score, nan=-1)
    if first < 300 or x[:first].std() < fits.LEAST_STD:
        return {}, ""
    rest, slope = slice(second, past), _slope(one.off[:past], one.score[:past])
    off, alone = one.off[rest], said[rest]
    sets = [made(len(off), seed) for seed in (1, 2)]
    low, high, size = 0.0, FARTHEST * 2, FARTHEST
    for _ in range(10):
        size = (low + high) / 2
        found = sets[0].hit(sets[0].put(off, alone, size, slope)[1]).mean()
        low, high = (low, size) if found > 0.5 else (size, high)
    shifted = [each.put(off, alone, size, slope) for each in sets]
    out, finds = dict[str, F32](), dict[str, tuple[Bools, Bools]]()
    for model in fits.MODELS:
        try:
            fitted = fits._fit(model, x[:first])
            own = fits._score(fitted, x)
        except (ValueError, ArithmeticError):
            continue
        way = fits.calibrate(said[first:second], own[first:second], one.step)
        if way is None or way.shift < fits.MUTED:
            continue
        out[model] = both = fits.join(way, said, own)
        if fits.runs(both[rest] >= 1) <= fits.runs(alone >= 1):
            theirs = [fits.join(way, s, fits._score(fitted, windows(o))) for o, s in shifted]
            finds[model] = sets[0].hit(theirs[0]), sets[1].hit(theirs[1])
    best = max(finds, key=lambda model: finds[model][0].sum(), default="")
    if best:
        mine, theirs_ = sets[1].hit(shifted[1][1]), finds[best][1]
        gain, differ = int(theirs_.sum()) - int(mine.sum()), int((theirs_ != mine).sum())
        if not (gain > 0 and gain >= fits.MARGIN * len(mine) and gain >= fits.SURE * np.sqrt(differ)):
            best = ""
    return {model: np.where(np.isnan(one.score), np.nan, both) for model, both in out.items()}, best


def table(score: Any, series: list[Series]) -> list[tuple[str, ...]]:
    """Recall of events within budgets of false pages, and both at a score of 1."""
    ways = [joined(one) for one in series]
    chosen = [i for i, (_, best) in enumerate(ways) if best]
    every = {
        "the score": [one.score for one in series],
        "joined where its past says so": [
            said[best] if best else one.score for one, (said, best) in zip(series, ways, strict=True)
        ],
        **{
            f"{model} everywhere": [
                said.get(model, one.score) for one, (said, _) in zip(series, ways, strict=True)
            ]
            for model in fits.MODELS
        },
    }
    lines: list[tuple[str, ...]] = [("", "series", "events", "@.02", "@.1", "@.5", "at 1", "false a day")]
    for name, scores in every.items():
        lines.append((name, *_judged(score, [(s, x) for s, x in zip(series, scores, strict=True)])))
        if name in list(every)[:2] and chosen:
            lines.append(("  where one joins", *_judged(score, [(series[i], scores[i]) for i in chosen])))
    return lines


def _judged(score: Any, pairs: list[tuple[Series, F32]]) -> tuple[str, ...]:
    rest = [(one, x, slice(round(KNOWN * len(one.at)), None)) for one, x in pairs]
    mine = [score.Series(one.name, one.at[t], one.label[t], x[t].astype(float)) for one, x, t in rest]
    args = score.args(["-", "--budgets", BUDGETS])
    score.prepare(mine, args)
    at: Mapping[str, Any] = score.summarise(mine, 1.0, args)
    recall = [f"{found.get('event_recall') or 0:.2f}" for found in score.sweep(mine, args)]
    events = sum(len(one.ev) for one in mine)
    false = f"{at['false_alerts_per_series_day']:.3f}"
    return str(len(mine)), str(events), *recall, f"{at['event_recall'] or 0:.2f}", false


def main(argv: list[str] | None = None) -> int:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(prog="single", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--each", type=int, default=4, help="of a group every so many members")
    parser.add_argument("--only", nargs="+", choices=SETS, default=SETS)
    args = parser.parse_args(argv)
    score = scorer(args.data)
    warnings.simplefilter("ignore")  # of models that did not converge: they are judged by what they find
    for name in args.only:
        by_step: dict[float, list[File]] = {}
        for file in load(args.data, name):
            by_step.setdefault(file.step, []).append(file)
        series = [one for files in by_step.values() for one in of(files, args.each)]
        show(name, table(score, [one for one in series if len(one.at) >= fits.ENOUGH]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
