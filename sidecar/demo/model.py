"""The demo shop as arithmetic: what it has counted and how full its pool is at an instant; pure.

The past and the live service are driven by the same `advance`, so the one continues the other without a jump.
"""

from __future__ import annotations

import math
import random

import msgspec

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, math.inf)
"""Upper edges of the latency histogram in seconds."""

POOL = 20
"""Connections that the database pool may open, unless it is resized."""

_WAVES = (  # share of the mean rate, period in seconds, phase
    (0.38, 86400.0, 0.62),
    (0.10, 43200.0, 0.15),
    (0.025, 660.0, 0.0),
    (0.02, 283.0, 0.4),
    (0.015, 97.0, 0.7),
)


class Kind(msgspec.Struct, frozen=True):
    """What a shop is like when nothing is wrong with it."""

    rate: float = 60.0
    """Requests per second, on average of a day."""
    swing: float = 1.0
    """How far the waves of a day move that."""
    holds: float = 0.075
    """Seconds that a request holds a connection."""
    latency: tuple[float, float, float] = (0.11, 0.04, 0.06)
    """Seconds of a request: at an empty pool, more at a full one, and of the queue before it."""
    spread: float = 0.6
    """Of the logarithm of latencies."""
    errors: tuple[float, float, float] = (0.002, 0.92, 3.0)
    """Share that always fails, how full the pool is when more do, and how steeply."""
    cpu: tuple[float, float] = (0.004, 0.02)
    """Processor seconds of a request, and of each second."""
    memory: tuple[float, float] = (9e7, 2e6)
    """Bytes, and of each connection."""


USUAL = Kind()


class Shop(msgspec.Struct, frozen=True):
    """Everything the shop knows at one instant; counters count since the first one."""

    at: float
    """Unix seconds."""
    served: float = 0.0
    failed: float = 0.0
    buckets: tuple[float, ...] = (0.0,) * len(BUCKETS)
    """Requests not slower than each edge of BUCKETS."""
    seconds: float = 0.0
    """Sum of all latencies."""
    cpu: float = 0.0
    in_use: int = 0
    memory: int = 0
    pool: int = POOL
    leaked: float = 0.0
    """Connections held by a batch job that waits for more than the pool has; a bigger pool lets it finish."""
    leak_per_second: float = 0.0
    surge: float = 0.0
    """By how much more is wanted than usual, as a share."""
    kind: Kind = USUAL


def advance(shop: Shop, now: float) -> Shop:
    """The shop at `now`: requests since `shop.at` are counted at the latency and error rate of now.

    >>> later = advance(Shop(at=0.0), 60.0)
    >>> later.at, later.pool, later.served > 1000, later.served > 100 * later.failed
    (60.0, 20, True, True)
    """
    elapsed = max(0.0, now - shop.at)
    luck = random.Random(round(now * 1000))
    kind, more = shop.kind, 1 + shop.surge
    wanted = (demand(now, kind) - demand(shop.at, kind)) * more
    leaked = _leak(shop, elapsed)
    busy = rate(now, kind) * more * kind.holds + luck.gauss(0.0, 0.35) + leaked
    in_use = min(shop.pool, max(0, round(busy)))
    fullness = min(1.0, max(0.0, busy / shop.pool))
    latency = _latency(fullness, kind) * math.exp(luck.gauss(0.0, 0.03))
    always, full, steep = kind.errors
    failing = wanted * (always + min(0.4, max(0.0, fullness - full) * steep))
    below = tuple(
        count + wanted * _share(edge, latency, kind.spread)
        for count, edge in zip(shop.buckets, BUCKETS, strict=True)
    )
    return msgspec.structs.replace(
        shop,
        at=now,
        served=shop.served + wanted - failing,
        failed=shop.failed + failing,
        buckets=below,
        seconds=shop.seconds + wanted * latency,
        cpu=shop.cpu + wanted * kind.cpu[0] + elapsed * kind.cpu[1],
        in_use=in_use,
        memory=round(kind.memory[0] + in_use * kind.memory[1] + luck.gauss(0.0, 4e5)),
        leaked=leaked,
    )


def rate(at: float, kind: Kind = USUAL) -> float:
    """Requests wanted per second: a day's shape and a few small waves."""
    waves = (share * math.sin(math.tau * (at / period + phase)) for share, period, phase in _WAVES)
    return kind.rate * (1 + kind.swing * sum(waves))


def demand(at: float, kind: Kind = USUAL) -> float:
    """Requests wanted since 1970: the integral of `rate`.

    >>> abs((demand(1000.5) - demand(999.5)) - rate(1000.0)) < 0.01
    True
    """
    waves = (
        share * period / math.tau * math.cos(math.tau * (at / period + phase))
        for share, period, phase in _WAVES
    )
    return kind.rate * (at - kind.swing * sum(waves))


def _leak(shop: Shop, elapsed: float) -> float:
    if shop.pool > POOL:
        return shop.leaked * math.exp(-elapsed / 10)
    return min(shop.pool * 1.2, shop.leaked + shop.leak_per_second * elapsed)


def _latency(fullness: float, kind: Kind) -> float:
    """Mean seconds of a request: nearly flat until the pool is nearly full, then a queue."""
    empty, more, queue = kind.latency
    return empty + more * fullness + min(1.5, queue * fullness**10 / max(0.02, 1.02 - fullness))


def _share(edge: float, mean: float, width: float) -> float:
    """Share of requests not slower than `edge`: lognormal around the mean."""
    if edge == math.inf:
        return 1.0
    return 0.5 * (1 + math.erf((math.log(edge / mean) + width**2 / 2) / (width * math.sqrt(2))))
