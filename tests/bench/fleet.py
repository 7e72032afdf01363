"""A fleet of series as a real cluster names them, the answers Prometheus would give, and an engine that knows them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import F64, Instant

STEP = 15.0
START = 1_700_006_400.0  # a five-minute border
LEARNED = 15  # five-minute blocks: one more than the longest forecast needs for its truth
WATCH = Watch(
    name="requests",
    source="config",
    query="sum by (pod, path) (rate(http_requests_total[5m]))",
    limits=(Limit(">", 90.0, 300.0, "TooManyRequests", "page"),),
    step=STEP,
)


def keys(series: int) -> list[bytes]:
    """Label objects as Prometheus writes them: eight labels, about 200 bytes, no name since it is a rate."""
    return [
        b'{"code":"200","container":"shop","endpoint":"http","instance":"10.%d.%d.%d:9100",'
        b'"job":"shop","namespace":"production","path":"/api/v1/things/%d","pod":"shop-7d9f8b6c5d-%05d"}'
        % (i >> 16 & 255, i >> 8 & 255, i & 255, i % 40, i)
        for i in range(series)
    ]


def values(series: int, seed: int = 0) -> Iterator[F64]:
    """Eight ticks of noisy values with a level of each series' own, over and over."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(20, 80, series)
    ticks = [level + 5 * rng.standard_normal(series) for _ in range(8)]
    while True:
        yield from ticks


def body(series_keys: list[bytes], numbers: F64, at: float) -> bytes:
    """The answer of an instant query."""
    lines = b",".join(
        b'{"metric":%s,"value":[%.3f,"%r"]}' % (key, at, x)
        for key, x in zip(series_keys, numbers.tolist(), strict=True)
    )
    return b'{"status":"success","data":{"resultType":"vector","result":[' + lines + b"]}}"


def taught(series_keys: list[bytes], watch: Watch = WATCH, start: float = START) -> tuple[Engine, float]:
    """An engine whose detector is live and whose forecasts have been judged; and the instant of its next tick."""
    engine, feed, at = Engine(watch.step), values(len(series_keys), 1), start - LEARNED * 300.0
    engine.watch({watch.name: watch})
    engine.tick(Instant(at), {watch.name: Vector(series_keys, next(feed))}, len(series_keys))
    for _ in range(LEARNED):
        at += 300.0
        coarse = np.full(sum(block.rows for block in engine.blocks), np.nan)
        coarse[: len(series_keys)] = next(feed)
        lo = 0
        for block in engine.blocks:
            mine = coarse[lo : lo + block.rows]
            block.teach(at, mine, 300.0, np.isfinite(mine))
            lo += block.rows
    for _ in range(60):
        at += watch.step
        engine.tick(Instant(at), {watch.name: Vector(series_keys, next(feed))}, 0)
    return engine, at + watch.step
