"""Actions that write fields of an object: bounds, configuration, a patch of anything, traffic weights."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.remedy.actions.config import Config, Reader
from sidecar.remedy.actions.hpa import HpaBounds
from sidecar.remedy.actions.patch import Patch
from sidecar.remedy.templates import Unfit
from sidecar.types import Rejected
from tests.unit.lab import REAL, WHERE, Fault, Lab

pytestmark = pytest.mark.timeout(120 if REAL else 30)


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
    with pytest.raises(
        Unfit, match=r"data.token of configmap .* looks like a secret, and the journal keeps none"
    ):
        await lab.plan(Config(namespace=lab.namespace, name="settings", key="token", value="new"))
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


async def test_half_done_by_who_is_gone_is_put_back(lab: Lab) -> None:
    await lab.deployment()
    await lab.create("ConfigMap", "settings", None, data={"pool": "20"})
    reader = Reader(name="api")
    action = Config(namespace=lab.namespace, name="settings", key="pool", value="40", restart=reader)
    _, job = await lab.plan(action)
    await lab.edit("ConfigMap", "settings", {"data": {"pool": "40"}})  # as far as it came
    outcome = await action.look(job, lab.world, False)
    assert outcome == ("failed", "it was interrupted half-way; put back as it was")
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
