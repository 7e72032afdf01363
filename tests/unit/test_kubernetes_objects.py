"""Rollouts, pods and nodes: the fake, and with PROMANTIS_TEST_KUBECONFIG a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.remedy.actions.nodes import Cordon, Drain, Uncordon
from sidecar.remedy.actions.objects import KINDS
from sidecar.remedy.actions.pods import DeletePod, EvictPod
from sidecar.remedy.actions.restart import Restart
from sidecar.remedy.actions.rollback import Rollback
from sidecar.remedy.actions.words import Job, World
from sidecar.remedy.rights import needed
from sidecar.remedy.templates import Unfit
from sidecar.types import Duration, Rejected
from tests.unit.lab import REAL, WHERE, Fault, Lab, configured, limited

pytestmark = pytest.mark.timeout(120 if REAL else 30)


async def test_restart(lab: Lab) -> None:
    await lab.deployment()
    before = {pod["metadata"]["uid"] for pod in await lab.pods()}
    action = Restart(**WHERE)
    plan, _ = await lab.plan(action)
    again, _ = await lab.plan(action)
    assert plan.saved == again.saved, "the same plan while nothing changes"
    assert plan.no_undo == "pods that were replaced do not come back"
    job, outcome = await lab.do(action)
    assert outcome.state == "done"

    async def replaced() -> bool:
        pods = {pod["metadata"]["uid"] for pod in await lab.pods()}
        return not pods & before and await lab.ready("api", 3)

    await lab.until(replaced)
    assert (await action.look(job, lab.world, False)).state == "done"
    assert await action.take_back(job, lab.world) == ("failed", plan.no_undo)
    assert len(lab.proxy.writes) == 1, "taking back the mark would restart it again"
    later, _ = await lab.plan(action)
    assert later.saved != plan.saved, "the next restart is another one"


async def deploy(lab: Lab, version: str) -> None:
    template = {"metadata": {"annotations": {"test/image": version}}}
    template |= {"spec": {"containers": [{"name": "main", "image": f"shop:{version}"}]}}
    await lab.edit("Deployment", "api", {"spec": {"template": template}})

    async def noticed() -> bool:
        ref = KINDS["ReplicaSet"].ref(lab.namespace, "")
        found = await lab.cluster.list(ref)
        return any(f"shop:{version}" in str(one["spec"]["template"]) for one in found)

    await lab.until(noticed)


async def image(lab: Lab) -> str:
    found = await lab.get("Deployment", "api")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_rollback_and_forward_again(lab: Lab) -> None:
    await lab.deployment()
    with pytest.raises(Unfit, match="there is no earlier revision"):
        await lab.plan(Rollback(**WHERE))
    await deploy(lab, "2")
    action = Rollback(**WHERE)
    plan, job = await lab.plan(action)
    assert plan.do == {"words": f"roll back deployment {lab.namespace}/api from revision 2 to 1"}
    assert "spec.template.spec.containers[main].image: shop:2 -> shop:1" in plan.diff
    assert plan.around.changed_at is None, "the deployment itself is what is rolled back"
    assert "shop:" not in str(plan.saved), "templates may hold secrets"
    assert (await action.apply(job, lab.world._replace(stopped=lambda: True))).state == "failed"
    path = lab.path("Deployment", "api") + "$"
    lab.proxy.faults += [
        *[Fault("GET", path)] * 2,
        Fault("GET", "/replicasets/", 429),
        Fault("PATCH", path, 409),
    ]
    assert (await action.apply(job, lab.world)).state == "done", (
        "an outage, a limit and a conflict are waited out"
    )
    assert not lab.proxy.faults
    assert await image(lab) == "shop:1"
    assert (await action.look(job, lab.world, False)).state == "done"
    assert (await action.take_back(job, lab.world)).state == "done"
    assert await image(lab) == "shop:2"
    assert (await action.look(job, lab.world, False)).state == "failed"


async def test_what_a_person_rolled_back_is_a_change_by_hand(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.deployment()
    await deploy(lab, "2")
    monkeypatch.setattr("sidecar.remedy.actions.rollback.SAME", 0.5)
    await asyncio.sleep(2)
    await lab.edit("Deployment", "api", {"metadata": {"labels": {"by": "ada"}}}, "kubectl-edit")
    plan, _ = await lab.plan(Rollback(**WHERE))
    assert plan.around.changed_by == "kubectl-edit"


async def some_pod(lab: Lab) -> str:
    return str((await lab.pods())[0]["metadata"]["name"])


async def test_delete_pod_is_for_one_very_pod(lab: Lab) -> None:
    await lab.deployment()
    name = await some_pod(lab)
    action = DeletePod(namespace=lab.namespace, name=name)
    plan, job = await lab.plan(action)
    assert (plan.around.members, plan.around.down, plan.around.takes) == (3, 0, 1)
    assert plan.around.group == f"pods of deployment {lab.namespace}/api"
    lab.proxy.faults.append(Fault("DELETE", name, after=True))
    assert (await action.apply(job, lab.world)).state == "done", "the answer was lost, the pod is gone"
    await lab.until(lambda: lab.ready("api", 3))
    assert (await action.look(job, lab.world, False)).state == "done"
    assert lab.proxy.writes == [("DELETE", lab.path("Pod", name))]

    async def gone() -> bool:  # it may take its time to end
        pods = await lab.cluster.list(KINDS["Pod"].ref(lab.namespace, ""))
        return name not in [pod["metadata"]["name"] for pod in pods]

    await lab.until(gone)
    assert (await action.apply(job, lab.world)).state == "failed"


@pytest.mark.parametrize("type", [DeletePod, EvictPod])
async def test_a_successor_of_the_same_name_is_another_pod(
    lab: Lab, type: type[DeletePod | EvictPod]
) -> None:
    await lab.deployment()
    action = type(namespace=lab.namespace, name=await some_pod(lab))
    _, job = await lab.plan(action)
    job = job._replace(saved={**job.saved, "uid": "11111111-2222-3333-4444-555555555555"})
    assert await action.look(job, lab.world, False) == ("done", "found gone")
    assert (await action.apply(job, lab.world)).state == "failed"
    assert lab.proxy.writes == []


async def test_protection_reaches_from_the_workload_to_its_pods(lab: Lab) -> None:
    await lab.deployment()
    await lab.edit("Deployment", "api", {"metadata": {"annotations": {"promantis.io/protect": "true"}}})
    words = f"deployment {lab.namespace}/api has the annotation promantis.io/protect"
    plan, _ = await lab.plan(DeletePod(namespace=lab.namespace, name=await some_pod(lab)))
    assert plan.around.protected == words
    assert (await lab.plan(Restart(**WHERE)))[0].around.protected == words


async def budget(lab: Lab, least: int) -> None:
    spec = {"minAvailable": least, "selector": {"matchLabels": {"app": "api"}}}
    await lab.create("PodDisruptionBudget", "api", spec)
    if not lab.fake:

        async def counted() -> bool:
            found = await lab.get("PodDisruptionBudget", "api")
            status = found.get("status", {})
            return bool(status.get("observedGeneration")) and status.get("expectedPods") == 3

        await lab.until(counted)


async def test_eviction_waits_for_the_budget_then_gives_up(lab: Lab) -> None:
    await lab.deployment()
    await budget(lab, 3)
    name = await some_pod(lab)
    action = EvictPod(namespace=lab.namespace, name=name, wait=Duration(0.5))
    plan, job = await lab.plan(action)
    assert "a budget forbids it now, waits up to 500ms" in plan.do["words"]
    outcome = await action.apply(job, lab.world)
    assert outcome.state == "failed"
    assert outcome.words.startswith("gave up: the cluster answered 429: Cannot evict pod")
    assert (await action.look(job, lab.world, False)).state == "failed"
    assert lab.proxy.writes == []


async def test_eviction_once_the_budget_allows_it(lab: Lab) -> None:
    await lab.deployment()
    await budget(lab, 3)
    name = await some_pod(lab)
    action = EvictPod(namespace=lab.namespace, name=name, wait=Duration(20))
    _, job = await lab.plan(action)
    doing = asyncio.create_task(action.apply(job, lab.world))
    await asyncio.sleep(0.3)
    assert not doing.done()
    await lab.edit("PodDisruptionBudget", "api", {"spec": {"minAvailable": 2}})
    assert (await doing).state == "done"
    assert [path.endswith("/eviction") for _, path in lab.proxy.writes if "/pods/" in path] == [True]


@pytest.mark.parametrize(("action", "method"), [(DeletePod, "DELETE"), (EvictPod, "POST")])
async def test_a_pod_is_taken_once_through_limits_and_lost_answers(
    lab: Lab, action: type[DeletePod | EvictPod], method: str
) -> None:
    await lab.deployment()
    name = await some_pod(lab)
    one = action(namespace=lab.namespace, name=name)
    _, job = await lab.plan(one)
    path = lab.path("Pod", name)
    lab.proxy.faults += [Fault(method, path, 429), Fault(method, path, 503), Fault(method, path, after=True)]
    assert (await one.apply(job, lab.world)).state == "done"
    assert not lab.proxy.faults
    assert [how for how, where in lab.proxy.writes if f"/{name}" in where] == [method]


async def test_pods_that_would_be_back_at_once_or_never_are_left(lab: Lab) -> None:
    if not lab.fake:
        pytest.skip("made by hand in the fake")
    owner = {"kind": "DaemonSet", "name": "logs", "uid": "u", "controller": True}
    for name, meta, words in [
        (
            "mirror",
            {"annotations": {"kubernetes.io/config.mirror": "x"}},
            "is a mirror of its node's manifest",
        ),
        ("logs", {"ownerReferences": [owner]}, "belongs to the DaemonSet logs"),
        ("alone", {}, "has no controller that would make another"),
    ]:
        await lab.create("Pod", name, {}, metadata=meta, status={"conditions": []})
        with pytest.raises(Unfit, match=words):
            await lab.plan(EvictPod(namespace=lab.namespace, name=name))


async def test_cordon_counts_the_nodes_that_are_down(lab: Lab) -> None:
    plan, _ = await lab.plan(Cordon(name="node-1"))
    assert (plan.around.group, plan.around.members, plan.around.down) == ("nodes", 3, 0)
    job, outcome = await lab.do(Cordon(name="node-1"))
    assert outcome.state == "done"
    plan, _ = await lab.plan(Cordon(name="node-2"))
    assert plan.around.down == 1
    with pytest.raises(Unfit, match="node node-1 is like that already"):
        await lab.plan(Cordon(name="node-1"))
    with pytest.raises(Unfit, match="node node-2 is not cordoned"):
        await lab.plan(Uncordon(name="node-2"))
    assert (await Cordon(name="node-1").take_back(job, lab.world)).state == "done"
    assert not (await lab.get("Node", "node-1"))["spec"].get("unschedulable")


async def test_drain(lab: Lab) -> None:
    await lab.deployment(replicas=6)
    action = Drain(name="node-1", deadline=Duration(20))
    plan, _ = await lab.plan(action)
    here = [pod for pod in await lab.pods() if pod["spec"]["nodeName"] == "node-1"]
    assert here
    assert [line for line in plan.diff if line.startswith("evicts pod") and lab.namespace in line] == [
        f"evicts pod {lab.namespace}/{pod['metadata']['name']}" for pod in here
    ]
    assert lab.namespace in plan.around.namespaces
    await lab.edit(
        "Pod", here[0]["metadata"]["name"], {"metadata": {"annotations": {"promantis.io/protect": "1"}}}
    )
    plan, job = await lab.plan(action)
    assert plan.around.protected.endswith("has the annotation promantis.io/protect")
    given_up = await action.apply(job, lab.world)  # as if it was marked after the plan was made
    assert given_up.state == "failed"
    assert given_up.words.endswith("has the annotation promantis.io/protect; uncordoned")
    assert not [path for method, path in lab.proxy.writes if method == "POST"], "nothing was evicted"
    await lab.edit(
        "Pod", here[0]["metadata"]["name"], {"metadata": {"annotations": {"promantis.io/protect": None}}}
    )
    await lab.edit("Deployment", "api", {"metadata": {"annotations": {"promantis.io/protect": "1"}}})
    plan, _ = await lab.plan(action)
    assert plan.around.protected == (
        f"deployment {lab.namespace}/api has the annotation promantis.io/protect"
    ), "what is protected is so with its pods"
    await lab.edit("Deployment", "api", {"metadata": {"annotations": {"promantis.io/protect": None}}})
    job, outcome = await lab.do(action)
    assert outcome == ("done", "drained node node-1")
    assert await action.take_back(job, lab.world) == ("failed", plan.no_undo)
    await lab.until(lambda: lab.ready("api", 6))
    assert not [pod for pod in await lab.pods() if pod["spec"]["nodeName"] == "node-1"]
    assert (await lab.get("Node", "node-1"))["spec"]["unschedulable"]


async def test_a_drain_that_is_stopped_evicts_nobody_more(lab: Lab) -> None:
    await lab.deployment(replicas=9)
    action = Drain(name="node-1", deadline=Duration(20))
    _, job = await lab.plan(action)
    here = [pod for pod in await lab.pods() if pod["spec"]["nodeName"] == "node-1"]
    assert len(here) > 1

    def evicted() -> list[str]:
        return [path for method, path in lab.proxy.writes if method == "POST"]

    outcome = await action.apply(job, lab.world._replace(stopped=lambda: bool(evicted())))
    assert outcome == ("failed", "gave up: stopped; uncordoned")
    assert len(evicted()) == 1, "the switch counts between two pods of a round too"
    assert not (await lab.get("Node", "node-1"))["spec"].get("unschedulable")


async def test_a_drain_that_is_blocked_gives_up_by_uncordoning(lab: Lab) -> None:
    await lab.deployment()
    await budget(lab, 3)
    node = (await lab.pods())[0]["spec"]["nodeName"]
    _, outcome = await lab.do(Drain(name=node, deadline=Duration(0.5)))
    assert outcome.state == "failed"
    assert outcome.words.startswith("gave up: pod ")
    assert outcome.words.endswith("budget.; uncordoned")
    assert not (await lab.get("Node", node))["spec"].get("unschedulable")


async def test_a_drain_that_was_interrupted_is_given_up(lab: Lab) -> None:
    await lab.deployment()
    await budget(lab, 3)
    node = (await lab.pods())[0]["spec"]["nodeName"]
    action = Drain(name=node, deadline=Duration(30))
    _, job = await lab.plan(action)
    doing = asyncio.create_task(action.apply(job, lab.world))

    async def cordoned() -> bool:
        return bool((await lab.get("Node", node))["spec"].get("unschedulable"))

    await lab.until(cordoned)
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    outcome = await action.look(job, lab.world, False)
    assert outcome == ("failed", "gave up: it was interrupted; uncordoned")
    assert not await cordoned()


RIGHTS: dict[str, dict[str, Any]] = {
    "cordon": {"name": "node-2"},
    "drain": {"name": "node-2", "deadline": "20s"},
    "restart": WHERE,
    "rollback": WHERE,
    "scale": {**WHERE, "to": 4, "max": 5},
}


@pytest.mark.parametrize("type", RIGHTS)
async def test_the_rights_that_are_printed_are_enough_and_no_more(
    lab: Lab, tmp_path: Path, type: str
) -> None:
    await lab.deployment()
    await deploy(lab, "2")
    await lab.until(lambda: lab.ready("api", 3))
    config = configured(*({"type": name, **RIGHTS[name]} for name in (type, *RIGHTS)))
    action, *others = [one.action for one in config.remedies]
    has = needed(config.remedies[:1])
    async with limited(lab, tmp_path, has) as world:
        plan = await action.plan(lab.alert, world)
        job = Job("c0ffee", lab.alert, plan.saved)
        outcome = await action.apply(job, world)
        assert outcome.state == "done", outcome.words
        assert (await action.look(job, world, False)).state == "done"
        if not plan.no_undo:
            assert (await action.take_back(job, world)).state == "done"
        allowed = {(r.resource, verb) for r in has for verb in r.verbs}
        beyond = [one for one in others if {(r.resource, v) for r in one.rights() for v in r.verbs} - allowed]
        assert beyond
        for one in beyond:
            assert await forbidden(one, lab, world), one


async def forbidden(action: Any, lab: Lab, world: World) -> bool:
    try:
        plan = await action.plan(lab.alert, world)
        outcome = await action.apply(Job("c0ffee", lab.alert, plan.saved), world)
    except Rejected as error:
        return error.status == 403
    return "answered 403" in outcome.words
