"""`patch`: any patch of any object, custom ones too, that changes nothing but the listed fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.remedy import templates
from sidecar.remedy.actions import edits
from sidecar.remedy.actions.base import Editing
from sidecar.remedy.actions.edits import Edit, field
from sidecar.remedy.actions.objects import word
from sidecar.remedy.actions.words import Plan, Right, World
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, JsonObject

HOW = ("merge", "strategic", "json")
_FORBIDDEN = ("secrets", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "serviceaccounts")
_CHANGEABLE = re.compile(
    r"/metadata/annotations/(?!promantis)[^/]+|/(?!metadata|status|kind|apiVersion)[^/]+(/[^/]+)*"
)


class Patch(Editing, frozen=True, kw_only=True, tag_field="type", tag="patch"):
    """A patch of any object but secrets, accounts and roles. What is applied is what the dry run showed, field
    by field, and what is undone is just that."""

    kind: str
    """A kind, or a custom one such as `httproutes.v1.gateway.networking.k8s.io`."""
    how: str = "merge"
    """`merge`, `strategic` or `json`."""
    patch: Any
    """The patch, with templates inside of strings only."""
    fields: tuple[str, ...]
    """All that it may change, e.g. `[/spec/rules/0/weight]`; else it is refused."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.problems_of()
        if self.kind.partition(".")[0] in _FORBIDDEN:
            yield "kind", f"{self.kind.partition('.')[0]} are not patched: no secrets, and no rights"
        if self.how not in HOW:
            yield "how", f"unknown way {self.how!r} (one of {', '.join(HOW)})"
        elif not isinstance(self.patch, list if self.how == "json" else dict) or not self.patch:
            yield "patch", "must be a list of operations" if self.how == "json" else "must be an object"
        if not self.fields:
            yield "fields", "needs the fields that it may change, such as /spec/weight"
        for i, pointer in enumerate(self.fields):
            if not _CHANGEABLE.fullmatch(pointer):
                yield f"fields[{i}]", f"{pointer!r} is no field that may be changed, such as /spec/weight"
        yield from _holes(self.patch, "patch")

    def target(self, alert: Alert) -> str:
        """The action and its object."""
        return f"patch {self.about(alert, self.kind)}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Dry run of the patch; Unfit when anything else would change too."""
        cluster, ref = world.cluster, self.ref_of(alert, self.kind)
        obj = await cluster.get(ref)
        body: Any = _filled(self.patch, alert)
        dry = await cluster.patch(ref, body, self.how, dry_run=True)
        paths = [_cut(obj, tuple(_unescaped(part) for part in p.split("/")[1:])) for p in self.fields]
        for changed in _changed(_own(obj), _own(dry)):
            if not any(changed[: len(path)] == path for path in paths):
                raise Unfit(f"it would change /{'/'.join(changed)} too, which is not in fields")
        wanted = [Edit(path, field(obj, path), field(dry, path)) for path in dict.fromkeys(paths)]
        change = await edits.dry_run(cluster, obj, ref, wanted)
        return edits.simple(self.target(alert), f"patch {word(ref)}", change, obj)

    def rights(self) -> tuple[Right, ...]:
        """The object."""
        return (self.right(self.kind, "get", "patch"),)


def _own(obj: JsonObject) -> JsonObject:
    """What is not the server's."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in edits.SERVERS}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}


def _changed(a: Any, b: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of what differs, as deep as there are objects."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            yield from _changed(a.get(key), b.get(key), (*path, key))
    elif a != b:
        yield path


def _cut(obj: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path up to the first list: lists are replaced whole."""
    for i in range(1, len(path)):
        if isinstance(field(obj, path[:i]), list):
            return path[:i]
    return path


def _filled(value: Any, alert: Alert) -> Any:
    """Templates rendered inside of strings, so that no value can add a key."""
    if isinstance(value, str):
        return templates.render(value, alert, str)
    if isinstance(value, Mapping):
        return {key: _filled(one, alert) for key, one in value.items()}
    return [_filled(one, alert) for one in value] if isinstance(value, list) else value


def _holes(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and (words := templates.check(value)):
        yield place, words
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _holes(one, f"{place}.{key}")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _holes(one, f"{place}[{i}]")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
