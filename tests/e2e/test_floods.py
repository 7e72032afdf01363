"""However often and in whatever order an alert is told: one case, one action."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from sidecar.alerts.identity import fingerprint
from sidecar.demo.peers import Peer, Stack, free_port
from sidecar.types import labels_of
from tests.e2e import remedies
from tests.e2e.alerting import message, notifying, post, serving, stamp, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
MANY = 1000


class Flood:
    """Two Alertmanagers that do not know of each other, a target that counts, and Promantis between them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.port = free_port()
        self.peers: list[Peer] = []
        self.site: remedies.Site

    async def call(self, request: web.Request) -> web.Response:
        self.calls[request.path] += 1
        return web.Response()

    @asynccontextmanager
    async def promantis(
        self, stack: Stack, folder: Path, target: str, storm: int = MANY * 2
    ) -> AsyncIterator[None]:
        hook = f"http://127.0.0.1:{self.port}/api/v1/webhook"
        self.peers = [await stack.alertmanager(notifying(hook, "1s")) for _ in range(2)]
        prometheus = await stack.prometheus("global: {}\n")
        rate = {"count": MANY * 2}
        action = {"type": "http", "url": f"{target}/up/{{{{ labels.n }}}}", "undo": {"url": f"{target}/down"}}
        policy = {"name": "p", "match": ["severity=page"], "action": action, "approval": "auto"}
        config = {
            "prometheus": {"url": prometheus.url, "max_queries_per_second": 5000},
            "alertmanagers": [{"url": peer.url} for peer in self.peers],
            "web": {"listen": f"127.0.0.1:{self.port}"},
            "storage": {"path": str(folder / "state")},
            "guard": {
                "allow_private": ["127.0.0.1"],
                "rates": {name: rate for name in ("policy", "target", "namespace", "total")},
                "max_targets": MANY * 2,
                "storm": {"alerts": storm, "unhealthy": "vector(0)", "calm": "0s"},
            },
            "remedies": [policy | {"verify": {"query": "vector(1) > 1", "within": "1h"}}],
        }
        path = folder / "promantis.yml"
        await asyncio.to_thread(path.write_text, yaml.safe_dump(config))
        async with remedies.site(path) as self.site:
            yield

    async def webhook(self, *alerts: dict[str, Any]) -> int:
        """As Alertmanager would post it."""
        body = {"version": "4", "alerts": list(alerts), "status": "firing"}
        url = f"http://127.0.0.1:{self.port}/api/v1/webhook"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            return answer.status


@pytest.fixture
async def flood(stack: Stack, tmp_path: Path) -> AsyncIterator[Flood]:
    flood = Flood()
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", flood.call)])
    async with serving(app) as url, flood.promantis(stack, tmp_path, url):
        yield flood


def told(name: str, starts: float, **labels: str) -> dict[str, Any]:
    """One alert of a webhook."""
    all_labels = {"alertname": name, "severity": "page", **labels}
    return {
        "status": "firing",
        "labels": all_labels,
        "annotations": {},
        "startsAt": stamp(starts),
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint(labels_of(all_labels)),
    }


async def test_a_pair_a_hundred_times_and_an_earlier_start(flood: Flood) -> None:
    for peer in flood.peers:
        await post(peer.url, [message("Full", n="1")])
    await until(lambda: flood.calls["/up/1"], 20)
    answers = await asyncio.gather(*(flood.webhook(told("Full", -i, n="1")) for i in range(100)))
    assert set(answers) == {200}
    for peer in flood.peers:  # a second Prometheus that saw it earlier
        await post(peer.url, [message("Full", n="1") | {"startsAt": stamp(-300)}])
    await asyncio.sleep(3)
    assert flood.calls == {"/up/1": 1}
    (case,) = flood.site.runner.cases()
    assert (case.stage, case.episode) == ("verifying", 1)


async def test_a_thousand_alerts_of_one_group(flood: Flood) -> None:
    alerts = [message("Full", n=str(n)) for n in range(MANY)]
    for peer in flood.peers:
        for i in range(0, MANY, 250):
            await post(peer.url, alerts[i : i + 250])
    await until(lambda: len(flood.calls) == MANY, 120)
    await asyncio.sleep(2)
    assert set(flood.calls.values()) == {1}
    assert len(flood.site.runner.cases()) == MANY


async def test_a_storm_lets_nothing_act_alone_and_forgets_what_is_gone(stack: Stack, tmp_path: Path) -> None:
    flood = Flood()
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", flood.call)])
    async with serving(app) as url, flood.promantis(stack, tmp_path, url, storm=20):
        for n in range(30):  # told, and then lost: Alertmanager knows nothing of them
            assert await flood.webhook(told("Gone", -1, n=str(n), severity="info")) == 200
        await until(lambda: not flood.site.runner.stormy, 20)
        await post(flood.peers[0].url, [message("Full", n=str(n)) for n in range(25)])
        await until(lambda: flood.site.runner.stormy, 20)
        await until(lambda: len(flood.site.runner.cases()) == 25, 20)
        await asyncio.sleep(1)
        acted = len(flood.calls)
        assert acted < 20, "what was told before the storm may have been done, nothing after"
        await asyncio.sleep(2)
        assert len(flood.calls) == acted
        assert {case.stage for case in flood.site.runner.cases()} <= {
            "proposed",
            "planned",
            "verifying",
            "refused",
        }
