"""`rollback`: a Deployment back to the template of its previous ReplicaSet."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Change, Edit, field
from sidecar.remedy.actions.objects import KINDS, annotated, around, by_hand, instant, selector, word
from sidecar.remedy.actions.words import Job, Kubernetes, Outcome, Plan, Ref, Right, World, digest
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Instant, JsonObject

_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"
_TEMPLATE = ("spec", "template")
SAME = 30.0
"""Seconds between a deployment's change and the ReplicaSet that it made: then that is the deployment itself."""


class Rollback(Editing, frozen=True, kw_only=True, tag_field="type", tag="rollback"):
    """A Deployment, to the template of its previous ReplicaSet. Templates may hold secrets: the journal keeps names and
    digests."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of("Deployment")

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"roll back {self.about(alert, 'Deployment')}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """To the revision before; the bad deployment itself is no change by hand, whatever came after is."""
        cluster, ref = world.cluster, self.ref_of(alert, "Deployment")
        obj = await cluster.get(ref)
        sets = await _revisions(cluster, ref, obj)
        current, before = _last_two(obj, sets)
        edit = Edit(_TEMPLATE, field(obj, _TEMPLATE), _template(before))
        change = await edits.dry_run(cluster, obj, ref, [edit], kept=False)
        words = f"roll back {word(ref)} from revision {_number(current)} to {_number(before)}"
        name = current["metadata"]["name"]
        saved = {
            "ref": [*ref],
            "uid": change.uid,
            "from": [name, digest(edit.before)],
            "to": [before["metadata"]["name"], digest(_template(before))],
        }
        seen = around(obj, ref)
        if _is_the_deployment(by_hand(obj), current):
            seen = around({**obj, "metadata": {**obj["metadata"], "managedFields": []}}, ref)
        return Plan(
            target=self.target(alert),
            object=word(ref),
            namespace=ref.namespace,
            do={"words": words},
            undo={"words": f"puts back the template of {name}"},
            diff=edits.diff(change.edits),
            saved=saved,
            around=seen,
        )

    async def apply(self, job: Job, world: World) -> Outcome:
        """Put the older template in place."""
        return await _swap(job, world, "from", "to", "Remedied")

    async def take_back(self, job: Job, world: World) -> Outcome:
        """Put the newer one back."""
        return await _swap(job, world, "to", "from", "RemedyUndone")

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """Which of the two templates is there."""
        obj = await world.cluster.get(Ref(*job.saved["ref"]))
        there = digest(field(obj, _TEMPLATE))
        if there == job.saved["from" if undo else "to"][1]:
            return Outcome("done", "found done")
        return Outcome("failed", f"{word(Ref(*job.saved['ref']))} was not rolled back, or changed since")

    def rights(self) -> tuple[Right, ...]:
        """The object and its ReplicaSets."""
        return (self.right("Deployment", "get", "patch"), self.right("ReplicaSet", "get", "list"))


async def _swap(job: Job, world: World, old: str, new: str, reason: str) -> Outcome:
    ref = Ref(*job.saved["ref"])
    found: list[Edit] = []

    async def read() -> Outcome:
        there = field(await world.cluster.get(ref), _TEMPLATE)
        if digest(there) == job.saved[new][1]:
            return Outcome("done", f"{word(ref)} is as it should be")
        if digest(there) != job.saved[old][1]:
            return Outcome("failed", f"{word(ref)} was changed by somebody else since")
        source = await world.cluster.get(KINDS["ReplicaSet"].ref(ref.namespace, job.saved[new][0]))
        found.append(Edit(_TEMPLATE, there, _template(source)))
        return Outcome("done", "read")

    outcome = await edits.persist(read, world, word(ref), lambda: False)
    if outcome.state != "done" or not found:
        return outcome
    return await edits.make(Change(ref, job.saved["uid"], tuple(found)), world, reason, job.case)


async def _revisions(cluster: Kubernetes, ref: Ref, obj: JsonObject) -> list[JsonObject]:
    """Its ReplicaSets, the newest revision first."""
    where = KINDS["ReplicaSet"].ref(ref.namespace, "")
    uid = obj["metadata"]["uid"]
    found = [
        one
        for one in await cluster.list(where, labels=selector(obj["spec"]["selector"]))
        if any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences", ()))
    ]
    return sorted(found, key=_number, reverse=True)


def _last_two(obj: JsonObject, sets: Sequence[JsonObject]) -> tuple[JsonObject, JsonObject]:
    now = digest(field(obj, _TEMPLATE))
    current = next((one for one in sets if digest(_template(one)) == now), None)
    if current is None:
        raise Unfit("no ReplicaSet has the template that is wanted now: the rollout has not begun")
    older = [one for one in sets if _number(one) < _number(current)]
    if not older:
        raise Unfit("there is no earlier revision")
    return current, older[0]


def _number(one: JsonObject) -> int:
    text = annotated(one).get(_REVISION, "")
    return int(text) if text.isdecimal() else 0


def _template(one: JsonObject) -> Any:
    """A ReplicaSet's template as the Deployment's was."""
    template = copy.deepcopy(field(one, _TEMPLATE))
    template.get("metadata", {}).get("labels", {}).pop(_HASH, None)
    return template


def _is_the_deployment(changed: tuple[Instant, str] | None, current: JsonObject) -> bool:
    made = instant(current["metadata"].get("creationTimestamp", ""))
    return changed is not None and abs(changed[0] - made) <= SAME
