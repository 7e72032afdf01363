"""The past of a query, from Prometheus, as one recording."""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

from sidecar.adapters.prometheus import Prometheus
from sidecar.commands.recorded import File
from sidecar.config import Config
from sidecar.signals.ingest import series
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.learn.history import parts, room
from sidecar.signals.replay.backtest import Recording
from sidecar.signals.watch.watches import Watch
from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError, Duration, Instant

FINE, STEPS = 20_000, (60.0, 300.0, 900.0, 3600.0)  # a query's points per series at most, and steps instead
MOST = 10_000_000  # samples that run together: what is said of them has to fit in memory


def step_of(args: argparse.Namespace, config: Config) -> float:
    """Between samples of a query: as wished, or the interval, or longer where that would be very many points."""
    if not 0 < args.days < math.inf:
        raise ConfigError("--days", "must be greater than 0")
    if args.step:
        try:
            step = float(Duration.parse(args.step))
        except ValueError as error:
            raise ConfigError("--step", str(error)) from None
        if step <= 0:
            raise ConfigError("--step", "must be greater than 0s")
        return step
    steps = [float(config.interval), *(s for s in STEPS if s > config.interval)]
    return next((s for s in steps if args.days * 86400 / s <= FINE), steps[-1])


async def asked(config: Config, watch: Watch, days: float, step: float) -> File:
    """Every series of the query over the last days, as one recording."""
    client = Prometheus(config.prometheus, Telemetry())
    try:
        end = math.floor(time.time() / step) * step
        points = max(1, round(days * 86400 / step))
        known = len((await client.instant(watch.query, Instant(end), 30.0)).keys)
        got, keys = list[Matrix](), list[bytes]()
        for span in parts(end - (points - 1) * step, end, step, room(known)):
            got.append(await client.range(watch.query, *span))
            keys = list(dict.fromkeys(key for part in got for key in part.keys))
            if len(keys) * points > MOST:
                words = (
                    f"{len(keys)} series of {points} samples are too many to replay (at most {MOST} samples)"
                )
                raise ConfigError(
                    "--query", f"{words}: select fewer, or take a longer --step or fewer --days"
                )
    finally:
        await client.close()
    times = np.concatenate([part.at for part in got])
    values, lo, place = np.full((len(times), len(keys)), np.nan), 0, {key: i for i, key in enumerate(keys)}
    for part in got:
        hi = lo + len(part.at)
        values[lo:hi, [place[key] for key in part.keys]] = part.values
        lo = hi
    there = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(there):
        raise ConfigError("--query", f"has no samples in the last {days:g} days at {client.url}")
    times, values = times[there[0] :], values[there[0] :]
    names = [",".join("=".join(pair) for pair in series.labels(key)) or "series" for key in keys]
    text = [f"{time:.3f}".rstrip("0").rstrip(".") for time in times.tolist()]
    rows = [np.arange(len(times))]
    return File("query", [Recording("", times, values, keys)], rows, names, text, {}, [], step)
