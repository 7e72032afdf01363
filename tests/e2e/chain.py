"""One Prometheus whose alerts the test turns on and off, and what its messages become on the way."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from tests.e2e.alerting import get, serving, until

Alert = dict[str, Any]
Message = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""startsAt, endsAt, generatorURL and the user's annotations: all that identifies a message about an alert."""

RULES = r"""
groups:
  - name: alarms
    interval: 2s
    rules:
      - alert: Alarm
        expr: alarm == 1
        labels: {severity: page}
        annotations:
          summary: 'alarm {{ $labels.i }} is {{ $value }}: a&b <c> "d" \ é 😀'
          runbook: "https://runbooks.example.org/?a=1&b=%20#c\nsecond line\t"
          empty: ""
      - {alert: Plain, expr: 'alarm{name="Steady"} == 1'}
      - {alert: Pending, expr: 'alarm{name="Steady"} == 1', for: 1h}
"""


class Alarms:
    """A scrape target with `alarm{name,i}` for all that were ever on; `on` holds those that are 1."""

    def __init__(self) -> None:
        self.on: set[tuple[str, str]] = set()
        self._known: set[tuple[str, str]] = set()

    def set(self, name: str, numbers: Iterable[int], on: bool) -> None:
        """Turn these alarms on or off."""
        which = {(name, str(i)) for i in numbers}
        self._known |= which
        self.on = self.on | which if on else self.on - which

    async def metrics(self, _: web.Request) -> web.Response:
        lines = [
            f'alarm{{name="{name}",i="{i}"}} {int((name, i) in self.on)}\n' for name, i in sorted(self._known)
        ]
        return web.Response(text="# TYPE alarm gauge\n" + "".join(lines))


@asynccontextmanager
async def alarms() -> AsyncIterator[tuple[str, Alarms]]:
    """Where to scrape (`host:port`), and the alarms."""
    it, app = Alarms(), web.Application()
    app.add_routes([web.get("/metrics", it.metrics)])
    async with serving(app) as url:
        yield url.removeprefix("http://"), it


class Posted(NamedTuple):
    """One alert as it came, when, and in what."""

    at: float
    alert: Alert
    kind: str
    """Content-Type and Content-Encoding of the request."""
    batch: int
    """Alerts in the request."""

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Its labels."""
        return tuple(sorted(self.alert["labels"].items()))

    @property
    def message(self) -> Message:
        """What Prometheus said, without what Promantis added."""
        a = self.alert
        return (
            a["startsAt"],
            a["endsAt"],
            a["generatorURL"],
            tuple(sorted(users(a.get("annotations")).items())),
        )


def users(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """The annotations that are not Promantis'."""
    return {k: v for k, v in (annotations or {}).items() if not k.startswith("promantis_")}


@asynccontextmanager
async def recorder() -> AsyncIterator[tuple[str, list[Posted]]]:
    """An endpoint that takes every batch and keeps it: `host:port`, and the alerts in order of arrival."""
    came: list[Posted] = []

    async def take(request: web.Request) -> web.Response:
        at, alerts = time.time(), await request.json()
        kind = request.headers["Content-Type"] + request.headers.get("Content-Encoding", "")
        came.extend(Posted(at, alert, kind, len(alerts)) for alert in alerts)
        return web.Response()

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response([])

    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/api/v2/alerts", take), web.get("/api/v2/{path:.*}", nothing)])
    async with serving(app) as url:
        yield url.removeprefix("http://"), came


def told(came: Sequence[Posted]) -> dict[tuple[tuple[str, str], ...], list[Message]]:
    """By alert, the messages in order; the same one several times in a row (raw, enriched) counts once."""
    out = defaultdict(list)
    for posted in came:
        out[posted.key].append(posted.message)
    return {key: [message for message, _ in itertools.groupby(said)] for key, said in out.items()}


def delays(sent: Sequence[Posted], came: Sequence[Posted]) -> list[float]:
    """Seconds by which each message came later (or earlier) than where Prometheus sent it itself."""
    first: dict[Any, float] = {}
    for posted in came:
        first.setdefault((posted.key, posted.message), posted.at)
    seen: dict[Any, float] = {}
    for posted in sent:
        seen.setdefault((posted.key, posted.message), posted.at)
    return [first[what] - at for what, at in seen.items() if what in first]


def prometheus_config(target: str, alertmanagers: Sequence[str], hasty: Sequence[str] = ()) -> str:
    """A Prometheus that scrapes the alarms and sends its alerts to these (`host:port`), to some with less patience."""
    peers = ", ".join(
        f"{{timeout: {2 if peer in hasty else 10}s, static_configs: [{{targets: ['{peer}']}}]}}"
        for peer in alertmanagers
    )
    return (
        "global: {evaluation_interval: 2s, scrape_interval: 1s, scrape_timeout: 1s,"
        " external_labels: {cluster: c1}}\n"
        f"alerting: {{alertmanagers: [{peers}]}}\n"
        f"scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


async def discovered(prometheus: str, alertmanagers: int) -> None:
    """Wait until Prometheus knows its Alertmanagers: what it evaluates before is sent nowhere."""

    async def known() -> bool:
        found = await get(prometheus, "/api/v1/alertmanagers")
        return len(found["data"]["activeAlertmanagers"]) == alertmanagers

    await until(known, within=20)


async def firing(prometheus: str) -> set[tuple[str, str, str]]:
    """alertname, name and i of what fires in Prometheus now."""
    found = await get(prometheus, "/api/v1/alerts")
    return {named(alert["labels"]) for alert in found["data"]["alerts"] if alert["state"] == "firing"}


def named(labels: Mapping[str, str]) -> tuple[str, str, str]:
    """The labels that tell the alarms' alerts apart."""
    return labels["alertname"], labels["name"], labels["i"]


async def same(*sides: Callable[[], Any], within: float = 30.0) -> Any:
    """Wait until all sides say the same (and something); that. AssertionError with the differences if never."""
    end = time.monotonic() + within
    while True:
        said = await asyncio.gather(*(side() for side in sides))
        if said[0] and all(one == said[0] for one in said):
            return said[0]
        if time.monotonic() > end:
            for one in said[1:]:
                assert one == said[0]
            raise AssertionError("nobody says anything")
        await asyncio.sleep(0.1)
