"""`delete-pod` and `evict-pod`: one pod of a workload; eviction waits for disruption budgets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import ClassVar

from sidecar.remedy.actions.edits import persist
from sidecar.remedy.actions.objects import KINDS, WORKLOADS, Named, annotated, around_pod, controller, word
from sidecar.remedy.actions.words import Job, Outcome, Plan, Ref, Right, TooMany, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Duration, JsonObject, Rejected, Unavailable

MIRROR = "kubernetes.io/config.mirror"
GONE = "a pod that is gone does not come back as it was"


class _OnPod(Named, frozen=True, kw_only=True):
    """What both have in common."""

    verb: ClassVar[str]

    @property
    def no_undo(self) -> str:
        """Its successor is another pod."""
        return GONE

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of("Pod")

    async def take_back(self, job: Job, world: World) -> Outcome:
        """Never."""
        return Outcome("failed", self.no_undo)

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """Whether the very pod is gone, or going."""
        try:
            pod = await world.cluster.get(Ref(*job.saved["ref"]))
        except Rejected as error:
            return Outcome("done" if error.status == 404 else "unclear", str(error))
        if pod["metadata"]["uid"] != job.saved["uid"] or "deletionTimestamp" in pod["metadata"]:
            return Outcome("done", "found gone")
        return Outcome("failed", "the pod is there: it was not done")

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"{self.verb} {word(self.ref_of(alert, 'Pod'))}"

    async def _planned(self, alert: Alert, world: World) -> tuple[Plan, Ref, str]:
        """The plan for the very pod that is there now; its place and uid."""
        cluster, ref = world.cluster, self.ref_of(alert, "Pod")
        pod = await cluster.get(ref)
        if why := kept(pod):
            raise Unfit(f"{word(ref)} {why}")
        target, uid = self.target(alert), str(pod["metadata"]["uid"])
        plan = Plan(
            target=target,
            object=word(ref),
            namespace=ref.namespace,
            do={"words": f"{target} (uid {uid})"},
            undo=None,
            no_undo=GONE,
            saved={"ref": [*ref], "uid": uid},
            around=await around_pod(cluster, pod, ref),
        )
        return plan, ref, uid

    async def _take(
        self,
        job: Job,
        world: World,
        send: Callable[[Ref, str], Awaitable[None]],
        verb: str,
        patience: float | None = None,
    ) -> Outcome:
        """Send it for the very pod; after a lost answer only if the pod is still there."""
        ref, lost = Ref(*job.saved["ref"]), False

        async def attempt() -> Outcome:
            nonlocal lost
            if lost and (found := await self.look(job, world, False)).state == "done":
                return found
            try:
                await send(ref, job.saved["uid"])
            except TooMany:
                raise
            except Rejected as error:
                return gone(error, ref, lost)
            except Unavailable:
                lost = True
                raise
            return await _told(world, job, f"{verb} {word(ref)}")

        return await persist(attempt, world, word(ref), lambda: lost, patience)

    def _around_rights(self) -> tuple[Right, ...]:
        return (self.right("Pod", "list"), *(self.right(kind, "get") for kind in WORKLOADS))


class DeletePod(_OnPod, frozen=True, kw_only=True, tag_field="type", tag="delete-pod"):
    """Delete one pod, which its controller makes anew; it cannot be undone."""

    verb = "delete"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """The very pod that is there now."""
        plan, ref, uid = await self._planned(alert, world)
        await world.cluster.delete(ref, uid, dry_run=True)
        return plan

    async def apply(self, job: Job, world: World) -> Outcome:
        """Delete it by its uid, so that a second time does nothing."""
        return await self._take(job, world, world.cluster.delete, "deleted")

    def rights(self) -> tuple[Right, ...]:
        """The pod, and to see its workload."""
        return (self.right("Pod", "get", "delete"), *self._around_rights())


class EvictPod(_OnPod, frozen=True, kw_only=True, tag_field="type", tag="evict-pod"):
    """Evict one pod when its disruption budgets allow; it cannot be undone."""

    verb = "evict"

    wait: Duration = Duration(300)
    """How long it waits for them, then gives up with nothing done."""

    async def plan(self, alert: Alert, world: World) -> Plan:
        """The very pod; a budget that forbids it now may allow it later."""
        plan, ref, uid = await self._planned(alert, world)
        try:
            await world.cluster.evict(ref, uid, dry_run=True)
        except TooMany as error:
            plan.do["words"] += f"; a budget forbids it now, waits up to {self.wait} ({error})"
        plan.saved["wait"] = float(self.wait)
        return plan

    async def apply(self, job: Job, world: World) -> Outcome:
        """Ask until the budget allows it."""
        return await self._take(job, world, world.cluster.evict, "evicted", job.saved["wait"])

    def rights(self) -> tuple[Right, ...]:
        """The pod's eviction, and to see its workload."""
        eviction = self.right("Pod", "create", sub="eviction")
        return (self.right("Pod", "get"), eviction, *self._around_rights())


async def _told(world: World, job: Job, words: str) -> Outcome:
    """Done, with an Event on the pod that is going."""
    about = {"metadata": {"uid": job.saved["uid"]}}
    await world.cluster.event(Ref(*job.saved["ref"]), about, "Remedied", f"case {job.case}: {words}")
    return Outcome("done", words)


def gone(error: Rejected, ref: Ref, lost: bool) -> Outcome:
    """What a refusal means: a pod that is not there any more went by itself, or by our lost request."""
    if error.status == 404 or (error.status == 409 and lost):
        return Outcome("done" if lost else "failed", f"{word(ref)} is gone")
    return Outcome("failed", str(error))


def kept(pod: JsonObject) -> str:
    """Why a pod is not taken, in words: its node or its DaemonSet would put it back at once."""
    if MIRROR in annotated(pod):
        return "is a mirror of its node's manifest"
    owner = controller(pod)
    if owner is not None and owner[0] == "DaemonSet":
        return f"belongs to the DaemonSet {owner[1]}"
    return "" if owner else "has no controller that would make another"


POD = KINDS["Pod"]
