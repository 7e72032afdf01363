"""/api/v1/explain and `promantis explain`: what is asked, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.alerts.explain import Explanation, Metric, Said, Steps
from sidecar.alerts.scene import Moved
from sidecar.commands.explain import lines
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Unavailable
from sidecar.web import auth, explain, server

NOW = Instant(1_764_000_000.0)
SAID = Explanation(
    what="HighLatency",
    causes=(Said("shop", "saturation", "pool 85 %, usually 45 %", "very likely", 0.95),),
    none_likelihood=0.03,
    summary="shop runs out of pooled connections (very likely): pool 85 %, usually 45 %.",
    pattern="pool exhaustion",
    outlook="If nobody acts: it is used up in about 14 min.",
    next_steps=Steps(("enlarge the pool",), ("timeouts",)),
    changes=("shop was deployed at 14:00 UTC (9 min ago)",),
    similar=("2025-11-20 12:00 UTC HighLatency: pool exhaustion of shop; bigger-pool fixed",),
    metrics=(Metric("pool", 0.86),),
    incident="c0ffee12",
    moved=(Moved("shop", "latency", "slow", "2 s", "1 s", None, "slow", b'{"job":"shop"}'),),
    calls=(("front", "shop"),),
)


class World:
    """What can be explained: one alert, and the series of one job."""

    def __init__(self) -> None:
        self.asked: list[Instant | None] = []
        self.down = False

    async def explained(self, fingerprint: str, at: Instant | None) -> Explanation | None:
        self.asked.append(at)
        return SAID if fingerprint == "0123456789abcdef" else None

    async def explained_series(
        self, wanted: Callable[[Mapping[str, str]], bool], at: Instant | None
    ) -> Explanation | None:
        if self.down:
            raise Unavailable("Prometheus does not answer")
        self.asked.append(at)
        return SAID if wanted({"job": "shop"}) else None


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(tmp_path: Path, world: World) -> AsyncIterator[TestClient[Any, Any]]:
    async def reload() -> None:
        return None

    doors = auth.load(None, str(tmp_path), "127.0.0.1:9909")
    app = server.build(explain.routes(world, lambda: NOW), doors, Telemetry(), lambda: [], reload)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ({"fingerprint": "0123456789abcdef"}, None),
        ({"match": '{job="shop"}'}, None),
        ({"match": '{job="shop"}', "at": "1763990000"}, 1_763_990_000.0),
        ({"match": '{job="shop"}', "at": "2025-11-24T10:00:00Z"}, 1_763_978_400.0),
    ],
)
async def test_the_answer_has_the_shape_that_is_promised(
    client: TestClient[Any, Any], world: World, query: dict[str, str], at: float | None
) -> None:
    answer = await client.get("/api/v1/explain", params=query)
    said = await answer.json()
    assert answer.status == 200
    parts = {"what", "causes", "none_likelihood", "outlook", "next_steps", "changes", "similar"}
    assert parts <= set(said)
    assert set(said["causes"][0]) >= {"entity", "kind", "words", "likelihood"}
    assert set(said["next_steps"]) == {"now", "later"}
    assert said["moved"][0]["labels"] == {"job": "shop"}
    assert "key" not in said["moved"][0]
    assert said["calls"] == [["front", "shop"]]
    assert world.asked == [at]


@pytest.mark.parametrize(
    ("query", "status", "words", "where"),
    [
        ({}, 400, "name either match or fingerprint", "match"),
        ({"match": "{}", "fingerprint": "x"}, 400, "name either match or fingerprint", "match"),
        ({"match": "{job="}, 400, "not a selector", "match"),
        (
            {"match": '{job="other"}'},
            404,
            "no such series with a known service: the page Series lists them, `{}` for all",
            "match",
        ),
        ({"fingerprint": "x"}, 404, "this alert is not known", "fingerprint"),
        ({"fingerprint": "x", "at": "noon"}, 400, "'noon' is not a time", "at"),
        ({"fingerprint": "x", "at": "2000000000"}, 400, "must be in the past", "at"),
    ],
)
async def test_what_is_wrong_is_said_with_its_place(
    client: TestClient[Any, Any], query: dict[str, str], status: int, words: str, where: str
) -> None:
    answer = await client.get("/api/v1/explain", params=query)
    said = await answer.json()
    assert (answer.status, said["where"]) == (status, where)
    assert said["error"].startswith(words)


async def test_a_prometheus_that_does_not_answer_is_no_answer(
    client: TestClient[Any, Any], world: World
) -> None:
    world.down = True
    answer = await client.get("/api/v1/explain", params={"match": '{job="shop"}', "at": "1763990000"})
    assert (answer.status, (await answer.json())["where"]) == (503, "at")


async def test_the_command_prints_every_part(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/api/v1/explain", params={"match": '{job="shop"}'})
    assert lines(await answer.json()) == [
        "HighLatency  incident c0ffee12",
        "         shop runs out of pooled connections (very likely): pool 85 %, usually 45 %.",
        "cause    very likely: shop: pool 85 %, usually 45 %",
        "none     no cause at all: 3%",
        "outlook  If nobody acts: it is used up in about 14 min.",
        "now      enlarge the pool",
        "later    timeouts",
        "metric   pool (86% part of it)",
        "changes  shop was deployed at 14:00 UTC (9 min ago)",
        "similar  2025-11-20 12:00 UTC HighLatency: pool exhaustion of shop; bigger-pool fixed",
    ]
