"""A quiet life: series of many shapes to which nothing happens, and how often an engine calls out all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine, replay
from sidecar.types import F64, Instant
from tests.unit.made import key, watch
from tests.unit.scenes import HELD, runs

MONDAY = Instant(1_700_438_400.0)
"""2023-11-20 00:00 UTC."""
DAY = 86400.0

Shape = Callable[[F64, np.random.Generator], F64]
"""A series f64[times] at unix seconds f64[times]."""


def _wave(at: F64, random: np.random.Generator) -> F64:
    phase, second = random.uniform(0, 1, 2)
    day = np.sin(2 * np.pi * (at / DAY - phase)) + 0.3 * np.sin(4 * np.pi * (at / DAY - second))
    return np.asarray(1 + random.uniform(0.1, 0.5) * day)


def _weekend(at: F64) -> F64:
    """1 at weekends, 0 in the week, with a passage of four hours around midnight."""
    week = ((at - MONDAY) / DAY + 1) % 7  # Sunday 0, Saturday 6
    return np.asarray(np.clip((1 - week) * 6 + 0.5, 0, 1) + np.clip((week - 6) * 6 + 0.5, 0, 1))


def _smooth(noise: F64, share: float) -> F64:
    """A first-order autoregression of unit variance."""
    out, last, gain = np.empty_like(noise), 0.0, np.sqrt(1 - share * share)
    for i, x in enumerate((gain * noise).tolist()):
        last = share * last + x
        out[i] = last
    return out


def seasonal(at: F64, random: np.random.Generator) -> F64:
    """A daily wave with noise."""
    return np.asarray(100 * _wave(at, random) + random.normal(0, random.uniform(1, 8), len(at)))


def wandering(at: F64, random: np.random.Generator) -> F64:
    """A level that wanders and comes back within hours, as memory in use does."""
    share = np.exp(-(at[1] - at[0]) / random.uniform(1800, 14400))
    return np.asarray(1e9 * (4 + 0.2 * _smooth(random.normal(0, 1, len(at)), share)))


def bursty(at: F64, random: np.random.Generator) -> F64:
    """Requests with bursts of minutes that come dozens of times a day."""
    step = at[1] - at[0]
    burst = np.ones(len(at))
    for begin in np.flatnonzero(random.uniform(0, 1, len(at)) < 30 * step / DAY).tolist():
        lasts = max(1, round(random.exponential(240) / step))
        burst[begin : begin + lasts] = random.uniform(1.5, 5)
    return np.asarray(20 * _wave(at, random) * burst * random.lognormal(0, 0.2, len(at)))


def sparse(at: F64, random: np.random.Generator) -> F64:
    """Counts that are mostly zero."""
    return np.asarray(random.poisson(random.uniform(0.02, 0.3), len(at)).astype(float))


def rate(at: F64, random: np.random.Generator) -> F64:
    """The rate of a counter over a minute."""
    return np.asarray(random.poisson(random.uniform(60, 6000) * _wave(at, random)) / 60)


def quantised(at: F64, random: np.random.Generator) -> F64:
    """A small whole number, as connections in use."""
    slow = _smooth(random.normal(0, 1, len(at)), np.exp(-(at[1] - at[0]) / 1800))
    return np.asarray(np.maximum(0, np.round(6 * _wave(at, random) + slow)))


def heavy(at: F64, random: np.random.Generator) -> F64:
    """Latency with a heavy tail."""
    return np.asarray(0.05 * _wave(at, random) + 0.005 * np.abs(random.standard_t(2.5, len(at))))


def weekly(at: F64, random: np.random.Generator) -> F64:
    """A daily wave, and weekends with less of it."""
    less = 1 - random.uniform(0.3, 0.7) * _weekend(at)
    return np.asarray(100 * _wave(at, random) * less * random.lognormal(0, 0.05, len(at)))


def office(at: F64, random: np.random.Generator) -> F64:
    """Nothing but a floor at night and at weekends; plateaus with slopes of half an hour in office hours."""
    hour = (at % DAY) / 3600 + random.uniform(-1, 1)
    on = np.clip((hour - 8) * 2, 0, 1) * np.clip((18 - hour) * 2, 0, 1) * (1 - _weekend(at))
    return np.asarray(5 + 200 * on * random.lognormal(0, 0.06, len(at)) + random.normal(0, 0.5, len(at)))


def nightly(at: F64, random: np.random.Generator) -> F64:
    """A job every night at two, for twenty minutes or so, beside ordinary load."""
    night = np.floor(at / DAY)
    late = np.random.default_rng(int(random.integers(1 << 30))).normal(0, 60, 100000)
    began = 2 * 3600 + late[night.astype(np.int64) % 100000]
    lasts = 1200 + 2 * late[(night.astype(np.int64) + 7) % 100000]
    running = ((at % DAY) >= began) & ((at % DAY) < began + lasts)
    return np.asarray(20 * _wave(at, random) + random.normal(0, 1.5, len(at)) + 60 * running)


def sawtooth(at: F64, random: np.random.Generator) -> F64:
    """A heap that grows and is collected every few minutes to hours."""
    step, out, x = at[1] - at[0], np.empty_like(at), 0.0
    grows = random.uniform(0.5, 1.5, len(at)) * step / random.uniform(1200, 7200)
    for i, by in enumerate(grows.tolist()):
        x = x + by if x < 1 else 0.0
        out[i] = x
    return np.asarray(2e8 * (1 + out))


def share(at: F64, random: np.random.Generator) -> F64:
    """A ratio near its end: successes of requests."""
    return np.asarray(1 - random.poisson(random.uniform(1, 20) * _wave(at, random)) / 5000)


def backups(at: F64, random: np.random.Generator) -> F64:
    """Disk traffic with a job every hour."""
    busy = (at % 3600) < 300 + 60 * random.uniform(0, 1)
    return np.asarray(
        1e6 * (1 + 20 * busy * random.lognormal(0, 0.2, len(at))) * random.lognormal(0, 0.3, len(at))
    )


WEEKLY = (weekly, office)
SHAPES: tuple[Shape, ...] = (
    seasonal,
    wandering,
    bursty,
    sparse,
    rate,
    quantised,
    heavy,
    nightly,
    sawtooth,
    share,
    backups,
    *WEEKLY,
)


AIM = 0.02
"""Pages per series-day."""


class Calm(NamedTuple):
    """Of one shape: series-days judged, runs of a score of 1 and more, and those that page."""

    days: float
    runs: int
    pages: int
    at: list[tuple[int, float, float, int]]
    """Of each page: series, days since the start, score, and length in ticks."""


def live(
    step: float, days: float, past: float = 0.0, first: float = 2.0, each: int = 15, start: Instant = MONDAY
) -> Mapping[str, Calm]:
    """Let `each` series of every shape live for some days, of which the `first` are not judged.

    `past` days come before, learned as a start learns its history: at five minutes, and 2,880 ticks at the step.
    """
    at = start + np.arange(-past * DAY, days * DAY, step)
    random, columns = np.random.default_rng(11), list[F64]()
    for shape in SHAPES:
        columns += [shape(at, np.random.default_rng(int(s))) for s in random.integers(0, 1 << 30, each)]
    values, rows = np.stack(columns, axis=1), each * len(SHAPES)
    engine, keys = Engine(step), [key(i=str(i)) for i in range(rows)]
    engine.watch({"w": watch(step=step)})
    now = at >= start
    if past:
        nursery, seen = Block(rows, step), at < start
        coarse, fine = (
            np.flatnonzero(seen)[:-2880],
            np.flatnonzero(seen)[-2880:],
        )  # as a start reads its history
        if step < 300:
            replay(nursery, at[coarse][:: round(300 / step)], values[coarse][:: round(300 / step)], 300.0)
        else:
            fine = np.flatnonzero(seen)
        replay(nursery, at[fine], values[fine], step)
        engine.adopt(start, "w", keys, nursery, 0, rows)
    score = np.full((rows, int(now.sum())), np.nan)
    for i, (t, x) in enumerate(zip(at[now].tolist(), values[now], strict=True)):
        score[:, i] = engine.tick(Instant(t), {"w": Vector(keys, x)}, rows).columns["score"]
    skip, out = round(first * DAY / step), {}
    for n, shape in enumerate(SHAPES):
        raw = pages = 0
        found: list[tuple[int, float, float, int]] = []
        for row in range(n * each, (n + 1) * each):
            mine = score[row, skip:]
            raw += len(runs(mine, step, 0.0))
            for a, b in runs(mine, step, HELD):
                pages += 1
                found.append((row, (a + skip) * step / DAY, float(mine[a : b + 1].max()), b - a + 1))
        out[shape.__name__] = Calm(each * (days - first), raw, pages, found)
    return out


def rates(found: Mapping[str, Calm]) -> tuple[float, float]:
    """Pages and runs per series-day of some shapes."""
    days = sum(calm.days for calm in found.values())
    return sum(c.pages for c in found.values()) / days, sum(c.runs for c in found.values()) / days
