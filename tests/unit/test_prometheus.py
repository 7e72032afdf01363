"""The adapter's errors, words and budget, against a small server that answers what a real one never would."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.adapters.budget import Budget
from sidecar.adapters.http import Client
from sidecar.adapters.http_config import Authorization, BasicAuth, HttpConfig, TlsConfig
from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError, Instant, Rejected, Unavailable

NOW = Instant(1700000000.0)
VECTOR = (
    b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2"]}]}}'
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Make = Callable[..., Awaitable[Prometheus]]


@pytest.fixture
async def peer() -> AsyncIterator[Make]:
    """Make a Prometheus whose every answer is the handler's."""
    servers: list[TestServer] = []
    clients: list[Prometheus] = []

    async def make(handler: Handler, url: str = "{}", **config: object) -> Prometheus:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        where = url.format(f"127.0.0.1:{server.port}")
        where = where if "://" in where else f"http://{where}"
        client = Prometheus(PrometheusConfig(url=where, **config), Telemetry())  # type: ignore[arg-type]
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
    for server in servers:
        await server.close()


def fixed(status: int, body: bytes, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def refuse(make: Make, handler: Handler, query: str = "up") -> str:
    client = await make(handler)
    with pytest.raises((Unavailable, Rejected)) as caught:
        await client.instant(query, NOW, 0.5)
    words = str(caught.value)
    assert words.startswith(client.url + ": ")
    return f"{type(caught.value).__name__} {words.removeprefix(client.url + ': ')}"


ERROR = b'{"status":"error","errorType":"%s","error":"%s"}'


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"", "Unavailable query up: 500 Internal Server Error"),
        (503, ERROR % (b"timeout", b"query timed out"), "Unavailable query up: 503 timeout: query timed out"),
        (429, b"slow down", "Unavailable query up: 429 Too Many Requests"),
        (400, ERROR % (b"bad_data", b"no such thing"), "Rejected query up: 400 bad_data: no such thing"),
        (422, ERROR % (b"execution", b"many-to-many"), "Rejected query up: 422 execution: many-to-many"),
        (
            401,
            b"<html>",
            "Rejected query up: 401 Unauthorized (its login: basic_auth or authorization under `prometheus.http`)",
        ),
        (404, b"\xff", "Rejected query up: 404 Not Found"),
        (
            200,
            b"<html>log in</html>",
            "Unavailable query up: not an answer of Prometheus: JSON is malformed: invalid character (byte 0)",
        ),
        (200, VECTOR[:-20], "Unavailable query up: not an answer of Prometheus: input data was truncated"),
        (
            200,
            b'{"status":"success","data":{"resultType":"string","result":[1,"x"]}}',
            "Unavailable query up: not an answer of Prometheus: expected a vector or a scalar, got a string",
        ),
    ],
)
async def test_bad_answers(peer: Make, status: int, body: bytes, words: str) -> None:
    assert await refuse(peer, fixed(status, body)) == words


async def test_slow_answer(peer: Make) -> None:
    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    assert await refuse(peer, never) == "Unavailable query up: no answer within 0.5s"


async def test_connection_lost_in_the_answer(peer: Make) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(VECTOR)
        assert request.transport
        request.transport.abort()
        return response

    words = await refuse(peer, cut)
    assert words.startswith("Unavailable query up: ")


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    client = Prometheus(PrometheusConfig(url=f"http://u:secret@127.0.0.1:{port}/p/"), Telemetry())
    with pytest.raises(Unavailable) as caught:
        await client.rules()
    assert str(caught.value) == f"http://127.0.0.1:{port}/p: rules: cannot connect: connection refused"
    await client.close()


async def test_long_queries_are_shortened_in_messages(peer: Make) -> None:
    words = await refuse(peer, fixed(500, b""), "sum(\n  x) + " + "y + " * 100 + "z")
    middle = "sum( x) + " + "y + " * 7 + "y..." + " + y" * 9 + " + z"
    assert words == f"Unavailable query {middle}: 500 Internal Server Error"


@pytest.mark.parametrize(
    ("url", "http", "expected"),
    [
        ("{}", HttpConfig(), None),
        ("http://me:pa%3Ass@{}", HttpConfig(), "Basic bWU6cGE6c3M="),
        ("{}", HttpConfig(basic_auth=BasicAuth(username="a", password="b")), "Basic YTpi"),
        ("http://me:pw@{}", HttpConfig(authorization=Authorization(credentials="t")), "Bearer t"),
    ],
)
async def test_credentials_and_path_prefix(
    peer: Make, url: str, http: HttpConfig, expected: str | None
) -> None:
    seen: list[web.Request] = []
    forms: list[dict[str, object]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        forms.append(dict(await request.post()))
        return web.Response(body=VECTOR)

    client = await peer(handler, url + "/some/prefix/", http=http)
    keys, values = await client.instant('x{a="é+&"}', Instant(1.5), 3)
    assert (keys, values.tolist()) == ([b'{"a":"b"}'], [2.0])
    assert await client.ask("x", NOW) == [((("a", "b"),), 2.0)]
    assert seen[0].path == "/some/prefix/api/v1/query"
    assert seen[0].headers.get("Authorization") == expected
    assert forms[0] == {"query": 'x{a="é+&"}', "time": "1.5", "timeout": "3"}
    assert "pw" not in client.url
    assert "pa" not in client.url.replace("/some/prefix", "")


async def test_history_has_its_own_url_and_parameters(peer: Make) -> None:
    forms: list[dict[str, object]] = []

    async def past(request: web.Request) -> web.Response:
        forms.append(dict(await request.post()))
        assert request.path == "/api/v1/query_range"
        series = [{"metric": {}, "values": [[NOW - 30 + 15 * i, str(i)] for i in range(3)]}]
        whole = {"status": "success", "data": {"resultType": "matrix", "result": series}}
        return web.Response(body=json.dumps(whole, separators=(",", ":")).encode())

    elsewhere = await peer(past)
    client = await peer(fixed(500, b""), history_url=elsewhere.url, params={"dedup": "true"})
    matrix = await client.range("x", Instant(NOW - 30), NOW, 15)
    assert matrix.values.tolist() == [[0], [1], [2]]
    assert forms == [
        {
            "dedup": "true",
            "query": "x",
            "start": "1699999970",
            "end": "1700000000",
            "step": "15",
            "timeout": "60",
        }
    ]


async def test_packed_answers(peer: Make) -> None:
    async def packed(request: web.Request) -> web.Response:
        response = web.Response(body=VECTOR)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    assert (await (await peer(packed)).instant("up", NOW, 1)).values.tolist() == [2.0]


def test_files_of_tls_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Client("https://x", HttpConfig(tls_config=TlsConfig(ca_file="/gone.pem")), 1)
    assert str(caught.value) == "tls_config: cannot be used: /gone.pem: No such file or directory"


async def test_external_labels_where_there_is_no_such_route(peer: Make) -> None:
    assert await (await peer(fixed(404, b""))).external_labels() == ()
    client = await peer(fixed(200, json.dumps({"data": {"yaml": "- 1"}}).encode()))
    with pytest.raises(Unavailable, match="configuration: not a Prometheus configuration"):
        await client.external_labels()


async def test_durations_are_observed(peer: Make) -> None:
    client = await peer(fixed(200, VECTOR))
    await client.instant("up", NOW, 1)
    registry = client._telemetry.registry
    assert registry.get_sample_value("promantis_query_duration_seconds_count", {"kind": "instant"}) == 1


def test_config_problems() -> None:
    def problems(**config: object) -> list[tuple[str, str]]:
        return list(PrometheusConfig(**config).problems())  # type: ignore[arg-type]

    url = "must be a url such as http://localhost:9090"
    assert problems() == []
    assert problems(url="localhost:9090") == [("url", url)]
    assert problems(url="http://x?y=1") == [("url", url)]
    assert problems(url="http://[::1") == [("url", url)]
    assert problems(history_url="ftp://x") == [("history_url", url)]
    assert problems(max_queries_per_second=0) == [("max_queries_per_second", "must be greater than 0")]
    both = HttpConfig(basic_auth=BasicAuth(username="a"), bearer_token_file="t")
    assert problems(http=both) == [("http", "at most one of basic_auth and bearer_token_file")]


async def test_budget_serves_live_before_history() -> None:
    loop = asyncio.get_running_loop()
    budget = Budget(rate=50, burst=4)
    order: list[str] = []
    begin = loop.time()

    async def query(name: str, history: bool) -> None:
        await budget.take(history=history)
        order.append(name)

    past = [asyncio.create_task(query(f"h{i}", True)) for i in range(4)]
    await asyncio.sleep(0)
    live = [asyncio.create_task(query(f"l{i}", False)) for i in range(6)]
    await asyncio.gather(*past, *live)
    assert [name for name in order if name[0] == "l"] == [f"l{i}" for i in range(6)]
    assert [name for name in order if name[0] == "h"] == [f"h{i}" for i in range(4)]
    assert order[:3] == ["h0", "h1", "h2"]  # down to half of the bucket
    assert order[-1] == "h3"
    # the first four are free; six more, and half a bucket for the history, at 50 a second
    assert 0.1 < loop.time() - begin < 1.0


async def test_budget_forgets_who_gave_up() -> None:
    budget = Budget(rate=100, burst=1)
    await budget.take()
    waiting = asyncio.create_task(budget.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(budget.take(), 0.5)
