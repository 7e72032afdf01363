"""What else than a deployment changes in a cluster: replicas, configuration, machines, as kube-state-metrics tells.

Each look gives series whose values are compared with those of the look before; one that was not there then has only
just been seen. A configuration that changes again and again (a lock, a status) is none that somebody has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sidecar.signals.ingest.topology import NODE
from sidecar.types import CONFIG, Labels

Values = Mapping[Labels, float]
"""What a look gave."""


class Event(NamedTuple):
    """Something that happened to one of them."""

    entity: str
    """A workload, `node/` and a machine, or `config/` and the name of a config map or secret."""
    words: str
    """A sentence without its end."""
    kind: str = ""
    """Of CHANGES; empty where it is none that does harm."""


class Look(NamedTuple):
    """Asked where Prometheus has the metric."""

    metric: str
    query: str
    told: Callable[[Mapping[str, str], float, float], Event | None]
    """Labels, the value before, and the value now."""


def happened(look: Look, before: Values, now: Values) -> Iterator[Event]:
    """What is told of the values that have changed.

    >>> of = (("deployment", "shop"), ("namespace", "prod"))
    >>> list(happened(LOOKS[0], {of: 5.0}, {of: 2.0}))
    [Event(entity='shop', words='shop was scaled from 5 to 2', kind='fewer')]
    >>> list(happened(LOOKS[0], {of: 5.0}, {of: 5.0})), list(happened(LOOKS[0], {}, {of: 2.0}))
    ([], [])
    """
    for labels, value in now.items():
        old = before.get(labels, value)
        event = look.told(dict(labels), old, value) if old != value else None
        if event is not None:
            yield event


def _scaled(of: Mapping[str, str], before: float, now: float) -> Event:
    name = of.get("deployment") or of.get("statefulset", "")
    return Event(name, f"{name} was scaled from {before:g} to {now:g}", "fewer" if now < before else "")


def _ceiling(of: Mapping[str, str], before: float, now: float) -> Event:
    name = of.get("scaletargetref_name", "")
    return Event(name, f"the most that {name} is scaled to by itself went from {before:g} to {now:g}")


def _configured(of: Mapping[str, str], before: float, now: float) -> Event:
    kind, name = ("config map", of["configmap"]) if "configmap" in of else ("secret", of.get("secret", ""))
    return Event(CONFIG + name, f"{kind} {name} was changed", "configured")


_PRESSURES = {"MemoryPressure": "memory", "DiskPressure": "disk space", "PIDPressure": "process ids"}


def _condition(of: Mapping[str, str], before: float, now: float) -> Event | None:
    node, condition = of.get("node", ""), of.get("condition", "")
    bad = bool(now)
    if condition == "Ready":
        bad = not now
        words = "became not ready" if bad else "became ready"
    elif condition == "NetworkUnavailable":
        words = "lost its network" if bad else "has its network again"
    elif condition in _PRESSURES:
        words = f"{'runs' if bad else 'no longer runs'} out of {_PRESSURES[condition]}"
    else:
        return None
    return Event(NODE + node, f"{NODE}{node} {words}", "machine" if bad else "")


def _cordoned(of: Mapping[str, str], before: float, now: float) -> Event:
    node = of.get("node", "")
    return Event(NODE + node, f"{NODE}{node} {'was cordoned' if now else 'takes pods again'}")


def _config(kind: str) -> Look:
    metric, by = f"kube_{kind}_metadata_resource_version", f"namespace, {kind}"
    return Look(
        metric,
        f"max by ({by}) ({metric}) unless on ({by}) changes({metric}[1h]) > {OFTEN}",
        _configured,
    )


OFTEN = 3
"""Changes in an hour that make a configuration one which programs write."""
LOOKS = (
    Look(
        "kube_deployment_spec_replicas",
        "max by (namespace, deployment) (kube_deployment_spec_replicas)",
        _scaled,
    ),
    Look("kube_statefulset_replicas", "max by (namespace, statefulset) (kube_statefulset_replicas)", _scaled),
    Look(
        "kube_horizontalpodautoscaler_info",
        "max by (namespace, scaletargetref_name) (kube_horizontalpodautoscaler_spec_max_replicas * on (namespace, "
        "horizontalpodautoscaler) group_left (scaletargetref_name) max by (namespace, horizontalpodautoscaler, "
        "scaletargetref_name) (kube_horizontalpodautoscaler_info))",
        _ceiling,
    ),
    _config("configmap"),
    _config("secret"),
    Look(
        "kube_node_status_condition",
        'max by (node, condition) (kube_node_status_condition{status="true"})',
        _condition,
    ),
    Look("kube_node_spec_unschedulable", "max by (node) (kube_node_spec_unschedulable)", _cordoned),
)
