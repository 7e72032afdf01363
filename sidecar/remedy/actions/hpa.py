"""`hpa-bounds`: the least and most replicas of an autoscaler."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Edit, field
from sidecar.remedy.actions.words import Plan, Right, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert

_KIND = "HorizontalPodAutoscaler"


class HpaBounds(Editing, frozen=True, kw_only=True, tag_field="type", tag="hpa-bounds"):
    """Least and most replicas of an autoscaler: numbers, or steps from what they are now."""

    min: int | None = None
    """The least."""
    max: int | None = None
    """The most."""
    min_by: int = 0
    """Or a step of the least from what it is."""
    max_by: int = 0
    """Or a step of the most."""
    limit: int
    """The most is never above."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of(_KIND)
        if self.min is None and self.max is None and not self.min_by and not self.max_by:
            yield "", "needs min, max, min_by or max_by"
        for name in ("min", "max"):
            if getattr(self, name) is not None and getattr(self, f"{name}_by"):
                yield name, f"either {name} or {name}_by"
        if self.limit < 1 or (self.max or 1) > self.limit:
            yield "limit", "must be at least 1, and max"

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"bounds of {self.about(alert, _KIND)}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """From the bounds that are there."""
        ref = self.ref_of(alert, _KIND)
        obj = await world.cluster.get(ref)
        least, most = (field(obj, ("spec", name)) for name in ("minReplicas", "maxReplicas"))
        low = self.min if self.min is not None else (least or 1) + self.min_by
        high = min(self.max if self.max is not None else most + self.max_by, self.limit)
        if not 1 <= low <= high:
            raise Unfit(f"the least ({low}) would not lie between 1 and the most ({high})")
        wanted = [Edit(("spec", "maxReplicas"), most, high), Edit(("spec", "minReplicas"), least, low)]
        change = await edits.dry_run(world.cluster, obj, ref, wanted)
        words = f"bounds of {self.about(alert, _KIND)} from {least or 1}..{most} to {low}..{high}"
        return edits.simple(self.target(alert), words, change, obj)

    def rights(self) -> tuple[Right, ...]:
        """The autoscaler."""
        return (self.right(_KIND, "get", "patch"),)
