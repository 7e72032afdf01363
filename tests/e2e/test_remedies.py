"""Webhook -> proposal -> approval -> action once -> verification, with the real Alertmanager and Prometheus."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sidecar.demo.peers import Peer, Stack, free_port
from tests.e2e import remedies
from tests.e2e.alerting import get, message, notifying, post, serving, stamp, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]
SCRAPE = """\
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{shop}']}}]}}]
"""


class Shop:
    """A target that can be asked to grow, and whose size Prometheus sees."""

    def __init__(self) -> None:
        self.size = 20
        self.calls: list[tuple[str, str | None]] = []
        self.hang = False

    async def pool(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append((body["pool"], request.headers.get("Authorization")))
        if self.hang:
            await asyncio.sleep(60)
        self.size = body["size"]
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=f"pool_size {self.size}\n")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.post("/pool", self.pool), web.get("/metrics", self.metrics)])
        async with serving(app) as url:
            yield url


class World:
    """Everything that runs in a test, and the config of Promantis between it."""

    def __init__(self, stack: Stack, folder: Path, shop: str) -> None:
        self.stack = stack
        self.folder = folder
        self.shop = shop
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.alertmanager: Peer

    async def start(self, wish: int = 40) -> Path:
        prometheus = await self.stack.prometheus(SCRAPE.format(shop=self.shop.partition("//")[2]))
        self.alertmanager = await self.stack.alertmanager(notifying(f"{self.url}/api/v1/webhook", "0s"))
        path = self.folder / "promantis.yml"
        path.write_text(f"""
prometheus: {{url: "{prometheus.url}"}}
alertmanagers: [{{url: "{self.alertmanager.url}"}}]
web: {{listen: "127.0.0.1:{self.port}"}}
storage: {{path: "{self.folder}/state"}}
guard: {{allow_private: ["127.0.0.1"]}}
remedies:
  - name: bigger-pool
    match: ['alertname=~"Pool.*"', severity=page]
    when: up{{job="shop"}} == 1
    min_confidence: 0.8
    action:
      type: http
      url: {self.shop}/pool
      headers: {{Authorization: Bearer secret}}
      body: '{{"size": 40, "pool": "{{{{ labels.pool }}}}"}}'
    verify: {{query: pool_size >= {wish}, within: 4s, hold: 1s}}
""")
        await until(lambda: self._scraped(prometheus.url), 15)
        return path

    async def _scraped(self, prometheus: str) -> bool:
        answer = await get(prometheus, "/api/v1/query?query=pool_size")
        return bool(answer["data"]["result"])

    async def case(self, name: str, *stages: str, within: float = 45.0) -> dict[str, Any]:
        async def find() -> dict[str, Any] | None:
            cases = await get(self.url, "/api/v1/cases")
            return next((c for c in cases if c["labels"]["alertname"] == name and c["stage"] in stages), None)

        return await until(find, within)

    async def run(self, *words: str) -> tuple[int | None, str, str]:
        flags = ["--url", self.url, "--storage.path", f"{self.folder}/state"]
        command = [sys.executable, "-m", "sidecar", *words, *flags]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def test_the_loop(stack: Stack, tmp_path: Path) -> None:
    shop = Shop()
    async with shop.open() as url:
        world = World(stack, tmp_path, url)
        path = await world.start()
        async with remedies.site(path) as site:
            awkward = 'db "1"\n/..'
            await post(
                world.alertmanager.url, [message("PoolFull", pool=awkward), message("Other", pool="x")]
            )
            case = await world.case("PoolFull", "proposed")
            assert case["why"] == [
                'PoolFull matches alertname=~"Pool.*", severity=page',
                "confidence 0.90 is at least 0.8",
                'up{job="shop"} == 1 holds',
            ]
            # nobody without a token, and nothing but the plan that was seen
            async with aiohttp.ClientSession() as session:
                route = f"{world.url}/api/v1/cases/{case['id']}"
                async with session.post(f"{route}/plan") as answer:
                    assert answer.status == 401
                token = (tmp_path / "state" / "admin.token").read_text().strip()
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(
                    f"{route}/approve", headers=headers, json={"plan_hash": "x"}
                ) as answer:
                    words = "cannot approve a case that is proposed: make a plan first"
                    assert (answer.status, (await answer.json())["error"]) == (409, words)
                async with session.post(f"{route}/plan", headers=headers) as answer:
                    plan = (await answer.json())["plan"]
                    assert plan["do"]["headers"] == {
                        "Authorization": "***",
                        "Content-Type": "application/json",
                    }
            code, out, err = await world.run("approve", case["id"])
            assert (code, err) == (0, ""), err
            assert f"approved {case['id']}; `promantis cases " in out
            fixed = await world.case("PoolFull", "fixed", "failed", "unknown", "refused")
            assert fixed["stage"] == "fixed", fixed
            assert shop.calls == [(awkward, "Bearer secret")]
            code, out, err = await world.run("cases")
            assert "PoolFull" in out
            assert "Other" not in out
            code, out, err = await world.run("cases", case["id"])
            assert "guard   passed  alert" in out
            assert "secret" not in out
            code, out, err = await world.run("deny", case["id"])
            assert (code, err) == (1, "promantis: cannot deny a case that is fixed\n")
            count = site.telemetry.registry.get_sample_value
            done = {"policy": "bigger-pool", "action": "http", "outcome": "done"}
            assert count("promantis_actions_total", done) == 1
            assert count("promantis_cases", {"stage": "fixed"}) == 1

            # the same call for another alert has to wait for the cool-down
            await post(world.alertmanager.url, [message("PoolLeak", pool="other")])
            case = await world.case("PoolLeak", "refused")
            assert case["reason"] == "cooldown"
        code, out, err = await world.run("cases")
        words = (
            f"promantis: {world.url} does not answer: Connection refused (is `promantis run` up? see --url)\n"
        )
        assert (code, out, err) == (1, "", words)


async def _silence(url: str, name: str) -> None:
    silence = {
        "matchers": [{"name": "alertname", "value": name, "isRegex": False}],
        "startsAt": stamp(0),
        "endsAt": stamp(600),
        "createdBy": "test",
        "comment": "test",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/v2/silences", json=silence) as answer,
    ):
        assert answer.status == 200
    await until(lambda: _suppressed(url))


async def _suppressed(url: str) -> bool:
    return bool([a for a in await get(url) if a["status"]["state"] == "suppressed"])


async def test_killed_between_intent_and_outcome_does_nothing_twice(stack: Stack, tmp_path: Path) -> None:
    shop = Shop()
    shop.hang = True
    async with shop.open() as url:
        world = World(stack, tmp_path, url)
        path = await world.start()
        program = (sys.executable, str(Path(remedies.__file__)), str(path))
        peer = await stack.program("remedies", *program, port=world.port, ready="/-/ready")
        await post(world.alertmanager.url, [message("PoolFull", pool="a")])
        case = await world.case("PoolFull", "proposed")
        assert (await world.run("approve", case["id"]))[0] == 0
        await until(lambda: shop.calls)
        peer.kill()
        await peer.start()
        unknown = await world.case("PoolFull", "unknown", "fixed", "failed")
        assert unknown["stage"] == "unknown"
        assert "whether the action was done is not known" in unknown["words"]
        assert len(shop.calls) == 1
        facts = (await get(world.url, f"/api/v1/cases/{case['id']}"))["facts"]
        kinds = ["case.proposed", "plan.made", "case.approved", "intent", "action.failed", "verify.failed"]
        assert [fact["kind"] for fact in facts if fact["kind"] != "effect.measured"] == kinds
