"""What the tests of the pages share: a world that they read, and a client that looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from sidecar.alerts.explain import Explanation
from sidecar.remedy.case import Case, Fact
from sidecar.remedy.effect import Effect
from sidecar.remedy.guard import Check
from sidecar.remedy.past import Odds
from sidecar.telemetry import Telemetry
from sidecar.types import (
    F64,
    Alert,
    Breach,
    Finding,
    Forecast,
    Instant,
    JsonObject,
    Rejected,
    Unavailable,
    labels_of,
)
from sidecar.web import deciding, incident, live, pages, server
from sidecar.web.auth import Auth, Token
from sidecar.web.deciding import Outcome
from sidecar.web.incident import Event, Other, Seen
from sidecar.web.pages import Happening
from sidecar.web.session import Sessions

Client = TestClient[Any, Any]
HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"""
FINGERPRINT = "0123456789abcdef"
NAN = float("nan")
TOKEN, WEAK, SAYS = "t" * 20, "v" * 20, "f" * 20


def finding(score: float = 3.2, **labels: str) -> Finding:
    return Finding(
        watch="latency",
        query="q",
        kind="latency",
        labels=labels_of(labels or {"service": "shop", "path": HOSTILE}),
        at=Instant(1_764_000_000),
        observed=0.42,
        expected=0.11,
        lower=0.08,
        upper=0.15,
        score=score,
        confidence=0.93,
        since=Instant(1_763_999_400),
        forecasts=(Forecast("15m", 0.5, 0.4, 0.6),),
        breaches=(Breach("PoolExhaustion", "page", ">", 0.9, 60, {"15m": 0.4, "60m": 0.87}, 1380.0),),
    )


UNKNOWN = Finding("new", "q", "other", (), Instant(0), NAN, NAN, NAN, NAN, NAN, NAN, None)


CASE = Case(
    id="c0ffee",
    fingerprint=FINGERPRINT,
    episode=1,
    policy="bigger-pool",
    target="POST http://shop.local/pool",
    labels=labels_of({"alertname": "PoolExhaustion", "path": HOSTILE}),
    annotations={},
    stage="planned",
    since=Instant(1_764_000_000),
    why=("it matches",),
    plan={"do": {"method": "POST", "url": "http://shop/pool", "headers": {}, "body": HOSTILE}},
    plan_hash="abc123",
    compared={"firings": 0},
    expires_at=Instant(4_000_000_000),
)


def case(**changed: Any) -> Case:
    """The case, but for what is changed."""
    return msgspec.structs.replace(CASE, **changed)


class World:
    """What the pages read; and what was done through them."""

    killed = False
    stormy = ""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.done: list[tuple[str, ...]] = []
        self.series = 0
        self.listed: list[Case] = []
        self.facts: list[Fact] = []
        self.words = {"promantis_summary": HOSTILE}
        self.said: list[JsonObject] = []
        self.explained: Explanation | None = None
        self.going: list[Happening] = []
        self.pasts: dict[tuple[str, bytes], tuple[F64, F64]] = {}
        self.others: list[Other] = []
        self.events: list[Event] = []
        self.measured: Outcome | None = None
        self.guards: Sequence[Check] | Unavailable = ()
        self.trials = Effect(Odds(0, 0), Odds(0, 0))
        self.live = live.Live(Telemetry())

    def top(self, limit: int) -> Sequence[Finding]:
        return self.findings[:limit]

    def breaches(self, limit: int) -> Sequence[Finding]:
        return self.findings[:limit]

    def watched(self) -> tuple[int, int, int]:
        return min(self.series, 1), self.series, len(self.findings)

    def past(self, finding: Finding) -> tuple[F64, F64] | None:
        return self.pasts.get((finding.watch, finding.key))

    async def happening(self, limit: int) -> Sequence[Happening]:
        return self.going[:limit]

    async def alert(self, fingerprint: str) -> Seen | None:
        alert = Alert(labels_of({"alertname": "PoolExhaustion", "path": HOSTILE}), self.words)
        near = (finding(), UNKNOWN)
        seen = Seen(alert, True, near, self.said, self.explained, self.pasts, self.others, 980, self.events)
        return seen if fingerprint == FINGERPRINT else None

    async def judge(self, fingerprint: str, verdict: str, who: str, /) -> None:
        if fingerprint != FINGERPRINT:
            raise Rejected("this alert is not known", 404)
        self.done.append((verdict, fingerprint, who))

    def odds(self, policy: str, cause: str | None = None, /) -> Odds:
        return Odds(3, 1) if cause is None else Odds(2, 0, (1.0, 1.0))

    def effect(self, policy: str, /) -> Effect:
        return self.trials

    def cases(self) -> Sequence[Case]:
        return self.listed

    def case(self, id: str) -> tuple[Case, Sequence[Fact]]:
        found = [one for one in self.listed if one.id == id]
        if not found:
            raise Rejected("there is no such case", 404)
        return found[0], self.facts

    async def outcome(self, case: Case) -> Outcome | None:
        return self.measured

    async def standing(self, id: str) -> Sequence[Check]:
        if isinstance(self.guards, Unavailable):
            raise self.guards
        return self.guards

    async def plan(self, id: str, who: str, /) -> None:
        self.done.append(("plan", id, who))

    async def approve(self, id: str, who: str, plan_hash: str, /) -> None:
        if plan_hash != "abc123":
            raise Rejected("the plan has another hash", 409)
        self.done.append(("approve", id, plan_hash, who))

    async def deny(self, id: str, who: str, reason: str, /) -> None:
        self.done.append(("deny", id, reason, who))


def past(points: int = 120, end: float = 1_764_000_000.0) -> tuple[F64, F64]:
    """Two hours, a value a minute, that end high."""
    values = np.full(points, 0.1)
    values[-10:] = 0.42
    return end - 60.0 * np.arange(points)[::-1], values


@asynccontextmanager
async def served(world: World, loopback: bool = True) -> AsyncIterator[Client]:
    """Every page of this world, for a client."""
    people = (Token("alice", TOKEN, "approve"), Token("victor", WEAK, "view"), Token("fay", SAYS, "feedback"))
    auth = Auth(people, loopback)
    sessions, turn = Sessions(auth), asyncio.Lock()
    routes = [
        *pages.routes(world, world, world, sessions, turn),
        *incident.routes(world, world, sessions, turn),
        *deciding.routes(world, world, world.standing, sessions, turn),
        *live.routes(world.live, sessions),
    ]

    async def reload() -> None: ...

    app = server.build(routes, auth, Telemetry(), lambda: (), reload)
    async with TestClient(TestServer(app)) as client:
        yield client
        world.live.close()


async def text_of(client: Client, path: str, status: int = 200) -> str:
    """A page that answers so."""
    answer = await client.get(path)
    assert answer.status == status
    return await answer.text()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.found


def assert_harmless(text: str) -> None:
    found = tags(text)
    own = ("script", {"src": "/static/page.js", "defer": None})
    assert found.count(own) == 1
    found.remove(own)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in found}
    assert not [
        name for _, attributes in found for name in attributes if name.startswith("on") or name == "style"
    ]
    assert "{{ 7*7 }}" in text


def origin(client: Client) -> dict[str, str]:
    return {"Origin": str(client.make_url("/").origin())}


async def send(client: Client, path: str, **form: str) -> ClientResponse:
    return await client.post(path, data=form, headers=origin(client), allow_redirects=False)
