"""Server-sent events: few words, to few listeners, held by nobody."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientResponse

from sidecar.telemetry import Telemetry
from sidecar.web import live
from tests.unit.paging import WEAK, World, send, served


def listeners(telemetry: Telemetry) -> float:
    return telemetry.registry.get_sample_value("promantis_page_listeners") or 0.0


async def line(answer: ClientResponse) -> str:
    async with asyncio.timeout(5):
        return (await answer.content.readuntil(b"\n\n")).decode().strip()


async def gone(telemetry: Telemetry) -> None:
    for _ in range(500):
        if not listeners(telemetry):
            return
        await asyncio.sleep(0.01)
    pytest.fail("somebody is still held")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def world(telemetry: Telemetry) -> World:
    world = World()
    world.live = live.Live(telemetry, beat=0.2)
    return world


async def test_news_comes_and_a_fact_is_the_greater(world: World, telemetry: Telemetry) -> None:
    async with served(world) as client, client.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await line(answer) == "retry: 5000"
        world.live.tell("tick")
        assert await line(answer) == "data: tick"
        for what in ("tick", "fact", "tick", "tick"):
            world.live.tell(what)
        assert await line(answer) == "data: fact"  # one line for all that was not told yet
        assert await line(answer) == ":"  # a beat, with nothing new
        assert listeners(telemetry) == 1


async def test_who_is_gone_is_dropped(world: World, telemetry: Telemetry) -> None:
    async with served(world) as client:
        answer = await client.get("/events")
        await line(answer)
        assert listeners(telemetry) == 1
        answer.close()
        await gone(telemetry)


async def test_there_are_so_many_and_no_more(
    world: World, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST", 2)
    async with served(world) as client:
        open_ = [await client.get("/events") for _ in range(2)]
        answer = await client.get("/events")
        assert answer.status == 503
        assert "2 listen already" in await answer.text()
        for one in open_:
            one.close()
        await gone(telemetry)
        assert (await client.get("/events")).status == 200


async def test_a_stream_ends_so_that_the_login_is_asked_again(world: World, telemetry: Telemetry) -> None:
    world.live = live.Live(telemetry, beat=0.05, lasts=0.1)
    async with served(world) as client, client.get("/events") as answer:
        async with asyncio.timeout(5):
            assert (await answer.content.read()).startswith(b"retry: 5000\n\n")
        assert listeners(telemetry) == 0


async def test_stopping_ends_every_stream_at_once(world: World, telemetry: Telemetry) -> None:
    world.live = live.Live(telemetry)
    async with served(world) as client, client.get("/events") as answer:
        await line(answer)
        world.live.close()
        async with asyncio.timeout(5):
            assert await answer.content.read() == b""
        assert (await client.get("/events")).status == 503


async def test_beyond_loopback_it_needs_a_login(world: World) -> None:
    async with served(world, loopback=False) as client:
        assert (await client.get("/events")).status == 403
        await send(client, "/login", token=WEAK)
        async with client.get("/events") as answer:
            assert await line(answer) == "retry: 5000"


async def test_who_does_not_read_holds_up_nobody(world: World, telemetry: Telemetry) -> None:
    """A stream that cannot be written to ends; telling the others takes no time meanwhile."""
    world.live = live.Live(telemetry, beat=0.01)

    class Stuck:
        async def write(self, data: bytes) -> None:
            await asyncio.sleep(3600)

    async with served(world) as client, client.get("/events") as answer:
        await line(answer)
        one = live._Listener()
        live_patience, live.PATIENCE = live.PATIENCE, 0.05
        try:
            with pytest.raises(TimeoutError):
                await world.live._serve(Stuck(), one)  # type: ignore[arg-type]
        finally:
            live.PATIENCE = live_patience
        world.live.tell("fact")
        while await line(answer) != "data: fact":
            pass
