"""The adapter, the watches, the presets and `promantis check` against the real Prometheus and node_exporter."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.config import presets
from sidecar.demo.peers import Stack
from sidecar.signals.watch.presets import chosen
from sidecar.signals.watch.wanted import RulesConfig
from sidecar.signals.watch.watches import from_rules
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Rejected, Unavailable

pytestmark = pytest.mark.e2e

POPULAR = Path(__file__).parents[1] / "unit" / "fixtures" / "rules.yml"
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{cluster: c1, replica: a}}}}
scrape_configs:
- {{job_name: prometheus, static_configs: [{{targets: ["{0}"]}}]}}
- {{job_name: node, static_configs: [{{targets: ["{1}"]}}]}}
"""
ELSEWHERE = {"node_swap_used_ratio", "prometheus_query_seconds"}
"""Presets' watches that are empty where nothing swaps or asks, though their metrics are there."""
EVERYWHERE = 25
"""Watches of node_exporter that any Linux machine has."""


async def scraped(client: Prometheus, query: str) -> None:
    """Wait until the query has an answer."""
    for _ in range(100):
        if await client.ask(query, Instant(time.time())):
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"no answer to {query}")


async def test_popular_rules_and_presets_are_answered(stack: Stack) -> None:
    node = await stack.node_exporter()
    server = await stack.prometheus(lambda own: CONFIG.format(own, node.listen), POPULAR.read_text())
    client = Prometheus(PrometheusConfig(url=server.url, max_queries_per_second=1000), Telemetry())
    try:
        await client.scrape_ok()
        groups = await client.rules()
        assert sum(len(group.rules) for group in groups) == 125
        watches, skipped = from_rules(groups, RulesConfig(), 15)
        assert {skip.alertname for skip in skipped} == {
            rule.alertname for group in groups if group.name == "not watched" for rule in group.rules
        }
        # Prometheus writes expressions in its own way: the same watches come out of it
        for watch in watches:
            await client.instant(watch.query, Instant(time.time()), 10)  # raises when it is refused

        await scraped(client, "count(rate(node_cpu_seconds_total[2m]))")
        await scraped(client, "rate(prometheus_tsdb_wal_corruptions_total[2m])")
        names = await client.metric_names()
        ready_made = chosen("auto", presets(), names, 15)
        by_preset = {p.name: {w.name for w in p.watches} & {w.name for w in ready_made} for p in presets()}
        assert {name for name, taken in by_preset.items() if taken} == {"node", "process", "prometheus"}
        assert len(by_preset["node"]) >= EVERYWHERE
        assert len(by_preset["prometheus"]) == 9
        empty = set()
        for watch in ready_made:
            if not (await client.instant(watch.query, Instant(time.time()), 10)).keys:
                empty.add(watch.name)
        assert empty <= ELSEWHERE

        assert await client.external_labels() == (("cluster", "c1"), ("replica", "a"))
        await columns(client)
        await refusals(client)
    finally:
        await client.close()


async def columns(client: Prometheus) -> None:
    """Instant and range queries tell the same."""
    now = Instant(time.time())
    keys, values = await client.instant("up", now, 5)
    assert sorted(json.loads(key)["job"] for key in keys) == ["node", "prometheus"]
    assert values.tolist() == [1, 1]
    assert (await client.instant("vector(1) / 0", now, 5)).values.tolist() == [np.inf]
    assert (await client.instant("scalar(vector(7))", now, 5)).keys == [b"{}"]
    keys, at, past = await client.range("up", Instant(now - 600), now, 60)
    assert len(keys) == 2
    np.testing.assert_allclose(at, now - 600 + 60 * np.arange(11))
    assert np.isnan(past[0]).all()
    assert past[-1].tolist() == [1, 1]
    assert now - 60 < await client.earliest("up", now, 1000) < now
    assert await client.earliest("nothing_of_this_name", now, 1000) == now


async def refusals(client: Prometheus) -> None:
    """What Prometheus refuses, in its words."""
    now = Instant(time.time())
    with pytest.raises(Rejected) as refused:
        await client.instant("up{", now, 5)
    assert str(refused.value).startswith(f"{client.url}: query up{{: 400 bad_data: ")
    with pytest.raises(Rejected, match="422 execution: found duplicate series"):
        await client.instant("up + on () up", now, 5)
    with pytest.raises(Unavailable, match="expected a vector or a scalar, got a string"):
        await client.instant('"words"', now, 5)
    with pytest.raises(Rejected, match="exceeded maximum resolution of 11,000 points"):
        await client.range("up", Instant(now - 20_000), now, 1)


async def test_the_bill_is_printed(stack: Stack) -> None:
    rules = "groups: [{name: g, rules: [{alert: Down, expr: up < 1}, {alert: Gone, expr: absent(x)}]}]"
    server = await stack.prometheus(lambda own: CONFIG.format(own, own), rules)
    client = Prometheus(PrometheusConfig(url=server.url), Telemetry())
    await scraped(client, "up")
    await client.close()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar", "check", "--live", f"--prometheus.url={server.url}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = (text.decode() for text in await process.communicate())
    assert (process.returncode, err) == (0, "")
    assert 'external labels cluster="c1", replica="a"' in out
    assert "watches         13 (1 rule, 12 preset, 0 config)" in out
    assert "  Gone: absent() has no value that could be forecast: absent(x)" in out
