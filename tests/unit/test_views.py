"""The pages about a series, about trust and about the journal; and the chart that stands on the first."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from unittest.mock import MagicMock

import msgspec
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.remedy.case import Fact
from sidecar.signals.known.picture import Picture
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.accounts import Account, Bin, Forecasts, Odds, Report, report
from sidecar.signals.learn.opinions import Opinions
from sidecar.telemetry import Telemetry
from sidecar.types import Breach, Finding, Instant
from sidecar.web import pages, paint, server, validation, views
from sidecar.web.auth import Auth, Token
from sidecar.web.chart import Mark, reliability
from sidecar.web.session import Sessions
from tests.unit.paging import HOSTILE, UNKNOWN, assert_harmless, finding, origin

TOKEN, WEAK = "f" * 20, "v" * 20
NOW = Instant(1_764_000_000)
MATCH = '{watch="latency",service="shop"}'


def picture(points: int = 40) -> Picture:
    at = NOW - 900.0 * np.arange(points)[::-1]
    value = np.full(points, 0.1)
    value[10:12] = math.nan
    score = np.zeros(points)
    score[-3:] = 2
    return Picture(at, value, value, value - 0.02, value + 0.04, score, value)


class World:
    """What the pages read; and what was said through them."""

    killed, stormy = True, ""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.facts: list[Fact] = []
        self.opinions = Opinions()
        self.promised: dict[str, Any] = {}
        self.done: list[tuple[Any, ...]] = []
        self.answers = asyncio.Event()
        """That Prometheus answers."""
        self.dropped = False
        self.answers.set()

    def matching(self, wanted: Callable[[Mapping[str, str]], bool], limit: int) -> list[Finding]:
        return [f for f in self.findings if wanted({**dict(f.labels), "watch": f.watch})][:limit]

    def top(self, limit: int) -> list[Finding]:
        return sorted((f for f in self.findings if f.score > 0), key=lambda f: -f.score)[:limit]

    def report(self, now: Instant) -> Report:
        return msgspec.structs.replace(report(Known(), self.opinions, now), **self.promised)

    async def say(self, who: str, now: Instant, about: Any, verdict: str, start: Any, end: Any) -> None:
        self.done.append((who, about.match, verdict, end))

    async def newest(self, limit: int, before: int = 0) -> list[Fact]:
        return [fact for fact in reversed(self.facts) if not before or fact.seq < before][:limit]

    async def pictured(self, one: Finding, span: float) -> Picture:
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.dropped = True
            raise
        return picture()

    def marked(self, one: Finding, start: Instant, end: Instant) -> list[Mark]:
        return [Mark(NOW - 600, "deployed: shop"), Mark(NOW + 600, "planned: sale, until 12:00 UTC")]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient[Any, Any]]:
    auth = Auth((Token("fay", TOKEN, "feedback"), Token("victor", WEAK, "view")), True)
    sessions = Sessions(auth)
    routes = views.routes(
        world,
        world,
        world,
        world,
        world.report,
        world,
        sessions,
        lambda: NOW,  # type: ignore[arg-type]
    )
    routes += validation.routes(world.report, lambda: NOW)
    routes += pages.routes(MagicMock(), MagicMock(), MagicMock(), sessions, asyncio.Lock())

    async def reload() -> None: ...

    app = server.build(routes, auth, Telemetry(), lambda: (), reload)
    async with TestClient(TestServer(app)) as client:
        yield client


async def text_of(client: TestClient[Any, Any], path: str, status: int = 200, **query: str) -> str:
    answer = await client.get(path, params=query)
    assert answer.status == status
    return await answer.text()


async def log_in(client: TestClient[Any, Any]) -> None:
    form = {"token": WEAK, "next": "/"}
    answer = await client.post("/login", data=form, headers=origin(client), allow_redirects=False)
    assert answer.status == 303


async def test_one_series_is_drawn_and_explained(client: TestClient[Any, Any], world: World) -> None:
    world.findings = [finding(service="shop"), finding()]
    text = await text_of(client, "/series", match=MATCH)
    for words in (
        "Now 0.42, usual 0.08 to 0.15",
        "Score 3.2",
        "87% within 60m",
        '<path class="value" d="M',
        "in 23m",
    ):
        assert words in text
    assert text.count('<line class="grid"') >= 6
    assert "The kill switch is on" in text
    assert 'value="{watch=&#34;latency&#34;,service=&#34;shop&#34;}"' in text


async def test_what_is_known_is_seen_while_prometheus_takes_its_time(
    client: TestClient[Any, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paint, "PROMPT", 0.01)
    world.findings = [finding(service="shop")]
    whole = await text_of(client, "/series", match=MATCH)
    world.answers.clear()
    answer = await client.get("/series", params={"match": MATCH})
    first = await answer.content.readany()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert b"Now 0.42, usual 0.08 to 0.15" in first
    assert b"<svg" not in first.partition(b"Now 0.42")[2]
    world.answers.set()
    rest = await answer.content.read()
    assert b'<path class="value" d="M' in rest
    assert b"Is this real?" in rest
    times = re.compile(r"<time.*?</time>")
    assert times.sub("", (first + rest).decode()) == times.sub("", whole)


async def test_what_was_asked_for_somebody_who_has_gone_is_dropped(
    client: TestClient[Any, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paint, "PROMPT", 0.01)
    world.findings = [finding(service="shop")]
    world.answers.clear()
    answer = await client.get("/series", params={"match": MATCH})
    await answer.content.readany()
    answer.close()
    for _ in range(200):
        if world.dropped:
            break
        await asyncio.sleep(0.01)
    assert world.dropped


async def test_a_limit_that_is_crossed_is_not_said_to_be_ahead(
    client: TestClient[Any, Any], world: World
) -> None:
    crossed = Breach("PoolExhaustion", "page", ">", 0.9, 60, {"15m": 1.0, "60m": 1.0}, 0.0)
    world.findings = [msgspec.structs.replace(finding(service="shop"), breaches=(crossed,))]
    text = await text_of(client, "/series", match=MATCH)
    assert "crossed now" in text
    assert "100% within" not in text


async def test_only_deeds_and_words_of_the_time_shown_are_marked(
    client: TestClient[Any, Any], world: World
) -> None:
    world.findings = [finding(service="shop")]
    begin = float(picture().at[0])
    for at, kind, words in (
        (begin - 1, "action.done", "too old"),
        (NOW, "action.done", "a deed"),
        (NOW, "config.loaded", "no deed"),
    ):
        world.facts.append(Fact(1, 1, Instant(at), kind, None, "system", {"words": words}, ""))
    text = await text_of(client, "/series", match=MATCH)
    assert "action.done a deed" in text
    assert "too old" not in text
    assert "no deed" not in text


async def test_several_are_listed_and_lead_to_one(client: TestClient[Any, Any], world: World) -> None:
    world.findings = [UNKNOWN, finding(), finding(0.1, service="shop")]
    text = await text_of(client, "/series", match="{}")
    assert_harmless(text)
    assert "3 series" in text
    links = re.findall(r'href="(/series\?match=[^"]+)"', text)
    assert len(links) == 4  # the one of the header among them
    for link in links[1:]:
        assert "Is this real?" in await text_of(client, link.replace("&amp;", "&"))


async def test_of_very_many_the_oddest_are_listed(client: TestClient[Any, Any], world: World) -> None:
    world.findings = [finding(0.1, service=f"s{i}") for i in range(200)] + [finding(5.0, service="odd")]
    text = await text_of(client, "/series", match="{}")
    assert "50 or more series" in text
    assert "The oddest first. Labels narrow it" in text
    assert text.index("5.0</td>") < text.index("0.1</td>")


async def test_a_hostile_series_is_harmless(client: TestClient[Any, Any], world: World) -> None:
    world.findings = [finding()]
    world.facts = [Fact(1, 1, NOW, "feedback", None, HOSTILE, {"verdict": HOSTILE}, "")]
    assert_harmless(await text_of(client, "/series", match="{}"))
    await log_in(client)
    assert_harmless(await text_of(client, "/journal"))


@pytest.mark.parametrize(
    ("match", "status", "words"), [("{a=", 400, "not a selector"), ('{a="b"}', 200, "No series fits")]
)
async def test_no_series(client: TestClient[Any, Any], match: str, status: int, words: str) -> None:
    assert words in await text_of(client, "/series", status, match=match)


@pytest.mark.parametrize(
    ("form", "status", "done"),
    [
        ({"do": "real", "token": TOKEN}, 303, ("fay", MATCH, "real", None)),
        ({"do": "planned", "for": "2", "token": TOKEN}, 303, ("fay", MATCH, "planned", NOW + 7200)),
        ({"do": "planned", "for": "0", "token": TOKEN}, 400, None),
        ({"do": "explode", "token": TOKEN}, 400, None),
        ({"do": "real", "token": WEAK}, 403, None),
        ({"do": "real"}, 401, None),
        ({"do": "real", "token": TOKEN, "match": "{}"}, 400, None),
        ({"do": "real", "token": TOKEN, "match": "{a="}, 400, None),
    ],
)
async def test_feedback_in_one_click(
    client: TestClient[Any, Any],
    world: World,
    form: dict[str, str],
    status: int,
    done: tuple[Any, ...] | None,
) -> None:
    world.findings = [finding(service="shop")]
    answer = await client.post(
        "/series", data={"match": MATCH} | form, headers=origin(client), allow_redirects=False
    )
    assert answer.status == status
    assert world.done == ([done] if done else [])
    if status == 303:
        assert (await client.get(answer.headers["Location"])).status == 200


async def test_a_form_of_another_site_says_nothing(client: TestClient[Any, Any], world: World) -> None:
    form = {"match": MATCH, "do": "real", "token": TOKEN}
    answer = await client.post("/series", data=form, headers={"Origin": "https://evil.example"})
    assert (answer.status, world.done) == (403, [])


async def test_trust_before_and_after_anybody_judged(client: TestClient[Any, Any], world: World) -> None:
    text = await text_of(client, "/trust")
    for words in (
        "None of your rules", "No odds have come due", "Nobody has judged anything yet",
        "No forecast has come due", "Nothing yet.",
    ):  # fmt: skip
        assert words in text
    said = {"verdict": "real", "match": "{}", "comment": HOSTILE, "runs": []}
    world.opinions.add(NOW, "fay", said)
    text = await text_of(client, "/trust")
    assert_harmless(text)
    assert "1 real" in text
    assert "100% of what was judged was real" in text


ODDS = Odds("60m", 1100, 0.02, 0.31, 0.004, (Bin("0-0.01", 1000, 0.001, 0.0), Bin("0.9-1", 100, 0.95, 0.9)))


async def test_what_was_promised_stands_beside_what_came_true(
    client: TestClient[Any, Any], world: World
) -> None:
    by_horizon = {"15m": 0.4, "30m": math.nan, "60m": -0.1}
    world.promised = {
        "rules": (Account(HOSTILE, 3, 2, 1, 840.0), Account("Quiet", 0, 4, 0, math.nan)),
        "odds": (ODDS,),
        "watches": (Forecasts("latency", by_horizon, by_horizon),),
    }
    text = await text_of(client, "/trust")
    assert_harmless(text)
    for words in (
        "40%",
        "-10%",
        ">14m<",
        "Brier skill",
        "within 60m: 90% of 100 odds of about 95% came true",
    ):
        assert words in text
    answer = await client.get("/api/v1/validation")
    told = await answer.json()
    assert told["rules"][1] == {
        "source_alertname": "Quiet", "announced": 0, "missed": 4, "false": 0, "ahead_seconds": None,
    }  # fmt: skip
    assert told["watches"][0]["skill"] == {"15m": 0.4, "30m": None, "60m": -0.1}
    assert told["odds"][0]["bins"][1] == {"bin": "0.9-1", "count": 100, "said": 0.95, "came": 0.9}
    assert told["feedback"]["precision"] is None
    assert told["confidence"]["brier"] is None
    assert told["confidence"]["runs"]["0.9-1"] == 0
    assert told["until"] - told["since"] == NOW - told["since"] >= 6 * 86400


def test_a_diagram_has_honest_odds_on_its_diagonal() -> None:
    assert reliability([Odds("15m", 0, math.nan, math.nan, math.nan, ())]) is None
    diagram = reliability(
        [ODDS, msgspec.structs.replace(ODDS, horizon="15m", bins=(Bin("0.9-1", 1, 1.0, 1.0),))]
    )
    assert diagram is not None
    assert diagram.ideal == "M56.0 236.0L712.0 10.0"
    many, one = diagram.curves
    assert [(dot.x, dot.y) for dot in many.dots] == [(56.7, 236.0), (679.2, 32.6)]
    assert many.path == "M56.7 236.0L679.2 32.6"
    assert [dot.radius for dot in many.dots] == [5, 4]
    assert one.dots[0][:3] == (712.0, 10.0, 2.0)
    assert [tick.text for tick in diagram.columns] == ["0%", "20%", "40%", "60%", "80%", "100%"]


async def test_the_journal_goes_back_page_by_page(client: TestClient[Any, Any], world: World) -> None:
    answer = await client.get("/journal", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=/journal")
    await log_in(client)
    assert "Nothing has happened yet" in await text_of(client, "/journal")
    world.facts = [
        Fact(1, i, NOW, "config.loaded", None, "system", {"words": f"no {i}"}, "") for i in range(1, 151)
    ]
    named = {"policy": "bigger-pool", "labels": {"alertname": "PoolExhaustion"}}
    world.facts.append(Fact(1, 151, NOW, "case.proposed", "c0ffee", "system", named, ""))
    text = await text_of(client, "/journal")
    assert "no 150" in text
    assert "no 101<" not in text
    assert '<a href="?before=102">Older</a>' in text
    assert "case.proposed PoolExhaustion bigger-pool" in text
    assert '<a href="/c/c0ffee">' in text
    told = {"alertname": "Slow", "cause": "shop", "pattern": "pool exhaustion"}
    world.facts.append(Fact(1, 152, NOW, "incident.explained", None, "system", told, ""))
    assert "incident.explained Slow shop pool exhaustion" in await text_of(client, "/journal")
    text = await text_of(client, "/journal", before="50")
    assert "no 49<" in text
    assert "no 50<" not in text
    assert "Older" not in text
    assert "is not a number" in await text_of(client, "/journal", 400, before="x")
    live = {"before": "data-live" in await text_of(client, "/journal", before="50")}
    live |= {path: "data-live" in await text_of(client, path) for path in ("/journal", "/trust")}
    assert live == {"before": False, "/journal": True, "/trust": True}, "what is older does not change"
