"""Which object of a cluster an action is about: kinds by name, names by template, and what surrounds it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from sidecar.remedy import templates
from sidecar.remedy.actions.words import Around, Kubernetes, Ref, Right
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Instant, JsonObject, Section

PROTECT = "promantis.io/protect"
"""An object with this annotation, unless it is "false", is never touched; nor what belongs to it."""
MANAGER = "promantis"
"""Our name in managedFields."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CUSTOM = re.compile(r"([a-z0-9-]+)\.(v[a-z0-9]+)\.([a-z0-9.-]+)")
_CONTROLLER = re.compile(
    r".*(controllers?|controller-manager|scheduler|kubelet|operator|autoscaler)|promantis"
)
"""Managers of fields that are no people."""
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


class Kind(NamedTuple):
    """A kind of object, and its place in the API."""

    word: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    def ref(self, namespace: str, name: str, sub: str = "") -> Ref:
        """One object of the kind."""
        return Ref(self.group, self.version, self.plural, namespace, name, sub)


KINDS = {
    kind.word: kind
    for kind in (
        Kind("Deployment", "apps", "v1", "deployments"),
        Kind("StatefulSet", "apps", "v1", "statefulsets"),
        Kind("DaemonSet", "apps", "v1", "daemonsets"),
        Kind("ReplicaSet", "apps", "v1", "replicasets"),
        Kind("Pod", "", "v1", "pods"),
        Kind("Node", "", "v1", "nodes", False),
        Kind("ConfigMap", "", "v1", "configmaps"),
        Kind("Service", "", "v1", "services"),
        Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
        Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    )
}


def kind_of(text: str, namespaced: bool = True) -> Kind | None:
    """A kind by its name, or a custom one as kubectl writes it.

    >>> kind_of("httproutes.v1.gateway.networking.k8s.io")
    Kind(word='httproutes', group='gateway.networking.k8s.io', version='v1', plural='httproutes', namespaced=True)
    """
    if text in KINDS:
        return KINDS[text]
    custom = _CUSTOM.fullmatch(text)
    return Kind(custom[1], custom[3], custom[2], custom[1], namespaced) if custom else None


def known(ref: Ref) -> Kind | None:
    """The kind of an object; None for a custom one."""
    return next((k for k in KINDS.values() if (k.group, k.plural) == (ref.group, ref.plural)), None)


class Named(Section, frozen=True, kw_only=True):
    """An object, by namespace and name; both may be templates."""

    name: str
    """Of the object."""
    namespace: str = ""
    """Of the object; stays empty for nodes."""

    def problems_of(self, *kinds: str) -> Iterator[tuple[str, str]]:
        """What is wrong with the names, and with `kind` where the section has one."""
        text = getattr(self, "kind", kinds[0] if kinds else "")
        kind = kind_of(text, bool(self.namespace))
        if kind is None or (kinds and kind.word not in kinds):
            allowed = ", ".join(kinds) or ", ".join(KINDS) + ", or plural.version.group"
            yield "kind", f"unknown kind {text!r} (one of {allowed})"
        for place, value in (("name", self.name), ("namespace", self.namespace)):
            if words := templates.check(value):
                yield place, words
            elif value and not _NAME.fullmatch(templates.without_holes(value)):
                yield place, f"{value!r} is no name of an object"
        if kind is not None and kind.namespaced != bool(self.namespace):
            yield "namespace", "is missing" if kind.namespaced else f"a {kind.word} has none"

    def ref_of(self, alert: Alert, kind: str, sub: str = "") -> Ref:
        """The object for one alert; Unfit when a label holds what is no name."""
        found = kind_of(kind, bool(self.namespace))
        assert found is not None, "checked when the config was loaded"
        return found.ref(named(self.namespace, alert) if self.namespace else "", named(self.name, alert), sub)

    def right(self, kind: str, *verbs: str, sub: str = "") -> Right:
        """What is needed on objects of the kind in this namespace; a template may be any namespace."""
        found = kind_of(kind, bool(self.namespace))
        assert found is not None, "checked when the config was loaded"
        fixed = self.namespace if "{{" not in self.namespace and found.namespaced else ""
        return Right(found.group, found.plural + (f"/{sub}" if sub else ""), verbs, fixed)


def named(template: str, alert: Alert) -> str:
    """A rendered name; Unfit when it is none, so that no label can point elsewhere."""
    name = templates.render(template, alert, str)
    if not _NAME.fullmatch(name) or ".." in name:
        raise Unfit(f"{name[:60]!r} is no name of an object")
    return name


def word(ref: Ref) -> str:
    """An object in words.

    >>> word(Ref("apps", "v1", "deployments", "shop", "api", "scale")), word(Ref("", "v1", "nodes", "", "n1"))
    ('deployment shop/api', 'node n1')
    """
    kind = known(ref)
    where = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    return f"{kind.word.lower() if kind else f'{ref.plural}.{ref.group}'} {where}"


# --------------------------------------------------------------------------- what surrounds it


def around(obj: JsonObject, ref: Ref, **more: Any) -> Around:
    """Protection and the last change by hand, as the object itself tells."""
    changed = by_hand(obj)
    at, by = changed if changed else (None, "")
    return Around(protected=protection(obj, ref), changed_at=at, changed_by=by, **more)


def protection(obj: JsonObject, ref: Ref) -> str:
    """Why the object must not be touched, in words."""
    value = annotated(obj).get(PROTECT)
    return "" if value in (None, "false") else f"{word(ref)} has the annotation {PROTECT}"


def by_hand(obj: JsonObject) -> tuple[Instant, str] | None:
    """When who that is no controller changed it last: managedFields, and restarts by kubectl."""
    found: list[tuple[Instant, str]] = []
    for entry in obj["metadata"].get("managedFields", ()):
        manager = str(entry.get("manager", "somebody"))
        if entry.get("subresource") != "status" and not _CONTROLLER.fullmatch(manager) and "time" in entry:
            found.append((instant(entry["time"]), manager))
    template = obj.get("spec", {}).get("template", {})
    if isinstance(template, Mapping) and (at := annotated(template).get(_RESTARTED)):
        found.append((instant(at), "kubectl rollout restart"))
    return max(found, default=None)


def annotated(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations of an object."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def instant(time: str) -> Instant:
    """Kubernetes' times; 0 for what is none."""
    try:
        return Instant(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return Instant(0)


def controller(obj: JsonObject) -> tuple[str, str] | None:
    """Kind and name of what controls the object."""
    owners = obj["metadata"].get("ownerReferences", ())
    return next(((o["kind"], o["name"]) for o in owners if o.get("controller")), None)


def ready(obj: JsonObject) -> bool:
    """Whether a pod or a node is Ready, and a pod not on its way out."""
    conditions = obj.get("status", {}).get("conditions", ())
    going = "deletionTimestamp" in obj["metadata"]
    return not going and any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)


async def around_pod(cluster: Kubernetes, pod: JsonObject, ref: Ref) -> Around:
    """A pod and its workload: protected if one of them is; a share is counted of the workload's pods."""
    seen = around(pod, ref)
    owner, members = await workload(cluster, pod)
    if owner is None:
        return seen
    about, obj = owner
    others = [p for p in members if p["metadata"]["uid"] != pod["metadata"]["uid"]]
    wanted = int(obj.get("spec", {}).get("replicas", len(members)))
    down = max(0, wanted - 1 - sum(map(ready, others)))
    change = by_hand(obj)
    if change and (seen.changed_at is None or change[0] > seen.changed_at):
        seen = msgspec.structs.replace(seen, changed_at=change[0], changed_by=change[1])
    return msgspec.structs.replace(
        seen,
        protected=seen.protected or protection(obj, about),
        group=f"pods of {word(about)}",
        members=wanted,
        down=down,
        takes=1,
    )


async def workload(
    cluster: Kubernetes, pod: JsonObject
) -> tuple[tuple[Ref, JsonObject] | None, Sequence[JsonObject]]:
    """What a pod belongs to (a Deployment rather than its ReplicaSet), and all pods of it."""
    owner = await owner_of(cluster, pod)
    if owner is None:
        return None, ()
    pods = KINDS["Pod"].ref(pod["metadata"]["namespace"], "")
    return owner, await cluster.list(pods, labels=selector(owner[1]["spec"]["selector"]))


WORKLOADS = ("ReplicaSet", "Deployment", "StatefulSet")


async def owner_of(cluster: Kubernetes, pod: JsonObject) -> tuple[Ref, JsonObject] | None:
    """The workload that a pod belongs to, the outermost one; None when it is of another kind, or there is none."""
    owner: tuple[Ref, JsonObject] | None = None
    found = controller(pod)
    while found is not None and found[0] in WORKLOADS:
        ref = KINDS[found[0]].ref(pod["metadata"]["namespace"], found[1])
        owner = ref, await cluster.get(ref)
        found = controller(owner[1])
    return owner


def selector(spec: Mapping[str, Any]) -> str:
    """A label selector as the API wants it.

    >>> selector({"matchLabels": {"app": "api"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]})
    'app=api,x'
    """
    parts = [f"{key}={value}" for key, value in (spec.get("matchLabels") or {}).items()]
    for one in spec.get("matchExpressions") or ():
        key, values = one["key"], ",".join(one.get("values") or ())
        shapes = {"Exists": key, "DoesNotExist": f"!{key}", "In": f"{key} in ({values})"}
        parts.append(shapes.get(one["operator"], f"{key} notin ({values})"))
    return ",".join(parts)


async def around_node(cluster: Kubernetes, node: JsonObject, ref: Ref, takes: int) -> Around:
    """A node among the nodes; those that are not ready or cordoned are down."""
    nodes = await cluster.list(KINDS["Node"].ref("", ""))
    others = [n for n in nodes if n["metadata"]["uid"] != node["metadata"]["uid"]]
    down = sum(not ready(n) or bool(n.get("spec", {}).get("unschedulable")) for n in others)
    return around(node, ref, group="nodes", members=len(nodes), down=down, takes=takes)
