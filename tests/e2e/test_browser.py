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
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from sidecar.demo.peers import Stack
from sidecar.demo.stage import ALERT, Stage, build
from tests.e2e.alerting import get, until

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
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

    async def waiting() -> str | None:
        cases = await get(stage.promantis.url, "/api/v1/cases")
        mine = [case for case in cases if dict(case["labels"]).get("alertname") == ALERT]
        return mine[0]["fingerprint"] if mine else None

    fingerprint = await until(waiting, 90)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield World(stage, browser, fingerprint)
        await browser.close()
    module_stack.close()


async def paths(world: World) -> dict[str, str]:
    series = await get(world.stage.promantis.url, '/api/v1/series?match={watch="PoolExhaustion"}')
    match = ",".join(f'{name}="{value}"' for name, value in series[0]["labels"].items())
    return {
        "now": "/",
        "alert": f"/a/{world.fingerprint}",
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
            if folder := os.environ.get("SHOTS"):
                shot = Path(folder) / f"{name}-{viewport['width']}-{scheme}.png"
                await page.screenshot(path=shot, full_page=True)


async def test_times_are_in_the_zone_of_whoever_looks(world: World) -> None:
    async with world.page(viewport=DESK, timezone_id="Asia/Kolkata") as page:
        await world.log_in(page)
        await page.goto("/journal")
        time = page.locator("tbody time").first
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


async def test_a_verdict_is_one_click_and_shows_on_the_page_of_trust(world: World) -> None:
    async with world.page(viewport=DESK) as page:
        await world.log_in(page)
        await page.goto((await paths(world))["series"])
        async with page.expect_navigation():
            await page.get_by_role("button", name="Real", exact=True).click()
        await page.goto("/trust")
        await page.get_by_text("1 real").wait_for()


async def test_a_case_is_approved_on_a_phone_without_a_script(world: World) -> None:
    async with world.page(viewport=PHONE, java_script_enabled=False) as page:
        await page.goto("/login")
        await page.get_by_label("Token").fill(world.stage.token)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("link", name="bigger-pool").first.click()
        await page.get_by_role("button", name="Make the plan").click()
        await page.get_by_text('{"size": 40}').first.wait_for()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Approve exactly this plan").click()

        async def fixed() -> bool:
            cases = await get(world.stage.promantis.url, "/api/v1/cases")
            return cases[0]["stage"] in ("verifying", "fixed")

        await until(fixed, 30)
        await page.goto("/journal")
        await page.get_by_text("case.approved").first.wait_for()
