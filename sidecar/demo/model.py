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
_RATE = 60.0
_HOLDS = 0.075
"""Seconds that a request holds a connection."""


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


def advance(shop: Shop, now: float) -> Shop:
    """The shop at `now`: requests since `shop.at` are counted at the latency and error rate of now.

    >>> later = advance(Shop(at=0.0), 60.0)
    >>> later.at, later.pool, later.served > 1000, later.served > 100 * later.failed
    (60.0, 20, True, True)
    """
    elapsed = max(0.0, now - shop.at)
    luck = random.Random(round(now * 1000))
    wanted = demand(now) - demand(shop.at)
    leaked = _leak(shop, elapsed)
    busy = rate(now) * _HOLDS + luck.gauss(0.0, 0.35) + leaked
    in_use = min(shop.pool, max(0, round(busy)))
    fullness = min(1.0, max(0.0, busy / shop.pool))
    latency = _latency(fullness) * math.exp(luck.gauss(0.0, 0.03))
    failing = wanted * (0.002 + min(0.4, max(0.0, fullness - 0.92) * 3))
    below = tuple(
        count + wanted * _share(edge, latency) for count, edge in zip(shop.buckets, BUCKETS, strict=True)
    )
    return msgspec.structs.replace(
        shop,
        at=now,
        served=shop.served + wanted - failing,
        failed=shop.failed + failing,
        buckets=below,
        seconds=shop.seconds + wanted * latency,
        cpu=shop.cpu + wanted * 0.004 + elapsed * 0.02,
        in_use=in_use,
        memory=round(9e7 + in_use * 2e6 + luck.gauss(0.0, 4e5)),
        leaked=leaked,
    )


def rate(at: float) -> float:
    """Requests wanted per second: a day's shape and a few small waves."""
    return _RATE * (
        1 + sum(share * math.sin(math.tau * (at / period + phase)) for share, period, phase in _WAVES)
    )


def demand(at: float) -> float:
    """Requests wanted since 1970: the integral of `rate`.

    >>> abs((demand(1000.5) - demand(999.5)) - rate(1000.0)) < 0.01
    True
    """
    waves = (
        share * period / math.tau * math.cos(math.tau * (at / period + phase))
        for share, period, phase in _WAVES
    )
    return _RATE * (at - sum(waves))


def _leak(shop: Shop, elapsed: float) -> float:
    if shop.pool > POOL:
        return shop.leaked * math.exp(-elapsed / 10)
    return min(shop.pool * 1.2, shop.leaked + shop.leak_per_second * elapsed)


def _latency(fullness: float) -> float:
    """Mean seconds of a request: nearly flat until the pool is nearly full, then a queue."""
    return 0.11 + 0.04 * fullness + min(1.5, 0.06 * fullness**10 / max(0.02, 1.02 - fullness))


def _share(edge: float, mean: float) -> float:
    """Share of requests not slower than `edge`: lognormal around the mean."""
    if edge == math.inf:
        return 1.0
    width = 0.6
    return 0.5 * (1 + math.erf((math.log(edge / mean) + width**2 / 2) / (width * math.sqrt(2))))
