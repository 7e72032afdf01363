"""Deployments: which workloads changed between two looks, and what their series are for a while after.

A `changes` query gives series that belong to workloads: by `namespace` and the first of `WORKLOAD` that they have (of a
pod its owner's name, without the hashes). A workload was deployed when it says something new, in a value or a label,
compared with the look before; one that was not there then has only just been seen. For `AFTER` seconds its series are
believed less (confidence is halved at first and rises back) and learned faster (level, shift and scale, `PACE` times).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from sidecar.signals.ingest import series
from sidecar.signals.models import f4
from sidecar.signals.watch import promql, selectors
from sidecar.signals.watch.selectors import Matcher
from sidecar.types import F32, F64, Labels, Section

AFTER = 3600.0
PACE, BELIEF = 3.0, 0.5
WORKLOAD = ("workload", "deployment", "statefulset", "daemonset", "pod", "job", "service", "app", "container")
"""Labels that name a workload, the surest first."""
_COPY = re.compile(r"-(?:[bcdf0-9]{6,10}-)?[a-z0-9]{5}$|-[0-9]+$")
_PASSING = frozenset({"pod", "uid", "container_id", "instance", "node", "host_ip", "pod_ip"})
"""Labels that change without a deployment."""


class ChangesConfig(Section, frozen=True, kw_only=True):
    """A query whose values change when something is deployed, and the series that this concerns."""

    query: str
    """PromQL whose values or labels change when a workload is deployed; default `changes: null`: generations
    and images of kube-state-metrics, where it is there."""
    match: tuple[str, ...] = ()
    """Selectors of the series that this concerns; empty: those of equal `namespace` that are named like the
    workload."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """The query, and the selectors."""
        try:
            promql.check(self.query)
        except promql.NoWatch as error:
            yield "query", str(error)
        for i, text in enumerate(self.match):
            try:
                selectors.parse(text)
            except ValueError as error:
                yield f"match[{i}]", str(error)


KUBERNETES = tuple(
    ChangesConfig(query=query)
    for query in (
        # a Deployment's generation rises with every scaling too: then it is not looked at for a while
        "kube_deployment_status_observed_generation unless on (namespace, deployment) "
        "changes(kube_deployment_spec_replicas[10m]) > 0",
        "kube_statefulset_status_observed_generation unless on (namespace, statefulset) "
        "changes(kube_statefulset_replicas[10m]) > 0",
        "kube_daemonset_status_observed_generation",
        "group by (namespace, pod, container, image) (kube_pod_container_info)",
    )
)
"""What kube-state-metrics says, where it is there."""
KUBE_STATE = "kube_pod_container_info"


class Workload(NamedTuple):
    """Whose series they are."""

    namespace: str
    name: str


class Change(NamedTuple):
    """What was deployed: a workload, or all series that fit a selector."""

    workloads: frozenset[Workload]
    match: tuple[tuple[Matcher, ...], ...] = ()


State = Mapping[Workload, frozenset[tuple[Labels, float]]]


def state(answer: Iterable[tuple[Labels, float]]) -> State:
    """What each workload says now."""
    out: dict[Workload, frozenset[tuple[Labels, float]]] = {}
    for labels, value in answer:
        owner = workload(dict(labels))
        if owner is not None:
            lasting = tuple(pair for pair in labels if pair[0] not in _PASSING)
            out[owner] = out.get(owner, frozenset()) | {(lasting, value)}
    return out


def deployed(before: State, now: State) -> frozenset[Workload]:
    """The workloads that say something new.

    >>> shop = Workload("", "shop")
    >>> old, new = ((("image", "shop:1"),), 1.0), ((("image", "shop:2"),), 1.0)
    >>> deployed({shop: frozenset([old])}, {shop: frozenset([old, new])}) == {shop}
    True
    >>> deployed({shop: frozenset([old, new])}, {shop: frozenset([new])}), deployed({}, {shop: frozenset([new])})
    (frozenset(), frozenset())
    """
    return frozenset(one for one, said in now.items() if one in before and said - before[one])


def workload(labels: Mapping[str, str]) -> Workload | None:
    """Whose a series of a changes query is; None when nothing tells."""
    found = next(names(labels), None)
    return None if found is None else Workload(labels.get("namespace", ""), found)


def names(labels: Mapping[str, str]) -> Iterator[str]:
    """What the workload of a series may be called, the surest first.

    >>> list(names({"pod": "shop-6d4cf56db6-x2x9k", "job": "shop-metrics"}))
    ['shop', 'shop-metrics']
    """
    for label in WORKLOAD:
        if value := labels.get(label, ""):
            yield _COPY.sub("", value, count=1) if label == "pod" else value


def concerned(change: Change, watch: str, key: bytes) -> bool:
    """Whether a series belongs to what was deployed: equal namespace (where it says one) and any of its names."""
    labels = {**dict(series.labels(key)), "watch": watch}
    if any(all(matcher.matches(labels) for matcher in matchers) for matchers in change.match):
        return True
    space = labels.get("namespace")
    return any(name in names(labels) and space in (None, namespace) for namespace, name in change.workloads)


def share(changed: F64, at: float) -> F32 | None:
    """How much of the time after a deployment has passed f32[rows], 1 where there was none; None when all is 1."""
    part = (at - changed) / AFTER
    recent = (part >= 0) & (part < 1)
    return np.where(recent, part, 1).astype(f4) if recent.any() else None


def belief(part: F32) -> F32:
    """The factor of confidence."""
    return f4(BELIEF) + f4(1 - BELIEF) * part


def pace(part: F32) -> F32:
    """The factor of learning rates."""
    return np.where(part < 1, f4(PACE), f4(1)).astype(f4)
