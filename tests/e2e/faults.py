"""What may break on the way of an alert, in either mode, and a run through it under load."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.alerts.aside import Enrich
from sidecar.demo.peers import NO_RECEIVER, Peer, Stack, free_port
from tests.e2e.alerting import alert_path, known, serving, stamp
from tests.e2e.chain import RULES, Alarms, alarms, discovered, prometheus_config
from tests.e2e.watchman import Act, Watchman, World, shown_at

Fault = Callable[[Stack, AsyncExitStack, str], Awaitable[World]]
"""Makes a world that can be broken, in one mode."""

# --------------------------------------------------------------------------- what breaks


async def nothing() -> None:
    """No fault."""


def _acts(peer: Peer, how: Callable[[], object]) -> tuple[Act, Act]:
    async def breaks() -> None:
        await asyncio.to_thread(how)

    async def heals() -> None:
        await peer.start()

    return breaks, heals


async def _inside(
    exits: AsyncExitStack, name: str, mode: str, peers: list[Peer], enrich: Enrich = known
) -> World:
    side = await exits.enter_async_context(alert_path(mode, *peers, enrich=enrich))
    doors = [peer.listen for peer in peers]
    return World(name, mode, side.url.removeprefix("http://"), peers, doors, nothing, nothing)


async def down(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """The Alertmanager is killed, and started again without its memory."""
    am = await stack.alertmanager()
    world = await _inside(exits, "Alertmanager down", mode, [am])
    world.breaks, world.heals = _acts(am, am.kill)
    return world


async def hanging(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """The Alertmanager takes connections and answers nothing; when it goes on it reads all that piled up."""
    am = await stack.alertmanager()
    world = await _inside(exits, "Alertmanager hanging", mode, [am])

    async def breaks() -> None:
        am.signal(signal.SIGSTOP)

    async def heals() -> None:
        am.signal(signal.SIGCONT)

    exits.callback(am.signal, signal.SIGCONT)
    world.breaks, world.heals = breaks, heals
    return world


class Gate:
    """Stands before an Alertmanager; while `shut` it answers 500 as one does whose store fails."""

    def __init__(self, url: str) -> None:
        self.shut = False
        self._url = url

    async def pass_on(self, request: web.Request) -> web.Response:
        if self.shut:
            return web.json_response("store failed", status=500)
        body = await request.read()
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self._url + request.path_qs, data=body, headers=headers
            ) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())


async def failing(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """The Alertmanager answers 500."""
    am = await stack.alertmanager()
    gate, app = Gate(am.url), web.Application(client_max_size=1 << 26)
    app.add_routes([web.route("*", "/{path:.*}", gate.pass_on)])
    url = await exits.enter_async_context(serving(app))
    door = Peer("gate", [], am.folder, int(url.rpartition(":")[2]), "/")
    world = await _inside(exits, "Alertmanager answers 500", mode, [door])
    world.alertmanagers = [am]

    async def turn(shut: bool) -> None:
        gate.shut = shut

    world.breaks, world.heals = lambda: turn(True), lambda: turn(False)
    return world


async def one_of_three(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """One Alertmanager is killed, two stay."""
    ams = [await stack.alertmanager() for _ in range(3)]
    world = await _inside(exits, "one of three down", mode, ams)
    world.breaks, world.heals = _acts(ams[0], ams[0].kill)
    world.prompt = (1, 2)
    return world


async def slow(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """The diagnosis takes so long that its words come late, or after its deadline."""
    return await _diagnosing(stack, exits, mode, "diagnosis slow", lambda: time.sleep(0.08))


async def throwing(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """The diagnosis fails."""
    return await _diagnosing(stack, exits, mode, "diagnosis throws", lambda: 1 // 0)


async def _diagnosing(
    stack: Stack, exits: AsyncExitStack, mode: str, name: str, does: Callable[[], object]
) -> World:
    broken = False

    def enrich(alert: Any, now: Any) -> Any:
        if broken:
            does()
        return known(alert, now)

    async def turn(to: bool) -> None:
        nonlocal broken
        broken = to

    world = await _inside(exits, name, mode, [await stack.alertmanager()], enrich)
    world.breaks, world.heals, world.prompt = lambda: turn(True), lambda: turn(False), (0,)
    return world


async def pair(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Two Alertmanagers that gossip: one is killed, a silence set through Promantis must reach it later."""
    gossip = [free_port(), free_port()]
    flags = [
        f"--cluster.{what}=1s"
        for what in ("settle-timeout", "pushpull-interval", "peer-timeout", "reconnect-interval")
    ]
    ams = [
        await stack.alertmanager(
            NO_RECEIVER,
            f"--cluster.listen-address=127.0.0.1:{mine}",
            f"--cluster.advertise-address=127.0.0.1:{mine}",
            f"--cluster.peer=127.0.0.1:{other}",
            *flags,
        )
        for mine, other in (gossip, gossip[::-1])
    ]
    world = await _inside(exits, "pair with gossip", mode, ams)
    kill, world.heals = _acts(ams[1], ams[1].kill)
    world.prompt = (0,)

    async def breaks() -> None:
        await kill()
        silence = {
            "matchers": [{"name": "name", "value": "Starting", "isRegex": False}],
            **{"startsAt": stamp(0), "endsAt": stamp(600), "createdBy": "me", "comment": "test"},
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{world.side}/api/v2/silences", json=silence) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def checks() -> None:
        async with aiohttp.ClientSession() as session:
            for am in ams:
                for alert in await shown_at(session, am.url):
                    quiet = alert["status"]["state"] == "suppressed"
                    assert quiet == (alert["labels"]["name"] == "Starting"), (am.url, alert)

    world.breaks, world.checks = breaks, checks
    return world


async def terminated(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Promantis is told to end (SIGTERM), and started again."""
    return await _process(stack, mode, "Promantis SIGTERM", lambda side: side.terminate())


async def killed(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Promantis is killed (SIGKILL), and started again."""
    return await _process(stack, mode, "Promantis SIGKILL", lambda side: side.kill())


async def paused(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Promantis stands still (SIGSTOP), as where its machine is moved, and goes on.

    Up to Prometheus 3.9 each batch then holds up all Alertmanagers: with more than one batch an evaluation the
    queue of Prometheus itself fills with the past.
    """
    world = await _process(stack, mode, "Promantis paused", None)
    side = stack.peers[-1]

    async def send(number: signal.Signals) -> None:
        side.signal(number)

    exits.callback(side.signal, signal.SIGCONT)
    world.breaks, world.heals, world.prompt = lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT), ()
    return world


async def ahead(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Promantis' clock is ten minutes ahead."""
    return await _process(stack, mode, "clock ten minutes ahead", None, 600.0)


async def behind(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Promantis' clock is ten minutes behind."""
    return await _process(stack, mode, "clock ten minutes behind", None, -600.0)


_SKEWED = """
import runpy, sys, time
real, real_ns = time.time, time.time_ns
time.time, time.time_ns = (lambda: real() + {skew}), (lambda: real_ns() + int({skew} * 1e9))
runpy.run_module("sidecar", run_name="__main__", alter_sys=True)
"""


async def _process(
    stack: Stack, mode: str, name: str, breaks: Callable[[Peer], object] | None, skew: float = 0.0
) -> World:
    am, port = await stack.alertmanager(), free_port()
    folder = am.folder / "promantis"
    folder.mkdir()
    command = [
        *(sys.executable, "-c", _SKEWED.format(skew=skew), "run"),
        f"--config.file={folder}/promantis.yml",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.path={folder}/state",
    ]
    side = Peer("promantis", command, folder, port, "/-/healthy")
    stack.peers.append(side)
    world = World(name, mode, side.listen, [am], [am.listen], nothing, nothing)
    world.prompt = (0,) if breaks is None or mode == "tee" else ()

    async def start() -> None:
        await side.start()

    if breaks is not None:
        world.breaks, world.heals = _acts(side, lambda: breaks(side))
    world.start = start
    return world


def _configure(world: World, prometheus: str) -> None:
    """Write the config of a world whose Promantis is a process."""
    if world.start is not None:
        peers = ", ".join(f"{{url: 'http://{door}'}}" for door in world.doors)
        file = world.alertmanagers[0].folder / "promantis" / "promantis.yml"
        file.write_text(
            f"prometheus: {{url: '{prometheus}'}}\nalertmanagers: [{peers}]\npresets: none\n"
            f"alerts: {{mode: {world.mode}, external_url: 'http://promantis.example.org'}}\n",
            encoding="utf-8",
        )


async def restarted(stack: Stack, exits: AsyncExitStack, mode: str) -> World:
    """Prometheus is told to end, and started again; `run` knows it."""
    return await _inside(exits, RESTART, mode, [await stack.alertmanager()])


RESTART = "Prometheus restart"
FAULTS = (failing, down, one_of_three, slow, throwing, pair, terminated, killed, ahead, behind)
ALONE = (hanging, paused, restarted)
"""Faults that other worlds of the same Prometheus would notice."""
MODES = ("inline", "tee")


# --------------------------------------------------------------------------- one run


@asynccontextmanager
async def toggling(alarm: Alarms, many: int) -> AsyncIterator[None]:
    """Alarms that go on and off at every evaluation, while the block runs."""

    async def turn() -> None:
        for step in range(1_000_000):
            alarm.set("Flapping", range(many), step % 2 == 0)
            await asyncio.sleep(2)

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        task.cancel()


async def run(
    stack: Stack, faults: Sequence[tuple[Fault, str]], *, many: int, seconds: float, resend: int
) -> None:
    """Break a world for each fault and mode under load for a while, heal it; AssertionError if an alert suffered.

    `many` alarms are on all the time, as many begin and end meanwhile, and as many come and go. Alerts are sent
    again after `resend` seconds, and hold for four times as long.
    """
    async with AsyncExitStack() as exits:
        target, alarm = await exits.enter_async_context(alarms())
        worlds = await asyncio.gather(*(fault(stack, exits, mode) for fault, mode in faults))
        peers = [peer for world in worlds for peer in world.listed]
        hasty = [world.side for world in worlds if world.mode == "tee"]  # as the README says
        config = prometheus_config(target, peers, hasty)
        prometheus = await stack.prometheus(config, RULES, f"--rules.alert.resend-delay={resend}s")
        for world in worlds:
            _configure(world, prometheus.url)
            if world.name == RESTART:
                world.breaks, world.heals = _acts(prometheus, prometheus.terminate)
        await asyncio.gather(*(world.start() for world in worlds if world.start is not None))
        await discovered(prometheus.url, len(peers))
        watchman = Watchman(prometheus.url, worlds)
        watch = asyncio.create_task(watchman.run())
        exits.callback(watch.cancel)
        alarm.set("Steady", range(many), True)
        alarm.set("Ending", range(many), True)
        async with toggling(alarm, many):
            await asyncio.sleep(4)
            watchman.broken = True
            await asyncio.gather(*(world.breaks() for world in worlds))
            await asyncio.sleep(seconds / 2)
            alarm.set("Ending", range(many), False)
            alarm.set("Starting", range(many), True)
            await asyncio.sleep(seconds / 2)
            await asyncio.gather(*(world.heals() for world in worlds))
        await watchman.settled(2.0 * resend + 10)
        watchman.broken = False
        await asyncio.gather(*(world.checks() for world in worlds if world.checks is not None))
        await asyncio.sleep(3)  # what is late to do harm would do it now
    assert watchman.looks > 10
    assert not watchman.wrong, "\n".join(watchman.wrong)
