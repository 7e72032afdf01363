"""What the scenarios on a cluster share: a shop in it, who watches it, and Promantis' remedies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import yaml
from aiohttp import web

from sidecar.demo.peers import Peer, Stack, free_port
from sidecar.remedy.case import Case
from tests.e2e import remedies
from tests.e2e.alerting import get, message, notifying, post, serving, until
from tests.unit import lab as labs
from tests.unit.lab import REAL, Lab

SCRAPE = """\
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{shop}']}}]}}]
"""
OUTAGE = 30.0 if REAL else 2.0
WHERE = {"namespace": "{{ labels.namespace }}", "name": "{{ labels.deployment }}"}
END = ("fixed", "undone", "failed", "unknown", "refused", "denied", "expired")
SCALE = {"type": "scale", **WHERE, "by": 3, "max": 9}


class Story:
    """A shop in a cluster, who watches it, and Promantis' remedies."""

    def __init__(self, stack: Stack, folder: Path, lab: Lab) -> None:
        self.stack = stack
        self.folder = folder
        self.lab = lab
        self.first: set[str] = set()
        """Uids of the pods that leak."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.prometheus: Peer
        self.alertmanager: Peer
        self.site: remedies.Site

    async def metrics(self, _: web.Request) -> web.Response:
        """What the shop would say of itself, from the real state."""
        deployment = await self.lab.get("Deployment", "api")
        spec = deployment["spec"]
        old = [pod for pod in await self.lab.pods() if pod["metadata"]["uid"] in self.first]
        bad = spec["template"]["spec"]["containers"][0]["image"] == "shop:2"
        values = {
            "shop_memory": 0.95 if old else 0.2,
            "shop_errors": 0.3 if bad or spec["replicas"] > 6 else 0.0,
            "shop_load": 6 / max(1, spec["replicas"]),
            "shop_pods": len(await self.lab.pods()),
        }
        lines = [f"{name} {value}\n" for name, value in values.items()]
        lines.append(f'shop_info{{namespace="{self.lab.namespace}"}} 1\n')
        return web.Response(text="".join(lines))

    def config(self, *policies: dict[str, Any], **guard: Any) -> Path:
        """A config with these policies; what was just made is not left alone for it."""
        base = {"cooldown": "0s", "verify": {"query": "shop_errors < 0.1", "within": "12s"}}
        remedies_ = [
            {"name": f"p{i}", **base, "match": ["severity=page"], **one} for i, one in enumerate(policies)
        ]
        text = {
            "prometheus": {"url": self.prometheus.url},
            "alertmanagers": [{"url": self.alertmanager.url}],
            "web": {"listen": f"127.0.0.1:{self.port}"},
            "storage": {"path": str(self.folder / "state")},
            "kubernetes": {"kubeconfig": self.lab.kubeconfig},
            "guard": {"hands_off": "0s", "after_undo": "0s", **guard},
            "remedies": remedies_,
        }
        path = self.folder / "promantis.yml"
        path.write_text(yaml.safe_dump(text))
        return path

    async def fire(self, name: str, **labels: str) -> None:
        more = {"namespace": self.lab.namespace, "deployment": "api", **labels}
        await post(self.alertmanager.url, [message(name, **more)])

    async def case(self, name: str, *stages: str, policy: str = "p0", within: float = 45.0) -> Case:
        def find() -> Case | None:
            cases = self.site.runner.cases()
            fits = (c for c in cases if (c.alert.label("alertname"), c.policy) == (name, policy))
            return next((c for c in fits if c.stage in stages), None)

        try:
            found: Case = await until(find, within)
        except AssertionError:
            raise AssertionError([(c.policy, c.stage, c.words) for c in self.site.runner.cases()]) from None
        return found

    async def approve(self, name: str, policy: str = "p0") -> Case:
        """A person looks at the plan and agrees to it."""
        case = await self.case(name, "proposed", policy=policy)
        case = await self.site.runner.plan(case.id, "ada")
        return await self.site.runner.approve(case.id, "ada", case.plan_hash)

    async def replicas(self) -> int:
        return int((await self.lab.get("Deployment", "api"))["spec"]["replicas"])

    async def settled(self, query: str) -> None:
        """Prometheus sees it."""
        await until(lambda: self._true(query), 20)

    async def _true(self, query: str) -> bool:
        answer = await get(self.prometheus.url, f"/api/v1/query?query={quote(query)}")
        return bool(answer["data"]["result"])


class Watching(NamedTuple):
    """A Prometheus for all stories: it takes its time to begin."""

    prometheus: Peer
    port: int
    """Where it looks for the shop."""


@pytest.fixture(scope="module")
def watching(module_stack: Stack) -> Watching:
    port, loop = free_port(), asyncio.new_event_loop()
    try:
        started = module_stack.prometheus(SCRAPE.format(shop=f"127.0.0.1:{port}"))
        return Watching(loop.run_until_complete(started), port)
    finally:
        loop.close()


@pytest.fixture
async def story(watching: Watching, stack: Stack, tmp_path: Path) -> AsyncIterator[Story]:
    async with labs.lab(tmp_path) as lab:
        story = Story(stack, tmp_path, lab)
        await lab.deployment()
        app = web.Application()
        app.add_routes([web.get("/metrics", story.metrics)])
        async with serving(app, watching.port):
            story.prometheus = watching.prometheus
            story.alertmanager = await stack.alertmanager(notifying(f"{story.url}/api/v1/webhook", "0s"))
            await story.settled(f'shop_info{{namespace="{lab.namespace}"}}')
            yield story


@asynccontextmanager
async def running(story: Story, path: Path) -> AsyncIterator[None]:
    async with remedies.site(path) as site:
        story.site = site
        yield


def patches(story: Story) -> int:
    """Writes that went through, without those of the test itself."""
    return len(
        [path for method, path in story.lab.proxy.writes if method != "POST" or path.endswith("eviction")]
    )
