"""Alert -> case -> approval -> action on a cluster -> verification, with the real Prometheus and Alertmanager.

The cluster is the fake, or that of PROMANTIS_TEST_KUBECONFIG; a shop's metrics follow from what is in it.
"""

from __future__ import annotations

import asyncio

import pytest

from sidecar.adapters.journal import stored, verified
from sidecar.remedy.past import Ended
from sidecar.types import Instant, Rejected
from tests.e2e.alerting import until
from tests.e2e.story import END, OUTAGE, SCALE, WHERE, Story, patches, running, story, watching
from tests.unit.lab import REAL, Fault

__all__ = ["story", "watching"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 if REAL else 60)]


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


async def test_a_node_with_a_protected_pod_is_not_drained(story: Story) -> None:
    pod = (await story.lab.pods())[0]
    node = pod["spec"]["nodeName"]
    await story.lab.edit("Deployment", "api", {"metadata": {"annotations": {"promantis.io/protect": "true"}}})
    path = story.config({"action": {"type": "drain", "name": "{{ labels.node }}"}})
    async with running(story, path):
        story.lab.proxy.writes.clear()
        await story.fire("Sick", node=node)
        await story.approve("Sick")
        refused = await story.case("Sick", *END)
        assert (refused.stage, refused.reason) == ("refused", "protected")
        assert "api has the annotation promantis.io/protect" in refused.words
        assert patches(story) == 0
        assert not (await story.lab.get("Node", node))["spec"].get("unschedulable")


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


async def test_how_the_guardrails_stand_is_told_by_a_dry_run(story: Story) -> None:
    await story.lab.edit("Deployment", "api", {"metadata": {"labels": {"by": "ada"}}}, "kubectl-edit")
    path = story.config({"action": SCALE, "verify": {"query": "shop_load <= 1"}}, hands_off="15m")
    async with running(story, path):
        await story.fire("Traffic")
        case = await story.case("Traffic", "proposed")
        before = await story.replicas()
        found = {one.name: one.refusal for one in await story.site.runner.standing(case.id)}
        refused = {name: refusal.reason for name, refusal in found.items() if refusal}
        assert refused == {"hands off": "hands_off"}
        assert {"share", "protected", "still wrong"} < found.keys(), (
            "those that need the target were asked too"
        )
        assert await story.replicas() == before
        assert (await story.case("Traffic", "proposed")).plan is None, "no plan was made of it"


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
