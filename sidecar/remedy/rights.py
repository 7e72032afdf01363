"""The rights that the configured actions need, and the manifests that grant no more; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sidecar.remedy.actions.words import Right
from sidecar.remedy.policy import RemedyConfig
from sidecar.types import JsonObject

NAME = "promantis"


def needed(policies: Iterable[RemedyConfig], lease: str | None = None) -> tuple[Right, ...]:
    """Each right once; `lease` is the namespace of the Lease, None without one."""
    found: list[Right] = []
    for policy in policies:
        for action in (policy.action, *(one.action for one in policy.then)):
            rights = action.rights()
            found += rights
            where = next((right.namespace for right in rights), None)
            found += [Right("", "events", ("create",), where)] if where is not None else []
    if lease is not None:
        found.append(Right("coordination.k8s.io", "leases", ("get", "create", "update"), lease))
    verbs: dict[tuple[str, str, str], dict[str, None]] = {}
    for right in found:
        key = (right.namespace, right.group, right.resource)
        verbs.setdefault(key, {}).update(dict.fromkeys(right.verbs))
    wide = {(group, resource): set(got) for (where, group, resource), got in verbs.items() if not where}
    return tuple(
        Right(
            group,
            resource,
            tuple(v for v in got if not where or v not in wide.get((group, resource), ())),
            where,
        )
        for (where, group, resource), got in sorted(verbs.items())
        if not where or set(got) - wide.get((group, resource), set())
    )


def manifests(rights: Iterable[Right], namespace: str) -> Iterator[JsonObject]:
    """A service account, and a role with its binding for each namespace; a ClusterRole for what is in any."""
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": namespace}}
    by_place: dict[str, list[Right]] = {}
    for right in rights:
        by_place.setdefault(right.namespace, []).append(right)
    for place, some in sorted(by_place.items()):
        kind, meta = (
            ("Role", {"name": NAME, "namespace": place}) if place else ("ClusterRole", {"name": NAME})
        )
        rules = [{"apiGroups": [r.group], "resources": [r.resource], "verbs": [*r.verbs]} for r in some]
        yield _rbac(kind, meta, rules=rules)
        yield _rbac(
            f"{kind}Binding",
            meta,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": NAME},
            subjects=[{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
        )


def _rbac(kind: str, metadata: dict[str, str], **more: Any) -> JsonObject:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, **more}


def words(right: Right, verb: str) -> str:
    """A missing right, as somebody would grant it.

    >>> words(Right("apps", "deployments/scale", ("patch",), "shop"), "patch")
    'may not patch deployments/scale.apps in namespace shop'
    """
    where = f" in namespace {right.namespace}" if right.namespace else ""
    return f"may not {verb} {right.resource}{'.' + right.group if right.group else ''}{where}"
