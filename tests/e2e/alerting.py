"""What the tests of the alert path share: Promantis' routes on a port, and a receiver of notifications."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.alerts.aside import Enrich
from sidecar.alerts.relay import AlertsConfig, Relay
from sidecar.demo.peers import Peer
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant
from sidecar.web.alerts import routes
from sidecar.web.server import AS_ALERTMANAGER, MAX_BODY

WORDS = {"promantis_summary": "db_pool_used is 0.86, normal now 0.38 to 0.52."}


def known(alert: Alert, now: Instant) -> Mapping[str, str]:
    """The same words for every alert."""
    return WORDS


class Side(NamedTuple):
    """The alert path of Promantis, listening."""

    url: str
    relay: Relay
    telemetry: Telemetry


@asynccontextmanager
async def alert_path(mode: str, *peers: Peer, enrich: Enrich = known) -> AsyncIterator[Side]:
    """Relay and routes before these Alertmanagers, until the block ends."""
    telemetry = Telemetry()
    alertmanagers = [Alertmanager(AlertmanagerConfig(url=peer.url)) for peer in peers]
    relay = Relay(AlertsConfig(mode=mode), alertmanagers, enrich, telemetry)
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes(routes(relay, alertmanagers, telemetry))
    async with serving(app) as url:
        task = asyncio.create_task(relay.run())
        try:
            yield Side(url, relay, telemetry)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for alertmanager in alertmanagers:
                await alertmanager.close()


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """The application on a loopback port, by default a free one."""
    runner = web.AppRunner(app, shutdown_timeout=0.1, **AS_ALERTMANAGER)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def webhook() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """An Alertmanager receiver: its url, and the notifications that came."""
    came: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        came.append(await request.json())
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/", take)])
    async with serving(app) as url:
        yield url, came


def notifying(url: str, group_wait: str = "1s") -> str:
    """An Alertmanager config with one webhook."""
    return (
        f"route: {{receiver: hook, group_by: [alertname], group_wait: {group_wait}, group_interval: 1s}}\n"
        f"receivers: [{{name: hook, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}]\n"
    )


def stamp(seconds: float) -> str:
    """That many seconds from now, as Prometheus writes times."""
    at = datetime.fromtimestamp(time.time() + seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def message(name: str, ends_in: float = 240.0, **labels: str) -> dict[str, Any]:
    """An alert as Prometheus sends it."""
    return {
        "annotations": {"summary": "raw"},
        "startsAt": stamp(-0.01),  # an old alert would be notified at once, not after group_wait
        "endsAt": stamp(ends_in),
        "generatorURL": "http://prom:9090/graph?g0.expr=up",
        "labels": {"alertname": name, "severity": "page", **labels},
    }


async def post(url: str, alerts: Sequence[Mapping[str, Any]], path: str = "/api/v2/alerts") -> int:
    """POST alerts; the status."""
    body = io.BytesIO(json.dumps(list(alerts)).encode())
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + path, data=body, headers=headers) as answer,
    ):
        await answer.read()
        return answer.status


async def get(url: str, path: str = "/api/v2/alerts") -> Any:
    """GET a JSON value."""
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def alert_at(url: str, name: str) -> dict[str, Any] | None:
    """The alert of that name at an Alertmanager, if it fires there."""
    return next((a for a in await get(url) if a["labels"]["alertname"] == name), None)


async def until(condition: Callable[[], Any], within: float = 30.0) -> Any:
    """Ask again until the answer (awaited if need be) is true; that answer."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.05)
