"""Two replicas with a Lease and one volume: both score and enrich, one acts, the next looks at what it left."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from sidecar.adapters.journal import SqliteJournal
from sidecar.demo.peers import Peer, free_port
from tests.e2e.alerting import get, message, post, until
from tests.e2e.story import END, SCALE, Story, patches, story, watching
from tests.unit.lab import HOLD, REAL, Fault

__all__ = ["story", "watching"]
HEARD = 'promantis_feedback_total{verdict="planned"} 1.0'
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 if REAL else 60)]


async def replica(story: Story, number: int, path: Path, port: int, other: int = 0, *flags: str) -> Peer:
    """Start one; `other` is the port of the other, to pass on to it what only the leader knows."""
    config = yaml.safe_load(await asyncio.to_thread(path.read_text))
    config["kubernetes"]["lease"] = {"namespace": story.lab.namespace, "duration": "3s"}
    if other:
        config["kubernetes"]["lease"]["peers"] = f"http://127.0.0.1:{other}"
    config["web"]["listen"] = f"127.0.0.1:{port}"
    config["watches"] = [{"name": "load", "query": "shop_load", "interval": "1s"}]
    config["presets"], config["interval"] = "none", "1s"
    mine = path.with_name(f"replica-{number}.yml")
    await asyncio.to_thread(mine.write_text, yaml.safe_dump(config))
    command = (sys.executable, "-m", "sidecar", "run", f"--config.file={mine}", *flags)
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
    await until(lambda: leads(first), 20)
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


async def test_who_loses_the_lease_in_the_middle_stops_and_goes_on_later(story: Story) -> None:
    """It scores and answers all the time; what was under way is looked up once somebody leads again."""
    path = story.config({"action": SCALE, "approval": "auto", "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, story.port)
    await until(lambda: leads(first), 20)
    story.lab.proxy.faults.append(Fault("PATCH", "/scale$", HOLD, real=True))
    story.lab.proxy.writes.clear()
    await story.fire("Traffic")
    await until(lambda: story.lab.proxy.held, 30)
    case = await case_at(first, "acting")
    assert case is not None
    await held_by(story, "somebody")
    await until(lambda: stands_by(first), 20)
    assert first.alive
    assert await case_at(first, "acting") is None, "what the journal says is the leader's to tell"
    async with aiohttp.ClientSession() as session:
        hook = {"version": "4", "alerts": []}
        async with session.post(f"{first.url}/api/v1/webhook", json=hook) as answer:
            assert answer.status == 503, "Alertmanager sends it again"
            assert answer.headers["Connection"] == "close", (
                "and to another one, where a Service stands before them"
            )
        async with session.get(f"{first.url}/-/ready") as answer:
            assert (answer.status, "stands by, somebody leads" in await answer.text()) == (503, True)
    second = await replica(story, 2, path, free_port())  # the journal was given back, the state is its own
    assert await stands_by(second)
    await held_by(story, "")
    found = await until(lambda: first_of(first, second), 60)
    assert (found["id"], found["stage"]) == (case["id"], "failed")
    assert "was not done" in found["words"]
    assert patches(story) == 0
    assert await leads(first) != await leads(second)


async def test_who_stands_by_scores_and_enriches_and_takes_over_warm(story: Story) -> None:
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, free_port())
    await until(lambda: leads(first), 20)
    second = await replica(story, 2, path, free_port())
    assert await stands_by(second)
    for one in (first, second):
        await until(lambda one=one: get(one.url, "/api/v1/series"), 30)
    assert await until(lambda: exposed(first), 20)
    assert not await exposed(second), "else Prometheus would have every series twice"
    await post(second.url, [message("Slow", severity="page")])
    await until(lambda: enriched(story), 20)
    token = await asyncio.to_thread((story.folder / "state" / "admin.token").read_text)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token.strip()}"}) as session:
        async with session.post(f"{second.url}/api/v1/killswitch", json={"on": True}) as answer:
            assert answer.status == 200, "whoever is asked: the switch is on the volume that they share"
        assert (await get(first.url, "/api/v1/killswitch"))["on"]
    assert sorted(one.name for one in (story.folder / "state").glob("state*")) == ["state", "state-2"]
    assert await asyncio.to_thread(first.terminate) == 0  # the cluster lives in this process
    await until(lambda: leads(second), 20)  # the lease was given back: nobody waits for its end
    assert await until(lambda: exposed(second), 20)
    assert await asyncio.to_thread(second.terminate) == 0


@pytest.mark.timeout(180)
async def test_while_the_cluster_is_away_nobody_acts_and_all_else_goes_on(story: Story) -> None:
    path = story.config({"action": SCALE, "approval": "auto", "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, story.port)
    await until(lambda: leads(first), 20)
    await until(lambda: exposed(first), 30)
    story.lab.proxy.down = True
    await until(lambda: stands_by(first), 20)
    await post(first.url, [message("Traffic", namespace=story.lab.namespace, deployment="api")])
    await until(lambda: enriched(story), 20)
    assert await exposed(first)
    async with aiohttp.ClientSession() as session, session.get(f"{first.url}/-/ready") as answer:
        assert answer.status == 200
    story.lab.proxy.down = False
    await until(lambda: leads(first), 20)
    found = await until(lambda: case_at(first, *END), 60)  # Alertmanager sent its webhook again
    assert found["stage"] == "fixed", found["words"]
    assert await story.replicas() == 6


async def test_who_stands_by_passes_on_what_only_the_leader_knows(story: Story) -> None:
    ports = (free_port(), story.port)  # Alertmanager's webhook goes to the second
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, ports[0], ports[1])
    await until(lambda: leads(first), 20)
    second = await replica(story, 2, path, ports[1], ports[0])
    assert await stands_by(second)
    async with aiohttp.ClientSession(second.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        await until(lambda: get_text(session, "/-/ready"), 30)  # rollouts and budgets count it
        await story.fire("Traffic")
        case = await until(lambda: case_at(second, "proposed"), 30)
        assert await case_at(first, "proposed") == case
        token = await asyncio.to_thread((story.folder / "state" / "admin.token").read_text)
        page, form = f"/c/{case['id']}", {"Origin": second.url}
        async with session.post(
            "/login", data={"token": token.strip(), "next": page}, headers=form
        ) as answer:
            assert (answer.status, "Make the plan" in await answer.text()) == (200, True)
        async with session.post(page, data={"do": "plan"}, headers=form) as answer:
            text = await answer.text()
        hidden = dict(
            re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text.partition('class="go"')[0])
        )
        async with session.post(page, data=hidden | {"do": "approve"}, headers=form) as answer:
            assert answer.status == 200, await answer.text()
        await until(lambda: case_at(second, "fixed"), 30)
        assert await story.replicas() == 6
        first.kill()
        async with session.get("/api/v1/cases") as answer:
            assert answer.status == 503, "until it is seen to be gone"
        await until(lambda: leads(second), 20)
        assert await case_at(second, "fixed")


async def test_who_stands_by_learns_what_people_tell_the_leader(story: Story) -> None:
    """And does not hear it twice when it leads."""
    ports = (free_port(), free_port())
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    first = await replica(story, 1, path, ports[0], ports[1])
    await until(lambda: leads(first), 20)
    second = await replica(story, 2, path, ports[1], ports[0])
    assert await stands_by(second)
    for one in (first, second):
        await until(lambda one=one: get(one.url, "/api/v1/series"), 30)
    token = await asyncio.to_thread((story.folder / "state" / "admin.token").read_text)
    verdict = {
        "match": '{watch="load"}',
        "verdict": "planned",
        "start": time.time() - 60,
        "end": time.time() + 3600,
    }
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token.strip()}"}) as session,
        session.post(f"{first.url}/api/v1/feedback", json=verdict) as answer,
    ):
        assert answer.status == 200, await answer.text()
    await until(lambda: has_heard(first), 10)
    await until(lambda: has_heard(second), 20)
    first.kill()
    await until(lambda: leads(second), 20)
    assert await has_heard(second)


async def has_heard(peer: Peer) -> bool:
    return HEARD in await said(peer)


async def test_a_lease_is_not_enough_without_the_journal(story: Story) -> None:
    """A replica that hangs keeps its file lock: who was elected in its place waits."""
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    hangs = SqliteJournal(story.folder / "state" / "journal.db")
    first = await replica(story, 1, path, free_port(), 0, "--enable=signals,alerts")  # it keeps feedback
    await until(lambda: "leads, and waits for the journal" in first.tail(), 20)
    assert not await leads(first)
    await hangs.close()
    await until(lambda: leads(first), 20)


async def held_by(story: Story, name: str) -> None:
    """Write somebody else into the lease; who is not there never renews it."""
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{story.lab.namespace}/leases/promantis"
    change = {"holderIdentity": name or None, "renewTime": "2026-01-01T00:00:00.000000Z"}
    change["leaseDurationSeconds"] = 600 if name else 3
    await story.lab.cluster.ask("PATCH", lease, {}, {"spec": change}, "application/merge-patch+json")


async def first_of(*peers: Peer) -> dict[str, Any] | None:
    found = [await case_at(peer, *END) for peer in peers]
    return next(filter(None, found), None)


async def get_text(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as answer:
        return await answer.text() if answer.status == 200 else ""


async def said(peer: Peer) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{peer.url}/metrics") as answer:
        return await answer.text() if answer.status == 200 else ""


async def leads(peer: Peer) -> bool:
    return "promantis_leader 1.0" in await said(peer)


async def stands_by(peer: Peer) -> bool:
    return "promantis_leader 0.0" in await said(peer)


async def exposed(peer: Peer) -> bool:
    return "promantis_anomaly_confidence{" in await said(peer)


async def enriched(story: Story) -> bool:
    alerts = await get(story.alertmanager.url, "/api/v2/alerts")
    return any("promantis_url" in one["annotations"] for one in alerts)
