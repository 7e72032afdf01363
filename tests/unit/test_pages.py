"""The pages: rendered from real findings, hostile ones too; a form acts only with a token and from our own page."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator, Sequence
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from sidecar.alerts.explain import Explanation, Said, Steps
from sidecar.remedy.past import Odds
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Breach, Finding, Forecast, Instant, JsonObject, Rejected, labels_of
from sidecar.web import pages, server
from sidecar.web.answers import Problem
from sidecar.web.auth import Auth, Token
from sidecar.web.pages import Known
from sidecar.web.session import Sessions
from sidecar.web.ticket import Tickets

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"""
FINGERPRINT = "0123456789abcdef"
NAN = float("nan")
NOT_SEEN = "this form was not given to you for this plan: look at it again"
UNKNOWN_DEED = "do must be real, not_real, plan, approve or deny, not 'explode'"
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


class World:
    """What the pages read; and what was done through them."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.done: list[tuple[str, ...]] = []
        self.series = 0
        self.case: JsonObject = {
            "id": "c0ffee",
            "fingerprint": FINGERPRINT,
            "policy": "bigger-pool",
            "stage": "planned",
            "since": 1_764_000_000,
            "labels": [["alertname", "PoolExhaustion"], ["path", HOSTILE]],
            "why": ["it matches"],
            "words": "",
            "target": "POST http://shop.local/pool",
            "plan": {"do": {"method": "POST", "url": "http://shop/pool", "headers": {}, "body": HOSTILE}},
            "plan_hash": "abc123",
            "effect": {"target": -0.5, "siblings": 0.1, "untouched": 2},
            "compared": {"firings": 0},
            "expires_at": 4_000_000_000,
        }
        self.listed: list[JsonObject] = []
        self.words = {"promantis_summary": HOSTILE}
        self.said: list[JsonObject] = []
        self.explained: Explanation | None = None

    def top(self, limit: int) -> Sequence[Finding]:
        return self.findings[:limit]

    def breaches(self, limit: int) -> Sequence[Finding]:
        return self.findings[:limit]

    def watched(self) -> tuple[int, int]:
        return min(self.series, 1), self.series

    def alert(self, fingerprint: str) -> Known | None:
        alert = Alert(labels_of({"alertname": "PoolExhaustion", "path": HOSTILE}), self.words)
        known = Known(alert, True, (finding(), UNKNOWN), self.said, self.explained)
        return known if fingerprint == FINGERPRINT else None

    async def judge(self, fingerprint: str, verdict: str, who: str, /) -> None:
        if fingerprint != FINGERPRINT:
            raise Rejected("this alert is not known", 404)
        self.done.append((verdict, fingerprint, who))

    killed = False
    stormy = ""

    def odds(self, policy: str, cause: str | None = None, /) -> Odds:
        return Odds(3, 1) if cause is None else Odds(2, 0, (1.0, 1.0))

    def cases(self) -> Sequence[JsonObject]:
        return self.listed

    async def plan(self, id: str, who: str, /) -> None:
        self.done.append(("plan", id, who))

    async def approve(self, id: str, who: str, plan_hash: str, /) -> None:
        if plan_hash != "abc123":
            raise Rejected("the plan has another hash", 409)
        self.done.append(("approve", id, plan_hash, who))

    async def deny(self, id: str, who: str, reason: str, /) -> None:
        self.done.append(("deny", id, reason, who))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=[True], ids=["loopback"])
def loopback(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def client(world: World, loopback: bool) -> AsyncIterator[TestClient[Any, Any]]:
    people = (Token("alice", TOKEN, "approve"), Token("victor", WEAK, "view"), Token("fay", SAYS, "feedback"))
    auth = Auth(people, loopback)
    routes = pages.routes(world, world, world, Sessions(auth))

    async def reload() -> None: ...

    app = server.build(routes, auth, Telemetry(), lambda: (), reload)
    async with TestClient(TestServer(app)) as client:
        yield client


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


def origin(client: TestClient[Any, Any]) -> dict[str, str]:
    return {"Origin": str(client.make_url("/").origin())}


async def send(client: TestClient[Any, Any], path: str = f"/a/{FINGERPRINT}", **form: str) -> ClientResponse:
    return await client.post(path, data=form, headers=origin(client), allow_redirects=False)


async def test_with_no_series_the_page_says_what_to_do_next(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/")).text()
    assert "Nothing is watched yet" in text
    assert "promantis check --live" in text


async def test_an_ordinary_day(client: TestClient[Any, Any], world: World) -> None:
    world.series, world.findings = 12, [finding(0.4, service="shop")]
    text = await (await client.get("/")).text()
    assert "Everything is as usual" in text
    assert "12 series of 1 watches are inside their bands. Nearest to the edge:" in text


async def test_the_first_minutes_are_not_called_ordinary(client: TestClient[Any, Any], world: World) -> None:
    world.series, world.findings = 12, [UNKNOWN]
    text = await (await client.get("/")).text()
    assert "Still learning" in text
    assert "12 series of 1 watches are followed, and none has enough history for a score yet." in text


async def test_what_is_odd_ahead_and_waiting_is_shown(client: TestClient[Any, Any], world: World) -> None:
    world.series, world.findings, world.listed = 2, [finding()], [world.case]
    answer = await client.get("/")
    text = await answer.text()
    assert_harmless(text)
    plain = html.unescape(text)
    for words in (
        "0.42",
        "0.08 to 0.15",
        "3.2",
        "93%",
        "PoolExhaustion",
        "> 0.9",
        "87%",
        "23m",
        "bigger-pool",
    ):
        assert words in plain
    ahead = text.split("Breaches ahead")[1]
    assert '<a href="/series?match=' in ahead
    assert (
        '<time datetime="2096-10-02T07:06:40Z">2096-10-02 07:06 UTC</time>' in text
    )  # the case is void then
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_alert_with_hostile_labels_and_its_case(client: TestClient[Any, Any], world: World) -> None:
    world.listed = [world.case]
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert_harmless(text)
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "abc123" in text
    assert "now -, usual - to -" in text  # nothing is known of the second series
    assert ("input", {"type": "password", "name": "token", "required": None, "autocomplete": "off"}) in tags(
        text
    )
    assert world.done == []


async def test_the_words_for_an_alert_stand_above_its_other_annotations(
    client: TestClient[Any, Any], world: World
) -> None:
    own = {"promantis_outlook": "It goes on.", "promantis_summary": "It is odd."}
    world.words = {"runbook": "Look.", "promantis_url": "http://here"} | own
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert text.index("It is odd.") < text.index("It goes on.") < text.index("<dt>runbook</dt>")
    assert "http://here" not in text  # the page does not link to itself


async def test_a_limit_that_is_crossed_is_marked(client: TestClient[Any, Any], world: World) -> None:
    now = Breach("PoolExhaustion", "page", ">", 0.9, 60, {"15m": 1.0}, 0.0)
    world.series, world.findings = 1, [msgspec.structs.replace(finding(), breaches=(now,))]
    text = html.unescape(await (await client.get("/")).text())
    assert '<span class="stage odd">PoolExhaustion > 0.9</span>' in text
    assert "No limit that still holds is likely to be crossed within the hour." in text


async def test_a_plan_is_shown_as_it_would_be_sent(client: TestClient[Any, Any], world: World) -> None:
    body = "a\nundo  POST http://elsewhere"
    plan = {"do": {"method": "POST", "url": "http://shop/pool", "headers": {"X": "***"}, "body": body}}
    world.listed = [world.case | {"plan": plan}]
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    sent = "<pre>do    POST http://shop/pool\n      X: ***\n      a\n      undo  POST http://elsewhere</pre>"
    assert sent in text


async def test_a_case_says_how_often_it_helped_with_its_cause(
    client: TestClient[Any, Any], world: World
) -> None:
    world.listed = [world.case | {"cause": "<queue>"}]
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert "It helped 3 of 4 times" in text
    assert "With &lt;queue&gt; 2 of 2; 75% is to be expected of the next." in text
    world.listed = [world.case]
    assert "is to be expected" not in await (await client.get(f"/a/{FINGERPRINT}")).text()


async def test_approve_and_deny_are_forms_of_their_own(client: TestClient[Any, Any], world: World) -> None:
    """Enter in a field presses the first button of its form."""
    world.listed = [world.case]
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    forms = re.findall(r'<form method="post" action="/a/.*?</form>', text, re.S)
    assert [re.findall(r'name="do" value="(\w+)"', form) for form in forms] == [
        ["real", "not_real"],
        ["approve"],
        ["deny"],
    ]


async def test_an_unknown_alert_is_404(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/a/ffffffffffffffff")
    assert answer.status == 404
    assert "This alert is not known" in await answer.text()
    assert (await client.get("/a/%3Cscript%3E")).status == 404


async def seen(client: TestClient[Any, Any]) -> dict[str, str]:
    """What the form that approves holds, once the page was looked at."""
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    (form,) = [part for part in text.split("<form") if 'value="approve"' in part]
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {**dict(hidden), "do": "approve"}


async def test_approve_with_the_token_in_the_form(client: TestClient[Any, Any], world: World) -> None:
    world.listed = [world.case]
    answer = await send(client, **await seen(client), token=TOKEN)
    assert answer.status == 303
    assert answer.headers["Location"] == f"/a/{FINGERPRINT}"
    assert world.done == [("approve", "c0ffee", "abc123", "alice")]


async def test_a_form_approves_once_and_only_what_was_seen(
    client: TestClient[Any, Any], world: World
) -> None:
    world.listed = [world.case, world.case | {"id": "decaf", "plan_hash": "abc123", "stage": "fixed"}]
    form = await seen(client) | {"token": TOKEN}
    ends, nonce, sign = form["ticket"].split(".")
    later = f"{int(ends) + 9999}.{nonce}.{sign}"
    forged = ("", "x", later, f"{ends}.{nonce}x.{sign}", f"{ends}.{nonce}.{'0' * 64}", f"{form['ticket']}é")
    for ticket in forged:
        assert (await send(client, **form | {"ticket": ticket})).status == 403
    assert (await send(client, **form | {"plan_hash": "def"})).status == 403, "for another plan"
    assert (await send(client, **form | {"case": "decaf"})).status == 403, "for another case"
    assert world.done == []
    assert (await send(client, **form)).status == 303
    replayed = await send(client, **form)
    assert (replayed.status, "this form was sent already" in await replayed.text()) == (409, True)
    assert len(world.done) == 1, "the same plan made again is not approved by going back"
    assert (await send(client, **await seen(client), token=TOKEN)).status == 303, "who looks again may"
    world.listed = [world.case | {"expires_at": time.time() - 1}]
    expired = await send(client, **await seen(client), token=TOKEN)
    assert (expired.status, "the form is too old" in await expired.text()) == (409, True)
    assert len(world.done) == 2


def test_a_ticket_ends_with_its_case_and_after_half_an_hour() -> None:
    now = [1000.0]
    tickets = Tickets(lambda: now[0])
    for until, lasts in ((9e9, 1800), (1060.0, 60)):
        now[0] = 1000.0
        ticket = tickets.issue("ada", "c", "h", until)
        now[0] += lasts
        with pytest.raises(Problem, match="too old"):
            tickets.redeem(ticket, "ada", "c", "h")
        now[0] -= 1
        with pytest.raises(Problem, match="not given to you"):
            Tickets(lambda: now[0]).redeem(ticket, "ada", "c", "h")  # of another process
        tickets.redeem(ticket, "ada", "c", "h")
        with pytest.raises(Problem, match="sent already"):
            tickets.redeem(ticket, "ada", "c", "h")


async def test_a_form_is_for_whom_it_was_given_to(client: TestClient[Any, Any], world: World) -> None:
    world.listed = [world.case]
    to_nobody = await seen(client)
    await send(client, "/login", token=TOKEN, next="/")
    assert (await send(client, **to_nobody)).status == 403
    assert (await send(client, **await seen(client))).status == 303
    assert world.done == [("approve", "c0ffee", "abc123", "alice")]


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 401, "a token is needed"),
        ({"token": "x" * 20}, 401, "the token is not known"),
        ({"token": WEAK}, 403, "victor may view; this needs approve"),
        ({"token": TOKEN, "plan_hash": "other"}, 403, NOT_SEEN),
        ({"token": TOKEN, "case": "another"}, 404, "this alert has no such case"),
        ({"token": TOKEN, "do": "explode"}, 400, UNKNOWN_DEED),
    ],
)
async def test_what_does_not_fit_is_refused_in_words(
    client: TestClient[Any, Any], world: World, form: dict[str, str], status: int, words: str
) -> None:
    world.listed = [world.case]
    answer = await send(client, **(await seen(client) | form))
    assert answer.status == status
    assert (
        f'<p class="wrong" role="alert">{html.escape(words).replace("&#x27;", "&#39;")}</p>'
        in await answer.text()
    )
    assert world.done == []


@pytest.mark.parametrize("verdict", ["real", "not_real"])
async def test_real_or_not_needs_only_the_role_of_feedback(
    client: TestClient[Any, Any], world: World, verdict: str
) -> None:
    answer = await send(client, do=verdict, token=SAYS)
    assert (answer.status, answer.headers["Location"]) == (303, f"/a/{FINGERPRINT}")
    assert world.done == [(verdict, FINGERPRINT, "fay")]


@pytest.mark.parametrize(
    ("path", "token", "status", "words"),
    [
        (FINGERPRINT, "", 401, "a token is needed"),
        (FINGERPRINT, WEAK, 403, "victor may view; this needs feedback"),
        ("f" * 16, SAYS, 404, "this alert is not known"),
    ],
)
async def test_a_verdict_that_is_refused(
    client: TestClient[Any, Any], world: World, path: str, token: str, status: int, words: str
) -> None:
    answer = await send(client, f"/a/{path}", do="real", token=token)
    assert answer.status == status
    assert f'<p class="wrong" role="alert">{words}</p>' in await answer.text()
    assert world.done == []


async def test_a_verdict_from_elsewhere_is_none(client: TestClient[Any, Any], world: World) -> None:
    form = {"do": "real", "token": SAYS}
    answer = await client.post(f"/a/{FINGERPRINT}", data=form, headers={"Origin": "https://evil.example"})
    assert answer.status == 403
    assert world.done == []


async def test_what_was_said_is_shown(client: TestClient[Any, Any], world: World) -> None:
    world.said = [{"at": 1_764_000_000.0, "who": HOSTILE, "verdict": "not_real", "comment": HOSTILE}]
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert_harmless(text)
    assert '<span class="stage">not real</span>' in text
    await send(client, "/login", token=SAYS)
    form = (await (await client.get(f"/a/{FINGERPRINT}")).text()).split("Was it real?")[1]
    assert "password" not in form


async def test_what_explains_an_alert_is_shown(client: TestClient[Any, Any], world: World) -> None:
    world.explained = Explanation(
        what="PoolExhaustion",
        causes=(Said(HOSTILE, "saturation", HOSTILE, "very likely", 0.95),),
        none_likelihood=0.04,
        summary=HOSTILE,
        pattern="pool exhaustion",
        outlook=HOSTILE,
        next_steps=Steps((HOSTILE,), (HOSTILE,)),
        changes=(HOSTILE,),
        similar=(HOSTILE,),
        incident="c0ffee12",
    )
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert_harmless(text)
    for words in ("pool exhaustion", "very likely", "c0ffee12", "That none of these is the cause: 4%"):
        assert words in text


async def test_what_explains_an_alert_is_said_once(client: TestClient[Any, Any], world: World) -> None:
    said = Said("shop", "saturation", "it is full", "very likely", 0.95)
    steps = Steps(("enlarge it",), ("test it",))
    world.explained = Explanation(
        what="x",
        causes=(said,),
        none_likelihood=0.001,
        summary="shop is full.",
        outlook="Soon.",
        next_steps=steps,
    )
    world.listed = [world.case]
    world.words = {
        "promantis_next_steps": "Now: enlarge it.",
        "promantis_outlook": "Soon.",
        "runbook": "Look.",
    }
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert [text.count(words) for words in ("enlarge it", "Soon.", "Look.")] == [1, 1, 1]
    assert "the cause: &lt;1%" in text
    assert text.index('<a href="#case-c0ffee">bigger-pool waits for you</a>') < text.index("shop is full.")
    assert '<section class="case" id="case-c0ffee">' in text
    world.explained = None
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert [text.count(words) for words in ("enlarge it", "Soon.", "Look.")] == [1, 1, 1]


@pytest.mark.parametrize("wrong", [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}])
async def test_a_form_from_elsewhere_does_nothing(
    client: TestClient[Any, Any], world: World, wrong: dict[str, str]
) -> None:
    world.listed = [world.case]
    form = {"case": "c0ffee", "do": "approve", "plan_hash": "abc123", "token": TOKEN}
    answer = await client.post(f"/a/{FINGERPRINT}", data=form, headers=wrong, allow_redirects=False)
    assert answer.status == 403
    assert world.done == []


async def test_login_plan_deny_logout(client: TestClient[Any, Any], world: World) -> None:
    world.listed = [world.case | {"plan": None, "plan_hash": "", "stage": "proposed"}]
    answer = await send(client, "/login", token=TOKEN, next=f"/a/{FINGERPRINT}")
    assert (answer.status, answer.headers["Location"]) == (303, f"/a/{FINGERPRINT}")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    text = await (await client.get(f"/a/{FINGERPRINT}")).text()
    assert "alice" in text
    assert "password" not in text
    assert "Make the plan" in text
    assert (await send(client, case="c0ffee", do="plan")).status == 303
    assert (await send(client, case="c0ffee", do="deny", reason="no")).status == 303
    assert world.done == [("plan", "c0ffee", "alice"), ("deny", "c0ffee", "no", "alice")]
    await send(client, "/logout")
    assert (await send(client, case="c0ffee", do="plan")).status == 401


async def test_a_wrong_token_does_not_log_in_and_leads_nowhere_else(client: TestClient[Any, Any]) -> None:
    answer = await send(client, "/login", token="x" * 20, next="//evil.example")
    assert answer.status == 401
    assert "the token is not known" in await answer.text()
    good = await send(client, "/login", token=TOKEN, next="//evil.example")
    assert good.headers["Location"] == "/"


@pytest.mark.parametrize("loopback", [False], indirect=True, ids=["open"])
async def test_beyond_loopback_reading_needs_a_login(client: TestClient[Any, Any]) -> None:
    answer = await client.get(f"/a/{FINGERPRINT}", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, f"/login?next=/a/{FINGERPRINT}")
    await send(client, "/login", token=WEAK)
    assert (await client.get(f"/a/{FINGERPRINT}")).status == 200
    assert (await client.get("/static/style.css")).content_type == "text/css"


@pytest.mark.parametrize("loopback", [False], indirect=True, ids=["open"])
async def test_a_login_leads_to_the_page_that_was_asked_for(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/a/0123456789abcdef?x=1", allow_redirects=False)
    assert answer.headers["Location"] == f"/login?next=/a/{FINGERPRINT}?x%3D1"
    login = await (await client.get(answer.headers["Location"])).text()
    assert f'name="next" value="/a/{FINGERPRINT}?x=1"' in login


async def test_a_form_is_small_and_a_form(client: TestClient[Any, Any]) -> None:
    assert (await send(client, "/login", token="x" * 70_000)).status == 413
    answer = await client.post("/login", json={"token": TOKEN}, headers=origin(client))
    assert answer.status == 415


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    palettes = re.findall(r":root \{(.*?)\}", pages._asset("static/style.css"), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", palettes[scheme]))
    pairs = [(text, ground) for text in ("text", "quiet", "link", "odd") for ground in ("ground", "card")]
    for text, ground in [*pairs, ("on-go", "go")]:
        light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
