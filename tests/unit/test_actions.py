"""What is wrong with an action is found at load; what an alert says never leads elsewhere; the rights needed."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from sidecar import config
from sidecar.commands.check import rbac
from sidecar.remedy.actions import TYPES
from sidecar.remedy.actions.edits import Edit, diff, field, merge, secrets
from sidecar.remedy.actions.objects import by_hand, named
from sidecar.remedy.actions.restart import Restart
from sidecar.remedy.rights import needed
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, ConfigError
from tests.unit.fakekube import _merged

WHERE = {"namespace": "shop", "name": "api"}


def parsed(*actions: dict[str, object], **more: object) -> config.Config:
    remedies = [
        {"name": f"p{i}", "match": ["a=b"], "action": action, "verify": {"query": "up"}, **more}
        for i, action in enumerate(actions)
    ]
    return config.parse(json.dumps({"remedies": remedies, "kubernetes": {}}))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"type": "scale", **WHERE, "max": 9}, "needs one of to, by and factor"),
        ({"type": "scale", **WHERE, "max": 9, "to": 1, "by": 1}, "needs one of to, by and factor"),
        ({"type": "scale", **WHERE, "max": 9, "to": 10}, ".to: must lie between min and max (1 and 9)"),
        ({"type": "scale", **WHERE, "max": 9, "factor": 1}, ".factor: changes nothing"),
        ({"type": "scale", **WHERE, "by": 1}, ": missing key `max`"),
        ({"type": "scale", "name": "api", "max": 9, "by": 1}, ".namespace: is missing"),
        (
            {"type": "scale", **WHERE, "kind": "Thing", "max": 9, "by": 1},
            ".kind: unknown kind 'Thing' (one of ",
        ),
        (
            {"type": "restart", **WHERE, "kind": "Pod"},
            ".kind: unknown kind 'Pod' (one of Deployment, StatefulSet, DaemonSet)",
        ),
        ({"type": "restart", "namespace": "shop", "name": "A/b"}, ".name: 'A/b' is no name of an object"),
        ({"type": "rollback", "namespace": "shop", "name": "{{ x }}"}, ".name: unknown expression {{ x }} "),
        ({"type": "cordon", **WHERE}, ".namespace: a Node has none"),
        ({"type": "drain", "name": "n", "deadline": "0"}, ".deadline: must be longer than 0s"),
        ({"type": "hpa-bounds", **WHERE, "limit": 5}, "needs min, max, min_by or max_by"),
        ({"type": "hpa-bounds", **WHERE, "limit": 5, "max": 6}, ".limit: must be at least 1, and max"),
        ({"type": "hpa-bounds", **WHERE, "limit": 5, "max": 5, "max_by": 1}, ".max: either max or max_by"),
        (
            {"type": "patch", **WHERE, "kind": "secrets.v1.core", "patch": {"a": 1}, "fields": ["/a"]},
            ".kind: secrets are not patched: no secrets, and no rights",
        ),
        (
            {"type": "patch", **WHERE, "kind": "Service", "patch": {"a": 1}, "fields": ["/metadata/uid"]},
            ".fields[0]: '/metadata/uid' is no field that may be changed, such as /spec/weight",
        ),
        (
            {"type": "patch", **WHERE, "kind": "Service", "patch": {"a": 1}, "fields": []},
            ".fields: needs the fields that it may change, such as /spec/weight",
        ),
        (
            {"type": "patch", **WHERE, "kind": "Service", "how": "json", "patch": {"a": 1}, "fields": ["/a"]},
            ".patch: must be a list of operations",
        ),
        (
            {"type": "patch", **WHERE, "kind": "Service", "patch": {"a": ["{{ x }}"]}, "fields": ["/a"]},
            ".patch.a[0]: unknown expression {{ x }} ",
        ),
        ({"type": "config", **WHERE, "key": "", "value": "1"}, ".key: must not be empty"),
        (
            {"type": "config", **WHERE, "key": "db_password", "value": "1"},
            ".key: 'db_password' looks like a secret: the journal keeps none",
        ),
        (
            {"type": "config", **WHERE, "key": "a", "value": "1", "restart": {"name": "b", "namespace": "c"}},
            ".restart.namespace: is that of the ConfigMap",
        ),
        (
            {"type": "config", **WHERE, "key": "a", "value": "1", "restart": {"name": "B"}},
            ".restart.name: 'B' is no name of an object",
        ),
        ({"type": "silence", "lasts": "2d"}, ".lasts: must be longer than 0s and at most 1d"),
    ],
)
def test_what_is_wrong_is_found_when_the_file_is_loaded(action: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(action)
    assert str(caught.value).startswith("promantis.yml: remedies[0].action")
    assert words in str(caught.value)


GOOD = {
    "http": {"url": "http://shop/"},
    "scale": {**WHERE, "by": 1, "max": 9},
    "restart": {**WHERE, "kind": "DaemonSet"},
    "rollback": WHERE,
    "delete-pod": WHERE,
    "evict-pod": {**WHERE, "wait": "1m"},
    "cordon": {"name": "{{ labels.node }}"},
    "uncordon": {"name": "node-1"},
    "drain": {"name": "node-1"},
    "hpa-bounds": {**WHERE, "max_by": 2, "limit": 9},
    "patch": {**WHERE, "kind": "routes.v1.example.org", "patch": {"spec": {"a": 1}}, "fields": ["/spec/a"]},
    "config": {**WHERE, "key": "pool", "value": "{{ labels.n }}", "restart": {"name": "api"}},
    "silence": {},
}


def test_every_action_can_be_configured() -> None:
    assert set(GOOD) == set(TYPES)
    cfg = parsed(*({"type": type, **rest} for type, rest in GOOD.items()))
    alert = Alert((("alertname", "X"), ("n", "40"), ("node", "node-1")), {})
    targets = [remedy.action.target(alert) for remedy in cfg.remedies]
    assert len(set(targets)) == len(targets)
    assert [bool(remedy.action.rights()) for remedy in cfg.remedies] == [
        t not in ("http", "silence") for t in GOOD
    ]


@pytest.mark.parametrize("type", ["restart", "delete-pod", "evict-pod"])
def test_what_cannot_be_undone_needs_a_person(type: str) -> None:
    with pytest.raises(ConfigError, match=r"action: a person must approve what cannot be undone: "):
        parsed({"type": type, **WHERE}, approval="auto")


def test_an_action_on_a_cluster_needs_one() -> None:
    remedy = {
        "name": "p",
        "match": ["a=b"],
        "action": {"type": "restart", **WHERE},
        "verify": {"query": "up"},
    }
    with pytest.raises(ConfigError, match=r"remedies\[0\].action: needs a cluster: write `kubernetes: "):
        config.parse(json.dumps({"remedies": [remedy]}))


@given(st.text())
def test_a_label_is_a_name_or_nothing(value: str) -> None:
    """Whatever a label says, it is one part of one path."""
    alert = Alert((("pod", value),), {})
    try:
        name = named("{{ labels.pod }}", alert)
    except Unfit:
        return
    assert name == value
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert ".." not in name
    ref = Restart(namespace="shop", name="{{ labels.pod }}").ref_of(alert, "Deployment")
    assert ref.path == f"/apis/apps/v1/namespaces/shop/deployments/{value}"


VALUES = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("xyz"), VALUES), st.dictionaries(st.sampled_from("xyz"), VALUES))
def test_a_merge_patch_makes_exactly_the_edit_and_back(before: object, after: object) -> None:
    obj = {"spec": {"t": before, "other": 1}}
    edit = Edit(("spec", "t"), before, after)
    changed = _merged(obj, merge([edit]), strategic=False)
    assert field(changed, edit.path) == after
    assert _merged(changed, merge([edit.back]), strategic=False) == obj
    assert bool(diff([edit])) == (before != after)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"env": [{"name": "DB_PASSWORD", "value": "hush"}]}, ["spec.env[DB_PASSWORD].value"]),
        ({"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]}, []),
        ({"volumes": [{"name": "v", "secret": {"secretName": "db"}}]}, []),
        ({"env": [{"name": "POOL", "value": "20"}], "apiKey": "x"}, ["spec.apiKey"]),
    ],
)
def test_what_looks_like_a_secret_is_not_kept(value: object, found: list[str]) -> None:
    assert [*secrets("spec", value)] == found


def test_a_diff_hides_what_is_called_like_a_secret() -> None:
    env = [{"name": "DB_PASSWORD", "value": "hush"}, {"name": "POOL", "value": "20"}]
    new = [{"name": "DB_PASSWORD", "value": "hush2"}, {"name": "POOL", "value": "40"}]
    lines = diff([Edit(("spec", "env"), env, new)])
    assert lines == ("spec.env[DB_PASSWORD].value: *** -> ***", "spec.env[POOL].value: 20 -> 40")


@pytest.mark.parametrize(
    ("manager", "sub", "counts"),
    [
        *[
            ("kubectl-edit", "", True),
            ("helm", "", True),
            ("kubectl", "scale", True),
            ("kubectl", "status", False),
        ],
        *[("kube-controller-manager", "", False), ("kubelet", "", False), ("promantis", "", False)],
    ],
)
def test_who_is_no_controller_is_a_person(manager: str, sub: str, counts: bool) -> None:
    entry = {"manager": manager, "subresource": sub, "time": "2026-11-24T10:00:00Z"}
    found = by_hand({"metadata": {"managedFields": [entry]}})
    assert found == ((1795514400.0, manager) if counts else None)


def test_the_rights_are_no_more_than_needed() -> None:
    cfg = parsed(
        {"type": "scale", **WHERE, "by": 1, "max": 9},
        {"type": "restart", **WHERE},
        {"type": "evict-pod", "namespace": "{{ labels.namespace }}", "name": "{{ labels.pod }}"},
        {"type": "http", "url": "http://shop/"},
    )
    rights = {(r.namespace, r.resource): r.verbs for r in needed(cfg.remedies, lease="ops")}
    assert rights == {
        ("", "pods"): ("get", "list"),
        ("", "pods/eviction"): ("create",),
        ("", "replicasets"): ("get",),
        ("", "deployments"): ("get",),
        ("", "statefulsets"): ("get",),
        ("", "events"): ("create",),
        ("shop", "deployments"): ("patch",),
        ("shop", "deployments/scale"): ("get", "patch"),
        ("shop", "horizontalpodautoscalers"): ("list",),
        ("ops", "leases"): ("get", "create", "update"),
    }
    found = [*yaml.safe_load_all(rbac(cfg))]
    assert [(one["kind"], one["metadata"].get("namespace")) for one in found] == [
        ("ServiceAccount", "monitoring"),
        ("ClusterRole", None),
        ("ClusterRoleBinding", None),
        ("Role", "shop"),
        ("RoleBinding", "shop"),
    ]
    assert {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]} in found[3][
        "rules"
    ]
