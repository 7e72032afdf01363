"""What a user, a peer or a disk can get wrong, through the real process: exact words, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.demo.peers import Peer, Stack, free_port
from tests.e2e.alerting import alert_at, get, message, post, serving, until
from tests.e2e.loop import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SCRAPES = "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: p, static_configs: [{{targets: ['{0}']}}]}}]"
RULES = "groups: [{name: g, interval: 1s, rules: [{alert: Down, expr: up < 1}]}]"
PLAIN = 'interval: 1s\npresets: none\nprometheus: {{url: "{0}"}}\n'


async def starting(config: str, folder: Path, *flags: str) -> tuple[int | None, str]:
    """Exit code and last line of a `promantis run` that cannot start."""
    (folder / "promantis.yml").write_text(config)
    flags = ("--web.listen-address=127.0.0.1:0", f"--storage.path={folder}/state", *flags)
    command = (sys.executable, "-m", "sidecar", "run", f"--config.file={folder}/promantis.yml", *flags)
    code, out = await run(*command)
    return code, out.splitlines()[-1]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("intervall: 5s", "unknown key `intervall`: did you mean `interval`?"),
        ("prometheus: {urls: x}", "prometheus: unknown key `urls`: did you mean `url`?"),
        ("interval: [5]", "interval: not a valid duration: [5] (write 15s, 5m, 1h30m, 30d)"),
        ("exposition: {max_series: many}", "exposition.max_series: must be a whole number, not text"),
        ("interval: 5 s", "interval: not a valid duration: '5 s' (write 15s, 5m, 1h30m, 30d)"),
        (
            "alerts: {mode: inline}",
            "alerts.mode: inline needs an Alertmanager to send to: name one in alertmanagers",
        ),
    ],
)
async def test_a_wrong_config_ends_the_start(config: str, words: str, tmp_path: Path) -> None:
    assert await starting(config, tmp_path) == (2, f"promantis: promantis.yml: {words}")


async def test_inline_with_an_alertmanager_from_the_flags(tmp_path: Path) -> None:
    (tmp_path / "promantis.yml").write_text("alerts: {mode: inline}")
    flags = ("--alertmanager.url=http://127.0.0.1:9", f"--config.file={tmp_path}/promantis.yml")
    assert (await run(sys.executable, "-m", "sidecar", "check", *flags))[0] == 0


async def test_a_data_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = f"promantis: storage.path: {tmp_path}/file/below/state is not writable: Not a directory"
    words += "; another folder by --storage.path"
    assert await starting("", tmp_path, f"--storage.path={tmp_path}/file/below") == (2, words)


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        words = f"promantis: web.listen: {listen}: the address is in use; another one by --web.listen-address"
        assert await starting("", tmp_path, f"--web.listen-address={listen}") == (2, words)


def spawned(stack: Stack, config: str, *flags: str) -> Peer:
    """`promantis run`, without waiting until it is ready."""
    folder, port = stack.folder / f"promantis-{len(stack.peers)}", free_port()
    folder.mkdir()
    (folder / "promantis.yml").write_text(config)
    command = (
        *(sys.executable, "-m", "sidecar", "run", f"--config.file={folder}/promantis.yml"),
        *(f"--web.listen-address=127.0.0.1:{port}", f"--storage.path={folder}/state", *flags),
    )
    peer = Peer("promantis", command, folder, port, "/-/healthy")
    stack.peers.append(peer)
    return peer


async def ready(side: Peer) -> tuple[int, str]:
    """What /-/ready answers."""
    async with aiohttp.ClientSession() as session, session.get(side.url + "/-/ready") as answer:
        text = await answer.text()
        return answer.status, text if answer.status == 200 else json.loads(text)["error"]


async def is_ready(side: Peer) -> bool:
    return (await ready(side))[0] == 200


async def test_prometheus_that_comes_later(stack: Stack) -> None:
    port = free_port()
    am = await stack.alertmanager()
    url = f"http://127.0.0.1:{port}"
    config = PLAIN.format(url) + f"alertmanagers: [{{url: '{am.url}'}}]\nalerts: {{mode: inline}}\n"
    side = await spawned(stack, config).start()
    waits = "not ready: the watches are not known yet: Prometheus has not answered"
    assert await ready(side) == (503, waits)
    assert f"{url}: rules: cannot connect: connection refused" in side.tail()
    assert await post(side.url, [message("A")]) == 200
    assert await alert_at(am.url, "A")
    await stack.prometheus(lambda own: SCRAPES.format(own), RULES, port=port)
    await until(lambda: is_ready(side), 25)
    assert side.tail(99).count("cannot read what to watch") == 1  # said once, not every five seconds


class Fake:
    """Something at Prometheus' address that answers every request the same way."""

    def __init__(self) -> None:
        self.status, self.body = 500, b"the disk is on fire"

    async def answer(self, _: web.Request) -> web.Response:
        return web.Response(status=self.status, body=self.body)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self.answer)])
        async with serving(app) as url:
            yield url


RUBBISH = (
    (500, b"the disk is on fire", "500 Internal Server Error"),
    (200, b"<html>", "not an answer of Prometheus: "),
    (200, b'{"status":"success","data":{"groups":7}}', "not an answer of Prometheus: "),
    (404, b"", "404 Not Found"),
)


async def test_prometheus_that_answers_rubbish(stack: Stack) -> None:
    fake = Fake()
    async with fake.open() as url:
        side = await spawned(stack, PLAIN.format(url)).start()
        for status, body, words in RUBBISH:
            fake.status, fake.body = status, body
            await until(
                lambda words=words: f"cannot read what to watch: {url}: rules: {words}" in side.tail(99), 9
            )
        assert (await ready(side))[0] == 503
        assert await post(side.url, [message("A")]) == 200
        assert side.alive
        begin = time.monotonic()
        side.signal(signal.SIGTERM)
        assert await asyncio.to_thread(side.terminate) == 0
        assert time.monotonic() - begin < 5


class Between:
    """Passes Prometheus' answers on, until it is told to break them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.instead: tuple[int, bytes] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        if self.instead:
            return web.Response(status=self.instead[0], body=self.instead[1])
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                self.url + request.raw_path,
                data=await request.read(),
                headers=request.headers,
            ) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self.answer)])
        async with serving(app) as url:
            yield url


async def error_of(side: Peer, watch: str) -> str | None:
    found = await get(side.url, "/api/v1/watches")
    error: str | None = next(w["error"] for w in found["watches"] if w["name"] == watch)
    return error


async def test_prometheus_that_breaks_and_mends(stack: Stack) -> None:
    prometheus = await stack.prometheus(lambda own: SCRAPES.format(own), RULES)
    await until(lambda: up(prometheus))
    between = Between(prometheus.url)
    async with between.open() as url:
        side = await spawned(stack, PLAIN.format(url)).start()
        await until(lambda: is_ready(side))
        for status, body, words in (*RUBBISH[:2], (503, b"", "503 Service Unavailable")):
            between.instead = (status, body)
            expected = f"{url}: query up: {words}"
            await until(lambda expected=expected: says(side, expected), 5)
        (series,) = await get(side.url, "/api/v1/series")
        assert series["watch"] == "Down"  # what was said is held for a moment, or known without a value
        between.instead = None
        await until(lambda: recovered(side), 5)
        assert "watch Down answered again" in side.tail(99)


async def up(prometheus: Peer) -> bool:
    return bool((await get(prometheus.url, "/api/v1/query?query=up"))["data"]["result"])


async def says(side: Peer, words: str) -> bool:
    return (await error_of(side, "Down") or "").startswith(words)


async def recovered(side: Peer) -> bool:
    return await error_of(side, "Down") is None


async def test_alertmanager_that_is_down_or_hangs(stack: Stack) -> None:
    am = await stack.alertmanager()
    config = PLAIN.format("http://127.0.0.1:9") + f"alertmanagers: [{{url: '{am.url}'}}]\n"
    inline = await spawned(stack, config + "alerts: {mode: inline}\n").start()
    tee = await spawned(stack, config).start()
    am.kill()
    status, said = await posted(inline, json.dumps([message("A")]).encode())
    assert (status, said) == (503, f"{am.listen} cannot be asked: connection refused")
    assert await post(tee.url, [message("A")]) == 200  # Prometheus itself sends to Alertmanager too
    await am.start()
    await until(lambda: alert_at(am.url, "A"))  # not lost: sent as soon as somebody is there

    async def taken() -> bool:
        return (await posted(inline, json.dumps([message("C")]).encode()))[0] == 200

    await until(taken)
    am.signal(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        assert (await posted(inline, json.dumps([message("B")]).encode()))[0] == 503
        assert 4 < time.monotonic() - begin < 8  # before Prometheus gives up at 10
        begin = time.monotonic()
        assert await post(tee.url, [message("B")]) == 200
        assert time.monotonic() - begin < 1
        begin = time.monotonic()
        inline.signal(signal.SIGTERM)
        assert await asyncio.to_thread(inline.terminate) == 0  # a peer that hangs does not hang the stop
        assert time.monotonic() - begin < 5
    finally:
        am.signal(signal.SIGCONT)


async def posted(side: Peer, body: bytes, path: str = "/api/v2/alerts") -> tuple[int, Any]:
    """POST JSON; status and decoded answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(side.url + path, data=body, headers={"Content-Type": "application/json"}) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def test_malformed_alerts_and_webhooks(stack: Stack) -> None:
    side = await spawned(stack, PLAIN.format("http://127.0.0.1:9")).start()
    status, said = await posted(side, b"{")
    assert (status, said["code"]) == (400, 400)
    good, bad = message("A"), {"annotations": {}}
    status, said = await posted(side, json.dumps([good, bad]).encode())
    assert (status, said) == (422, {"code": 602, "message": "1.labels in body is required"})
    for body, words, where in (
        (b"{", "not JSON: Input data was truncated", "body"),
        (b'{"version": "3", "alerts": []}', "payload version '3' is not supported (only '4')", "version"),
        (b"[]", "Expected `object`, got `array`", "/api/v1/webhook"),
    ):
        status, said = await posted(side, body, "/api/v1/webhook")
        assert (status, said) == (400, {"error": words, "where": where})
    assert await get(side.url, "/api/v1/cases") == []
    assert side.alive
    assert "Traceback" not in side.tail(99)


async def test_a_damaged_state_is_set_aside(stack: Stack) -> None:
    prometheus = await stack.prometheus(lambda own: SCRAPES.format(own), RULES)
    side = spawned(stack, PLAIN.format(prometheus.url))
    folder = side.folder / "state" / "state"
    folder.mkdir(parents=True)
    (folder / "1.state").write_bytes(b"promantis state 1\nrubbish")
    (folder / "2.state").write_bytes(b"")
    await side.start()
    await until(lambda: is_ready(side), 15)
    log = side.tail(99)
    assert f"state file {folder}/1.state set aside: checksum does not match" in log
    assert f"state file {folder}/2.state set aside: not a state file of this version" in log
    assert (folder / "1.damaged").exists()
    assert side.terminate() == 0
    assert (folder / "1.state").exists()
