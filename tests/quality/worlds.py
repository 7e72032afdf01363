"""`python -m tests.quality.worlds`: series of kinds that are in none of the public sets, with labelled anomalies.

What runs over them is the engine of `promantis backtest`, which sees no label; recall, false pages per series-day at a
score of 1 and VUS-PR are those of score.py. Unlike scenes.py the anomalies come again and again, and nothing is known
of a series before its first sample.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sidecar.signals.replay import backtest
from sidecar.types import F64
from tests.quality.data import scorer

DAY, WEEK = 86400.0, 604800.0
START = 1_735_516_800.0  # a Monday
Shape = Callable[[F64, np.random.Generator], F64]


class Run(NamedTuple):
    """Seconds between samples, and days that are played."""

    step: float
    days: float


RUNS = {"5 min": Run(300.0, 20.0), "1 h": Run(3600.0, 75.0)}


def _wave(at: F64, depth: float = 0.5, period: float = DAY) -> F64:
    return np.asarray(1 + depth * np.sin(2 * np.pi * at / period))


def _steady(at: F64, random: np.random.Generator, tau: float) -> F64:
    """Noise of deviation 1 with a memory of `tau` seconds."""
    keep = np.exp(-(at[1] - at[0]) / tau)
    moves, out = random.normal(0, np.sqrt(1 - keep**2), len(at)), np.empty(len(at))
    last = random.normal()
    for i, move in enumerate(moves.tolist()):
        out[i] = last = keep * last + move
    return out


def counter(at: F64, random: np.random.Generator) -> F64:
    """rate() of a counter: one tick after each restart tells of half the requests only."""
    out = random.poisson(200 * _wave(at)) / 1.0
    out[random.random(len(at)) < (at[1] - at[0]) / (2 * DAY)] *= 0.5
    return np.asarray(out)


def errors(at: F64, random: np.random.Generator) -> F64:
    """A share of failures that is zero nearly always."""
    requests = random.poisson(400 * _wave(at)) + 1
    return np.asarray(random.binomial(requests, 0.0004) / requests)


def success(at: F64, random: np.random.Generator) -> F64:
    """A ratio that stands at one, with small dips."""
    requests = random.poisson(1000 * _wave(at)) + 1
    return np.asarray(1 - random.binomial(requests, 0.0008) / requests)


def orders(at: F64, random: np.random.Generator) -> F64:
    """A shop: nights, evenings and weekends."""
    week = np.where((at // DAY + 3) % 7 >= 5, 1.8, 1.0)
    hour = 0.05 + np.sin(np.pi * ((at % DAY) / DAY)) ** 2 + 0.6 * np.exp(-(((at % DAY) / 3600 - 20) ** 2) / 4)
    return np.asarray(random.poisson(60 * week * hour * np.exp(0.08 * _steady(at, random, 3600))) * 1.0)


def few(at: F64, random: np.random.Generator) -> F64:
    """Whole numbers, mostly 0 to 3."""
    return np.asarray(random.poisson(1.2 * _wave(at)) * 1.0)


def latency(at: F64, random: np.random.Generator) -> F64:
    """A p99 with a heavy tail."""
    spikes = (random.random(len(at)) < 0.01) * random.pareto(2.5, len(at))
    return np.asarray(0.2 * np.exp(0.25 * random.normal(0, 1, len(at))) * _wave(at, 0.2) * (1 + spikes))


def seasons(at: F64, random: np.random.Generator) -> F64:
    """An hourly, a daily and a weekly wave."""
    mean = 50 * _wave(at, 0.3) * _wave(at, 0.2, WEEK) + 10 * (np.sin(2 * np.pi * at / 14400) > 0.9)
    return np.asarray(mean * np.exp(0.05 * random.normal(0, 1, len(at))))


def growth(at: F64, random: np.random.Generator) -> F64:
    """A trend of 2 % a day on a daily wave."""
    since = (at - at[0]) / DAY
    return np.asarray(100 * (1 + 0.02 * since) * _wave(at, 0.3) + 4 * random.normal(0, 1, len(at)))


def gappy(at: F64, random: np.random.Generator) -> F64:
    """One sample in ten is missing."""
    out = 100 * _wave(at) + 5 * _steady(at, random, 1800)
    return np.asarray(np.where(random.random(len(at)) < 0.1, np.nan, out))


def memory(at: F64, random: np.random.Generator) -> F64:
    """A heap: fills, and is collected."""
    period = random.uniform(1.5, 5) * 3600
    return np.asarray(
        1e9 * (0.4 + 0.3 * ((at - at[0] + random.uniform(0, period)) % period) / period)
        + 1e7 * random.normal(0, 1, len(at))
    )


def wander(at: F64, random: np.random.Generator) -> F64:
    """No season, a memory of an hour."""
    return np.asarray(40 + 4 * _steady(at, random, 3600) + random.normal(0, 1, len(at)))


SHAPES: tuple[Shape, ...] = (
    counter,
    errors,
    success,
    orders,
    few,
    latency,
    seasons,
    growth,
    gappy,
    memory,
    wander,
)
RATIOS = (errors, success)
LENGTHS = {"point": (1, 3), "short": (4, 12), "long": (24, 72)}
"""Samples that an anomaly lasts, by kind."""


def hurt(shape: Shape, x: F64, step: float, random: np.random.Generator) -> tuple[F64, F64]:
    """The series with one anomaly in each of nine parts of its last three quarters, and its labels f64[rows]."""
    out, label = x.copy(), np.zeros(len(x))
    usual = np.nanmedian(np.abs(np.diff(x)[np.isfinite(np.diff(x))]))
    level = float(np.nanmean(x))
    unit = max(1.5 * usual, 0.1 * level)
    parts = np.linspace(len(x) // 4, len(x) - 80, 10).astype(int)
    for n, (a, b) in enumerate(itertools.pairwise(parts.tolist())):
        low, high = list(LENGTHS.values())[n % 3]
        size = int(random.integers(low, high + 1))
        start = int(random.integers(a, max(a + 1, b - size - 12)))
        span, strength = slice(start, start + size), random.uniform(5, 10)
        if shape is success:
            out[span] -= random.uniform(0.05, 0.3)
        elif shape is errors:
            out[span] += random.uniform(0.05, 0.3)
        elif shape is not few and n % 4 == 3:
            out[span] *= random.uniform(0.0, 0.2)
        else:
            out[span] += np.round(strength * unit) if shape is few else strength * unit
        label[span] = 1
    return (np.clip(out, 0, 1) if shape in RATIOS else out), label


class Found(NamedTuple):
    """Of one shape at one step."""

    recall: Mapping[str, float]
    """Share of the anomalies that page, by length."""
    false: float
    """Pages per series-day."""
    vus: float


def play(run: Run, each: int, data: Path, seed: int = 1) -> dict[str, Found]:
    """Run `each` series of every shape, all as columns of one engine."""
    judge, at = scorer(data), START + np.arange(0, run.days * DAY, run.step)
    args, recordings, labels = judge.args(["x"]), list[backtest.Recording](), list[F64]()
    for number, shape in enumerate(SHAPES):
        for copy in range(each):
            random = np.random.default_rng([seed, number, copy, round(run.step)])
            x, label = hurt(shape, shape(at, random), run.step, random)
            recordings.append(backtest.Recording(f"{shape.__name__}.{copy}", at, x[:, None]))
            labels.append(label)
    said = backtest.run(recordings, run.step, ("raw",))
    out = {}
    for number, shape in enumerate(SHAPES):
        mine = range(number * each, (number + 1) * each)
        every = [judge.Series(str(i), at, labels[i], said[i]["raw"][:, 0].astype(float)) for i in mine]
        judge.prepare(every, args)
        pages = [judge.pages(one, 1.0, 2 * one.step, 0.0, args.repeat) for one in every]
        hits: dict[str, list[bool]] = {kind: [] for kind in LENGTHS}
        for one, found in zip(every, pages, strict=True):
            for n, (start, end) in enumerate(one.ev):
                hit = bool(((found[:, 0] < end) & (found[:, 1] > start)).any())
                hits[list(LENGTHS)[n % 3]].append(hit)
        total = judge.summarise(every, 1.0, args)
        window = int(np.clip(round(3600 / run.step), 2, 200))
        vus = float(np.mean([judge.vus(one.y, one.s, window)[1] for one in every]))
        recall = {kind: float(np.mean(of)) for kind, of in hits.items()}
        out[shape.__name__] = Found(recall, total["false_alerts_per_series_day"], vus)
    return out


def main(argv: list[str] | None = None) -> int:
    """Print recall by length, false pages and VUS-PR, by shape and step."""
    parser = argparse.ArgumentParser(prog="worlds", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="beside which score.py lies")
    parser.add_argument("--each", type=int, default=4, help="series of each shape")
    parser.add_argument("--only", choices=RUNS, action="append", help="a step; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    found = {
        name: play(run, args.each, args.data, args.seed)
        for name, run in RUNS.items()
        if name in (args.only or RUNS)
    }
    print(f"| point / short / long; false a day; VUS-PR | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for shape in SHAPES:
        cells = [_cell([of[shape.__name__]]) for of in found.values()]
        print(f"| {shape.__name__} | {' | '.join(cells)} |")
    print(f"| all | {' | '.join(_cell(list(of.values())) for of in found.values())} |")
    return 0


def _cell(of: list[Found]) -> str:
    recall = " ".join(f"{np.mean([one.recall[kind] for one in of]):.2f}" for kind in LENGTHS)
    return f"{recall}; {np.mean([one.false for one in of]):.3f}; {np.mean([one.vus for one in of]):.2f}"


if __name__ == "__main__":
    sys.exit(main())
