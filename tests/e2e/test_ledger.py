"""The ledger of a live Promantis: a rule that fires in the real Prometheus is in it, and still is after a restart."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from sidecar.demo.peers import Stack
from tests.e2e.alerting import get, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
BUSY = 'sum(prometheus_http_requests_total{handler="/api/v1/query"})'
MANY = 500
RULES = f"""
groups:
  - name: g
    interval: 1s
    rules:
      - {{alert: Busy, expr: '{BUSY} > {MANY}', for: 2s}}
      - {{alert: Idle, expr: '{BUSY} < -1'}}
      - {{alert: Both, expr: '{BUSY} > {MANY} and on () up{{job="p"}} == 1', for: 2s}}
      - {{alert: Neither, expr: '{BUSY} > {MANY} and on () up{{job="p"}} == 0', for: 2s}}
"""
CONFIG = 'global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: p, static_configs: [{{targets: ["{0}"]}}]}}]'


async def test_what_fires_is_counted_and_outlives_a_restart(stack: Stack) -> None:
    server = await stack.prometheus(CONFIG.format, RULES)
    side = await stack.promantis(f"prometheus: {{url: {server.url}}}\ninterval: 1s\npresets: none\n")

    async def counted(*wanted: tuple[str, str, float]) -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{side.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        name = 'promantis_rule_breaches_total{{source_alertname="{}",verdict="{}"}} {}'
        return all(name.format(*one) in lines for one in wanted)

    async def calm() -> bool:
        """Whether it was seen within its limit."""
        found = await get(side.url, "/api/v1/series")
        return any(one["observed"] < MANY for one in found if one["observed"] is not None)

    async def rules() -> list[dict[str, Any]]:
        told = await get(side.url, "/api/v1/validation")
        return list(told["rules"])

    assert await until(lambda: counted(("Busy", "missed", 0.0), ("Idle", "missed", 0.0)), 30)
    await until(calm, 30)
    async with aiohttp.ClientSession() as http:
        for _ in range(MANY):
            async with http.get(f"{server.url}/api/v1/query?query=1") as answer:
                answer.raise_for_status()
    firing = f'{server.url}/api/v1/query?query=ALERTS{{alertname=~"Busy|Both|Neither",alertstate="firing"}}'

    async def fires() -> bool:
        async with aiohttp.ClientSession() as http, http.get(firing) as answer:
            found = (await answer.json())["data"]["result"]
            return {one["metric"]["alertname"] for one in found} == {"Busy", "Both"}

    assert await until(fires, 30)
    same = (
        ("Busy", "missed", 1.0),
        ("Both", "missed", 1.0),
        ("Idle", "missed", 0.0),
        ("Neither", "missed", 0.0),
    )
    assert await until(lambda: counted(*same), 30)
    both, busy = await rules()
    assert both == busy | {"source_alertname": "Both"}
    assert busy == {
        "source_alertname": "Busy", "announced": 0, "missed": 1, "false": 0, "ahead_seconds": None,
    }  # fmt: skip

    assert side.terminate() == 0
    await side.start()
    assert await until(
        lambda: counted(("Busy", "missed", 0.0)), 30
    )  # a counter begins anew, the record does not
    assert await rules() == [both, busy]
