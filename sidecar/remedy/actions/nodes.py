"""`cordon`, `uncordon` and `drain`: a node takes no more pods, or gives them away within a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Edit, field
from sidecar.remedy.actions.objects import (
    KINDS,
    WORKLOADS,
    around_node,
    controller,
    owner_of,
    protection,
    word,
)
from sidecar.remedy.actions.pods import POD, kept
from sidecar.remedy.actions.words import Job, Kubernetes, Outcome, Plan, Right, TooMany, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Duration, JsonObject, Rejected, Unavailable

_CLOSED = ("spec", "unschedulable")


class _OnNode(Editing, frozen=True, kw_only=True):
    """What they have in common."""

    verb: ClassVar[str]

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of("Node")

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"{self.verb} {self.about(alert, 'Node')}"

    def rights(self) -> tuple[Right, ...]:
        """The node, among all nodes."""
        return (self.right("Node", "get", "list", "patch"),)


class Cordon(_OnNode, frozen=True, kw_only=True, tag_field="type", tag="cordon"):
    """No new pods on a node."""

    verb = "cordon"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Counted among the nodes that are down or cordoned."""
        cluster, ref = world.cluster, self.ref_of(alert, "Node")
        node = await cluster.get(ref)
        wanted = [Edit(_CLOSED, field(node, _CLOSED), True)]
        change = await edits.dry_run(cluster, node, ref, wanted)
        seen = await around_node(cluster, node, ref, takes=1)
        return edits.plan(self.target(alert), self.target(alert), [change], seen)


class Uncordon(_OnNode, frozen=True, kw_only=True, tag_field="type", tag="uncordon"):
    """New pods on a node again."""

    verb = "uncordon"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Only of a node that is cordoned."""
        cluster, ref = world.cluster, self.ref_of(alert, "Node")
        node = await cluster.get(ref)
        if not field(node, _CLOSED):
            raise Unfit(f"{word(ref)} is not cordoned")
        change = await edits.dry_run(cluster, node, ref, [Edit(_CLOSED, True, None)])
        return edits.simple(self.target(alert), self.target(alert), change, node)


class Drain(_OnNode, frozen=True, kw_only=True, tag_field="type", tag="drain"):
    """Cordon a node and evict its pods; it cannot be undone."""

    verb = "drain"

    deadline: Duration = Duration(600)
    """Then it gives up by uncordoning."""

    @property
    def no_undo(self) -> str:
        """They run elsewhere now."""
        return "evicted pods do not come back; uncordon it when it is well"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.deadline <= 0:
            yield "deadline", "must be longer than 0s"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Refused where a pod has no controller: nobody would make it anew."""
        cluster, ref = world.cluster, self.ref_of(alert, "Node")
        node = await cluster.get(ref)
        if field(node, _CLOSED):
            raise Unfit(f"{word(ref)} is cordoned already")
        change = await edits.dry_run(cluster, node, ref, [Edit(_CLOSED, None, True)])
        pods = await _pods(cluster, ref.name)
        for pod in pods:
            if (why := kept(pod)).startswith("has no"):
                raise Unfit(f"pod {_name(pod)} {why}")
        seen = await around_node(cluster, node, ref, takes=1)
        going = [pod for pod in pods if not kept(pod)]
        seen = msgspec.structs.replace(
            seen,
            protected=seen.protected
            or next(filter(None, map(_marked, going)), "")
            or await _owned(cluster, going),
            namespaces=tuple(sorted({pod["metadata"]["namespace"] for pod in going})),
        )
        plan = edits.plan(self.target(alert), self.target(alert), [change], seen, self.no_undo)
        evicts = tuple(f"evicts pod {_name(pod)}" for pod in going)
        saved = {**plan.saved, "node": ref.name, "deadline": float(self.deadline)}
        return msgspec.structs.replace(plan, diff=plan.diff + evicts, saved=saved)

    async def apply(self, job: Job, world: World) -> Outcome:
        """Cordon, then evict until nothing is left, the deadline has come or somebody stops it."""
        ends = time.monotonic() + job.saved["deadline"]
        outcome = await edits.apply(job, world, "Remedied")
        if outcome.state != "done":
            return outcome
        blocked = "its pods did not go"
        while time.monotonic() < ends and not world.stopped():
            try:
                left = await _left(job, world)
                if not left:
                    return Outcome("done", f"drained node {job.saved['node']}")
                if why := next(filter(None, map(_marked, left)), ""):  # since the plan was made
                    return await self._give_up(job, world, why)
                blocked = await _evict(world, left) or blocked
            except Unavailable as error:
                blocked = str(error)
            except Rejected as error:
                return await self._give_up(job, world, str(error))
            await asyncio.sleep(world.pause)
        return await self._give_up(job, world, "stopped" if world.stopped() else blocked)

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """Drained is done; half drained is given up, as at the deadline."""
        found = await edits.look(job, world, False)
        if found.state != "done":
            return found
        if not await _left(job, world):
            return Outcome("done", "found drained")
        return await self._give_up(job, world, "it was interrupted")

    async def _give_up(self, job: Job, world: World, why: str) -> Outcome:
        """Uncordoning harms nothing, so not even the kill switch holds it up."""
        back = await edits.take_back(job, world._replace(stopped=lambda: False))
        said = "uncordoned" if back.state == "done" else f"NOT uncordoned: {back.words}"
        return Outcome("failed" if back.state == "done" else "unclear", f"gave up: {why}; {said}")

    def rights(self) -> tuple[Right, ...]:
        """The node, and the pods on it with their workloads, wherever they are."""
        return (
            *super().rights(),
            Right("", "pods", ("list",)),
            Right("", "pods/eviction", ("create",)),
            *(Right("apps", KINDS[kind].plural, ("get",)) for kind in WORKLOADS),
        )


async def _pods(cluster: Kubernetes, node: str) -> list[JsonObject]:
    """Pods on a node that are not over."""
    found = await cluster.list(POD.ref("", ""), fields=f"spec.nodeName={node}")
    return [pod for pod in found if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]


async def _left(job: Job, world: World) -> list[JsonObject]:
    """Pods that are still to go."""
    return [pod for pod in await _pods(world.cluster, job.saved["node"]) if not kept(pod)]


def _marked(pod: JsonObject) -> str:
    """Why a pod must be left alone."""
    return protection(pod, POD.ref(pod["metadata"]["namespace"], pod["metadata"]["name"]))


async def _owned(cluster: Kubernetes, pods: list[JsonObject]) -> str:
    """Why the workload of one of them must be; each is looked at once."""
    one_each = {(pod["metadata"]["namespace"], controller(pod)): pod for pod in pods}
    for pod in one_each.values():
        try:
            owner = await owner_of(cluster, pod)
        except Rejected as error:
            if error.status != 404:
                raise
            continue  # it is gone, and its pods go with it
        if owner is not None and (why := protection(owner[1], owner[0])):
            return why
    return ""


async def _evict(world: World, pods: list[JsonObject]) -> str:
    """Ask for each once, until somebody stops it; what forbids one of them, or nothing."""
    blocked = ""
    for pod in pods:
        if world.stopped():
            break
        if "deletionTimestamp" in pod["metadata"]:
            continue
        meta = pod["metadata"]
        try:
            await world.cluster.evict(POD.ref(meta["namespace"], meta["name"]), meta["uid"])
        except TooMany as error:
            blocked = f"pod {_name(pod)}: {error}"
        except Rejected as error:
            if error.status not in (404, 409):
                raise
    return blocked


def _name(pod: JsonObject) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
