"""`restart`: a rollout of the same template, by an annotation in it."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Change, Edit, field
from sidecar.remedy.actions.objects import around, word
from sidecar.remedy.actions.words import Kubernetes, Plan, Ref, Right, World, digest
from sidecar.types import Alert, JsonObject

MARK = ("spec", "template", "metadata", "annotations", "promantis.io/restart")
KINDS = ("Deployment", "StatefulSet", "DaemonSet")


class Restart(Editing, frozen=True, kw_only=True, tag_field="type", tag="restart"):
    """A rolling restart; it cannot be undone."""

    kind: str = "Deployment"
    """Or StatefulSet, DaemonSet."""

    @property
    def no_undo(self) -> str:
        """The old processes are gone."""
        return "pods that were replaced do not come back"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of(*KINDS)

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"restart {self.about(alert, self.kind)}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """A mark that is new for the template that is there; all pods at once count as taken."""
        cluster, ref = world.cluster, self.ref_of(alert, self.kind)
        obj = await cluster.get(ref)
        change = await marked(cluster, ref, obj)
        replicas = int(obj["spec"].get("replicas", 0))
        at_once = field(obj, ("spec", "strategy", "type")) == "Recreate"
        down = max(0, replicas - int(field(obj, ("status", "readyReplicas")) or 0)) if at_once else 0
        seen = around(
            obj,
            ref,
            group=f"pods of {word(ref)}",
            members=replicas,
            down=down,
            takes=replicas - down if at_once else 0,
        )
        target = self.target(alert)
        return edits.plan(target, target, [change], seen, self.no_undo)

    def rights(self) -> tuple[Right, ...]:
        """The object."""
        return (self.right(self.kind, "get", "patch"),)


async def marked(cluster: Kubernetes, ref: Ref, obj: JsonObject) -> Change:
    """The change that restarts it: the mark follows from the template, so that a plan stays the same."""
    mark = f"after-{digest(obj['spec']['template'])}"
    return await edits.dry_run(cluster, obj, ref, [Edit(MARK, field(obj, MARK), mark)])
