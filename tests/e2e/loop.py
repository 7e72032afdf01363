"""The whole product on the real peers: a service with some hours of past, watched, alerted on and mended."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from sidecar.demo.peers import Peer, Stack, free_port
from tests.e2e.alerting import get, serving, until

STEP = 2.0
"""Seconds between scrapes, evaluations and ticks."""

PAST, COARSE = 3 * 86400, 60
FINE = 6000
"""Seconds of the past that were scraped as often as now; before, every minute."""
SPREAD = 4.0
"""Standard deviation of every gauge."""

DISK_FULL, DISK_IN = 5000.0, 1800.0
"""The disk's limit, and how many seconds after the start it is reached."""

GAUGES = {
    'queue_depth{pod="a"}': 100.0,
    'queue_depth{pod="b"}': 100.0,
    'orders{pod="a"}': 80.0,
    'heartbeats{pod="a"}': 60.0,
    'work{pod="a",service="api"}': 50.0,
    'work{pod="b",service="api"}': 50.0,
}
"""Series and what they usually are."""

RULES = """\
groups:
- name: service
  interval: 2s
  rules:
  - {alert: QueueDeep, expr: queue_depth > 300, labels: {severity: page, team: shop},
     annotations: {summary: "{{ $labels.pod }} has {{ $value }} waiting"}}
  - {alert: NoOrders, expr: orders < -1, labels: {severity: page}}
  - {alert: NoHeartbeat, expr: heartbeats < 1, labels: {severity: page}}
  - {alert: WorkHigh, expr: sum by (service) (work) > 500, labels: {severity: warning}}
  - {alert: WorkVeryHigh, expr: sum by (service) (work) > 900, labels: {severity: page}}
  - {alert: DiskFull, expr: disk_used > 5000, for: 10s, labels: {severity: page}}
  - {alert: PoolFull, expr: pool_used / pool_size > 0.9, labels: {severity: page}}
"""

PROMETHEUS = """\
global: {{scrape_interval: 2s, evaluation_interval: 2s}}
scrape_configs:
- {{job_name: service, static_configs: [{{targets: ["{service}"], labels: {{instance: service-1}}}}]}}
- job_name: promantis
  honor_labels: true
  static_configs:
  - targets: ["{promantis}"]
    labels: {{namespace: monitoring, pod: promantis-0, service: promantis, endpoint: web}}
alerting:
  alertmanagers:
  - static_configs: [{{targets: ["{alertmanager}", "{plain}", "{promantis}"]}}]
"""

ALERTMANAGER = """\
route: {{receiver: all, group_by: ["..."], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}
receivers:
- name: all
  webhook_configs: [{{url: "http://{promantis}/api/v1/webhook"}}, {{url: "{service}/notified"}}]
"""

PROMANTIS = """\
interval: 2s
presets: none
prometheus: {{url: "http://{prometheus}", max_queries_per_second: 50}}
alertmanagers: [{{url: "http://{alertmanager}"}}]
guard: {{allow_private: ["127.0.0.1"]}}
remedies:
- name: bigger-pool
  match: ['alertname="PoolFull"']
  action: {{type: http, url: "{service}/pool", body: '{{"size": 40}}'}}
  verify: {{query: pool_used / pool_size < 0.8, within: 30s, hold: 4s}}
- name: drain
  match: ['alertname="QueueDeep"']
  action: {{type: http, url: "{service}/drain"}}
  verify: {{query: queue_depth < 300, within: 10s}}
"""


class Service:
    """What Prometheus scrapes: gauges that tremble around what `values` says, a disk that fills, a pool."""

    def __init__(self) -> None:
        self.values: dict[str, float] = dict(GAUGES)
        self.pool = [10, 20]
        self.began = time.time()
        self.called: list[str] = []
        """Actions that were done."""
        self.notified: list[tuple[str, str]] = []
        """(alertname, status) of each notification."""
        self._luck = random.Random(7)

    def lines(self, at: float) -> list[tuple[str, str, float]]:
        """(metric, labels, value) at an instant."""
        out = []
        for series, usual in self.values.items():
            metric, _, labels = series.partition("{")
            value = usual + self._luck.gauss(0, SPREAD) if usual else 0.0
            out.append((metric, labels.removesuffix("}"), round(value, 3)))
        left = DISK_IN - (at - self.began)
        out.append(("disk_used", "", round(DISK_FULL - left / 60 + self._luck.gauss(0, 0.02), 3)))
        out += [("pool_used", "", float(self.pool[0])), ("pool_size", "", float(self.pool[1]))]
        return out

    def past(self) -> str:
        """The hours before, as OpenMetrics: series by series."""
        end = int(self.began) - 1
        target = 'job="service",instance="service-1"'
        series: dict[str, list[str]] = {}
        times = [*range(end - PAST, end - FINE, COARSE), *range(end - FINE, end, int(STEP))]
        for at in times:
            for metric, labels, value in self.lines(at):
                name = f"{metric}{{{target}{',' if labels else ''}{labels}}}"
                series.setdefault(name, []).append(f"{name} {value} {at}")
        return "\n".join(line for lines in series.values() for line in lines) + "\n# EOF\n"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Serve; the url."""

        async def metrics(_: web.Request) -> web.Response:
            lines = (f"{metric}{{{labels}}} {value}" for metric, labels, value in self.lines(time.time()))
            return web.Response(text="\n".join(lines) + "\n")

        async def act(request: web.Request) -> web.Response:
            self.called.append(request.path)
            if request.path == "/pool":
                self.pool[1] = (await request.json())["size"]
            return web.Response()

        async def notified(request: web.Request) -> web.Response:
            group = await request.json()
            self.notified += [(alert["labels"]["alertname"], alert["status"]) for alert in group["alerts"]]
            return web.Response()

        app = web.Application()
        app.add_routes([web.get("/metrics", metrics), web.post("/pool", act), web.post("/drain", act)])
        app.add_routes([web.post("/notified", notified)])
        async with serving(app) as url:
            yield url


class World:
    """Everything that runs, and how to look at it."""

    def __init__(self, stack: Stack, service: Service) -> None:
        self.stack, self.service = stack, service
        self.prometheus: Peer
        self.alertmanager: Peer
        self.plain: Peer
        """An Alertmanager that Promantis does not know."""
        self.promantis: Peer
        self.first: tuple[list[dict[str, Any]], dict[str, float]] = ([], {})
        """Series and metrics of Promantis as soon as it said that it was ready."""

    async def start(self, url: str) -> None:
        names = ("prometheus", "alertmanager", "plain", "promantis")
        words = {name: f"127.0.0.1:{free_port()}" for name in names}
        port = {name: int(listen.rpartition(":")[2]) for name, listen in words.items()}
        words["service"] = url
        data, text = self.stack.folder / "tsdb", self.stack.folder / "past.om"
        text.write_text(self.service.past(), encoding="utf-8")
        promtool = [
            self.stack.binaries.promtool,
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            "-q",
            text,
            data,
        ]
        await asyncio.to_thread(subprocess.run, promtool, check=True, capture_output=True)
        configured = ALERTMANAGER.format_map(words)
        self.alertmanager, self.plain = await asyncio.gather(
            self.stack.alertmanager(configured, port=port["alertmanager"]),
            self.stack.alertmanager(port=port["plain"]),
        )
        self.prometheus = await self.stack.prometheus(
            PROMETHEUS.format_map(words | {"service": url.partition("//")[2]}),
            RULES,
            "--rules.alert.resend-delay=2s",
            data=data,
            port=port["prometheus"],
        )
        await until(lambda: self.ask('up{job="service"}'))
        self.promantis = await self.stack.promantis(PROMANTIS.format_map(words), port=port["promantis"])
        self.first = await self.series(), await self.metrics()

    async def ask(self, query: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """An instant query to the real Prometheus: (labels, value) of each series."""
        params = {"query": query} | ({} if at is None else {"time": f"{at:.3f}"})
        url = f"{self.prometheus.url}/api/v1/query"
        async with aiohttp.ClientSession() as session, session.post(url, data=params) as answer:
            said = await answer.json()
        assert said["status"] == "success", (query, said)
        result = said["data"]["result"]
        if said["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(series["metric"], float(series["value"][1])) for series in result]

    async def series(self, match: str = "{}") -> list[dict[str, Any]]:
        """What Promantis knows of some series."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.promantis.url}/api/v1/series", params={"match": match}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def metrics(self) -> dict[str, float]:
        """Promantis' own numbers, by what stands before the value."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.promantis.url}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    async def alert(self, name: str, at: Peer | None = None) -> dict[str, Any] | None:
        """The alert as an Alertmanager has it (the one that Promantis knows, or another)."""
        found = await get((at or self.alertmanager).url)
        return next((alert for alert in found if alert["labels"]["alertname"] == name), None)

    async def case(self, policy: str, *stages: str, within: float = 45.0) -> dict[str, Any]:
        """The policy's newest case, once it stands at one of these stages."""

        async def find() -> dict[str, Any] | None:
            cases = await get(self.promantis.url, "/api/v1/cases")
            return next((c for c in cases if c["policy"] == policy and c["stage"] in stages), None)

        found: dict[str, Any] = await until(find, within)
        return found

    def configured(self) -> str:
        """Promantis' config file."""
        return (self.promantis.folder / "promantis.yml").read_text(encoding="utf-8")

    def configure(self, text: str) -> None:
        """Write another; a signal has it read."""
        (self.promantis.folder / "promantis.yml").write_text(text, encoding="utf-8")

    async def promantis_says(self, *words: str) -> tuple[int | None, str]:
        """Run a command of `promantis` against the one that runs."""
        flags = ["--url", self.promantis.url, "--storage.path", f"{self.promantis.folder}/state"]
        return await run(sys.executable, "-m", "sidecar", *words, *flags)

    async def amtool(self, *words: str, url: str = "") -> str:
        """Run amtool through Promantis."""
        where = f"--alertmanager.url={url or self.promantis.url}"
        code, out = await run(str(self.stack.binaries.amtool), where, *words)
        assert code == 0, out
        return out.strip()


async def run(*command: str | Path) -> tuple[int | None, str]:
    """A program's exit code and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()
