"""The demo's shop: one function of time, a leak, a pool that mends it."""

from __future__ import annotations

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.demo.model import BUCKETS, POOL, Shop, advance, rate
from sidecar.demo.past import openmetrics
from sidecar.demo.shop import Service

NOON = 1_795_000_000.0


def after(shop: Shop, seconds: int) -> Shop:
    for _ in range(seconds // 5):
        shop = advance(shop, shop.at + 5)
    return shop


def failing(before: Shop, now: Shop) -> float:
    return (now.failed - before.failed) / (now.failed + now.served - before.failed - before.served)


def test_the_same_instant_is_the_same_shop() -> None:
    assert after(Shop(NOON), 600) == after(Shop(NOON), 600)


def test_counters_only_rise_and_agree() -> None:
    shop = Shop(NOON)
    for _ in range(200):
        later = advance(shop, shop.at + 5)
        assert later.served > shop.served
        assert later.failed > shop.failed
        assert list(later.buckets) == sorted(later.buckets)
        assert later.buckets[len(BUCKETS) - 1] == pytest.approx(later.served + later.failed)
        shop = later


def test_requests_follow_the_day() -> None:
    hours = [rate(NOON - NOON % 86400 + hour * 3600) for hour in range(24)]
    assert max(hours) > 1.8 * min(hours)


def test_a_leak_fills_the_pool_and_then_requests_fail_and_a_bigger_pool_mends_it() -> None:
    usual = after(Shop(NOON), 60)
    leaking = after(msgspec.structs.replace(usual, leak_per_second=0.1), 200)
    full = after(leaking, 60)
    assert usual.in_use < POOL / 2
    assert full.in_use == POOL
    assert failing(Shop(NOON), usual) < 0.01
    assert failing(leaking, full) > 0.1
    resized = msgspec.structs.replace(full, pool=40, leak_per_second=0.0)
    mended = after(resized, 60)
    assert mended.in_use < 10
    assert failing(after(resized, 30), mended) < 0.01


def test_the_past_is_written_one_family_after_the_other_with_the_labels_of_the_scrape() -> None:
    lines = list(openmetrics([Shop(5.0), Shop(10.0)]))
    assert lines[0] == 'http_requests_total{job="shop",instance="shop-1",code="200"} 0 5.0'
    names = [line.partition("{")[0] for line in lines]
    assert len(set(names)) == 10  # the last is the end mark
    assert names == sorted(names, key=names.index)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/pool", '{"size": 0}', "size must be from 1 to 1000"),
        ("/pool", '{"size": "big"}', "Expected `int`, got `str` - at `$.size`"),
        ("/pool", "{}", "Object missing required field `size`"),
        ("/leak", '{"per_hour": 1}', "Object contains unknown field `per_hour`"),
        ("/leak", "leak", "JSON is malformed: invalid character (byte 0)"),
    ],
)
async def test_the_shop_refuses_bad_bodies(path: str, body: str, words: str) -> None:
    async with TestClient(TestServer(Service(Shop(NOON)).app())) as client:
        answer = await client.post(path, data=body)
        assert (answer.status, await answer.text()) == (400, words)


async def test_the_shop_leaks_and_is_resized_over_http() -> None:
    async with TestClient(TestServer(Service(Shop(NOON)).app())) as client:
        leak = await (await client.post("/leak", json={"per_minute": 6})).json()
        pool = await (await client.post("/pool", json={"size": 40})).json()
        metrics = await (await client.get("/metrics")).text()
    assert leak["leak_per_second"] == pytest.approx(0.1)
    assert (pool["pool"], pool["leak_per_second"]) == (40, 0)
    assert "db_pool_connections_max 40.0" in metrics
