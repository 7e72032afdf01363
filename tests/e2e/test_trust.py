"""What is not learned, on the real peers: a firing alert of Prometheus, a silence of Alertmanager until it expires."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.demo.peers import Peer, Stack
from sidecar.signals.learn.outside import Outside
from sidecar.signals.learn.trust import Trust
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.wanted import RulesConfig
from sidecar.signals.watch.watches import from_rules
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from tests.e2e.alerting import get, stamp, until

pytestmark = pytest.mark.e2e

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{cluster: c1}}}}
scrape_configs:
- {{job_name: fires, static_configs: [{{targets: ["{0}"]}}]}}
- {{job_name: calm, static_configs: [{{targets: ["{0}"]}}]}}
"""
RULES = """
groups:
- name: g
  interval: 1s
  rules:
  - {alert: Fires, expr: 'up{job="fires"} > 0.5', labels: {severity: page, instance: "set by the rule"}}
  - {alert: Calm, expr: 'up{job="calm"} > 5', labels: {severity: page}}
  - {alert: Odd, expr: 'up{job="calm"} + 0 > 0.5', labels: {promantis_kind: anomaly}}
"""


async def silence(alertmanager: Peer, ends_in: float, **labels: str) -> str:
    """Silence what has these labels; the silence's id."""
    matchers = [{"name": name, "value": value, "isRegex": False} for name, value in labels.items()]
    body = {
        "matchers": matchers,
        "startsAt": stamp(0),
        "endsAt": stamp(ends_in),
        "createdBy": "t",
        "comment": "c",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{alertmanager.url}/api/v2/silences", json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["silenceID"])


class Learner:
    """An engine whose watches are the rules of a Prometheus, ticked by hand."""

    def __init__(self, prometheus: Prometheus, alertmanager: Alertmanager) -> None:
        self.trust, self.engine, self._prometheus = Trust(3600.0), Engine(1.0), prometheus
        self.outside = Outside(
            *(prometheus, [alertmanager], self.trust, self._deploy, self._tell),
            lambda now: (),
            lambda: Instant(time.time()),
        )

    async def _deploy(self, *of: object) -> None:
        raise AssertionError("nothing is deployed here")

    def _tell(self, *of: object) -> None:
        raise AssertionError("nothing changes here")

    async def learned(self) -> dict[str, float]:
        """Look outside and tick: how many samples of each watch were learned."""
        await self.outside.look()
        watches, _ = from_rules(await self._prometheus.rules(), RulesConfig(), 1.0)
        if not self.engine.watches:
            self.engine.watch({watch.name: watch for watch in watches})
        now = Instant(time.time())
        answers = {w.name: await self._prometheus.instant(w.query, now, 5) for w in watches}
        before = self._seen()
        self.engine.tick(now, answers, 100, self.trust)
        return {name: seen - before.get(name, 0) for name, seen in self._seen().items()}

    def _seen(self) -> dict[str, float]:
        seen = [float(n) for block in self.engine.blocks for n in block.life.seen]
        return {n: seen[rows[0]] for n, rows in self.engine.table.view().rows.items()}


@asynccontextmanager
async def learner(prometheus: Peer, alertmanager: Peer) -> AsyncIterator[Learner]:
    metrics = Prometheus(PrometheusConfig(url=prometheus.url, max_queries_per_second=1000), Telemetry())
    silencer = Alertmanager(AlertmanagerConfig(url=alertmanager.url))
    try:
        yield Learner(metrics, silencer)
    finally:
        await metrics.close()
        await silencer.close()


async def test_under_an_alert_or_a_silence_nothing_is_learned(stack: Stack) -> None:
    alertmanager = await stack.alertmanager()
    prometheus = await stack.prometheus(CONFIG.format, RULES)

    async def firing() -> bool:
        alerts = (await get(prometheus.url, "/api/v1/alerts"))["data"]["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"} == {"Fires", "Odd"}

    await until(firing, 20)
    async with learner(prometheus, alertmanager) as mine:
        assert await mine.learned() == {"Fires": 0, "Calm": 1, "Odd": 1}
        await silence(alertmanager, 3600, alertname="Elsewhere")
        quiet = await silence(alertmanager, 3600, alertname="Calm", job="calm")
        assert await mine.learned() == {"Fires": 0, "Calm": 0, "Odd": 1}
        async with aiohttp.ClientSession() as session:
            await session.delete(f"{alertmanager.url}/api/v2/silence/{quiet}")
        assert await mine.learned() == {"Fires": 0, "Calm": 1, "Odd": 1}
        await silence(alertmanager, 1.5, instance=prometheus.listen)  # this one runs out by itself
        assert await mine.learned() == {"Fires": 0, "Calm": 0, "Odd": 0}

        async def again() -> bool:
            return await mine.learned() == {"Fires": 0, "Calm": 1, "Odd": 1}

        await until(again, 10)

    await silence(alertmanager, 3600, watch="Odd")
    promantis = await stack.promantis(
        f"interval: 1s\npresets: none\nprometheus: {{url: '{prometheus.url}', max_queries_per_second: 50}}\n"
        f"alertmanagers: [{{url: '{alertmanager.url}'}}]\n"
        "events: [{name: now, start: 2020-01-01, end: 2100-01-01, match: ['{watch=\"Calm\"}']}]\n"
    )

    async def distrusted() -> dict[str, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{promantis.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = (line.split() for line in lines if line.startswith("promantis_series_distrusted{"))
        return {name.split('"')[1]: value for name, value in found}

    async def shown() -> bool:
        return await distrusted() == {"alert": "1.0", "silence": "1.0", "event": "1.0", "feedback": "0.0"}

    await until(shown, 20)
