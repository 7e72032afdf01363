"""`scale`: a number of replicas, a step or a factor, within bounds, through the scale subresource."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Edit, field
from sidecar.remedy.actions.objects import KINDS, around, word
from sidecar.remedy.actions.words import Kubernetes, Plan, Ref, Right, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert


class Scale(Editing, frozen=True, kw_only=True, tag_field="type", tag="scale"):
    """More or fewer replicas of an object that has them, `to`, `by` or by a `factor`; not where an autoscaler
    scales it."""

    kind: str = "Deployment"
    """Or StatefulSet, ReplicaSet, or anything with a scale as `plural.version.group`."""
    to: int | None = None
    """A number."""
    by: int | None = None
    """Or a step."""
    factor: float | None = None
    """Or a factor."""
    min: int = 1
    """Never below."""
    max: int
    """Never above."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of()
        if sum(one is not None for one in (self.to, self.by, self.factor)) != 1:
            yield "", "needs one of to, by and factor"
        if not 0 <= self.min <= self.max:
            yield "min", "must be at least 0 and at most max"
        if self.to is not None and not self.min <= self.to <= self.max:
            yield "to", f"must lie between min and max ({self.min} and {self.max})"
        if self.by == 0 or (self.factor is not None and (self.factor <= 0 or self.factor == 1)):
            yield "by" if self.by == 0 else "factor", "changes nothing"

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"scale {self.about(alert, self.kind)}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """From the replicas that are wanted now; refused where an autoscaler would take it back."""
        cluster, ref = world.cluster, self.ref_of(alert, self.kind, "scale")
        parent, scale = await cluster.get(ref._replace(sub="")), await cluster.get(ref)
        await _no_autoscaler(cluster, ref, str(parent.get("kind", self.kind)))
        now = int(field(scale, ("spec", "replicas")) or 0)
        wanted = self._wanted(now)
        change = await edits.dry_run(cluster, scale, ref, [Edit(("spec", "replicas"), now, wanted)])
        words = f"scale {word(ref)} from {now} to {wanted}"
        return edits.plan(self.target(alert), words, [change], around(parent, ref))

    def rights(self) -> tuple[Right, ...]:
        """The object and its scale, and to see autoscalers."""
        return (
            self.right(self.kind, "get"),
            self.right(self.kind, "get", "patch", sub="scale"),
            self.right("HorizontalPodAutoscaler", "list"),
        )

    def _wanted(self, now: int) -> int:
        if self.to is not None:
            wanted = self.to
        elif self.by is not None:
            wanted = now + self.by
        else:
            grown = now * (self.factor or 1)
            wanted = math.ceil(grown) if grown > now else math.floor(grown)
        return min(max(wanted, self.min), self.max)


async def _no_autoscaler(cluster: Kubernetes, ref: Ref, kind: str) -> None:
    for one in await cluster.list(KINDS["HorizontalPodAutoscaler"].ref(ref.namespace, "")):
        target = one["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (kind, ref.name):
            name = one["metadata"]["name"]
            raise Unfit(f"{word(ref)} is scaled by the autoscaler {name}: use hpa-bounds")
