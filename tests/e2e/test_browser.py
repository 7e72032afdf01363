"""Every page in a real Chromium on the demo's shop: a clean console, at phone width too; a case is approved.

SHOTS=folder keeps a picture of each page.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from sidecar.demo.peers import Stack
from sidecar.demo.stage import ALERT, Stage, build
from tests.e2e.alerting import get, until

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("default"),  # what playwright leaves open is not ours
]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


class World(NamedTuple):
    """The stage with a case that waits, and a browser."""

    stage: Stage
    browser: Browser
    fingerprint: str
    case: str

    @asynccontextmanager
    async def page(self, **options: Any) -> AsyncIterator[Page]:
        """A page of its own; whatever goes wrong in it fails the test."""
        wrong: list[str] = []

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                wrong.append(message.text)

        def failed(request: Request) -> None:
            if request.failure != "net::ERR_ABORTED":  # who goes on to another page asks no longer
                wrong.append(f"{request.url} failed: {request.failure}")

        context = await self.browser.new_context(base_url=self.stage.promantis.url, **options)
        page = await context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", failed)
        yield page
        await context.close()
        assert wrong == []

    async def log_in(self, page: Page) -> None:
        """By keyboard only."""
        await page.goto("/login")
        await page.keyboard.press("Tab")
        while await page.evaluate("document.activeElement.name") != "token":
            await page.keyboard.press("Tab")
        await page.keyboard.type(self.stage.token)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Log out").wait_for()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(module_stack: Stack) -> AsyncIterator[World]:
    """The shop leaks until its alert fires and a remedy waits."""
    stage = await build(module_stack, lambda _: None)
    leak = {"per_minute": 60}
    async with aiohttp.ClientSession() as http, http.post(f"{stage.shop.url}/leak", json=leak) as answer:
        answer.raise_for_status()

    async def waiting() -> dict[str, Any] | None:
        cases = await get(stage.promantis.url, "/api/v1/cases")
        return next((case for case in cases if dict(case["labels"]).get("alertname") == ALERT), None)

    case = await until(waiting, 90)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield World(stage, browser, case["fingerprint"], case["id"])
        await browser.close()
    module_stack.close()


async def whole(page: Page, name: str) -> None:
    """Nothing on the page keeps somebody from reading or using it, as far as axe-core can tell."""
    found = (await Axe().run(page)).response["violations"]
    wrong = [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}" for one in found]
    assert wrong == [], name


async def tab_to(page: Page, words: str) -> None:
    """Press Tab until what has these words has the focus."""
    for _ in range(80):
        await page.keyboard.press("Tab")
        if words in await page.evaluate("document.activeElement.innerText ?? ''"):
            return
    raise AssertionError(f"no Tab leads to {words!r}")


async def paths(world: World) -> dict[str, str]:
    series = await get(world.stage.promantis.url, '/api/v1/series?match={watch="PoolExhaustion"}')
    match = ",".join(f'{name}="{value}"' for name, value in series[0]["labels"].items())
    return {
        "now": "/",
        "alert": f"/a/{world.fingerprint}",
        "case": f"/c/{world.case}",
        "unknown": "/series?match=%7Ba%3D%22b%22%7D",
        "list": "/series?match=%7B%7D",
        "series": f'/series?match={{watch="PoolExhaustion",{match}}}',
        "trust": "/trust",
        "journal": "/journal",
        "login": "/login",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
async def test_every_page_is_whole(world: World, viewport: dict[str, int], scheme: str) -> None:
    async with world.page(viewport=viewport, color_scheme=scheme) as page:
        await world.log_in(page)
        for name, path in (await paths(world)).items():
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 200, path
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= viewport["width"], f"{name} is {wide} wide"
            assert await page.locator("h1").count() >= 1, name
            unnamed = await page.evaluate(
                "[...document.querySelectorAll('a,button,input:not([type=hidden])')]"
                ".filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
            )
            assert unnamed == [], name
            await whole(page, name)
            if folder := os.environ.get("SHOTS"):
                shot = Path(folder) / f"{name}-{viewport['width']}-{scheme}.png"
                await page.screenshot(path=shot, full_page=True)


async def test_times_are_in_the_zone_of_whoever_looks(world: World) -> None:
    async with world.page(viewport=DESK, timezone_id="Asia/Kolkata") as page:
        await world.log_in(page)
        await page.goto("/journal")
        time = page.locator("tbody time[title]").first  # which have been put into its zone
        said, shown = await time.get_attribute("datetime"), await time.inner_text()
        assert said is not None
        there = datetime.fromisoformat(said).astimezone(ZoneInfo("Asia/Kolkata"))
        assert shown == there.strftime("%Y-%m-%d %H:%M")


async def test_the_chart_shows_value_band_and_forecasts(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await page.goto((await paths(world))["series"])
        for part in ("value", "band", "expected"):
            path = await page.locator(f"svg.chart path.{part}").get_attribute("d")
            assert path, part
            assert part != "value" or path.count("L") > 200  # the shop's past is there, before Promantis was
        assert await page.locator("svg.chart g.ahead").count() == 3


async def test_the_last_hours_are_drawn_and_the_incident_is_told(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await page.goto("/")
        await page.locator("tr.odd svg.spark path.value").first.wait_for()
        await page.get_by_role("heading", name="Incident", exact=True).wait_for()
        await page.locator(".going a").first.click()
        await page.get_by_role("heading", name="Why").wait_for()
        # the page reads itself anew, once what moved is known
        await page.locator(".lane svg.spark line.onset").first.wait_for(state="attached")
        await page.locator(".timeline").get_by_text("fires").first.wait_for()
        await page.locator(".timeline").get_by_text("proposed").first.wait_for()


async def test_times_on_charts_are_in_the_zone_of_whoever_looks(world: World) -> None:
    path = (await paths(world))["series"]
    shown = {}
    for zone in ("UTC", "Australia/Adelaide"):
        async with world.page(viewport=DESK, timezone_id=zone) as page:
            await page.goto(path)
            await page.locator("header time[title]").wait_for()
            shown[zone] = await page.locator("svg.chart text[data-at]").all_text_contents()
            assert await page.locator("figcaption [data-zone]").inner_text() == zone
    assert {text[-2:] for text in shown["UTC"]} == {"00"}
    assert {text[-2:] for text in shown["Australia/Adelaide"]} == {"30"}
    async with world.page(viewport=DESK, java_script_enabled=False) as page:
        await page.goto(path)
        assert await page.locator("figcaption [data-zone]").inner_text() == "UTC"


async def test_what_is_said_moves_the_confidence_of_the_score(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await world.log_in(page)
        path = (await paths(world))["series"]

        async def confidence() -> int:
            await page.goto(path)
            words = await page.get_by_text("Confidence").first.inner_text()
            return int(words.partition("Confidence ")[2].partition("%")[0])

        async def say(verdict: str) -> None:
            async with page.expect_navigation():
                await page.get_by_role("button", name=verdict, exact=True).click()

        before = await confidence()
        await say("Not real")

        async def fell() -> int | None:
            now = await confidence()
            return now if now <= before - 5 else None

        low = await until(fell, 30)
        await say("Real")

        async def rose() -> bool:
            return await confidence() >= low + 10

        await until(rose, 30)
        await page.goto("/trust")
        await page.get_by_text("1 real, 1 not real").wait_for()


async def test_with_the_keyboard_alone_a_plan_is_made(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await world.log_in(page)
        await page.goto("/")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("Enter")
        await tab_to(page, "bigger-pool")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/c/*")
        await tab_to(page, "Make the plan")
        await page.keyboard.press("Enter")
        await page.get_by_text('{"size": 40}').first.wait_for()
        await tab_to(page, "Deny")  # folded: it is opened by keyboard too
        await page.keyboard.press("Enter")
        await page.get_by_label("Reason").wait_for()


async def test_a_page_is_read_anew_when_there_is_news_and_keeps_the_focus(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await page.goto("/")
        await page.locator("header .live").wait_for()
        await tab_to(page, "PoolExhaustion")
        focused = "document.activeElement.outerHTML.slice(0, 80)"
        before = await page.evaluate(focused)
        await page.evaluate("document.querySelector('main').firstElementChild.dataset.old = '1'")
        await page.locator("main > [data-old]").wait_for(state="detached", timeout=20_000)
        assert await page.evaluate(focused) == before


async def test_another_plan_does_not_slip_under_the_button(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await world.log_in(page)
        await page.goto(f"/c/{world.case}")
        await page.locator("header .live").wait_for()
        read = "document.querySelector('input[name=plan_hash]')"
        await page.evaluate(f"{read}.value = 'read'")
        await page.wait_for_timeout(12_000)  # two ticks
        assert await page.evaluate(f"{read}.value") == "read"


async def test_a_case_is_approved_on_a_phone_without_a_script_and_seen_by_who_looks(world: World) -> None:
    async with (
        world.page(viewport=DESK) as looks,
        world.page(viewport=DESK) as journal,
        world.page(viewport=PHONE, java_script_enabled=False) as page,
    ):
        await looks.goto(f"/c/{world.case}")
        await looks.get_by_text("as it stands now").wait_for()
        assert await looks.locator(".guards .good").count() > 10  # before anything is tried
        assert await looks.locator(".guards .odd").count() == 0
        await world.log_in(journal)
        await journal.goto("/journal")
        await page.goto("/login")
        await page.get_by_label("Token").fill(world.stage.token)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("link", name="bigger-pool").first.click()
        await page.get_by_text('{"size": 40}').first.wait_for()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Approve exactly this plan").click()

        await looks.locator("h1 .stage", has_text="fixed").wait_for(timeout=60_000)  # without a reload
        await looks.get_by_text("It moved by -").wait_for()
        line = await looks.locator("svg.chart path.value").get_attribute("d")
        assert line is not None
        assert line.count("L") > 50
        assert await looks.locator("svg.chart g.mark").count() == 2
        assert await looks.locator(".guards .good").count() > 10
        assert await looks.locator(".guards .odd").count() == 0
        await whole(looks, "a case that is over")
        if folder := os.environ.get("SHOTS"):
            await looks.screenshot(path=Path(folder) / "fixed.png", full_page=True)
        await journal.get_by_text("verify.passed").first.wait_for()  # without a reload either
        await page.goto("/journal")
        await page.get_by_text("case.approved").first.wait_for()
