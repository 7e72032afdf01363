"""Two replicas with a Lease and one journal: one leads, and the next looks at what it left before it decides."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.demo.peers import Peer, free_port
from tests.e2e.alerting import get, until
from tests.e2e.story import END, SCALE, Story, patches, story, watching
from tests.unit.lab import HOLD, REAL, Fault

__all__ = ["story", "watching"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 if REAL else 60)]


async def replica(story: Story, number: int, path: Path, port: int) -> Peer:
    config = yaml.safe_load(await asyncio.to_thread(path.read_text))
    config["kubernetes"]["lease"] = {"namespace": story.lab.namespace, "duration": "3s"}
    config["web"]["listen"] = f"127.0.0.1:{port}"
    mine = path.with_name(f"replica-{number}.yml")
    await asyncio.to_thread(mine.write_text, yaml.safe_dump(config))
    command = (sys.executable, "-m", "sidecar", "run", f"--config.file={mine}")
    return await story.stack.program(f"replica{number}", *command, port=port, ready="/-/healthy")


async def case_at(peer: Peer, *stages: str) -> dict[str, Any] | None:
    try:
        cases = await get(peer.url, "/api/v1/cases")
    except (AssertionError, aiohttp.ClientError):
        return None  # it stands by, or is about to begin
    return next((case for case in cases if case["stage"] in stages), None)


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
async def test_a_leader_that_is_killed_between_intent_and_outcome(story: Story, after: bool) -> None:
    """The next one reads the real state before anything is decided; nothing is done twice."""
    ports = (free_port(), free_port())
    hooks = ", ".join(f"{{url: 'http://127.0.0.1:{port}/api/v1/webhook'}}" for port in ports)
    route = "route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}\n"
    story.alertmanager = await story.stack.alertmanager(
        f"{route}receivers: [{{name: hook, webhook_configs: [{hooks}]}}]\n"
    )
    verify = {"query": "shop_load <= 1", "within": "20s"}
    path = story.config({"action": SCALE, "approval": "auto", "verify": verify})
    first = await replica(story, 1, path, ports[0])
    await until(lambda: case_list(first), 20)
    second = await replica(story, 2, path, ports[1])
    story.lab.proxy.faults.append(Fault("PATCH", "/scale$", HOLD, after=after, real=True))
    story.lab.proxy.writes.clear()
    await story.fire("Traffic")
    await until(lambda: story.lab.proxy.held, 30)
    assert await case_at(first, "acting")
    assert await case_at(second, "acting") is None, "one leads"
    first.kill()
    found = await until(lambda: case_at(second, *END), 60)
    if after:
        assert found["stage"] == "fixed", found
        assert await story.replicas() == 6
    else:
        assert found["stage"] == "failed", found
        assert "was not done" in found["words"]
        assert await story.replicas() == 3
    assert patches(story) == int(after)
    facts = (await get(second.url, f"/api/v1/cases/{found['id']}"))["facts"]
    assert [fact["kind"] for fact in facts].count("intent") == 1


async def test_who_loses_the_lease_stops_and_who_stands_by_ends_quietly(story: Story) -> None:
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, free_port())
    await until(lambda: case_list(first), 20)
    second = await replica(story, 2, path, free_port())
    assert not await case_list(second)
    assert second.terminate() == 0
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{story.lab.namespace}/leases/promantis"
    how = "application/merge-patch+json"
    await story.lab.cluster.ask("PATCH", lease, {}, {"spec": {"holderIdentity": "somebody"}}, how)
    await until(lambda: not first.alive, 20)
    assert "kubernetes.lease: was lost: another replica leads now" in first.tail()


async def case_list(peer: Peer) -> bool:
    """It leads: it has the routes of cases."""
    async with aiohttp.ClientSession() as session, session.get(f"{peer.url}/api/v1/cases") as answer:
        return answer.status == 200
