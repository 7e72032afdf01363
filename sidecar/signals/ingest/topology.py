"""Which service, machine or call a series belongs to, who calls whom, and what runs where.

From labels: the workload's, or those of a call (a client and a server). From Prometheus once a minute, where the
metrics are there: on which nodes the pods of a workload run (kube-state-metrics), and which servers are seen by their
callers only (service graphs of traces). From the config: what no metric says.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from sidecar.signals.ingest import series
from sidecar.signals.watch.kinds import EDGES
from sidecar.signals.watch.watches import Watch
from sidecar.types import Duration, Instant, Labels, PromantisError, Section

log = logging.getLogger(__name__)

CALLS = (
    ("client", "server"),
    ("source_workload", "destination_service_name"),
    ("source_workload", "destination_workload"),
    ("source_app", "destination_app"),
    ("source_service", "destination_service"),
)
"""Labels of a series that is about a call: of service graphs, and of meshes."""
NAMES = (
    *("workload", "deployment", "statefulset", "daemonset", "service_name", "app_kubernetes_io_name", "app"),
    *(
        "application",
        "consumergroup",
        "consumer_group",
        "pod",
        "service",
        "server",
        "destination_service_name",
        "job",
        "container",
    ),
)
"""Labels that name whose a series is, the surest first."""
MACHINES = ("node", "nodename", "instance", "host")
NODE = "node/"
"""Before the name of a machine, which may be called as a service is."""
_COPY = re.compile(r"-(?:[bcdf0-9]{6,10}-)?[a-z0-9]{5}$|-[0-9]+$")
_HOST = re.compile(r"\.[a-z0-9-]+\.svc(\..*)?$")
_PROBED = re.compile(r"[a-z]+://(?:[^/?#@]*@)?([^/?#:]+)")
_MACHINE = re.compile(r"\b(?:node|windows)_[a-z]")
_ENDED = re.compile(r"restart|\boom|_oom|crash|\bkube_|systemd", re.I)
"""Of queries: what ends, or does not run, is no request that fails, and its count no share of requests."""
PODS = "kube_pod_info"
ON_NODES = 'group by (namespace, pod, node, created_by_kind, created_by_name) (kube_pod_info{node!=""})'
GRAPH = "traces_service_graph_request_total"
OUTSIDE = 'group by (server) (traces_service_graph_request_total{connection_type=~"virtual_node|database"})'


class Place(NamedTuple):
    """Whose a series is, and what it says of it."""

    entity: str
    """A service, `node/` and a machine, or `caller->callee`."""
    kind: str


class CausesConfig(Section, frozen=True, kw_only=True):
    """What no metric says of who calls whom, and how far back an alert's cause is looked for."""

    calls: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Who calls whom, where no metric says it: `{front: [cart, pay]}`."""
    look: Duration = Duration(240)
    """How long before an alert what caused it may have begun; a longer `for` of its rule counts too."""
    knowledge: str | None = None
    """A file of patterns of failure that come before those of sidecar/alerts/knowledge.yml, in its form."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Names must be names, and the look within what is kept."""
        for caller, callees in self.calls.items():
            for i, callee in enumerate(callees):
                if not callee or "->" in callee or not caller or "->" in caller:
                    yield (
                        f"calls.{caller}[{i}]",
                        f"{callee!r} called by {caller!r}: names without -> are expected",
                    )
        if not 60 <= self.look <= 600:
            yield "look", "must be from 1m to 10m"


class Metrics(Protocol):
    """Prometheus. Raises Unavailable or Rejected."""

    async def metric_names(self) -> frozenset[str]: ...
    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]: ...


class Map(NamedTuple):
    """Who calls whom beside what series of calls say, what runs where, and who is seen by callers only."""

    calls: tuple[tuple[str, str], ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    """A service and a machine that its pods run on."""
    outside: frozenset[str] = frozenset()


class Topology:
    """`look()` once a minute; what cannot be asked is taken to be what it was."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._hosts: tuple[tuple[str, str], ...] = ()
        self._outside: frozenset[str] = frozenset()
        self._said = ""
        self.calls: tuple[tuple[str, str], ...] = ()
        """Of the config."""

    def adopt(self, config: CausesConfig) -> None:
        """Take what the config says."""
        self.calls = tuple((caller, callee) for caller, of in config.calls.items() for callee in of)

    @property
    def map(self) -> Map:
        """As it was last seen."""
        return Map(self.calls, self._hosts, self._outside)

    async def look(self, now: Instant) -> None:
        """Ask for what is not in the labels of what is watched."""
        try:
            names = await self._metrics.metric_names()
            if PODS in names:
                self._hosts = hosts(labels for labels, _ in await self._metrics.ask(ON_NODES, now))
            if GRAPH in names:
                found = await self._metrics.ask(OUTSIDE, now)
                self._outside = frozenset(dict(labels).get("server", "") for labels, _ in found)
        except PromantisError as error:
            if self._said != str(error):
                log.warning("what runs where is not known: %s", error)
            self._said = str(error)
        else:
            self._said = ""


def hosts(pods: Iterator[Labels]) -> tuple[tuple[str, str], ...]:
    """Workload and machine of each pod.

    >>> hosts(iter([(("node", "n1"), ("pod", "shop-6d4cf56db6-x2x9k"))]))
    (('shop', 'node/n1'),)
    """
    found = set()
    for labels in map(dict, pods):
        name = owner(labels)
        if name and labels.get("node"):
            found.add((name, NODE + labels["node"]))
    return tuple(sorted(found))


def owner(labels: Mapping[str, str]) -> str:
    """The service that labels name, empty when they name none.

    >>> owner({"pod": "shop-6d4cf56db6-x2x9k", "job": "kubelet"}), owner({"job": "shop", "instance": "shop-1"})
    ('shop', 'shop')
    >>> owner({"job": "blackbox", "instance": "https://shop.example.org/health"})  # a probe is of what it asks
    'shop.example.org'
    >>> owner({"pod": "cache-0", "job": "redis", "instance": "redis://10.0.0.7:6379"})
    'cache'
    """
    probed = _PROBED.match(labels.get("instance", ""))
    for name in NAMES:
        if name == "job" and probed:
            return probed[1]
        # what a scrape has renamed is whose the series is; the plain label is then the exporter's own
        if value := labels.get(f"exported_{name}") or labels.get(name, ""):
            return _COPY.sub("", value, count=1) if name == "pod" else _HOST.sub("", value)
    return ""


def place(watch: Watch, labels: Mapping[str, str]) -> Place | None:
    """Whose a series is; None when its labels do not say.

    >>> tell = lambda query, kind, **labels: place(Watch("w", query, "rule", 15.0, kind), labels)
    >>> tell("x", "latency", client="front", server="cart"), tell("node_load1", "cpu", instance="host-1:9100")
    (Place(entity='front->cart', kind='edge_client'), Place(entity='node/host-1', kind='cpu'))
    """
    for caller, callee in CALLS:
        client, server = labels.get(caller, ""), labels.get(callee, "")
        if client and server:
            kind = watch.kind if watch.kind != "latency" else "edge_client"
            return Place(f"{_HOST.sub('', client)}->{_HOST.sub('', server)}", kind)
    if watch.kind in EDGES:
        return None
    kind = "other" if watch.kind == "errors" and _ENDED.search(watch.query) else watch.kind
    if _about_machines(watch.query):
        found = next((labels[name] for name in MACHINES if labels.get(name)), "")
        return Place(NODE + found.partition(":")[0], kind) if found else None
    name = owner(labels)
    return Place(name, kind) if name else None


def whose(
    watches: Mapping[str, Watch], labels: Labels, watch: str | None, of: Labels
) -> tuple[str, str] | None:
    """Which service an alert with these labels is about, and the kind of its series (of a watch, with labels `of`)."""
    there = watches.get(watch) if watch else None
    found = place(there, dict(of)) if there else None
    if found is None:
        name = owner(dict(labels))
        return (name, there.kind if there else "other") if name else None
    callee = found.entity.rpartition("->")[2]
    return callee, "latency" if found.kind in EDGES else found.kind


@lru_cache
def _about_machines(query: str) -> bool:
    return bool(_MACHINE.search(query))


class Places(NamedTuple):
    """Where each row of a snapshot belongs; what only explains others, and rows that are free, have no place."""

    watches: Mapping[str, Watch] = {}
    names: Sequence[str] = ()
    keys: Sequence[bytes | None] = ()
    found: Sequence[Place | None] = ()

    def now(
        self,
        watches: Mapping[str, Watch],
        names: Sequence[str],
        keys: Sequence[bytes | None],
        most: int = sys.maxsize,
    ) -> Places:
        """The same of another snapshot, up to `most` places; labels are read of new rows, or those of a new watch."""
        same = {name for name, watch in watches.items() if self.watches.get(name) == watch}
        known = len(self.keys)
        shared: dict[Place, Place] = {}
        found: list[Place | None] = []
        for row, (name, key) in enumerate(zip(names, keys, strict=True)):
            if row < known and key is self.keys[row] and name == self.names[row] and name in same:
                found.append(self.found[row])
                most -= found[-1] is not None
                continue
            watch = watches.get(name) if most > 0 else None
            told = key is not None and watch is not None and watch.told
            here = place(watch, dict(series.labels(key))) if told and watch and key else None
            found.append(shared.setdefault(here, here) if here else None)
            most -= found[-1] is not None
        return Places(watches, names, keys, found)
