"""What the demo plays on, without Promantis: the past joins the live shop, the configs are good."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidecar.demo import past
from sidecar.demo.binaries import Binaries
from sidecar.demo.peers import REPOSITORY, Stack, free_port
from sidecar.demo.stage import ALERTMANAGER, PROMETHEUS, SHOP_RULES

pytestmark = pytest.mark.e2e


async def test_the_past_joins_the_live_shop_without_a_jump(stack: Stack) -> None:
    data, state = stack.folder / "tsdb", stack.folder / "shop.json"
    shop_now = await asyncio.to_thread(past.write, data, stack.binaries.promtool, time.time(), days=1)
    state.write_bytes(msgspec.json.encode(shop_now))
    command = (sys.executable, "-m", "sidecar.demo.shop", "--listen={listen}", f"--state={state}")
    shop = await stack.program("shop", *command)
    targets = f"static_configs: [{{targets: ['{shop.listen}'], labels: {{instance: shop-1}}}}]"
    prometheus = await stack.prometheus(
        f"{{global: {{scrape_interval: 1s}}, scrape_configs: [{{job_name: shop, {targets}}}]}}", data=data
    )
    async with aiohttp.ClientSession() as session:

        async def ask(query: str) -> list[dict[str, Any]]:
            url = f"{prometheus.url}/api/v1/query"
            async with session.get(url, params={"query": query}) as answer:
                result: list[dict[str, Any]] = (await answer.json())["data"]["result"]
                return result

        live = f"timestamp(db_pool_connections_max) > {shop_now.at + 0.5}"
        for _ in range(100):
            if await ask(live):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.5)
        assert await ask(live), "the shop was never scraped"

        days = await ask("count_over_time(http_requests_total{code='200'}[1d])")
        assert [series["metric"]["instance"] for series in days] == ["shop-1"]  # one series, past and live
        assert int(days[0]["value"][1]) > 5_000
        resets = (
            "sum(resets(http_requests_total[1h])) + sum(resets(http_request_duration_seconds_bucket[1h]))"
        )
        assert (await ask(resets))[0]["value"][1] == "0"
        before, now = (
            await ask("rate(http_requests_total{code='200'}[2m] offset 3m)"),
            await ask("rate(http_requests_total{code='200'}[1m])"),
        )
        assert float(now[0]["value"][1]) == pytest.approx(float(before[0]["value"][1]), rel=0.2)


def test_the_demos_configs_are_good(peers: Binaries, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    names = ("shop", "prometheus", "node", "promantis", "alertmanager")
    words = dict.fromkeys(names, listen) | {"token": "secret", "own_rules": "rules.yml"}
    (tmp_path / "rules.yml").write_text(SHOP_RULES, encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS.format_map(words), encoding="utf-8")
    (tmp_path / "alertmanager.yml").write_text(ALERTMANAGER.format_map(words), encoding="utf-8")
    for command in (
        [peers.promtool, "check", "config", tmp_path / "prometheus.yml"],
        [peers.amtool, "check-config", tmp_path / "alertmanager.yml"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_demo_says_so_when_there_is_nothing_to_play_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "demo"],
        cwd=REPOSITORY,
        env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("promantis demo: cannot find prometheus, promtool, alertmanager, amtool,")
