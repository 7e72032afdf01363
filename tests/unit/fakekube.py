"""A small API server of Kubernetes' kind over plain HTTP: versions, dry runs, patches, evictions, rollouts.

Its answers were held against a real API server: tests/unit/test_kubernetes.py runs against both. Controllers
settle at once after every write, so that a rollout is over when its patch is answered.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

Json = dict[str, Any]
_PLACE = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))(?:/namespaces/(?P<ns>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
_BUILTIN = ("", "apps", "autoscaling", "policy", "coordination.k8s.io")
KINDS = {
    "deployments": "Deployment",
    "replicasets": "ReplicaSet",
    "statefulsets": "StatefulSet",
    "pods": "Pod",
}
KINDS |= {"nodes": "Node", "configmaps": "ConfigMap", "horizontalpodautoscalers": "HorizontalPodAutoscaler"}
KINDS |= {"poddisruptionbudgets": "PodDisruptionBudget", "leases": "Lease", "events": "Event"}
NEVER_READY = "minik8s/never-ready"
Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""


class Refused(Exception):
    """A Status that is no success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class FakeKube:
    """All objects, in memory; `app` serves them."""

    def __init__(self, nodes: int = 3) -> None:
        self.objects: dict[Key, Json] = {}
        self.version = 100
        self.denied: set[tuple[str, str]] = set()
        """Verb and resource that reviews deny."""
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._serve)
        for i in range(1, nodes + 1):
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            node = {"metadata": {"name": f"node-{i}"}, "spec": {}, "status": status}
            self._store(("", "nodes", "", f"node-{i}"), node, "kubelet")

    async def _serve(self, request: web.Request) -> web.Response:
        place = _PLACE.fullmatch(request.path)
        body = json.loads(await request.read() or b"null")
        try:
            if place is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            return web.json_response(self._answer(request, place, body), status=200)
        except Refused as no:
            status = {
                "kind": "Status",
                "status": "Failure",
                "message": str(no),
                "reason": no.reason,
                "code": no.code,
            }
            return web.json_response(status, status=no.code)

    def _answer(self, request: web.Request, place: re.Match[str], body: Any) -> Json:
        group, plural = place["group"] or "", place["plural"]
        key = (group, plural, place["ns"] or "", place["name"] or "")
        dry = request.query.get("dryRun") == "All" or bool((body or {}) if isinstance(body, list) else False)
        match request.method, place["sub"]:
            case "POST", _ if plural == "selfsubjectaccessreviews":
                asked = body["spec"]["resourceAttributes"]
                return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.denied}}
            case "POST", "eviction":
                return self._evict(key, body, dry)
            case "POST", None:
                name = body["metadata"].get("name") or body["metadata"]["generateName"] + uuid.uuid4().hex[:5]
                made = (group, plural, key[2], name)
                if made in self.objects:
                    raise Refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
                self._store(made, body | {"metadata": {**body["metadata"], "name": name}}, "test")
                self.settle()
                return self.objects[made]
            case "GET", None if not key[3]:
                return {"kind": "List", "metadata": {}, "items": [*self._selected(request, key)]}
            case "GET", sub:
                return self._scale(key) if sub == "scale" else self._there(key)
            case "PATCH", sub:
                kind = request.content_type
                return self._patch(key, sub, body, kind, dry, request.query.get("fieldManager", "unknown"))
            case "PUT", None:
                old = self._there(key)
                if body["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
                    raise Refused(409, "Conflict", _conflict(key))
                self._valid(key, body)
                self._store(key, body, "test", old)
                return self.objects[key]
            case "DELETE", None:
                old, options = self._there(key), body or {}
                self._same(old, options, key)
                if not (dry or options.get("dryRun")):
                    del self.objects[key]
                    self.settle()
                return {"kind": "Status", "status": "Success"}
        raise Refused(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def _there(self, key: Key) -> Json:
        if key not in self.objects:
            name = f"{key[1]}.{key[0]}".rstrip(".")
            raise Refused(404, "NotFound", f'{name} "{key[3]}" not found')
        return self.objects[key]

    def _same(self, obj: Json, options: Json, key: Key) -> None:
        wanted = options.get("preconditions", {}).get("uid")
        if wanted not in (None, obj["metadata"]["uid"]):
            raise Refused(409, "Conflict", f"the UID in the precondition ({wanted}) does not match {key[3]}")

    def _selected(self, request: web.Request, key: Key) -> Iterator[Json]:
        labels = dict(p.split("=") for p in request.query.get("labelSelector", "").split(",") if p)
        fields = dict(p.split("=") for p in request.query.get("fieldSelector", "").split(",") if p)
        for (group, plural, namespace, _), obj in self.objects.items():
            if (group, plural) != key[:2] or (key[2] and namespace != key[2]):
                continue
            has = obj["metadata"].get("labels", {})
            if all(has.get(k) == v for k, v in labels.items()) and all(
                _dotted(obj, path) == value for path, value in fields.items()
            ):
                yield obj

    # ------------------------------------------------------------------ writes

    def _patch(self, key: Key, sub: str | None, body: Any, kind: str, dry: bool, manager: str) -> Json:
        old = self._scale(key) if sub == "scale" else self._there(key)
        if kind == "application/strategic-merge-patch+json" and key[0] not in _BUILTIN:
            words = "the body of the request was in an unknown format - accepted media types include: "
            raise Refused(415, "UnsupportedMediaType", words + "application/json-patch+json")
        new = _json_patched(old, body) if isinstance(body, list) else _merged(old, body, "strategic" in kind)
        if new["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", _conflict(key))
        self._valid(key, new)
        if sub == "scale":
            whole = copy.deepcopy(self._there(key))
            whole["spec"]["replicas"] = new["spec"]["replicas"]
            if not dry:
                self._store(key, whole, manager, self._there(key), "scale")
                self.settle()
            return self._scale(key) if not dry else new
        if dry:
            return new
        self._store(key, new, manager, old)
        self.settle()
        return self.objects[key]

    def _valid(self, key: Key, obj: Json) -> None:
        if key[1] == "leases" and obj["spec"].get("holderIdentity") == "":
            what = f'Lease.coordination.k8s.io "{key[3]}" is invalid: spec.holderIdentity: must not be empty'
            raise Refused(422, "Invalid", what)
        replicas = obj.get("spec", {}).get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            what = f'"{key[3]}" is invalid: spec.replicas: Invalid value: {replicas}'
            raise Refused(422, "Invalid", f"{KINDS.get(key[1], key[1])}.{key[0]} {what}")
        bounds = obj.get("spec", {})
        if key[1] == "horizontalpodautoscalers" and bounds["maxReplicas"] < (bounds.get("minReplicas") or 1):
            raise Refused(422, "Invalid", f'{KINDS[key[1]]} "{key[3]}" is invalid: spec.maxReplicas')

    def _evict(self, key: Key, body: Json, dry: bool) -> Json:
        pod = self._there(key)
        options = body.get("deleteOptions", {})
        self._same(pod, options, key)
        for (_, plural, namespace, _), budget in self.objects.items():
            wanted = budget.get("spec", {}).get("selector", {}).get("matchLabels", {})
            if plural != "poddisruptionbudgets" or namespace != key[2]:
                continue
            fits = [
                p for p in self._pods(key[2]) if wanted.items() <= p["metadata"].get("labels", {}).items()
            ]
            if pod in fits and sum(map(_ready, fits)) - 1 < budget["spec"]["minAvailable"] and _ready(pod):
                words = "Cannot evict pod as it would violate the pod's disruption budget."
                raise Refused(429, "TooManyRequests", words)
        if not (dry or options.get("dryRun")):
            del self.objects[key]
            self.settle()
        return {"kind": "Status", "status": "Success"}

    def _scale(self, key: Key) -> Json:
        whole = self._there(key)
        meta = {k: whole["metadata"][k] for k in ("name", "namespace", "uid", "resourceVersion")}
        return {"kind": "Scale", "metadata": meta, "spec": {"replicas": whole["spec"]["replicas"]}}

    def _store(self, key: Key, obj: Json, manager: str, old: Json | None = None, sub: str = "") -> None:
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        self.version += 1
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        before = (
            old["metadata"] if old else {"generation": 0, "uid": str(uuid.uuid4()), "creationTimestamp": now}
        )
        changed = old is None or old.get("spec") != obj.get("spec")
        meta |= {"name": key[3], "uid": before["uid"], "creationTimestamp": before["creationTimestamp"]}
        meta |= {"namespace": key[2]} if key[2] else {}
        meta["resourceVersion"] = str(self.version)
        meta["generation"] = before["generation"] + changed
        entry = {"manager": manager, "operation": "Update", "time": now} | (
            {"subresource": sub} if sub else {}
        )
        meta["managedFields"] = [*before.get("managedFields", []), entry]
        obj.setdefault("kind", KINDS.get(key[1], key[1]))
        self.objects[key] = obj

    # ------------------------------------------------------------------ controllers

    def settle(self) -> None:
        """Rollouts, pods and status; what lost its owner goes."""
        while lost := [k for k, o in self.objects.items() if _owner(o) and _owner(o) not in self._uids()]:
            for key in lost:
                del self.objects[key]
        for key, obj in [*self.objects.items()]:
            if key[1] == "deployments":
                self._roll_out(key, obj)
        for key, obj in [*self.objects.items()]:
            if key[1] == "replicasets":
                self._pods_for(key, obj)
        for key, obj in self.objects.items():
            if key[1] == "deployments":
                own = [p for p in self._pods(key[2]) if _fits(obj, p)]
                obj["status"] = {"replicas": len(own), "readyReplicas": sum(map(_ready, own))}

    def _roll_out(self, key: Key, obj: Json) -> None:
        digest = hashlib.sha256(json.dumps(obj["spec"]["template"], sort_keys=True).encode()).hexdigest()[:8]
        own = {
            k: o
            for k, o in self.objects.items()
            if k[1] == "replicasets" and _owner(o) == obj["metadata"]["uid"]
        }
        last = max((int(o["metadata"]["annotations"][REVISION]) for o in own.values()), default=0)
        name = f"{key[3]}-{digest}"
        current = (key[0], "replicasets", key[2], name)
        if current not in own:
            template = copy.deepcopy(obj["spec"]["template"])
            template["metadata"]["labels"]["pod-template-hash"] = digest
            meta = {"labels": template["metadata"]["labels"], "annotations": {REVISION: str(last + 1)}}
            meta["ownerReferences"] = [_reference("Deployment", obj)]
            spec = {
                "replicas": 0,
                "template": template,
                "selector": {"matchLabels": {"pod-template-hash": digest}},
            }
            self._store(current, {"metadata": meta, "spec": spec}, "kube-controller-manager")
        elif int(own[current]["metadata"]["annotations"][REVISION]) < last:
            self.objects[current]["metadata"]["annotations"][REVISION] = str(last + 1)
        for other in own:
            self.objects[other]["spec"]["replicas"] = 0
        self.objects[current]["spec"]["replicas"] = obj["spec"]["replicas"]

    def _pods_for(self, key: Key, obj: Json) -> None:
        own = [k for k, p in self.objects.items() if k[1] == "pods" and _owner(p) == obj["metadata"]["uid"]]
        for extra in own[obj["spec"]["replicas"] :]:
            del self.objects[extra]
        nodes = [o for k, o in self.objects.items() if k[1] == "nodes" and not o["spec"].get("unschedulable")]
        for _ in range(obj["spec"]["replicas"] - len(own)):
            name = f"{key[3]}-{uuid.uuid4().hex[:5]}"
            template = copy.deepcopy(obj["spec"]["template"])
            node = nodes[len(self.objects) % len(nodes)]["metadata"]["name"] if nodes else ""
            bad = NEVER_READY in template["metadata"].get("annotations", {})
            ready = {"type": "Ready", "status": "False" if bad or not node else "True"}
            pod = {
                "metadata": template["metadata"] | {"ownerReferences": [_reference("ReplicaSet", obj)]},
                "spec": template["spec"] | {"nodeName": node},
                "status": {"phase": "Running", "conditions": [ready]},
            }
            self._store(("", "pods", key[2], name), pod, "kube-controller-manager")

    def _uids(self) -> set[str]:
        return {o["metadata"]["uid"] for o in self.objects.values()} | {"u"}

    def _pods(self, namespace: str) -> list[Json]:
        return [o for k, o in self.objects.items() if k[1] == "pods" and k[2] == namespace]


REVISION = "deployment.kubernetes.io/revision"


def _reference(kind: str, obj: Json) -> Json:
    return {"kind": kind, "name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"], "controller": True}


def _owner(obj: Json) -> str | None:
    return next((one["uid"] for one in obj["metadata"].get("ownerReferences", ())), None)


def _fits(obj: Json, pod: Json) -> bool:
    return bool(obj["spec"]["selector"]["matchLabels"].items() <= pod["metadata"].get("labels", {}).items())


def _ready(pod: Json) -> bool:
    return any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"]["conditions"])


def _conflict(key: Key) -> str:
    words = "the object has been modified; please apply your changes to the latest version and try again"
    return f'Operation cannot be fulfilled on {key[1]}.{key[0]} "{key[3]}": {words}'


def _dotted(obj: Any, path: str) -> Any:
    for key in path.split("."):
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _merged(old: Any, patch: Any, strategic: bool) -> Any:
    """RFC 7386; strategic: lists of what has a name are merged by it."""
    if strategic and isinstance(patch, list) and isinstance(old, list) and all("name" in p for p in patch):
        by_name = {one["name"]: one for one in old}
        for one in patch:
            by_name[one["name"]] = _merged(by_name.get(one["name"], {}), one, strategic)
        return [*by_name.values()]
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value, strategic)
    return new


def _json_patched(old: Json, operations: list[Json]) -> Json:
    """RFC 6902: test, add, replace and remove."""
    new = copy.deepcopy(old)
    for operation in operations:
        *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
        place: Any = new
        for part in parents:
            place = place[int(part) if isinstance(place, list) else part]
        index: Any = int(last) if isinstance(place, list) and last != "-" else last
        if operation["op"] == "test":
            if (place[index] if isinstance(place, list) else place.get(index)) != operation["value"]:
                raise Refused(
                    422, "Invalid", "the server rejected our request due to an error in our request"
                )
        elif operation["op"] == "remove":
            del place[index]
        else:
            place[index] = operation["value"]
    return new
