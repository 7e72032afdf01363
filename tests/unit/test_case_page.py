"""The page of a case: a form acts only with a token or a login, and from our own page."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from sidecar.remedy.case import Fact
from sidecar.remedy.effect import Effect
from sidecar.remedy.guard import Check
from sidecar.remedy.past import Odds
from sidecar.remedy.policy import Refusal
from sidecar.types import Instant, Unavailable
from sidecar.web.answers import Problem
from sidecar.web.deciding import Line, Outcome
from sidecar.web.ticket import Tickets
from tests.unit.paging import (
    CASE,
    HOSTILE,
    TOKEN,
    WEAK,
    Client,
    World,
    assert_harmless,
    case,
    send,
    served,
    tags,
    text_of,
)

PAGE = "/c/c0ffee"
NOT_SEEN = "this form was not given to you for this plan: look at it again"
UNKNOWN_DEED = "do must be plan, approve or deny, not 'explode'"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with served(world) as client:
        yield client


async def test_a_plan_is_shown_as_it_would_be_sent(client: Client, world: World) -> None:
    body = "a\nundo  POST http://elsewhere"
    plan = {"do": {"method": "POST", "url": "http://shop/pool", "headers": {"X": "***"}, "body": body}}
    world.listed = [case(plan=plan)]
    text = await text_of(client, PAGE)
    sent = "<pre>do    POST http://shop/pool\n      X: ***\n      a\n      undo  POST http://elsewhere</pre>"
    assert sent in text


async def test_approve_and_deny_are_forms_of_their_own(client: Client, world: World) -> None:
    """Enter in a field presses the first button of its form."""
    world.listed = [CASE]
    text = await text_of(client, PAGE)
    forms = re.findall(r'<form method="post" action="/c/.*?</form>', text, re.S)
    assert [re.findall(r'name="do" value="(\w+)"', form) for form in forms] == [
        ["approve"],
        ["deny"],
    ]


async def test_a_case_says_how_often_it_helped_with_its_cause(client: Client, world: World) -> None:
    world.listed = [case(cause="<queue>")]
    text = await text_of(client, PAGE)
    assert "It helped 3 of 4 times" in text
    assert "With &lt;queue&gt; 2 of 2; 75% is to be expected of the next." in text
    world.listed = [CASE]
    assert "is to be expected" not in await text_of(client, PAGE)


async def test_an_unknown_alert_is_404(client: Client) -> None:
    answer = await client.get("/a/ffffffffffffffff")
    assert answer.status == 404
    assert "This alert is not known" in await answer.text()
    assert (await client.get("/a/%3Cscript%3E")).status == 404


async def seen(client: Client) -> dict[str, str]:
    """What the form that approves holds, once the page was looked at."""
    text = await text_of(client, PAGE)
    (form,) = [part for part in text.split("<form") if 'value="approve"' in part]
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {**dict(hidden), "do": "approve"}


async def test_approve_with_the_token_in_the_form(client: Client, world: World) -> None:
    world.listed = [CASE]
    answer = await send(client, PAGE, **await seen(client), token=TOKEN)
    assert answer.status == 303
    assert answer.headers["Location"] == PAGE
    assert world.done == [("approve", "c0ffee", "abc123", "alice")]


async def test_a_form_approves_once_and_only_what_was_seen(client: Client, world: World) -> None:
    world.listed = [CASE, case(id="decaf", plan_hash="abc123", stage="fixed")]
    form = await seen(client) | {"token": TOKEN}
    ends, nonce, sign = form["ticket"].split(".")
    later = f"{int(ends) + 9999}.{nonce}.{sign}"
    forged = ("", "x", later, f"{ends}.{nonce}x.{sign}", f"{ends}.{nonce}.{'0' * 64}", f"{form['ticket']}é")
    for ticket in forged:
        assert (await send(client, PAGE, **form | {"ticket": ticket})).status == 403
    assert (await send(client, PAGE, **form | {"plan_hash": "def"})).status == 403, "for another plan"
    assert (await send(client, "/c/decaf", **form)).status == 403, "for another case"
    assert world.done == []
    assert (await send(client, PAGE, **form)).status == 303
    replayed = await send(client, PAGE, **form)
    assert (replayed.status, "this form was sent already" in await replayed.text()) == (409, True)
    assert len(world.done) == 1, "the same plan made again is not approved by going back"
    assert (await send(client, PAGE, **await seen(client), token=TOKEN)).status == 303, "who looks again may"
    world.listed = [case(expires_at=time.time() - 1)]
    expired = await send(client, PAGE, **await seen(client), token=TOKEN)
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


async def test_a_form_is_for_whom_it_was_given_to(client: Client, world: World) -> None:
    world.listed = [CASE]
    to_nobody = await seen(client)
    await send(client, "/login", token=TOKEN, next="/")
    assert (await send(client, PAGE, **to_nobody)).status == 403
    assert (await send(client, PAGE, **await seen(client))).status == 303
    assert world.done == [("approve", "c0ffee", "abc123", "alice")]


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 401, "a token is needed"),
        ({"token": "x" * 20}, 401, "the token is not known"),
        ({"token": WEAK}, 403, "victor may view; this needs approve"),
        ({"token": TOKEN, "plan_hash": "other"}, 403, NOT_SEEN),
        ({"token": TOKEN, "do": "explode"}, 400, UNKNOWN_DEED),
    ],
)
async def test_what_does_not_fit_is_refused_in_words(
    client: Client, world: World, form: dict[str, str], status: int, words: str
) -> None:
    world.listed = [CASE]
    answer = await send(client, PAGE, **(await seen(client) | form))
    assert answer.status == status
    assert "data-live" not in await answer.text()  # or it would be gone before it is read
    assert (
        f'<p class="wrong" role="alert">{html.escape(words).replace("&#x27;", "&#39;")}</p>'
        in await answer.text()
    )
    assert world.done == []


@pytest.mark.parametrize("wrong", [{}, {"Origin": "null"}, {"Origin": "https://evil.example"}])
async def test_a_form_from_elsewhere_does_nothing(
    client: Client, world: World, wrong: dict[str, str]
) -> None:
    world.listed = [CASE]
    for do in ("plan", "approve", "deny"):  # of these only one needs a ticket too
        form = {"do": do, "plan_hash": "abc123", "token": TOKEN}
        answer = await client.post(PAGE, data=form, headers=wrong, allow_redirects=False)
        assert answer.status == 403
    assert world.done == []


async def test_login_plan_deny_logout(client: Client, world: World) -> None:
    world.listed = [case(plan=None, plan_hash="", stage="proposed")]
    answer = await send(client, "/login", token=TOKEN, next=PAGE)
    assert (answer.status, answer.headers["Location"]) == (303, PAGE)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    text = await text_of(client, PAGE)
    assert "alice" in text
    assert "password" not in text
    assert "Make the plan" in text
    assert (await send(client, PAGE, do="plan")).status == 303
    assert (await send(client, PAGE, do="deny", reason="no")).status == 303
    assert world.done == [("plan", "c0ffee", "alice"), ("deny", "c0ffee", "no", "alice")]
    await send(client, "/logout")
    assert (await send(client, PAGE, do="plan")).status == 401


async def test_a_hostile_case_is_harmless_and_an_unknown_one_404(client: Client, world: World) -> None:
    text = await text_of(client, PAGE, 404)
    assert "There is no such case" in text
    world.listed = [case(words=HOSTILE, why=(HOSTILE,))]
    text = await text_of(client, PAGE)
    assert_harmless(text)
    assert "It helped 3 of 4 times" in text
    assert "as it stands now" in text
    assert ("input", {"type": "password", "name": "token", "required": None, "autocomplete": "off"}) in tags(
        text
    )
    unknown = await send(client, "/c/abad1dea", do="deny", token=TOKEN)
    assert unknown.status in (303, 404)


async def test_which_guardrails_held_is_told_those_that_did_not_first(client: Client, world: World) -> None:
    guard = (
        {"name": "freeze", "ok": True, "words": ""},
        {"name": "rates", "ok": False, "words": "7 actions within 1h, at most 6"},
    )
    world.listed = [case(stage="refused", reason="rate_policy", words="too many", guard=guard)]
    text = await text_of(client, PAGE)
    assert "1 passed" in text
    assert "1 did not" in text
    failed = '<li class="odd">✗ rates: 7 actions within 1h, at most 6</li>'
    assert text.index(failed) < text.index('<li class="good">✓ freeze</li>')
    world.listed = [case(stage="refused", reason="held_back", words="as control")]
    assert '<li class="odd">✗ held back: as control</li>' in await text_of(client, PAGE)


async def test_before_anything_is_tried_each_guardrail_says_how_it_stands(
    client: Client, world: World
) -> None:
    world.listed = [CASE]
    wait = Refusal("cooldown", "<pool> was acted on 20s ago, cool-down 30m")
    world.guards = (Check("freeze", None), Check("cool-down", wait))
    text = await text_of(client, PAGE)
    assert "1 passed" in text
    assert "1 did not</span>, as it stands now; each is looked at again right before acting" in text
    assert '<li class="odd">✗ cool-down: &lt;pool&gt; was acted on 20s ago, cool-down 30m</li>' in text
    world.guards = Unavailable("the target is away")
    text = await text_of(client, PAGE)
    assert "✗ not known now: the target is away" in text
    world.listed = [case(stage="denied")]
    assert "as it stands now" not in await text_of(client, PAGE)


async def test_what_came_of_it_is_drawn_before_and_after(client: Client, world: World) -> None:
    acted = Instant(1_764_000_600)
    at = 1_764_000_000.0 + 10 * np.arange(121)
    ours, others = np.where(at < acted, 0.95, 0.4), np.full(121, 0.5)
    ours[3] = np.nan
    world.measured = Outcome(at, [Line(True, ours), Line(False, others)], "used / size", "<", 0.7)
    effect = {"target": -0.55, "siblings": 0.01, "untouched": 2, "difference": -0.56, "error": 0.02}
    world.listed = [case(stage="fixed", intent_at=acted, acted_at=acted, effect=effect)]
    world.facts = [Fact(1, 1, acted, "intent", "c0ffee", "system", {}, "")]
    world.facts += [Fact(1, 2, acted, "verify.passed", "c0ffee", HOSTILE, {"words": HOSTILE}, "")]
    world.trials = Effect(Odds(56, 14), Odds(48, 32))
    text = await text_of(client, PAGE)
    assert_harmless(text)
    for words in (
        "It moved by -0.55; 2 siblings that were left alone by 0.01, so that -0.56 ± 0.02 is the action",
        "Alerts end in time 20 points more often with it",
        "between 5 points more often and 33 points more often",
        "<code>used / size</code>, to be &lt; 0.7 (dashed); grey: what was left alone. Marks: acted, then it helped.",
        '<span class="stage good">fixed</span>',
    ):
        assert words in text
    value = re.findall(r'<path class="value" d="(.*?)"', text)
    assert [path.count("M") for path in value] == [2]
    assert text.count('<line class="grid"') >= 6
    assert text.count('<g class="mark">') == 2
    assert "nan" not in text
    world.measured = None
    assert "No chart:" in await text_of(client, PAGE)


async def test_an_action_is_only_drawn_once_it_was_done(client: Client, world: World) -> None:
    world.listed = [CASE]
    world.measured = Outcome(np.zeros(2), [], "q", "<", 1.0)
    assert "Outcome" not in await text_of(client, PAGE)
