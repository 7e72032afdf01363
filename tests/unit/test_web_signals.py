"""/metrics and what is known of the series, over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace

import numpy as np
import pytest
from aiohttp import ClientTimeout
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as modern
from prometheus_client.parser import text_string_to_metric_families as classic

from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.expose import Exposition, ExpositionConfig
from sidecar.signals.known.snapshot import Known
from sidecar.signals.watch.watches import Limit, Skipped, Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from sidecar.web import auth, server
from sidecar.web.answers import Problem
from sidecar.web.signals import MOST, routes, selector
from tests.unit.made import START, engine, key, noisy, ticked, vector, watch

KEYS = [key(job="shop", code=code, path=path) for code in ("200", "503") for path in ("/", "/cart")]
WATCHES = {
    "w": watch(limits=(Limit(">", 5.0, 60.0, "High"),), alertnames=("High",)),
    "idle": watch("idle", "y"),
}


class State:
    """Stands where the watcher does."""

    watches: Mapping[str, Watch] = WATCHES
    errors: Mapping[str, str] = {"idle": "no answer"}
    succeeded: Mapping[str, Instant] = {"w": START}


@pytest.fixture
async def site() -> AsyncIterator[SimpleNamespace]:
    known, telemetry = Known(), Telemetry()
    made = Exposition(ExpositionConfig())
    skipped = [Skipped("Gone", "absent(x)", "no value")]

    async def reload() -> None: ...

    handlers = routes(known, lambda: made, State(), lambda: skipped, telemetry, lambda: START)
    app = server.build(handlers, auth.Auth((), True), telemetry, list, reload)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield SimpleNamespace(client=client, known=known, telemetry=telemetry)


@pytest.fixture
async def busy(site: SimpleNamespace) -> SimpleNamespace:
    """The site, with four series that have been watched for an hour and more."""
    answer = noisy(KEYS)
    site.known.publish(ticked(engine(*WATCHES.values()), lambda i: {"w": answer(i)}, 60))
    return site


async def scrape(site: SimpleNamespace, **headers: str) -> tuple[Mapping[str, str], bytes]:
    async with site.client.get("/metrics", headers={"Accept-Encoding": "", **headers}) as answer:
        assert answer.status == 200
        return answer.headers, await answer.read()


async def test_text_by_default(busy: SimpleNamespace) -> None:
    headers, body = await scrape(busy)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in headers
    found = {family.name: len(family.samples) for family in classic(body.decode())}
    assert found["promantis_anomaly_score"] == 4
    assert found["promantis_build_info"] == 1
    assert b"# EOF" not in body


async def test_openmetrics_when_it_is_asked_for(busy: SimpleNamespace) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    headers, body = await scrape(busy, Accept=accept)
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.count(b"# EOF\n") == 1
    found = {family.name: len(family.samples) for family in modern(body.decode())}
    assert found["promantis_breach_probability"] == 12


async def test_gzip(busy: SimpleNamespace) -> None:
    headers, body = await scrape(busy, **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    _, plain = await scrape(busy)
    assert len(body) < len(plain) / 3
    names = {line.partition(b" ")[0] for line in gzip.decompress(body).splitlines()}
    assert {n for n in names if n.startswith(b"promantis_anomaly_score")} == {
        line.partition(b" ")[0] for line in plain.splitlines() if line.startswith(b"promantis_anomaly_score")
    }


async def test_the_budget_s_numbers_are_told(busy: SimpleNamespace) -> None:
    await scrape(busy)
    assert busy.telemetry.registry.get_sample_value("promantis_series_exposed") == 4 * (2 + 12 + 4)
    assert busy.telemetry.registry.get_sample_value("promantis_series_unexposed") == 0


async def test_groups_with_the_shares_of_their_odd_members(site: SimpleNamespace) -> None:
    grouped = watch("w", "x", 60.0, group_by=("code",))
    answer, leap = noisy(KEYS), np.array([0, 0, 60, 60])
    asked = engine(grouped)
    said = ticked(asked, lambda i: {"w": Vector(KEYS, answer(i).values + (i == 299) * leap)}, 300)
    site.known.publish(said)
    async with site.client.get("/api/v1/groups") as reply:
        odd, calm = json.loads(await reply.read())
    assert odd["watch"] == "w"
    assert odd["labels"] == {"code": "503"}
    assert (odd["at"], odd["size"]) == (said.at, 2)
    assert odd["score"] > 1 > calm["score"]
    assert {m["labels"]["path"] for m in odd["members"]} == {"/", "/cart"}
    assert sum(m["share"] for m in odd["members"]) == pytest.approx(1)
    async with site.client.get("/api/v1/groups", params={"match": '{watch="w",code="200"}'}) as reply:
        assert json.loads(await reply.read()) == [calm]
    async with site.client.get("/api/v1/groups", params={"match": "}"}) as reply:
        assert reply.status == 400


async def test_before_the_first_tick(site: SimpleNamespace) -> None:
    _, body = await scrape(site)
    families = {family.name: family.samples for family in classic(body.decode())}
    assert families["promantis_anomaly_score"] == []


async def test_a_large_answer_comes_in_slices(site: SimpleNamespace) -> None:
    keys = [key(i=str(i), job="shop") for i in range(6000)]
    e = engine(watch())
    for i in range(2):
        snapshot = e.tick(Instant(START + 15 * i), {"w": Vector(keys, np.arange(6000.0))}, 10_000)
    site.known.publish(snapshot)
    async with site.client.get("/metrics", headers={"Accept-Encoding": ""}) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        chunks = [len(data) async for data, _ in answer.content.iter_chunks()]
    assert len(chunks) > 3
    assert max(chunks) < 700_000


async def test_a_scraper_that_goes_away_stops_nobody(busy: SimpleNamespace) -> None:
    with socket.create_connection((busy.client.host, busy.client.port)) as raw:
        raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await scrape(busy)


async def test_http_1_0(busy: SimpleNamespace) -> None:
    reader, writer = await asyncio.open_connection(busy.client.host, busy.client.port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 OK" in head
    assert sum(1 for _ in classic(body.decode())) > 20


async def ask(site: SimpleNamespace, path: str, **query: str) -> tuple[int, object]:
    async with site.client.get(path, params=query, timeout=ClientTimeout(5)) as answer:
        return answer.status, json.loads(await answer.read())


async def test_watches(busy: SimpleNamespace) -> None:
    status, found = await ask(busy, "/api/v1/watches")
    assert status == 200
    idle = {"name": "idle", "query": "y", "source": "config", "kind": "other", "step": 15, "series": 0,
            "limits": [], "last_success": None, "error": "no answer"}  # fmt: skip
    limit = {"op": ">", "value": 5, "for": 60, "alertname": "High"}
    used = {
        **idle,
        "name": "w",
        "query": "x",
        "series": 4,
        "limits": [limit],
        "last_success": START,
        "error": None,
    }
    assert found == {
        "watches": [idle, used],
        "skipped": [{"alertname": "Gone", "expr": "absent(x)", "reason": "no value"}],
    }


async def test_one_series_in_full(busy: SimpleNamespace) -> None:
    status, found = await ask(busy, "/api/v1/series", match='{code="503",path="/"}')
    assert status == 200
    assert isinstance(found, list)
    (one,) = found
    assert (one["watch"], one["labels"]) == ("w", {"job": "shop", "code": "503", "path": "/"})
    assert one["lower"] <= one["expected"] <= one["upper"]
    assert one["at"] == START + 59 * 15
    assert one["forecasts"].keys() == {"15m", "30m", "60m"}
    assert one["breaches"] == [
        {"source_alertname": "High", "op": ">", "value": 5, "also": "", "eta_seconds": 0, "eta_between_seconds": [0, 0],
         "probability": {"15m": 1, "30m": 1, "60m": 1}}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("match", "count"),
    [("{}", 4), ("", 4), ("x", 4), ('{watch="w"}', 4), ('{watch="other"}', 0), ('{code=~"5.."}', 2), ('{code=~"5"}', 0),
     ('{code!="200",path="/"}', 1), ('{job="shop",code!~"2.."}', 2), ('{job="shop",missing=""}', 4),
     ('{missing!=""}', 0),
     ('{code="200" or path="/cart"}', 3)],
)  # fmt: skip
async def test_selectors(busy: SimpleNamespace, match: str, count: int) -> None:
    status, found = await ask(busy, "/api/v1/series", match=match)
    assert isinstance(found, list)
    assert (status, len(found)) == (200, count)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("{", "not a selector: unexpected end of input inside braces"),
        ('{code=~"("}', "not a selector: illegal regex for ("),
        ("up[5m]", 'not a selector: write {watch="...",job="..."}'),
        ("up offset 5m", 'not a selector: write {watch="...",job="..."}'),
        ("sum(up)", 'not a selector: write {watch="...",job="..."}'),
        ('{a=""}', "not a selector: vector selector must contain at least one non-empty matcher"),
        ("1", 'not a selector: write {watch="...",job="..."}'),
    ],
)
async def test_bad_selectors(busy: SimpleNamespace, match: str, words: str) -> None:
    assert await ask(busy, "/api/v1/series", match=match) == (400, {"error": words, "where": "match"})


def test_a_regular_expression_of_another_dialect() -> None:
    with pytest.raises(Problem, match=re.escape("not a selector: bad escape")):
        selector('{a=~"\\\\pL"}')


async def test_an_answer_has_an_end(site: SimpleNamespace) -> None:
    keys = [key(i=str(i)) for i in range(MOST + 5)]
    site.known.publish(engine(watch()).tick(START, {"w": vector(dict.fromkeys(keys, 1.0))}, 10_000))
    _, found = await ask(site, "/api/v1/series")
    assert isinstance(found, list)
    assert len(found) == MOST
    assert found[0]["score"] is None
