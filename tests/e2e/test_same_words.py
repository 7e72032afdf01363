"""Two replicas say the same value: each beside a Prometheus of its own, whose samples are of other moments."""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from sidecar.demo.peers import Stack
from tests.e2e.alerting import get, message, post, serving, until
from tests.e2e.chain import Posted, recorder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

SERVICES = 12
SPAN = 300.0
"""Seconds that a value takes to move by what is usual for it."""
PAST = 900
"""Seconds of it."""
ROUNDS = 12
SAME = 0.7
"""Share of the values that both say alike; measured: 0.81 and 0.97 (with three digits, as it was: 0 and 0.39)."""
RULES = """
groups:
  - name: shop
    interval: 1s
    rules: [{alert: Slow, expr: shop_seconds > 4, for: 1h, labels: {severity: page}}]
"""


def value(service: int, at: float, odd: bool) -> float:
    """A rate or latency as a range of minutes makes it: smooth, restless, and twice as high while it is odd."""
    turn = 2 * math.pi * at / SPAN
    usual = 1 + 0.1 * math.sin(turn + service) + 0.05 * math.sin(7 * turn + 2 * service)
    return 0.2 * (service + 1) * usual * (2.3 if odd else 1.0)


async def test_a_pair_says_the_same_values(stack: Stack) -> None:
    """All samples of the second are a second older."""
    began = math.inf

    async def metrics(request: web.Request) -> web.Response:
        at = time.time() - int(request.match_info["late"])
        lines = [f'shop_seconds{{service="s{i}"}} {value(i, at, at > began)}' for i in range(SERVICES)]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    app = web.Application()
    app.add_routes([web.get("/{late}/metrics", metrics)])
    async with serving(app) as target, recorder() as (to_one, by_one), recorder() as (to_two, by_two):
        sides = []
        for late, to in enumerate((to_one, to_two)):
            listen = target.removeprefix("http://")
            data = await asyncio.to_thread(past, stack, listen, late)
            prometheus = await stack.prometheus(scraping(listen, late), RULES, data=data)
            sides.append(await stack.promantis(config(prometheus.url, to)))
        await asyncio.gather(*(until(lambda side=side: scored(side.url), 60) for side in sides))
        began = time.time()
        await asyncio.sleep(4)
        same = list[bool]()
        for _ in range(ROUNDS):
            alerts = [
                message("Slow", service=f"s{i}", job="shop", instance=listen, severity="page")
                for i in range(SERVICES)
            ]
            assert await asyncio.gather(*(post(side.url, alerts) for side in sides)) == [200, 200]
            await asyncio.sleep(1)
            await until(lambda: told(by_one) and told(by_two), 30)  # a busy machine takes its time
            one, two = said(by_one), said(by_two)
            same += [one[service] == two[service] for service in one]
    print(f"{np.mean(same):.2f}", *sorted(f"{one[s]}\n{two[s]}" for s in one if one[s] != two[s]), sep="\n")
    assert np.mean(same) >= SAME


def past(stack: Stack, listen: str, late: int) -> Path:
    """Blocks of some minutes, as they were scraped."""
    data, text, end = stack.folder / f"tsdb-{late}", stack.folder / f"past-{late}.om", int(time.time())
    labels = f'job="shop",instance="{listen}"'
    lines = [
        f'shop_seconds{{{labels},service="s{i}"}} {value(i, at - late, False)} {at}'
        for i in range(SERVICES)
        for at in range(end - PAST, end)
    ]
    text.write_text("\n".join([*lines, "# EOF"]) + "\n")
    command = [stack.binaries.promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", text, data]
    subprocess.run(command, check=True, capture_output=True)
    return data


def scraping(listen: str, late: int) -> str:
    static = f"static_configs: [{{targets: ['{listen}']}}]"
    job = f"{{job_name: shop, metrics_path: /{late}/metrics, {static}}}"
    return f"global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n"


def config(prometheus: str, alertmanager: str) -> str:
    return (
        f"prometheus: {{url: '{prometheus}'}}\nalertmanagers: [{{url: 'http://{alertmanager}'}}]\n"
        "interval: 1s\npresets: none\n\n"
        "alerts: {mode: inline, annotations: [summary]}\n"
    )


async def scored(url: str) -> bool:
    found = await get(url, "/api/v1/series")
    return len(found) == SERVICES and all(one["upper"] is not None for one in found)


def told(posts: Sequence[Posted]) -> bool:
    """Whether a value was said of every service."""
    words = said(posts)
    return len(words) == SERVICES and all("shop_seconds is" in one for one in words.values())


def said(posts: Sequence[Posted]) -> dict[str, str]:
    """By service, the value that was said last: what follows it is of what each has learned."""
    notes = {one.alert["labels"]["service"]: one.alert.get("annotations", {}) for one in posts}
    return {service: of.get("promantis_summary", "").partition(",")[0] for service, of in notes.items()}
