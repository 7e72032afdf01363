"""Alert -> case -> approval -> action on a cluster -> verification, with the real Prometheus and Alertmanager.

The cluster is the fake, or that of PROMANTIS_TEST_KUBECONFIG; a shop's metrics follow from what is in it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from aiohttp import web

from sidecar.adapters.journal import stored, verified
from sidecar.demo.peers import Peer, Stack, free_port
from sidecar.remedy.case import Case
from sidecar.remedy.past import Ended
from sidecar.types import Instant, Rejected
from tests.e2e import remedies
from tests.e2e.alerting import get, message, notifying, post, serving, until
from tests.unit import lab as labs
from tests.unit.lab import HOLD, REAL, Fault, Lab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 if REAL else 60)]
SCRAPE = """\
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{shop}']}}]}}]
"""
OUTAGE = 30.0 if REAL else 2.0
WHERE = {"namespace": "{{ labels.namespace }}", "name": "{{ labels.deployment }}"}
END = ("fixed", "undone", "failed", "unknown", "refused", "denied", "expired")


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

    async def case(self, name: str, *stages: str, policy: str = "p0", within: float = 30.0) -> Case:
        def find() -> Case | None:
            cases = self.site.runner.cases()
            fits = (c for c in cases if (c.alert.label("alertname"), c.policy) == (name, policy))
            return next((c for c in fits if c.stage in stages), None)

        try:
            return await until(find, within)  # type: ignore[no-any-return]
        except AssertionError:
            raise AssertionError([(c.policy, c.stage, c.words) for c in self.site.runner.cases()]) from None

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


async def test_a_leak_is_restarted_and_verified(story: Story) -> None:
    story.first = {pod["metadata"]["uid"] for pod in await story.lab.pods()}
    await story.settled("shop_memory > 0.9")
    verify = {"query": "shop_memory < 0.5", "within": "30s", "hold": "1s", "harm": "shop_errors > 0.1"}
    path = story.config({"action": {"type": "restart", **WHERE}, "verify": verify})
    async with running(story, path):
        story.lab.proxy.writes.clear()
        await story.fire("Leak")
        approved = await story.approve("Leak")
        assert approved.plan is not None
        assert approved.plan["no_undo"] == "pods that were replaced do not come back"
        fixed = await story.case("Leak", *END)
        assert (fixed.stage, fixed.words) == ("fixed", "shop_memory < 0.5 holds")
        assert patches(story) == 1


async def test_a_bad_deploy_is_rolled_back(story: Story) -> None:
    template = {"metadata": {"annotations": {"test/image": "2"}}}
    template |= {"spec": {"containers": [{"name": "main", "image": "shop:2"}]}}
    await story.lab.edit("Deployment", "api", {"spec": {"template": template}})
    await story.settled("shop_errors > 0.1")
    path = story.config({"action": {"type": "rollback", **WHERE}}, hands_off="15m")
    async with running(story, path):
        story.lab.proxy.writes.clear()
        await story.fire("Errors")
        await story.approve("Errors")
        fixed = await story.case("Errors", *END)
        assert fixed.stage == "fixed", fixed.words
        assert patches(story) == 1
        spec = (await story.lab.get("Deployment", "api"))["spec"]
        assert spec["template"]["spec"]["containers"][0]["image"] == "shop:1"


SCALE = {"type": "scale", **WHERE, "by": 3, "max": 9}


async def test_traffic_scales_up_alone_and_stays(story: Story) -> None:
    verify = {"query": "shop_load <= 1", "within": "15s", "hold": "1s", "harm": "shop_errors > 0.1"}
    path = story.config({"action": SCALE, "approval": "auto", "verify": verify})
    async with running(story, path):
        story.lab.proxy.writes.clear()
        await story.fire("Traffic")
        fixed = await story.case("Traffic", *END)
        assert (fixed.stage, fixed.approved_by) == ("fixed", "policy p0")
        assert await story.replicas() == 6
        assert patches(story) == 1, "no undo"
        effect = await until(lambda: story.site.runner.case(fixed.id)[0].effect)
        assert (effect["target"], effect["untouched"]) == (-1.0, 0)
        count = story.site.telemetry.registry.get_sample_value
        assert count("promantis_actions_total", {"policy": "p0", "action": "scale", "outcome": "done"}) == 1


async def test_a_wrong_scale_harms_is_undone_and_trips_the_breaker(story: Story) -> None:
    wrong = {"type": "scale", **WHERE, "to": 8, "max": 9}
    verify = {"query": "shop_load < 0.1", "within": "20s", "harm": "shop_errors > 0.1"}
    path = story.config({"action": wrong, "approval": "auto", "verify": verify})
    async with running(story, path):
        for name in ("First", "Second"):
            await story.settled("shop_errors == 0")
            await story.fire(name)
            undone = await story.case(name, *END)
            assert undone.stage == "undone", undone.words
            _, facts = story.site.runner.case(undone.id)
            assert "it did harm: shop_errors > 0.1" in [fact.data.get("words") for fact in facts]
            assert await story.replicas() == 3
        await story.fire("Third")
        refused = await story.case("Third", *END)
        assert (refused.stage, refused.reason) == ("refused", "breaker")
        count = story.site.telemetry.registry.get_sample_value
        assert count("promantis_breaker_open", {"policy": "p0"}) == 1
    lines = await asyncio.to_thread(stored, story.folder / "state" / "journal.db")
    assert b"breaker.opened" in b"".join(lines)
    assert verified(lines).facts == len(lines)


async def test_the_next_alternative_has_its_turn(story: Story) -> None:
    first = {"type": "scale", **WHERE, "to": 4, "max": 9}
    verify = {"query": "shop_load <= 1", "within": "3s"}
    then = [{"action": SCALE, "verify": {"query": "shop_load <= 1", "within": "15s"}}]
    path = story.config({"action": first, "approval": "auto", "verify": verify, "then": then})
    async with running(story, path):
        await story.fire("Traffic")
        undone = await story.case("Traffic", *END)
        assert undone.stage == "undone", undone.words
        fixed = await story.case("Traffic", *END, policy="p0/2")
        assert fixed.stage == "fixed", fixed.words
        assert await story.replicas() == 6


async def test_the_best_alternative_comes_first_once_it_is_known(story: Story) -> None:
    useless = {"type": "hpa-bounds", "namespace": WHERE["namespace"], "name": "nobody", "max": 5, "limit": 9}
    verify = {"query": "shop_load <= 1", "within": "15s"}
    policy = {"action": useless, "verify": verify, "then": [{"action": SCALE}], "order": "best"}
    path = story.config({**policy, "approval": "manual"})
    async with running(story, path):
        book = story.site.runner._book
        for n in range(40):
            good, bad = Ended(Instant(n), "p0/2", "o", True, True), Ended(Instant(n), "p0", "o", False, True)
            book.ended |= {f"g{n}": good, f"b{n}": bad}
        await story.fire("Traffic")
        await story.approve("Traffic", "p0/2")
        fixed = await story.case("Traffic", *END, policy="p0/2")
        assert fixed.stage == "fixed", fixed.words
        assert [case.policy for case in story.site.runner.cases()] == ["p0/2"]


async def test_a_budget_blocks_and_it_gives_up_cleanly(story: Story) -> None:
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "api"}}}
    await story.lab.create("PodDisruptionBudget", "api", spec)
    pod = (await story.lab.pods())[0]["metadata"]["name"]
    if REAL:
        await asyncio.sleep(3)
    action = {"type": "evict-pod", "namespace": WHERE["namespace"], "name": "{{ labels.pod }}", "wait": "2s"}
    path = story.config({"action": action, "verify": {"query": "shop_load < 0"}})
    async with running(story, path):
        story.lab.proxy.writes.clear()
        await story.fire("Sick", pod=pod)
        await story.approve("Sick")
        failed = await story.case("Sick", *END)
        assert failed.stage == "failed"
        assert failed.words.startswith("gave up: the cluster answered 429")
        assert patches(story) == 0


async def test_an_outage_before_and_in_the_middle(story: Story) -> None:
    verify = {"query": "shop_load <= 1", "within": "20s"}
    path = story.config({"action": SCALE, "verify": verify})
    async with running(story, path):
        await story.fire("Traffic")
        case = await story.approve("Traffic")
        assert case.stage == "approved"
        story.lab.proxy.writes.clear()
        story.lab.proxy.faults.append(Fault("PATCH", "/scale$", after=True, down=True, real=True))
        await until(lambda: story.lab.proxy.down, 10)
        await asyncio.sleep(OUTAGE)
        assert story.site.runner.case(case.id)[0].stage == "acting"
        story.lab.proxy.down = False
        fixed = await story.case("Traffic", *END)
        assert fixed.stage == "fixed", fixed.words
        assert await story.replicas() == 6
        assert patches(story) == 1


@pytest.mark.parametrize("status", [403, 422])
async def test_a_clear_no_ends_it(story: Story, status: int) -> None:
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    async with running(story, path):
        await story.fire("Traffic")
        case = await story.case("Traffic", "proposed")
        story.lab.proxy.faults.append(Fault("PATCH", "/scale$", status))
        planned = await story.site.runner.plan(case.id, "ada")
        assert (planned.stage, planned.reason) == ("refused", "not_allowed" if status == 403 else "target")


async def test_a_change_by_hand_since_the_approval(story: Story) -> None:
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}})
    async with running(story, path):
        await story.fire("Traffic")
        case = await story.case("Traffic", "proposed")
        case = await story.site.runner.plan(case.id, "ada")
        await story.lab.edit("Deployment", "api", {"spec": {"replicas": 4}}, "kubectl-edit")
        story.lab.proxy.writes.clear()
        await story.site.runner.approve(case.id, "ada", case.plan_hash)
        again = await story.case("Traffic", "planned")
        assert again.words.endswith("this is the new one, approve it again")
        assert again.plan is not None
        assert again.plan["diff"] == ["spec.replicas: 4 -> 7"]
        with pytest.raises(Rejected, match="look at it again"):
            await story.site.runner.approve(case.id, "ada", case.plan_hash)
        assert patches(story) == 0


async def test_hands_off_and_dry_run(story: Story) -> None:
    await story.lab.edit("Deployment", "api", {"metadata": {"labels": {"by": "ada"}}}, "kubectl-edit")
    for guard, reason in (({"hands_off": "15m"}, "hands_off"), ({"dry_run": True}, "dry_run")):
        path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}}, **guard)
        async with running(story, path):
            story.lab.proxy.writes.clear()
            await story.fire(reason)
            await story.approve(reason)
            refused = await story.case(reason, *END)
            assert (refused.stage, refused.reason) == ("refused", reason)
            assert patches(story) == 0


# --------------------------------------------------------------------------- two replicas


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
