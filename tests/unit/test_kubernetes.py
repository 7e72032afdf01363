"""What actions do to a cluster: the fake, and with PROMANTIS_TEST_KUBECONFIG the same on a real API server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sidecar.remedy import hands
from sidecar.remedy.actions.objects import KINDS
from sidecar.remedy.actions.patch import Patch
from sidecar.remedy.actions.scale import Scale
from sidecar.remedy.actions.words import SHAPELESS, Job, Outcome, Ref, Right
from sidecar.remedy.events import Answered, Apply, ReadBack, TakeBack
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import Planned
from sidecar.remedy.policy import Refusal
from sidecar.remedy.templates import Unfit
from sidecar.types import Instant, JsonObject, Rejected, Unavailable
from tests.unit.desk import POLICY
from tests.unit.lab import REAL, WHERE, Fault, Lab
from tests.unit.test_webhook import Down

pytestmark = pytest.mark.timeout(120 if REAL else 30)


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


async def test_a_shape_that_nobody_foresaw_is_an_answer_and_ends_no_task(lab: Lab) -> None:
    if not lab.fake:
        pytest.skip("a real API server would not take it")
    await lab.deployment()
    await lab.create("HorizontalPodAutoscaler", "odd", {"minReplicas": 1})
    lab.proxy.writes.clear()
    action = Scale(**WHERE, by=1, max=9)
    policy = msgspec.structs.replace(POLICY, action=action)
    eyes = Eyes(Down(), [], lab.world, bool, lambda labels, now: "", lambda: Instant(0))
    assert await eyes.planned(policy, lab.alert) == Refusal("target", SHAPELESS)
    job = Job("c0ffee", lab.alert, {"changes": [[["apps"], "uid"]]})
    assert await hands.act(Apply(action, job), lab.world) == Answered(Outcome("unclear", SHAPELESS), False)
    assert await hands.act(TakeBack(action, job), lab.world) == Answered(Outcome("unclear", SHAPELESS), True)
    found = await hands.act(ReadBack(action, job, False), lab.world)
    assert found is not None
    assert found.outcome.state == "unclear"
    assert lab.proxy.writes == []


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


async def test_a_change_between_the_look_and_the_patch_is_not_overwritten(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.deployment()
    action = Scale(**WHERE, to=5, max=9)
    _, job = await lab.plan(action)
    get, changes = lab.cluster.get, iter([4])

    async def overtaken(ref: Ref) -> JsonObject:
        found = await get(ref)
        for replicas in changes:
            await lab.edit("Deployment", "api", {"spec": {"replicas": replicas}})
        return found

    monkeypatch.setattr(lab.cluster, "get", overtaken)
    assert (await action.apply(job, lab.world)).state == "failed"
    assert await replicas(lab) == 4


async def test_an_object_that_is_just_written_or_a_busy_server_is_planned_again(lab: Lab) -> None:
    await lab.deployment()
    policy = msgspec.structs.replace(POLICY, action=Scale(**WHERE, to=5, max=9))
    eyes = Eyes(Down(), [], lab.world, bool, lambda labels, now: "", lambda: Instant(0))
    for status in (409, 429, 503):
        lab.proxy.faults.append(Fault("PATCH", "/scale", status))
        assert await eyes.planned(policy, lab.alert) is None
    made = await eyes.planned(policy, lab.alert)
    assert isinstance(made, Planned)
    await lab.edit("Deployment", "api", {"metadata": {"labels": {"by": "somebody"}}})
    again = await eyes.planned(policy, lab.alert)
    assert isinstance(again, Planned)
    assert again.hash == made.hash, "what it does not touch does not change it"
    lab.proxy.faults.append(Fault("PATCH", "/scale", 403))
    refused = await eyes.planned(policy, lab.alert)
    assert isinstance(refused, Refusal)
    assert refused.reason == "not_allowed"


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


async def autoscaler(lab: Lab) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
    await lab.create("HorizontalPodAutoscaler", "api", spec)


# --------------------------------------------------------------------------- rights


async def test_what_may_be_done_is_asked(lab: Lab) -> None:
    right = Right("apps", "deployments/scale", ("patch",), lab.namespace)
    assert await lab.cluster.allowed(right, "patch")
    if lab.fake:
        lab.fake.denied.add(("patch", "deployments"))
        assert not await lab.cluster.allowed(right, "patch")
