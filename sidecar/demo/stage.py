"""Starts what the demo plays on: the shop with its past, Prometheus, Alertmanager, node_exporter, Promantis."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from sidecar.demo import past
from sidecar.demo.peers import REPOSITORY, Peer, Stack, free_port

ALERT = "PoolExhaustion"
RATIO = "db_pool_connections_in_use / db_pool_connections_max"
LIMIT = 0.85
BIGGER = 40
"""Connections after the remedy."""
PATIENCE, TELL_EVERY = 180.0, 10.0
"""Seconds that Promantis may take to read the past on a busy machine, and between words about how far it is."""

SHOP_RULES = f"""\
groups:
  - name: shop
    rules:
      - alert: {ALERT}
        expr: {RATIO} > {LIMIT}
        for: 15s
        labels: {{severity: page}}
        annotations: {{summary: "The database pool of {{{{ $labels.instance }}}} is nearly used up"}}
      - alert: HighLatency
        expr: >-
          rate(http_request_duration_seconds_sum{{job="shop"}}[1m])
          / rate(http_request_duration_seconds_count{{job="shop"}}[1m]) > 0.45
        for: 15s
        labels: {{severity: page}}
        annotations: {{summary: "Requests to {{{{ $labels.instance }}}} are slow"}}
      - alert: HighErrorRate
        expr: >-
          sum by (job, instance) (rate(http_requests_total{{job="shop",code="500"}}[1m]))
          / sum by (job, instance) (rate(http_requests_total{{job="shop"}}[1m])) > 0.05
        for: 15s
        labels: {{severity: page}}
        annotations: {{summary: "Requests to {{{{ $labels.instance }}}} fail"}}
"""

PROMETHEUS = """\
global: {{scrape_interval: 5s, evaluation_interval: 5s}}
rule_files: [rules.yml, "{own_rules}"]
scrape_configs:
  - {{job_name: shop, static_configs: [{{targets: ["{shop}"], labels: {{instance: shop-1}}}}]}}
  - {{job_name: prometheus, static_configs: [{{targets: ["{prometheus}"]}}]}}
  - {{job_name: node, static_configs: [{{targets: ["{node}"]}}]}}
  - {{job_name: promantis, honor_labels: true, static_configs: [{{targets: ["{promantis}"]}}]}}
alerting:
  alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}", "{promantis}"]}}]}}]
"""

ALERTMANAGER = """\
route:
  receiver: promantis
  group_by: [alertname, instance]
  group_wait: 2s
  group_interval: 5s
  repeat_interval: 1h
receivers:
  - name: promantis
    webhook_configs:
      - url: http://{promantis}/api/v1/webhook
        http_config: {{authorization: {{credentials: {token}}}}}
"""

PROMANTIS = """\
interval: 5s
prometheus: {{url: "http://{prometheus}"}}
alertmanagers: [{{url: "http://{alertmanager}"}}]
web: {{tokens_file: "{tokens}"}}
guard: {{allow_private: ["127.0.0.1"]}}
remedies:
  - name: bigger-pool
    match: ['alertname="{alert}"']
    action:
      type: http
      method: POST
      url: http://{shop}/pool
      body: '{{"size": {bigger}}}'
      undo: {{method: POST, url: "http://{shop}/pool", body: '{{"size": 20}}'}}
    approval: manual
    verify: {{query: '{ratio} < 0.7', within: 2m, hold: 10s}}
"""


_SHOP = (sys.executable, "-m", "sidecar.demo.shop", "--listen={listen}")


class Stage(NamedTuple):
    """What was started, and how to be let in by Promantis."""

    shop: Peer
    prometheus: Peer
    alertmanager: Peer
    node: Peer
    promantis: Peer
    token: str
    token_file: Path

    def graph(self, *queries: str) -> str:
        """The page of Prometheus that draws these queries over the last quarter of an hour."""
        parts = [
            (f"g{i}.{key}", value)
            for i, query in enumerate(queries)
            for key, value in (("expr", query), ("tab", "0"), ("range_input", "15m"))
        ]
        return f"{self.prometheus.url}/classic/graph?{urllib.parse.urlencode(parts)}"


async def build(stack: Stack, say: Callable[[str], None]) -> Stage:
    """Start everything and wait until it is ready; RuntimeError, with the end of its log, where it is not.

    Prometheus, Alertmanager and Promantis point at one another, so their ports are chosen first.
    """
    names = ("shop", "prometheus", "alertmanager", "node", "promantis")
    ports = {name: free_port() for name in names}
    token = secrets.token_urlsafe(24)
    token_file, tokens = stack.folder / "token", stack.folder / "tokens.yml"
    token_file.write_text(token, encoding="utf-8")
    tokens.write_text(f"[{{name: demo, token: {token}, role: admin}}]\n", encoding="utf-8")
    for secret in (token_file, tokens):
        secret.chmod(0o600)
    words = {name: f"127.0.0.1:{port}" for name, port in ports.items()} | {
        "own_rules": str(REPOSITORY / "rules" / "promantis.rules.yml"),
        "token": token,
        "tokens": str(tokens),
        "alert": ALERT,
        "ratio": RATIO,
        "bigger": str(BIGGER),
    }

    say(f"writing {past.DAYS} days of the shop's past into Prometheus")
    data, state = stack.folder / "tsdb", stack.folder / "shop.json"
    shop_now = await asyncio.to_thread(past.write, data, stack.binaries.promtool, time.time())
    state.write_bytes(msgspec.json.encode(shop_now))

    say("starting the shop, Prometheus, Alertmanager and node_exporter")
    shop, node, alertmanager, prometheus = await asyncio.gather(
        stack.program("shop", *_SHOP, f"--state={state}", port=ports["shop"]),
        stack.node_exporter(port=ports["node"]),
        stack.alertmanager(ALERTMANAGER.format_map(words), port=ports["alertmanager"]),
        stack.prometheus(
            PROMETHEUS.format_map(words),
            SHOP_RULES,
            "--rules.alert.resend-delay=5s",
            data=data,
            port=ports["prometheus"],
        ),
    )
    say("starting Promantis, which learns the past")
    telling = asyncio.create_task(_tell(words["promantis"], say))
    try:
        promantis = await stack.promantis(
            PROMANTIS.format_map(words), port=ports["promantis"], within=PATIENCE
        )
    finally:
        telling.cancel()
    return Stage(shop, prometheus, alertmanager, node, promantis, token, token_file)


async def _tell(where: str, say: Callable[[str], None]) -> None:
    """What it still waits for, every few seconds."""
    async with aiohttp.ClientSession() as session:
        while True:
            await asyncio.sleep(TELL_EVERY)
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://{where}/-/ready") as answer:
                    if answer.status != 200:
                        say("  " + str((await answer.json())["error"]))
