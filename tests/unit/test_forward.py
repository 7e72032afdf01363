"""What a replica that stands by passes on to the leader: all of it, to nobody else, and no word of somebody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.adapters.kubernetes import LeaseConfig
from sidecar.adapters.peer import Peers
from sidecar.telemetry import Telemetry
from sidecar.types import Unavailable
from sidecar.web import server
from sidecar.web.auth import Auth, ProxyConfig, Role, Token, needs
from sidecar.web.forward import MARK, forwarding
from tests.e2e.alerting import serving

TOKEN = "0123456789abcdef"


class World:
    """A leader that keeps what it was asked, and a replica before it."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.here: list[str] = []
        self.leader = web.Application()
        self.leader.router.add_route("*", "/{path:.*}", self._led)
        self.holder = "promantis-0-17"

    async def _led(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        answer = web.Response(status=303, text="there", headers={"Location": "/a/1?x=1"})
        answer.set_cookie("one", "1")
        answer.set_cookie("two", "2")
        return answer

    @needs(None)
    async def page(self, request: web.Request) -> web.StreamResponse:
        self.here.append(request.path)
        return web.Response(text="here")

    @needs(Role.APPROVE)
    async def act(self, request: web.Request) -> web.StreamResponse:
        self.here.append(request.path)
        return web.Response(text="here")


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient[Any, Any]]:
    people = (Token("ada", TOKEN, "approve"),)
    auth = Auth(people, False, ProxyConfig(header="X-User", trusted=("10.9.9.9/32",)))

    async def reload() -> None: ...

    routes = [web.get("/metrics", world.page), web.get("/a/{name}", world.page)]
    routes += [web.post("/a/{name}", world.page), web.post("/api/v1/killswitch", world.act)]
    async with serving(world.leader) as url:
        peers = Peers(url)
        inside = [forwarding(peers, lambda: world.holder, auth)]
        app = server.build(routes, auth, Telemetry(), list, reload, inside)
        async with TestClient(TestServer(app)) as client:
            yield client
        await peers.close()


async def test_it_is_passed_on_and_back_as_it_is(client: TestClient[Any, Any], world: World) -> None:
    headers = {"Cookie": "s=1", "Host": "promantis.example", "Origin": "https://promantis.example"}
    path = "/a/%41%2B?y=%2F&z"
    answer = await client.post(path, data=b"do=plan", headers=headers, allow_redirects=False)
    assert (answer.status, await answer.text()) == (303, "there")
    assert answer.headers["Location"] == "/a/1?x=1"
    assert [one.partition(";")[0] for one in answer.headers.getall("Set-Cookie")] == ["one=1", "two=2"]
    (asked,) = world.asked
    sent = answer.request_info.url.raw_path_qs
    assert (asked.method, asked.raw_path, world.bodies) == ("POST", sent, [b"do=plan"])
    assert {name: asked.headers[name] for name in headers} == headers
    assert world.here == []


async def test_what_every_replica_knows_is_not(client: TestClient[Any, Any], world: World) -> None:
    assert await (await client.get("/metrics")).text() == "here"
    assert (await client.get("/-/healthy")).status == 200
    assert (await client.get("/nowhere")).status == 404
    world.holder = ""
    assert await (await client.get("/a/1")).text() == "here", "it leads, or nobody does"
    assert world.asked == []


async def test_the_word_of_who_is_no_proxy_goes_no_further(
    client: TestClient[Any, Any], world: World
) -> None:
    await client.get("/a/1", headers={"X-User": "root"}, allow_redirects=False)
    assert "X-User" not in world.asked[0].headers


async def test_who_may_not_is_not_passed_on(client: TestClient[Any, Any], world: World) -> None:
    assert (await client.post("/api/v1/killswitch")).status == 401
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert (await client.post("/api/v1/killswitch", headers=good, allow_redirects=False)).status == 303
    assert len(world.asked) == 1


async def test_never_in_a_circle_and_never_kept(client: TestClient[Any, Any], world: World) -> None:
    answer = await client.get("/a/1", headers={MARK: "1"})
    assert (answer.status, answer.headers["Connection"]) == (503, "close")
    assert world.asked == []


async def test_a_leader_that_is_gone_is_said_but_the_kill_switch_works() -> None:
    world, auth = World(), Auth((), True)

    async def reload() -> None: ...

    peers = Peers("http://127.0.0.1:1")
    inside = [forwarding(peers, lambda: world.holder, auth)]
    routes = [web.get("/a/{name}", world.page), web.post("/api/v1/killswitch", world.page)]
    app = server.build(routes, auth, Telemetry(), list, reload, inside)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/a/1")
        assert answer.status == 503
        assert "promantis-0-17 leads and does not answer" in await answer.text()
        assert (await client.post("/api/v1/killswitch")).status == 200
    assert world.here == ["/api/v1/killswitch"]
    await peers.close()


@pytest.mark.parametrize("holder", ["evil.example/x-1", "a:80@b-1", "-1", "", "A-1", "a/../b-1"])
async def test_a_lease_cannot_name_another_host(holder: str) -> None:
    peers = Peers("http://{{ holder }}.promantis-replicas:9909")
    with pytest.raises(Unavailable, match="the name of no replica"):
        await peers.ask(holder, "GET", "/", {}, b"")


def test_where_replicas_are_is_a_url() -> None:
    assert [*LeaseConfig(peers="https://{{ holder }}.promantis:9909").problems()] == []
    assert [place for place, _ in LeaseConfig(peers="promantis:9909").problems()] == ["peers"]
