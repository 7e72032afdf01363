"""Promantis' answers to POST /api/v2/alerts, beside those of the real Alertmanager, input by input."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import aiohttp
import pytest

from sidecar.demo.peers import Peer, Stack
from tests.e2e.alerting import alert_path, get, post

pytestmark = pytest.mark.e2e

JSON = {"Content-Type": "application/json"}
OK = '{"labels":{"alertname":"Good"}}'

SAME = [
    "[]",
    "null",
    "",
    "  \n",
    f"[{OK}]",
    f"[{OK},{OK}] trailing",
    '[{"labels":{"a":"b"},"unknown":{"x":[1]}}]',
    '[{"Labels":{"case":"any"}}]',
    '[{"labels":{"case":"annotations"},"Annotations":{"x":"y"},"generatorurl":"http://h/"}]',
    '[{"labels":{"t":"5"},"endsat":"2099-01-01T00:00:00Z","STARTSAT":"2026-11-25T01:00:00Z"}]',
    '[{"labels":{"twice":"1","x":"y"},"labels":{"z":"w"},"annotations":{"a":"b"},"annotations":{"a":"c","d":"e"}}]',
    '[{"labels":{"twice":"2"},"Labels":{"m":"n"},"annotations":{"a":"b"},"annotations":null}]',
    '[{"labels":null,"labels":{"twice":"3","annotations":"labels"},"annotations":{"labels":"x"}}]',
    '[{"labels":{"twice":"4"},"labels":null}]',
    '[{"labels":{"a":null,"b":"c"},"annotations":{"x":null},"endsAt":null,"generatorURL":null}]',
    '[{"labels":{"a":"b","empty":""},"annotations":{"y":""}}]',
    '[{"labels":{"\U0001f600":"x","foo.bar":"y"}}]',
    '[{"labels":{"":"","a":"c"}}]',
    '[{"labels":{"sur":"\\ud800","nul":"\\u0000"}}]',
    '[{"labels":{"t":"1"},"startsAt":"2026-11-25T01:00:00.123456789Z","endsAt":"2099-01-01T00:00:00+01:30"}]',
    '[{"labels":{"t":"2"},"startsAt":"2025-11-25 01:00:00.123","endsAt":"2099-11-25"}]',
    '[{"labels":{"t":"3"},"startsAt":"","endsAt":"2099-11-25T01:00Z"}]',
    '[{"labels":{"t":"4"},"startsAt":"0001-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00.000Z"}]',
    '[{"labels":{"g":"1"},"generatorURL":""}]',
    '[{"labels":{"g":"2"},"generatorURL":"/graph?x=%zz"}]',
    '[{"labels":{"g":"3"},"generatorURL":"http://[::1]:9/a b{}?q"}]',
    '[{"labels":{"g":"4"},"generatorURL":"mailto:a@b"}]',
    # read, not valid: the whole batch at Alertmanager, the one alert here
    "[{}]",
    f'[{OK},{{"annotations":{{}}}}]',
    '[{"labels":null}]',
    '[{"labels":{}},{}]',
    '[{"generatorURL":"graph"}]',
    '[{"labels":{"a":"b"},"generatorURL":"not a url"},{}]',
    '[{"labels":{"a":"b"},"generatorURL":"http://h:port/"}]',
    '[{"labels":{"a":"b"},"generatorURL":"http://h/\\u0001\\"%zz"}]',
    '[{"labels":{"a":"b"},"generatorURL":"http://h%41/"}]',
    '[{"labels":{"a":"b"},"generatorURL":"http://h/#%zz"}]',
    # valid, refused: the others are stored at Alertmanager too
    '[{"labels":{}}]',
    '[{"labels":{"a":""}}]',
    '[{"labels":{"":"x"}}]',
    f'[{{"labels":{{}}}},{OK}]',
    '[{"labels":{"a":"b"},"annotations":{"":""}}]',
    '[{"labels":{"a":"b"},"startsAt":"2026-11-25T01:00:00Z","endsAt":"2026-11-25T00:00:00Z"}]',
    '[{"labels":{"a":"b"},"startsAt":"2099-11-25T01:00:00Z"}]',
    '[{"labels":{"a":"b"},"startsAt":"2026-11-25T01:00:00Z","endsAt":""}]',
    '[{"labels":{},"startsAt":"2026-11-25T01:00:00Z","endsAt":"2025-11-25T01:00:00Z"}]',
    # not read
    "{}",
    '"x"',
    "5",
    "true",
    '[{"labels":{"a":1}}]',
    f'[{OK},{{"labels":{{"a":true}}}}]',
    '[{"labels":"x"}]',
    '[{"labels":[]}]',
    '[{"labels":{"a":{}}}]',
    '[{"labels":{"a":"b"},"annotations":{"x":1}}]',
    '[{"labels":{"a":"b"},"startsAt":5}]',
    '[{"labels":{"a":"b"},"generatorURL":{}}]',
]
"""Status and body are the same, byte for byte."""

SAME_BUT_THE_REASON = [
    "[{",
    f"[{OK}",
    "[,]",
    "[NaN]",
    '[{"labels":{a:"b"}}]',
    '[{"labels":{"a":"\x01"}}]',
    "nul",
    "\ufeff[]",
    '["x"]',
    "[[]]",
    "[" * 20000,
    '[{"labels":{"a":"b"},"startsAt":"yesterday"}]',
    '[{"labels":{"a":"b"},"endsAt":"2026-13-01T00:00:00Z"}]',
    '[{"labels":{"a":"b"},"endsAt":"2026-11-25T01:00:00.5+0100"}]',
    '[{"labels":{"a":"b"},"startsAt":"2026-02-30T01:00:00Z"}]',
]
"""Go says after "because" what it stumbled over in its own words; ours are others."""


@pytest.fixture
async def two(module_stack: Stack) -> tuple[Peer, Peer]:
    """An Alertmanager that is asked itself, and one behind Promantis; fresh, the file's for all tests."""
    if not module_stack.peers:
        for _ in range(2):
            await module_stack.alertmanager()
    alone, behind = module_stack.peers
    return alone, behind


async def ask(url: str, body: bytes, headers: dict[str, str], method: str = "POST") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
        session.request(method, url, data=body, headers=headers) as answer,
    ):
        return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


async def test_answers(two: tuple[Peer, Peer]) -> None:
    alone, behind = two
    async with alert_path("inline", behind, enrich=lambda alert, now: {}) as side:

        async def both(body: str) -> tuple[Any, Any]:
            path = "/api/v2/alerts"
            return (
                await ask(alone.url + path, body.encode(), JSON),
                await ask(side.url + path, body.encode(), JSON),
            )

        for body in SAME:
            theirs, ours = await both(body)
            assert ours == theirs, body[:200]
        for body in SAME_BUT_THE_REASON:
            theirs, ours = await both(body)
            assert ours[:2] == theirs[:2] == (400, "application/json"), body[:200]
            before = re.split("(?<=because )", theirs[2])[0]
            assert ours[2].startswith(before), body[:200]
        two_wrong = '[{"labels":{}},{"labels":{"":"x"}}]'
        theirs, ours = await both(two_wrong)  # 0.28 joins by "; ", later ones by a newline
        assert ours[:2] == theirs[:2]
        assert json.loads(ours[2]).split("\n") == re.split("; |\n", json.loads(theirs[2]))
        raw = b'[{"labels":{"bytes":"\xff"}}]'
        assert await ask(alone.url + "/api/v2/alerts", raw, JSON) == await ask(
            side.url + "/api/v2/alerts", raw, JSON
        )

        # the same alerts are stored, and the good ones of a bad batch nowhere but behind Promantis
        stored = {a["fingerprint"]: _essence(a) for a in await get(alone.url)}
        kept = {a["fingerprint"]: _essence(a) for a in await get(behind.url)}
        assert len(stored) > 15
        assert {key: value for key, value in kept.items() if key in stored} == stored
        assert [value["labels"] for key, value in kept.items() if key not in stored] == []


def _essence(alert: dict[str, Any]) -> dict[str, Any]:
    known = {"startsAt": alert["startsAt"]} if alert["labels"].get("t") in ("1", "2", "3", "5") else {}
    known |= {"endsAt": alert["endsAt"]} if known else {}
    return {key: alert.get(key) for key in ("labels", "annotations", "generatorURL")} | known


async def test_good_alerts_of_a_refused_batch_go_on(two: tuple[Peer, Peer]) -> None:
    alone, behind = two
    batch = [{"labels": {"alertname": "Survivor"}}, {"annotations": {}}]
    async with alert_path("inline", behind, enrich=lambda alert, now: {}) as side:
        assert (await post(alone.url, batch), await post(side.url, batch)) == (422, 422)
    names = [{a["labels"].get("alertname") for a in await get(peer.url)} for peer in (alone, behind)]
    assert "Survivor" not in names[0]
    assert "Survivor" in names[1]


async def test_other_headers_methods_and_paths(two: tuple[Peer, Peer]) -> None:
    alone, behind = two
    async with alert_path("inline", behind, enrich=lambda alert, now: {}) as side:

        async def both(path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> None:
            theirs = await ask(alone.url + path, body, headers, method)
            ours = await ask(side.url + path, body, headers, method)
            if method not in ("GET", "POST") and "because" not in theirs[2]:
                theirs = (*theirs[:2], theirs[2].replace("[POST,GET]", "[GET,POST]").rstrip("\n"))
                ours = (*ours[:2], ours[2].rstrip("\n"))
            if "because" in theirs[2]:
                theirs, ours = ((*a[:2], a[2].split("because")[0]) for a in (theirs, ours))
            assert ours == theirs, (path, method, headers)

        for kind in (
            "application/json; charset=utf-8",
            "APPLICATION/JSON",
            "text/plain",
            "application/x-www-form-urlencoded",
            "*/*",
            "bad;;;",
        ):
            await both("/api/v2/alerts", b"[]", {"Content-Type": kind})
            await both("/api/v2/alerts", b"", {"Content-Type": kind})
        await both("/api/v2/alerts", b"[]", {})
        await both("/api/v2/alerts", gzip.compress(b"[]"), JSON)
        await both("/api/v2/alerts", gzip.compress(b"[]"), {**JSON, "Content-Encoding": "gzip"})
        await both("/api/v2/alerts", b"no deflate", {**JSON, "Content-Encoding": "deflate"})
        for coding in ("br", "identity, gzip", "x"):  # whatever it says, it is read as it comes
            await both("/api/v2/alerts", f"[{OK}]".encode(), {**JSON, "Content-Encoding": coding})
        await both("/api/v2/alerts", f"[{OK}]".encode(), {**JSON, "X-Token": "x" * 60_000})
        await both(f"/api/v2/alerts?filter=a%3D{'x' * 60_000}", b"", {}, "GET")
        for method in ("PUT", "DELETE", "PATCH"):
            await both("/api/v2/alerts", b"[]", JSON, method)
        for method in ("GET", "POST"):
            await both("/api/v1/alerts", b"[]", JSON, method)
        await both("/api/v2/alerts/", b"[]", JSON)
        await both("/api/v2/alerts?x=1", b"[]", JSON)
        await both("/api/v2/nothing", b"", {}, "GET")
        await both("/api/v2/silences", b"{}", JSON)
        await both("/api/v2/silence/no-uuid", b"", {}, "GET")
        assert (await ask(side.url + "/api/v2/%2e%2e/%2e%2e/-/reload", b"", {}))[0] == 404


async def test_large_batches_pass(two: tuple[Peer, Peer]) -> None:
    _, behind = two
    batch = [
        {"labels": {"alertname": "Big", "i": str(i)}, "annotations": {"x": "y" * 20_000}} for i in range(256)
    ]
    async with alert_path("inline", behind, enrich=lambda alert, now: {}) as side:
        assert await post(side.url, batch) == 200
    assert sum(a["labels"].get("alertname") == "Big" for a in await get(behind.url)) == 256


async def test_null_alerts_break_the_connection_of_alertmanager_but_not_ours(two: tuple[Peer, Peer]) -> None:
    alone, behind = two
    with pytest.raises(aiohttp.ClientError):
        await ask(alone.url + "/api/v2/alerts", b"[null]", JSON)
    async with alert_path("inline", behind) as side:
        assert await ask(side.url + "/api/v2/alerts", b"[null]", JSON) == (
            422,
            "application/json",
            '{"code":602,"message":"0.labels in body is required"}',
        )
