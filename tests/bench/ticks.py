"""The complete tick beside libraries that take one series at a time, and how its cost grows with the series.

Of each peer as many series are ticked as fit into the round, and its cost is told per series: it has an object for
each, so a fleet costs a multiple of that. All of it is CPU of this process, so that a busy machine does not count.
"""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyod.models.iforest import IForest
from river import anomaly, time_series
from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

from sidecar.signals.ingest.frame import Vector
from sidecar.types import F64, Instant
from tests.bench import fleet
from tests.bench.table import Row

Tick = Callable[[], None]
LAGS = 10
BLOCK = round(300 / fleet.STEP)
"""Ticks of a five-minute block: its last one also learns the forecasts, its first one looks up what is usual."""
DETECTION = {100_000: 40.0, 1_000_000: 500.0}
"""Milliseconds that the median tick of so many series may take to score, learn, calibrate and make a snapshot,"""
AHEAD = {100_000: 60.0}
"""and a tick, with its share of the one that ends a block, for forecasts, intervals and odds of breaches."""
NEEDS = 14_000
"""Bytes of memory per series: state, keys, and what a tick makes."""
EVEN = 1.25
"""A series of ten times as many may cost so many times what it costs of fewer."""


def _holt_winters(feed: Iterator[F64], series: int) -> Tick:
    """river: a detector on a Holt-Winters forecaster; scores, then learns."""
    made = [
        anomaly.PredictiveAnomalyDetection(
            time_series.HoltWinters(alpha=0.3, beta=0.1, gamma=0.1, seasonality=24), n_std=3.0
        )
        for _ in range(series)
    ]

    def tick() -> None:
        for detector, x in zip(made, next(feed).tolist(), strict=True):
            detector.score_one(None, x)
            detector.learn_one(None, x)

    for detector, x in ((d, x) for _ in range(60) for d, x in zip(made, next(feed).tolist(), strict=True)):
        detector.learn_one(None, x)  # more than two seasons: it forecasts now
    return tick


def _half_space_trees(feed: Iterator[F64], series: int) -> Tick:
    """river: half-space trees on the value, as they come but for their limits; scores, then learns."""
    made = [anomaly.HalfSpaceTrees(limits={"x": (0.0, 100.0)}, seed=i) for i in range(series)]

    def tick() -> None:
        for trees, x in zip(made, next(feed).tolist(), strict=True):
            trees.score_one({"x": x})
            trees.learn_one({"x": x})

    for _ in range(made[0].window_size + 1):  # until then it scores nothing
        tick()
    return tick


def _forest(feed: Iterator[F64], series: int) -> Tick:
    """pyod: an isolation forest on the last ten values, fitted once; only scores."""
    past = np.stack([next(feed) for _ in range(300)])
    lags = np.lib.stride_tricks.sliding_window_view(past, LAGS, axis=0)
    made = [IForest(n_estimators=50, random_state=0).fit(lags[:, i]) for i in range(series)]
    last = [deque(past[-LAGS:, i], LAGS) for i in range(series)]

    def tick() -> None:
        for forest, values, x in zip(made, last, next(feed).tolist(), strict=True):
            values.append(x)
            forest.decision_function(np.array([values]))

    return tick


def _smoothing(feed: Iterator[F64], series: int) -> Tick:
    """statsmodels: exponential smoothing with an interval for the next value, fitted once; takes the value in."""
    past = np.stack([next(feed) for _ in range(120)])
    made: list[Any] = [ExponentialSmoothing(past[:, i]).fit(disp=0) for i in range(series)]

    def tick() -> None:
        for i, x in enumerate(next(feed).tolist()):
            low, high = made[i].get_forecast(1).conf_int()[0]
            abs(x - (low + high) / 2) > (high - low) / 2  # noqa: B015  the verdict
            made[i] = made[i].append([x])

    return tick


PEERS: tuple[tuple[str, Callable[[Iterator[F64], int], Tick], int], ...] = (
    ("river Holt-Winters", _holt_winters, 200),
    ("river HalfSpaceTrees", _half_space_trees, 5),
    ("pyod IForest, score only", _forest, 20),
    ("statsmodels smoothing, no refit", _smoothing, 20),
)


def beside_peers(series: int) -> list[Row]:
    """Complete ticks over three five-minute blocks, in turns with those of the peers."""
    ours = _Fleet(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that did not converge
        ticks = [make(fleet.values(count), count) for _, make, count in PEERS]
    theirs: list[list[float]] = [[] for _ in PEERS]
    gc.collect()
    for _ in range(3 * BLOCK):
        ours.tick()
        for tick, times in zip(ticks, theirs, strict=True):
            began = time.process_time()
            tick()
            times.append(time.process_time() - began)
    per = ours.per_series()
    what = f"CPU of a tick of {_words(series)} series, per series"
    return [
        Row.ratio(what, per, statistics.median(times) / count * 1e9, f"{name} ({count} series)", "ns", 8)
        for (name, _, count), times in zip(PEERS, theirs, strict=True)
    ]


def growth(sizes: Iterable[int]) -> list[Row]:
    """The tick per series as they grow tenfold, where memory allows."""
    rows, before = list[Row](), float("nan")
    for series in sizes:
        what = f"CPU of a tick of {_words(series)} series, per series"
        if _available() < series * NEEDS:
            need = f"{series * NEEDS / 1e9:.0f} GB are needed, {_available() / 1e9:.0f} GB are there"
            rows.append(Row(what, "not measured", need, "", "", None))
            continue
        ours = _Fleet(series)
        gc.collect()
        for _ in range(2 * BLOCK):
            ours.tick()
        per = ours.per_series()
        times = f"{per / before:.2f}x" if before == before else ""
        linear = series >= 100_000 and before == before  # of fewer, what any tick costs counts
        aim, met = (f"<= {EVEN:g}x of {_words(series // 10)}", per <= EVEN * before) if linear else ("", None)
        rows.append(Row(what, f"{per:,.0f} ns", "", times, aim, met))
        if series in DETECTION:
            rows += ours.parts(f"CPU of a tick of {_words(series)} series", series)
        before = per
        del ours
        gc.collect()
    return rows


class Spent(NamedTuple):
    """Seconds of CPU of one tick, and what of it went into looking ahead."""

    whole: float
    ahead: float


class _Fleet:
    """An engine that has learned, and what its ticks took: the usual ones, and those that end a block or begin one."""

    def __init__(self, series: int) -> None:
        self._keys = fleet.keys(series)
        self._engine, self._at = fleet.taught(self._keys)
        self._feed = fleet.values(series, 1)  # it goes on as it was taught
        self._ahead = 0.0
        for block in self._engine.blocks:
            for owner, name in ((block, "_forecast"), (block, "bound"), (block.ahead, "resume")):
                self._watch(owner, name)
        self._watch(self._engine.crossings, "tick")
        self.took: dict[float, list[Spent]] = {}
        """By how many seconds of a block had passed."""

    def _watch(self, owner: object, name: str) -> None:
        """Count the CPU of a method among that of looking ahead."""
        work = getattr(owner, name)

        def timed(*args: object) -> object:
            began = time.process_time()
            said = work(*args)
            self._ahead += time.process_time() - began
            return said

        setattr(owner, name, timed)

    def tick(self) -> None:
        """One tick on an answer whose keys are other objects, as those of each answer are."""
        answer = {fleet.WATCH.name: Vector([bytes(bytearray(key)) for key in self._keys], next(self._feed))}
        self._ahead, began = 0.0, time.process_time()
        self._engine.tick(Instant(self._at), answer, 0)
        whole = time.process_time() - began
        self.took.setdefault(self._at % 300, []).append(Spent(whole, self._ahead))
        self._at += fleet.STEP

    def _mean(self, part: Callable[[Spent], float]) -> float:
        """Seconds of a tick, with its share of those that end and begin a block."""
        return statistics.mean(statistics.median(map(part, same)) for same in self.took.values())

    def per_series(self) -> float:
        """Nanoseconds of a tick, with its share of those that end and begin a block."""
        return self._mean(lambda spent: spent.whole) / len(self._keys) * 1e9

    def parts(self, what: str, series: int) -> list[Row]:
        """The two parts of a tick beside their aims, and the whole."""
        every = [spent for same in self.took.values() for spent in same]
        usual = statistics.median(spent.whole - spent.ahead for spent in every) * 1e3
        ahead = self._mean(lambda spent: spent.ahead) * 1e3
        whole, most = statistics.median(spent.whole for spent in every) * 1e3, max(every).whole * 1e3
        forecasts = f"{what}: forecasts, intervals and odds"
        return [
            Row.below(f"{what}: detection", usual, "ms", DETECTION[series], "(median)"),
            Row.below(forecasts, ahead, "ms", AHEAD[series], "(mean)")
            if series in AHEAD
            else Row(forecasts, f"{ahead:,.1f} ms", "(mean)", "", "", None),
            Row(f"{what}: both", f"{whole:,.1f} ms", f"(median; at most {most:,.0f})", "", "", None),
        ]


def _words(series: int) -> str:
    return f"{series // 1_000_000}M" if series >= 1_000_000 else f"{series // 1000}k"


def _available() -> float:
    """Bytes of memory that can be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
