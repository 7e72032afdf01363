"""A leak is seen coming whatever the metric is like: also in a count of which hardly anything moves."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.forecast import ensemble, ramp
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine, replay
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import F64, Instant

STEP, NOW, POOLS = 5.0, 1_700_000_100.0, 16
WATCH = Watch("pool", "used / size", "rule", STEP, limits=(Limit(">", 0.85, 15.0, "PoolExhaustion"),))
KEYS = [b'{"pool":"%d"}' % i for i in range(POOLS)]


def used(rng: np.random.Generator, at: float, leaked: float = 0.0) -> F64:
    """Share of 20 connections in use: whole ones, which move in 2 % (the first pool) to half of all samples."""
    moves = rng.random(POOLS) < np.linspace(0.02, 0.5, POOLS)
    busy = 3.4 + 1.5 * np.sin(2 * np.pi * (at % 86400) / 86400) + moves * rng.normal(0, 1, POOLS)
    return np.floor(np.round(busy) + leaked) / 20


@pytest.mark.parametrize(
    ("step", "age", "usual"),
    [(5.0, 60.0, 0.01), (5.0, 600.0, 1e-15), (60.0, 300.0, 0.01), (60.0, 7200.0, 0.01)],
)
def test_the_slope_of_a_ramp_is_known_though_most_means_lag_behind_it(
    step: float, age: float, usual: float
) -> None:
    taus, slopes = ensemble.TAUS, np.array([0.01, -2.0])
    means = np.zeros((len(taus), 2))
    for ticks in range(1, round(age / step) + 1):
        for mean, tau in zip(means, taus, strict=True):
            mean += ensemble.share(step, tau) * (slopes * ticks * step - mean)
    lags = np.diff([ramp.lag(step, tau) for tau in taus])[:, None]
    seen = ((means[:-1] - means[1:]) / lags)[:3].astype(np.float32)
    found = ramp.fit(means.astype(np.float32), seen, np.full((3, 2), usual, np.float32), taus, step)
    np.testing.assert_allclose(found.slope, slopes, rtol=0.06)
    np.testing.assert_allclose(found.level, slopes * age, rtol=0.06)
    assert abs(seen[2, 0]) < 0.95 * slopes[0]  # what one pair of means says is less


def test_a_trend_is_followed_for_as_long_as_it_has_lasted_and_may_go_on() -> None:
    told, slope = np.float32([1, 1, 0]), np.float32([1, -0.01, 5])
    age, x, value = np.float32([1200, np.inf, 60]), np.float32([10, 100, 7]), np.zeros((3, 3), np.float32)
    trend = ensemble.Trend(told, told, slope, x, age)
    rows, below, above = trend.carry(value, x)
    assert rows.tolist() == [0, 1]
    np.testing.assert_allclose(value, [[910, 91, 0], [1210, 82, 0], [1210, 64, 0]], rtol=1e-6)
    doubt = ensemble.TREND_DOUBT * np.array([[900, 9], [1200, 18], [1200, 36]])
    np.testing.assert_allclose(below, doubt, rtol=1e-6)
    np.testing.assert_allclose(
        above - doubt, [[0, 0], [600, 0], [2400, 0]], atol=1e-3
    )  # to where it would go


def test_a_leak_of_whole_connections_is_announced_a_minute_ahead() -> None:
    rng, nursery = np.random.default_rng(0), Block(POOLS, STEP)
    begin = NOW - 2000 * STEP
    for at, step in ((np.arange(begin - 86400, begin, 300.0), 300.0), (np.arange(begin, NOW, STEP), STEP)):
        replay(nursery, at, np.array([used(rng, now) for now in at.tolist()]), step)
    engine = Engine(STEP)
    engine.watch({"pool": WATCH})
    engine.adopt(Instant(NOW), "pool", KEYS, nursery, 0, POOLS)
    announced, true, times = np.full(POOLS, np.nan), np.full(POOLS, np.nan), list[F64]()
    for tick in range(50):
        since = tick * STEP
        values = used(rng, NOW + since, leaked=5.8 / 60 * since)
        limits = engine.tick(Instant(NOW + since), {"pool": Vector(KEYS, values)}, 0).limits
        chance = limits.probability[0]
        times.append(np.where(chance > 0.8, since + limits.eta, np.nan))
        if tick == 0:
            assert (chance < 0.01).all()  # nothing was announced before the leak
        announced = np.where(np.isnan(announced) & (chance > 0.8) & (chance < 1), since, announced)
        true = np.where(np.isnan(true) & (chance == 1), since, true)
    assert (true - announced >= 45).all()
    early = [np.array(times)[round(since / STEP), i] for i, since in enumerate(announced)]
    assert abs(np.median((early - announced) / (true - announced)) - 1) < 0.5  # it was 6.7 times as long
    later = np.array(times)[round(100 / STEP)]
    assert abs(np.nanmedian((later - 100) / (true - 100)) - 1) < 0.2


def test_a_share_is_not_forecast_beyond_its_whole_while_its_way_to_the_limit_is() -> None:
    rng, nursery = np.random.default_rng(1), Block(POOLS, STEP)
    at = np.arange(NOW - 1000 * STEP, NOW, STEP)
    replay(nursery, at, np.array([used(rng, now) for now in at.tolist()]), STEP)
    said = []
    for bounds in ((None, None), (0.0, 1.0)):
        engine, again = Engine(STEP), np.random.default_rng(2)
        gone = Watch("gone", "gone", "rule", STEP)
        engine.watch({"pool": msgspec.structs.replace(WATCH, bounds=bounds), "gone": gone})
        engine.adopt(Instant(NOW), "pool", KEYS, nursery, 0, POOLS)
        for tick in range(30):
            values = used(again, NOW + tick * STEP, leaked=5.8 / 60 * tick * STEP)
            answers = {"pool": Vector(KEYS, values), "gone": Vector([], np.empty(0))}
            if tick == 29:
                del answers["gone"]  # what another watch's failure holds back changes nothing here
            snapshot = engine.tick(Instant(NOW + tick * STEP), answers, 0)
        said.append(snapshot)
    free, bound = said
    assert (free.columns["f60"] > 1).any()
    assert (bound.columns["f60"] <= 1).all()
    assert (bound.columns["f60_upper"] <= 1).all()
    np.testing.assert_array_equal(bound.limits.eta, free.limits.eta)
    np.testing.assert_array_equal(bound.limits.probability, free.limits.probability)
