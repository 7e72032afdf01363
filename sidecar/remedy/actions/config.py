"""`config`: one key of a ConfigMap (a pool's size, a limit), then a restart of who reads it."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.remedy import templates
from sidecar.remedy.actions import edits, restart
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Edit, field
from sidecar.remedy.actions.objects import Named, around, word
from sidecar.remedy.actions.words import Plan, Right, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert


class Reader(Named, frozen=True, kw_only=True):
    """Who reads it, in the same namespace."""

    kind: str = "Deployment"
    """Or StatefulSet, DaemonSet."""


class Config(Editing, frozen=True, kw_only=True, tag_field="type", tag="config"):
    """Another value of one key of a ConfigMap, and then, if `restart` is given, a restart of who reads it."""

    key: str
    """Must be there."""
    value: str
    """Its new value."""
    restart: Reader | None = None
    """Who reads it; in the namespace of the ConfigMap."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of("ConfigMap")
        if not self.key:
            yield "key", "must not be empty"
        elif edits.SECRET.search(self.key):
            yield "key", f"{self.key!r} looks like a secret: the journal keeps none"
        if words := templates.check(self.value):
            yield "value", words
        if self.restart:
            if self.restart.namespace:
                yield "restart.namespace", "is that of the ConfigMap"
            for place, words in Named(name=self.restart.name, namespace="any").problems_of("ConfigMap"):
                yield f"restart.{place}", words
            if self.restart.kind not in restart.KINDS:
                yield (
                    "restart.kind",
                    f"unknown kind {self.restart.kind!r} (one of {', '.join(restart.KINDS)})",
                )

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"set {self.key} of {self.about(alert, 'ConfigMap')}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """The value that is there, the new one, and the mark that restarts its reader."""
        cluster, ref = world.cluster, self.ref_of(alert, "ConfigMap")
        obj = await cluster.get(ref)
        path = ("data", self.key)
        if (before := field(obj, path)) is None:
            raise Unfit(f"there is no {self.key} in it")
        value = templates.render(self.value, alert, str)
        seen = around(obj, ref)
        changes = [await edits.dry_run(cluster, obj, ref, [Edit(path, before, value)])]
        words = self.target(alert)
        if self.restart:
            reader = Named(name=self.restart.name, namespace=self.namespace)
            about = reader.ref_of(alert, self.restart.kind)
            there = await cluster.get(about)
            changes.append(await restart.marked(cluster, about, there))
            other = around(there, about)
            if other.protected or (other.changed_at or 0) > (seen.changed_at or 0):
                seen = other
            words += f", then restart {word(about)}"
        return edits.plan(self.target(alert), words, changes, seen)

    def rights(self) -> tuple[Right, ...]:
        """The ConfigMap, and who reads it."""
        reader = self.restart
        more = (self.right(reader.kind, "get", "patch"),) if reader else ()
        return (self.right("ConfigMap", "get", "patch"), *more)
