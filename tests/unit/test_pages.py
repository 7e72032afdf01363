"""The page of what is now and the login: rendered from real findings, hostile ones too."""

from __future__ import annotations

import html
import re
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.types import Breach, Instant
from sidecar.web import paint
from sidecar.web.pages import Happening
from tests.unit.paging import (
    CASE,
    FINGERPRINT,
    HOSTILE,
    TOKEN,
    UNKNOWN,
    WEAK,
    Client,
    World,
    assert_harmless,
    finding,
    origin,
    past,
    send,
    served,
    text_of,
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=[True], ids=["loopback"])
def loopback(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def client(world: World, loopback: bool) -> AsyncIterator[Client]:
    async with served(world, loopback) as client:
        yield client


async def test_with_no_series_the_page_says_what_to_do_next(client: Client) -> None:
    text = await text_of(client, "/")
    assert "Nothing is watched yet" in text
    assert "promantis check --live" in text


async def test_an_ordinary_day(client: Client, world: World) -> None:
    world.series, world.findings = 12, [finding(0.4, service="shop")]
    text = await text_of(client, "/")
    assert "Everything is as usual" in text
    assert "1 series of 1 watches are inside their bands; 11 more are still learned" in text
    world.series = 1
    assert "1 series of 1 watches are inside their bands. Nearest to the edge:" in await text_of(client, "/")


async def test_the_first_minutes_are_not_called_ordinary(client: Client, world: World) -> None:
    world.series, world.findings = 12, [UNKNOWN]
    text = await text_of(client, "/")
    assert "Still learning" in text
    assert "12 series of 1 watches are followed, and none has enough history for a score yet." in text


async def test_what_is_odd_ahead_and_waiting_is_shown(client: Client, world: World) -> None:
    world.series, world.findings, world.listed = 2, [finding()], [CASE]
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


async def test_what_acted_within_the_day_is_shown(client: Client, world: World) -> None:
    now = time.time()
    acts, old = Instant(now - 60), Instant(now - 90_000)
    world.listed = [
        replace(CASE, id="c1", stage="verifying", since=acts, intent_at=acts),
        replace(CASE, id="c2", stage="fixed", since=acts, intent_at=acts),
        replace(CASE, id="c3", stage="fixed", since=old, intent_at=old),
        replace(CASE, id="c4", stage="refused", since=acts, intent_at=None),
    ]
    text = await text_of(client, "/")
    assert re.findall(r'href="/c/(\w+)"', text.split("What was done")[1]) == ["c1", "c2"]
    world.listed = []
    assert "What was done" not in await text_of(client, "/")


async def test_a_limit_that_is_crossed_is_marked(client: Client, world: World) -> None:
    now = Breach("PoolExhaustion", "page", ">", 0.9, 60, {"15m": 1.0}, 0.0, also=" and b < 2")
    world.series, world.findings = 1, [msgspec.structs.replace(finding(), breaches=(now,))]
    text = html.unescape(await text_of(client, "/"))
    assert '<span class="stage odd">PoolExhaustion > 0.9 and b < 2</span>' in text
    assert "No limit that still holds is likely to be crossed within the hour." in text


async def test_what_happens_is_said_in_words(client: Client, world: World) -> None:
    began = Instant(1_764_000_000)
    world.series = 1
    world.going = [
        Happening(FINGERPRINT, (HOSTILE, "HighLatency"), 3, began, HOSTILE, "pool exhaustion", "shop"),
        Happening("f" * 16, ("Lonely",), 1, Instant(0), ""),
    ]
    text = await text_of(client, "/")
    assert_harmless(text)
    for words in (
        f'<a href="/a/{FINGERPRINT}">',
        ", HighLatency</b>",
        "pool exhaustion",
        "3 alerts",
        "Lonely",
    ):
        assert words in text


async def test_the_last_hours_are_drawn_where_they_are_in_memory(client: Client, world: World) -> None:
    world.series, world.findings = 2, [finding(), msgspec.structs.replace(finding(), key=b"{}")]
    world.pasts = {("latency", b"{}"): past()}
    text = await text_of(client, "/")
    assert text.count('class="spark"') == 1
    assert text.count('class="strip odd"') == 1
    assert "nan" not in text


async def test_odds_ahead_are_drawn_on_the_next_hour(client: Client, world: World) -> None:
    world.series, world.findings = 1, [finding()]
    text = await text_of(client, "/")
    assert 'aria-label="probability 40% within 15m, 87% within 60m"' in text
    assert '<rect class="odd" x="25.0%" width="75.0%" y="5" height="6" fill-opacity="0.87"/>' in text
    assert '<circle class="eta" cx="38.3%"' in text


async def test_a_page_is_read_anew_without_a_script_too(client: Client, world: World) -> None:
    text = await text_of(client, "/")
    assert '<noscript><meta http-equiv="refresh" content="30"></noscript>' in text
    assert '<body data-live="5">' in text
    assert 'aria-current="page">Now</a>' in text
    assert "data-live" not in await text_of(client, "/login")


async def test_a_wrong_token_does_not_log_in_and_leads_nowhere_else(client: Client) -> None:
    answer = await send(client, "/login", token="x" * 20, next="//evil.example")
    assert answer.status == 401
    assert "the token is not known" in await answer.text()
    good = await send(client, "/login", token=TOKEN, next="//evil.example")
    assert good.headers["Location"] == "/"


@pytest.mark.parametrize("loopback", [False], indirect=True, ids=["open"])
async def test_beyond_loopback_reading_needs_a_login(client: Client) -> None:
    answer = await client.get(f"/a/{FINGERPRINT}", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, f"/login?next=/a/{FINGERPRINT}")
    await send(client, "/login", token=WEAK)
    assert (await client.get(f"/a/{FINGERPRINT}")).status == 200
    assert (await client.get("/static/page.js")).content_type == "text/javascript"


@pytest.mark.parametrize("loopback", [False], indirect=True, ids=["open"])
async def test_a_login_leads_to_the_page_that_was_asked_for(client: Client) -> None:
    answer = await client.get("/a/0123456789abcdef?x=1", allow_redirects=False)
    assert answer.headers["Location"] == f"/login?next=/a/{FINGERPRINT}?x%3D1"
    login = await (await client.get(answer.headers["Location"])).text()
    assert f'name="next" value="/a/{FINGERPRINT}?x=1"' in login


async def test_a_form_is_small_and_a_form(client: Client) -> None:
    assert (await send(client, "/login", token="x" * 70_000)).status == 413
    answer = await client.post("/login", json={"token": TOKEN}, headers=origin(client))
    assert answer.status == 415


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    palettes = re.findall(r":root \{(.*?)\}", paint.asset("static/style.css"), re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", palettes[scheme]))
    pairs = [
        (text, ground) for text in ("text", "quiet", "link", "odd", "good") for ground in ("ground", "card")
    ]
    for text, ground in [*pairs, ("on-go", "go")]:
        light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
