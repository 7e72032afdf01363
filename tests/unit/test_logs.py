"""What a log says now that it did not say before; asked of a server that answers as Loki's API documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.adapters.loki import MOST, Loki, LokiConfig
from sidecar.alerts.logs import BEFORE, NOW, Lines, compare
from sidecar.config import parse
from sidecar.types import ConfigError, Unavailable

AT = 1_764_000_000.0


def lines(usual: int, bad: int = 0, often: int = 0) -> list[str]:
    """A log: requests as ever, and what may be new or more."""
    out = [f'level=info msg="GET /orders/{i} 200 in {i % 90} ms" trace={i:08x}' for i in range(usual)]
    out += [
        json.dumps({"level": "error", "msg": f"timeout after {i} ms waiting for a connection"})
        for i in range(bad)
    ]
    return out + [f"cart {i} was emptied" for i in range(often)]


def test_what_is_new_is_named_before_what_surges() -> None:
    found = compare(Lines(lines(1200, often=24), BEFORE), Lines(lines(100, bad=34, often=60), NOW))
    assert [one.words for one in found] == [
        'new in its log: "timeout after <*> ms waiting for a connection" (34 times)',
        'more in its log: "cart <*> was emptied" (60 times, usually 2)',
    ]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (lines(1200), lines(100)),  # as ever
        (lines(1200), lines(200)),  # a little more of it
        (lines(1200), lines(100, bad=2)),  # too seldom
        ([], lines(100, bad=50)),  # nothing is known of before
        (lines(1200), []),
    ],
)
def test_what_is_as_ever_is_not_named(before: list[str], now: list[str]) -> None:
    assert compare(Lines(before, BEFORE), Lines(now, NOW)) == []


def test_what_no_utf8_can_carry_is_replaced_so_that_alerts_can_say_it() -> None:
    odd = [r'{"msg":"pool \ud83d timeout"}'] * 9
    said = compare(Lines(lines(1200), BEFORE), Lines(odd, NOW))[0].words
    assert said.encode().decode() == 'new in its log: "pool \N{REPLACEMENT CHARACTER} timeout" (9 times)'


def test_a_log_that_was_cut_is_held_against_the_time_that_it_covers() -> None:
    """Two thousand lines of a busy service cover minutes, not the hour that was asked for."""
    assert compare(Lines(lines(2000), 300.0), Lines(lines(2000), 290.0)) == []


# --------------------------------------------------------------------------- Loki


class Server:
    """Answers GET /loki/api/v1/query_range."""

    def __init__(self) -> None:
        self.log: list[tuple[float, str]] = []
        self.asked: list[dict[str, str]] = []
        self.status, self.body = 200, ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        start, end = int(request.query["start"]), int(request.query["end"])
        newest = sorted((line for line in self.log if start <= line[0] * 1e9 < end), reverse=True)
        values = [[str(int(at * 1e9)), text] for at, text in newest[: int(request.query["limit"])]]
        stream = {"stream": {"service_name": "shop", "level": "info"}, "values": values}
        said = {"status": "success", "data": {"resultType": "streams", "result": [stream], "stats": {}}}
        return web.Response(status=self.status, text=self.body or json.dumps(said))


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def loki(server: Server) -> AsyncIterator[Loki]:
    app = web.Application()
    app.router.add_get("/loki/api/v1/query_range", server.answer)
    async with TestServer(app) as peer:
        client = Loki(LokiConfig(url=str(peer.make_url("/"))))
        yield client
        await client.close()


async def test_lines_come_in_order_with_the_time_that_they_cover(loki: Loki, server: Server) -> None:
    server.log = [(AT - 10, "later"), (AT - 20, "earlier"), (AT + 5, "after")]
    assert await loki.lines('a"b', AT - 300, AT) == Lines(["earlier", "later"], 300.0)
    assert server.asked[0]["query"] == '{service_name="a\\"b"}'
    assert server.asked[0]["direction"] == "backward"
    server.log = [(AT - 1 - i / 100, "x") for i in range(MOST + 500)]
    cut = await loki.lines("shop", AT - 300, AT)
    assert len(cut.text) == MOST
    assert cut.seconds == pytest.approx(1 + (MOST - 1) / 100, abs=0.1)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, "parse error at line 1", "400 parse error at line 1"),
        (200, "<html>", "not an answer of Loki"),
        (200, '{"status":"success","data":{"result":[{"values":[["x","y"]]}]}}', "not an answer of Loki"),
    ],
)
async def test_what_is_no_answer_says_so(
    loki: Loki, server: Server, status: int, body: str, words: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(Unavailable, match=words):
        await loki.lines("shop", AT - 300, AT)


async def test_nobody_there_says_so() -> None:
    client = Loki(LokiConfig(url="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match="log of shop: "):
        await client.lines("shop", AT - 300, AT)
    await client.close()


def test_the_selector_must_name_the_service(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loki.selector: must hold \{\{ service \}\}"):
        parse("loki: {url: 'http://loki:3100', selector: '{app=\"shop\"}'}")
