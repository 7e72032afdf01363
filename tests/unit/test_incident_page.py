"""The page of an alert and its incident."""

from __future__ import annotations

import html
import time
from collections.abc import AsyncIterator

import pytest

from sidecar.alerts.explain import Explanation, Said, Steps
from sidecar.alerts.scene import Moved
from sidecar.types import Instant
from sidecar.web.incident import Event, Other
from tests.unit.paging import (
    CASE,
    FINGERPRINT,
    HOSTILE,
    SAYS,
    WEAK,
    Client,
    World,
    assert_harmless,
    past,
    send,
    served,
    tags,
    text_of,
)

PAGE = f"/a/{FINGERPRINT}"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with served(world) as client:
        yield client


async def test_an_alert_with_hostile_labels_and_its_case(client: Client, world: World) -> None:
    world.listed = [CASE]
    text = await text_of(client, PAGE)
    assert_harmless(text)
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert '<a class="decide" href="/c/c0ffee"><b>bigger-pool</b> waits for you' in text
    assert "now -, usual -;" in text  # nothing is known of the second series
    assert ("input", {"type": "password", "name": "token", "required": None, "autocomplete": "off"}) in tags(
        text
    )
    assert world.done == []


async def test_the_words_for_an_alert_stand_above_its_other_annotations(client: Client, world: World) -> None:
    own = {"promantis_outlook": "It goes on.", "promantis_summary": "It is odd."}
    world.words = {"runbook": "Look.", "promantis_url": "http://here"} | own
    text = await text_of(client, PAGE)
    assert text.index("It is odd.") < text.index("It goes on.") < text.index("<dt>runbook</dt>")
    assert "http://here" not in text  # the page does not link to itself


async def test_an_unknown_alert_is_404(client: Client) -> None:
    answer = await client.get("/a/ffffffffffffffff")
    assert answer.status == 404
    assert "This alert is not known" in await answer.text()
    assert (await client.get("/a/%3Cscript%3E")).status == 404


@pytest.mark.parametrize("verdict", ["real", "not_real"])
async def test_real_or_not_needs_only_the_role_of_feedback(
    client: Client, world: World, verdict: str
) -> None:
    answer = await send(client, PAGE, do=verdict, token=SAYS)
    assert (answer.status, answer.headers["Location"]) == (303, PAGE)
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
    client: Client, world: World, path: str, token: str, status: int, words: str
) -> None:
    answer = await send(client, f"/a/{path}", do="real", token=token)
    assert answer.status == status
    assert f'<p class="wrong" role="alert">{words}</p>' in await answer.text()
    assert world.done == []


async def test_a_verdict_from_elsewhere_is_none(client: Client, world: World) -> None:
    form = {"do": "real", "token": SAYS}
    answer = await client.post(PAGE, data=form, headers={"Origin": "https://evil.example"})
    assert answer.status == 403
    assert world.done == []


async def test_what_was_said_is_shown(client: Client, world: World) -> None:
    world.said = [{"at": 1_764_000_000.0, "who": HOSTILE, "verdict": "not_real", "comment": HOSTILE}]
    text = await text_of(client, PAGE)
    assert_harmless(text)
    assert '<span class="stage">not real</span>' in text
    await send(client, "/login", token=SAYS)
    form = (await text_of(client, PAGE)).split("Was it real?")[1]
    assert "password" not in form


async def test_what_explains_an_alert_is_shown(client: Client, world: World) -> None:
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
    text = await text_of(client, PAGE)
    assert_harmless(text)
    for words in ("pool exhaustion", "very likely", "c0ffee12", "That none of these is the cause: 4%"):
        assert words in text


async def test_what_explains_an_alert_is_said_once(client: Client, world: World) -> None:
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
    world.listed = [CASE]
    world.words = {
        "promantis_next_steps": "Now: enlarge it.",
        "promantis_outlook": "Soon.",
        "runbook": "Look.",
    }
    text = await text_of(client, PAGE)
    assert [text.count(words) for words in ("enlarge it", "Soon.", "Look.")] == [1, 1, 1]
    assert "the cause: &lt;1%" in text
    assert text.index("waits for you") < text.index("shop is full.")
    world.explained = None
    text = await text_of(client, PAGE)
    assert [text.count(words) for words in ("enlarge it", "Soon.", "Look.")] == [1, 1, 1]


async def test_what_moved_when_who_calls_whom_and_what_was_done(client: Client, world: World) -> None:
    key = b'{"__name__":"x","service":"cart"}'
    at = Instant(1_764_000_000 - 600)
    moved = (
        Moved("cart", "latency", HOSTILE, "2 s", "120 ms", at, "latency", key),
        Moved("web->cart", "edge_client", "wait", "2 s", "unknown", None, "wait", b"{}"),
    )
    world.explained = Explanation(
        what="x",
        causes=(Said("cart", "latency", "slow", "likely", 0.8),),
        none_likelihood=0.1,
        summary="",
        moved=moved,
        calls=(("web", "cart"), ("cart", HOSTILE)),
    )
    world.pasts = {("latency", key): past()}
    world.others = [Other("f" * 16, HOSTILE, (("path", HOSTILE),))]
    world.events = [
        Event(float(at), "moved", HOSTILE),
        Event(float(at) + 60, "verify.passed", "bigger-pool", HOSTILE, "/c/c0ffee"),
    ]
    text = await text_of(client, PAGE)
    assert_harmless(text)
    plain = html.unescape(text)
    assert plain.index("What moved when") < plain.index("Who calls whom") < plain.index("Timeline")
    assert "/series?match=%7Bwatch%3D%22latency%22%2Cservice%3D%22cart%22%7D" in text
    assert text.count('class="spark"') == 1
    assert '<line class="onset"' in text
    assert "Its last hours are not in memory." in text
    assert '<g class="node blamed moved"><title>cart: likely cause</title>' in text
    assert f'<a href="/a/{"f" * 16}">' in text
    assert "And 980 more." in text
    assert '<li class="good"><time datetime="2025-11-24T15:51:00Z">2025-11-24 15:51 UTC</time>' in text
    assert 'it helped <span class="quiet">by' in text
    assert "nan" not in text


async def test_an_alert_of_nobody_says_how_it_would_be_explained(client: Client, world: World) -> None:
    assert "Nobody knows whose this alert is" in await text_of(client, PAGE)


async def test_today_has_seconds_and_what_is_older_its_day(client: Client, world: World) -> None:
    now = time.time()
    world.events = [Event(now - 86400, "firing", "old"), Event(now - 60, "firing", "new")]
    text = await text_of(client, PAGE)
    short, long = text.split('<ol class="timeline">')[1].count("data-short"), text.count(" UTC</time> old")
    assert (short, long) == (1, 1)
