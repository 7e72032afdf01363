"""What actions do to a cluster: the fake, and with PROMANTIS_TEST_KUBECONFIG the same on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.remedy.actions.config import Config, Reader
from sidecar.remedy.actions.hpa import HpaBounds
from sidecar.remedy.actions.nodes import Cordon, Drain, Uncordon
from sidecar.remedy.actions.objects import KINDS
from sidecar.remedy.actions.patch import Patch
from sidecar.remedy.actions.pods import DeletePod, EvictPod
from sidecar.remedy.actions.restart import Restart
from sidecar.remedy.actions.rollback import Rollback
from sidecar.remedy.actions.scale import Scale
from sidecar.remedy.actions.words import Right
from sidecar.remedy.templates import Unfit
from sidecar.types import Duration, Rejected, Unavailable
from tests.unit import lab as labs
from tests.unit.lab import REAL, Fault, Lab

pytestmark = pytest.mark.timeout(120 if REAL else 30)
WHERE: dict[str, Any] = {"namespace": "{{ labels.namespace }}", "name": "{{ labels.deployment }}"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with labs.lab(tmp_path) as lab:
        yield lab


async def replicas(lab: Lab) -> int:
    return int((await lab.get("Deployment", "api"))["spec"]["replicas"])


# --------------------------------------------------------------------------- scale


async def test_scale_there_and_back(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, by=2, max=10)
    plan, job = await lab.plan(action)
    assert plan.do == {"words": f"scale deployment {lab.namespace}/api from 3 to 5"}
    assert plan.diff == ("spec.replicas: 3 -> 5",)
    assert await replicas(lab) == 3, "a plan changes nothing"
    assert (await action.look(job, lab.world, False)).state == "failed"
    assert (await action.apply(job, lab.world)).state == "done"
    assert await replicas(lab) == 5
    await lab.until(lambda: lab.ready("api", 5))
    assert (await action.look(job, lab.world, False)).state == "done"
    assert (await action.apply(job, lab.world)).state == "done"
    assert len(lab.proxy.writes) == 1, "a second time changes nothing"
    assert (await action.take_back(job, lab.world)).state == "done"
    assert await replicas(lab) == 3
    assert (await action.look(job, lab.world, True)).state == "done"


@pytest.mark.parametrize(
    ("how", "wanted"), [({"to": 7}, 7), ({"factor": 1.5}, 5), ({"by": 90}, 8), ({"by": -9, "min": 2}, 2)]
)
async def test_scale_within_bounds(lab: Lab, how: dict[str, Any], wanted: int) -> None:
    await lab.deployment()
    plan, _ = await lab.plan(Scale(**WHERE, **how, max=8))
    assert plan.diff == (f"spec.replicas: 3 -> {wanted}",)


async def test_scale_leaves_to_the_autoscaler_what_it_scales(lab: Lab) -> None:
    await lab.deployment()
    await autoscaler(lab)
    with pytest.raises(Unfit, match=r"api is scaled by the autoscaler api: use hpa-bounds"):
        await lab.plan(Scale(**WHERE, by=1, max=9))


async def test_nothing_to_do_is_no_plan(lab: Lab) -> None:
    await lab.deployment()
    with pytest.raises(Unfit, match="is like that already"):
        await lab.plan(Scale(**WHERE, to=3, max=9))
    with pytest.raises(Rejected, match="not found"):
        await lab.plan(Scale(namespace=lab.namespace, name="nobody", to=3, max=9))


# --------------------------------------------------------------------------- the API at its worst


async def test_a_conflict_is_planned_around_but_not_a_change(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    await lab.edit("Deployment", "api", {"metadata": {"labels": {"by": "somebody"}}})
    lab.proxy.faults.append(Fault("PATCH", "/scale", 409))
    assert (await action.apply(job, lab.world)).state == "done"
    assert await replicas(lab) == 5
    _, job = await lab.plan(Scale(**WHERE, to=6, max=9))
    await lab.edit("Deployment", "api", {"spec": {"replicas": 4}})
    outcome = await action.apply(job, lab.world)
    assert outcome == ("failed", f"deployment {lab.namespace}/api was changed by somebody else since")
    assert await replicas(lab) == 4


@pytest.mark.parametrize("status", [403, 422])
async def test_no_is_no(lab: Lab, status: int) -> None:
    await lab.deployment()
    _, job = await lab.plan(Scale(**WHERE, to=5, max=9))
    lab.proxy.faults.append(Fault("PATCH", "/scale", status))
    outcome = await Scale(**WHERE, to=5, max=9).apply(job, lab.world)
    assert outcome == ("failed", f"the cluster answered {status}: made to answer {status}")
    assert await replicas(lab) == 3


async def test_what_the_server_finds_invalid_is_no_plan(lab: Lab) -> None:
    await lab.deployment()
    with pytest.raises(Rejected, match="the cluster answered 4"):
        await lab.plan(
            Patch(**WHERE, kind="Deployment", patch={"spec": {"replicas": -1}}, fields=("/spec/replicas",))
        )


async def test_a_limit_is_waited_out(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    lab.proxy.faults += [Fault("PATCH", "/scale", 429, {"Retry-After": "1"}), Fault("PATCH", "/scale", 429)]
    began = asyncio.get_running_loop().time()
    assert (await action.apply(job, lab.world)).state == "done"
    assert asyncio.get_running_loop().time() - began >= 1
    assert await replicas(lab) == 5


async def test_an_outage_in_the_middle(lab: Lab) -> None:
    """The answer is lost, then nobody answers for a while: done once, and known to be done."""
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    lab.proxy.faults.append(Fault("PATCH", "/scale", after=True))
    doing = asyncio.create_task(action.apply(job, lab.world))
    await lab.until(lambda: _true(lab.proxy.writes))
    lab.proxy.down = True
    await asyncio.sleep(0.6)
    lab.proxy.down = False
    assert (await doing).state == "done"
    assert await replicas(lab) == 5
    assert len(lab.proxy.writes) == 1


async def _true(value: object) -> object:
    return value


async def test_an_outage_that_lasts(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    world = lab.world._replace(patience=0.3)
    lab.proxy.down = True
    outcome = await action.apply(job, world)
    assert outcome.state == "failed", "nothing was sent, so nothing was done"
    with pytest.raises(Unavailable):
        await action.look(job, world, False)
    lab.proxy.down = False
    lab.proxy.faults.append(Fault("PATCH", "/scale", down=True))
    assert (await action.apply(job, world)).state == "unclear"
    lab.proxy.down = False
    assert await action.look(job, world, False) == (
        "failed",
        f"deployment {lab.namespace}/api is not as it should be: it was not done, or changed since",
    )


async def test_an_object_that_is_deleted_in_the_middle(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    await lab.cluster.ask("DELETE", lab.path("Deployment", "api"))
    outcome = await action.apply(job, lab.world)
    assert outcome.state == "failed"
    assert "not found" in outcome.words
    await lab.deployment()
    outcome = await action.apply(job, lab.world)
    assert outcome == ("failed", f"deployment {lab.namespace}/api is another object than that of the plan")


async def test_stopped_before_anything_is_sent(lab: Lab) -> None:
    await lab.deployment()
    _, job = await lab.plan(Scale(**WHERE, to=5, max=9))
    outcome = await Scale(**WHERE, to=5, max=9).apply(job, lab.world._replace(stopped=lambda: True))
    assert outcome == ("failed", f"stopped before deployment {lab.namespace}/api was changed")


async def test_what_somebody_changed_since_is_not_put_back(lab: Lab) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    job, _ = await lab.do(action)
    await lab.edit("Deployment", "api", {"spec": {"replicas": 6}})
    outcome = await action.take_back(job, lab.world)
    assert (outcome.state, await replicas(lab)) == ("failed", 6)
    assert "was changed by somebody else since" in outcome.words


async def test_an_event_is_left_on_the_object(lab: Lab) -> None:
    made = await lab.deployment()
    await lab.do(Scale(**WHERE, to=5, max=9))
    events = await lab.cluster.list(KINDS["Pod"].ref(lab.namespace, "")._replace(plural="events"))
    (event,) = [one for one in events if one.get("source", {}).get("component") == "promantis"]
    assert (event["reason"], event["message"]) == ("Remedied", "case c0ffee: spec.replicas: 3 -> 5")
    about = event["involvedObject"]
    assert (about["kind"], about["name"], about["uid"]) == ("Deployment", "api", made["metadata"]["uid"])


# --------------------------------------------------------------------------- rollouts


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
    assert (await action.apply(job, lab.world)).state == "done"
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


# --------------------------------------------------------------------------- pods


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
    assert (await action.apply(job, lab.world)).state == "failed"


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


# --------------------------------------------------------------------------- nodes


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
    _, outcome = await lab.do(action)
    assert outcome == ("done", "drained node node-1")
    await lab.until(lambda: lab.ready("api", 6))
    assert not [pod for pod in await lab.pods() if pod["spec"]["nodeName"] == "node-1"]
    assert (await lab.get("Node", "node-1"))["spec"]["unschedulable"]


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


# --------------------------------------------------------------------------- bounds, config, any patch


async def autoscaler(lab: Lab) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
    await lab.create("HorizontalPodAutoscaler", "api", spec)


async def test_bounds_of_an_autoscaler(lab: Lab) -> None:
    await lab.deployment()
    await autoscaler(lab)
    action = HpaBounds(**WHERE, max_by=9, min=3, limit=10)
    plan, _ = await lab.plan(action)
    assert plan.do == {"words": f"bounds of horizontalpodautoscaler {lab.namespace}/api from 2..4 to 3..10"}
    job, outcome = await lab.do(action)
    assert outcome.state == "done"
    spec = (await lab.get("HorizontalPodAutoscaler", "api"))["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)
    assert (await action.take_back(job, lab.world)).state == "done"
    spec = (await lab.get("HorizontalPodAutoscaler", "api"))["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 4)


async def test_config_and_its_reader(lab: Lab) -> None:
    await lab.deployment()
    await lab.create("ConfigMap", "settings", None, data={"pool": "20", "token": "hush"})
    action = Config(
        namespace=lab.namespace, name="settings", key="pool", value="40", restart=Reader(name="api")
    )
    before = {pod["metadata"]["uid"] for pod in await lab.pods()}
    plan, _ = await lab.plan(action)
    assert plan.diff[0] == "data.pool: 20 -> 40"
    job, outcome = await lab.do(action)
    assert outcome.state == "done"
    assert (await lab.get("ConfigMap", "settings"))["data"] == {"pool": "40", "token": "hush"}

    async def replaced() -> bool:
        return not {pod["metadata"]["uid"] for pod in await lab.pods()} & before and await lab.ready("api", 3)

    await lab.until(replaced)
    assert (await action.take_back(job, lab.world)).state == "done"
    assert (await lab.get("ConfigMap", "settings"))["data"]["pool"] == "20"
    plan, _ = await lab.plan(Config(namespace=lab.namespace, name="settings", key="token", value="new"))
    assert plan.diff == ("data.token: *** -> ***",)
    with pytest.raises(Unfit, match="there is no other in it"):
        await lab.plan(Config(namespace=lab.namespace, name="settings", key="other", value="1"))


async def test_half_done_is_put_back(lab: Lab) -> None:
    await lab.deployment()
    await lab.create("ConfigMap", "settings", None, data={"pool": "20"})
    action = Config(
        namespace=lab.namespace, name="settings", key="pool", value="40", restart=Reader(name="api")
    )
    _, job = await lab.plan(action)
    lab.proxy.faults.append(Fault("PATCH", "/deployments/api", 403))
    outcome = await action.apply(job, lab.world)
    assert outcome == ("failed", "the cluster answered 403: made to answer 403; put back as it was")
    assert (await lab.get("ConfigMap", "settings"))["data"] == {"pool": "20"}


@pytest.mark.parametrize(
    ("how", "patch"),
    [
        ("merge", {"spec": {"minReadySeconds": 5}}),
        ("strategic", {"spec": {"minReadySeconds": 5}}),
        ("json", [{"op": "add", "path": "/spec/minReadySeconds", "value": 5}]),
    ],
)
async def test_a_patch_of_listed_fields(lab: Lab, how: str, patch: Any) -> None:
    await lab.deployment()
    action = Patch(**WHERE, kind="Deployment", how=how, patch=patch, fields=("/spec/minReadySeconds",))
    plan, _ = await lab.plan(action)
    assert plan.diff in (("spec.minReadySeconds: nothing -> 5",), ("spec.minReadySeconds: 0 -> 5",))
    job, outcome = await lab.do(action)
    assert outcome.state == "done"
    assert (await lab.get("Deployment", "api"))["spec"]["minReadySeconds"] == 5
    assert (await action.take_back(job, lab.world)).state == "done"
    assert not (await lab.get("Deployment", "api"))["spec"].get("minReadySeconds")


async def test_a_patch_of_anything_else_is_refused(lab: Lab) -> None:
    await lab.deployment()
    patch = {"spec": {"minReadySeconds": 5, "paused": True}}
    with pytest.raises(Unfit, match="it would change /spec/paused too, which is not in fields"):
        await lab.plan(Patch(**WHERE, kind="Deployment", patch=patch, fields=("/spec/minReadySeconds",)))


async def test_weights_of_a_custom_route(lab: Lab) -> None:
    if not lab.fake:
        pytest.skip("serves no custom resources")
    kind = "httproutes.v1.gateway.networking.k8s.io"
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{lab.namespace}/httproutes"
    refs = [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]
    body = {"metadata": {"name": "api"}, "spec": {"rules": [{"backendRefs": refs}]}}
    await lab.cluster.ask("POST", path, {}, body)
    field = "/spec/rules/0/backendRefs/0/weight"
    ops = [{"op": "replace", "path": field, "value": 0}]
    action = Patch(**WHERE, kind=kind, how="json", patch=ops, fields=(field,))
    job, outcome = await lab.do(action)
    assert outcome.state == "done"
    route = await lab.cluster.ask("GET", f"{path}/api")
    assert [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]] == [0, 50]
    assert (await action.take_back(job, lab.world)).state == "done"
    route = await lab.cluster.ask("GET", f"{path}/api")
    assert [ref["weight"] for ref in route["spec"]["rules"][0]["backendRefs"]] == [50, 50]
    with pytest.raises(Rejected, match="415"):
        await lab.plan(
            Patch(**WHERE, kind=kind, how="strategic", patch={"spec": {"x": 1}}, fields=("/spec/x",))
        )


# --------------------------------------------------------------------------- rights


async def test_what_may_be_done_is_asked(lab: Lab) -> None:
    right = Right("apps", "deployments/scale", ("patch",), lab.namespace)
    assert await lab.cluster.allowed(right, "patch")
    if lab.fake:
        lab.fake.denied.add(("patch", "deployments"))
        assert not await lab.cluster.allowed(right, "patch")
