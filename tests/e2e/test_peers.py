"""The real binaries start, answer and end."""

from __future__ import annotations

import aiohttp
import pytest

from sidecar.demo.peers import Stack

pytestmark = pytest.mark.e2e

CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs: [{{job_name: prometheus, static_configs: [{{targets: ["{0}"]}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{1}"]}}]}}]}}
"""
RULES = "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]"


async def test_prometheus_alertmanager_and_node_exporter_run(stack: Stack) -> None:
    node = await stack.node_exporter("--collector.disable-defaults", "--collector.loadavg")
    manager = await stack.alertmanager()
    prometheus = await stack.prometheus(lambda own: CONFIG.format(own, manager.listen), RULES)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{prometheus.url}/api/v1/rules") as answer:
            groups = (await answer.json())["data"]["groups"]
        async with session.get(f"{manager.url}/api/v2/alerts") as answer:
            assert await answer.json() == []
        async with session.get(f"{node.url}/metrics") as answer:
            assert "node_load1 " in await answer.text()
    assert groups[0]["rules"][0]["name"] == "Always"
