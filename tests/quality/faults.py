"""PetShop and Nezha's Online Boutique as cases for a diagnosis, and normal hours of both in the same shape."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sidecar.signals.scene.recent import WINDOW
from sidecar.signals.scene.usual import usual, window
from sidecar.types import F64, Bools, Candidates

LOOK = 240.0  # seconds before the alert that may already be bad
SEED, DRAWS = 7, 300  # normal windows of each set
Target = tuple[str, str] | None
POD = {
    "CpuUsageRate(%)": "cpu",
    "MemoryUsageRate(%)": "memory",
    "PodServerLatencyP90(s)": "latency",
    "PodWorkload(Ops)": "traffic",
    "NetworkReceiveBytes": "network",
    "NetworkTransmitBytes": "network",
}
APM = {"latency|Average": "latency", "requests|Sum": "traffic", "availability|Average": "errors"}


class Metrics(NamedTuple):
    """All series of a set: values f64[times, n]."""

    at: F64
    values: F64
    entities: list[str]
    kinds: list[str]
    metrics: list[str]
    calls: list[tuple[str, str]]
    outside: frozenset[str]
    trusted: Bools


class Fault(NamedTuple):
    """One alert; `truth` is empty for a normal window."""

    of: Metrics
    at: float
    end: float
    target: Target
    truth: str

    def candidates(self, calls: bool = True) -> Candidates:
        """What a diagnosis would be given."""
        m = derived(self.of) if calls else self.of
        begin = self.at - min(LOOK, (self.at - m.at[0]) / 4)
        return self._between(m, begin, begin, self.end, calls)

    def live(self, now: float) -> Candidates:
        """What Promantis would have at an instant: nothing that came later, and the last minutes teach nothing."""
        step = float(np.median(np.diff(self.of.at[-10:])))
        return self._between(derived(self.of), now - WINDOW, now - max(LOOK, 2 * step + 60), now)

    def _between(self, m: Metrics, until: float, begin: float, end: float, calls: bool = True) -> Candidates:
        teaches, _ = window(m.at, until, end, m.trusted)
        during = (m.at >= begin) & (m.at <= end)
        known = usual(m.values[teaches], m.kinds, m.metrics)
        edges = tuple(m.calls) if calls else ()
        return Candidates(
            m.entities, m.kinds, m.metrics, *known, m.at[during], m.values[during], edges, m.outside
        )


def derived(m: Metrics) -> Metrics:
    """With what is asked of Prometheus as queries of their own: gap of each edge, calls per request of sole callers."""
    row = {key: i for i, key in reversed(list(enumerate(zip(m.entities, m.kinds, strict=True))))}
    more: list[tuple[str, str, F64]] = []
    for edge, kind in sorted(row):
        if kind == "edge_client" and (edge, "edge_server") in row:
            more.append((edge, "gap", m.values[:, row[edge, kind]] - m.values[:, row[edge, "edge_server"]]))
    for a, b in sorted(set(m.calls)):
        sole = sum(callee == b for _, callee in set(m.calls)) == 1
        if sole and (a, "traffic") in row and (b, "traffic") in row:
            caller = m.values[:, row[a, "traffic"]]
            per = m.values[:, row[b, "traffic"]] / np.where(caller > 0, caller, np.nan)
            more.append((f"{a}->{b}", "fanout", per))
    return m._replace(
        values=np.column_stack([m.values, *(values for _, _, values in more)]),
        entities=[*m.entities, *(entity for entity, _, _ in more)],
        kinds=[*m.kinds, *(kind for _, kind, _ in more)],
        metrics=[*m.metrics, *(kind for _, kind, _ in more)],
    )


def petshop(data: Path, name: str) -> list[Fault]:
    """Issues of 5 samples, behind the two days of the normal run; that with another load has none of its own."""
    folder = data / "petshop"
    normal = pd.read_csv(folder / "low_traffic__normal.csv.gz")
    issues = pd.read_csv(folder / f"{name}__issues.csv.gz").sort_values("timestamp")
    before = _apm(normal, issues, folder / f"{name}__graph.csv")
    out = []
    for root in pd.read_csv(folder / f"{name}__root_causes.csv").itertuples():
        mine = issues[issues.issue == root.issue]
        at = mine.timestamp.to_numpy(float)
        m = before._replace(
            at=np.concatenate([at[0] - 300 * np.arange(len(before.at), 0, -1), at]),
            values=np.vstack([before.values, _values(mine, issues)]),
        )
        m = m._replace(trusted=np.ones(len(m.at), bool))
        kind = "latency" if root.target_metric == "latency" else "errors"
        out.append(Fault(m, float(root.timestamp), at[-1], (root.target_node, kind), root.root_cause_node))
    return out


def _apm(normal: pd.DataFrame, issues: pd.DataFrame, graph: Path) -> Metrics:
    calls = pd.read_csv(graph, index_col=0)
    names = [c for c in issues if c.partition("|")[2] in APM]
    nodes = {*calls.index, *calls.columns}
    return Metrics(
        normal.timestamp.to_numpy(float),
        _values(normal, issues),
        [c.partition("|")[0] for c in names],
        [APM[c.partition("|")[2]] for c in names],
        [APM[c.partition("|")[2]] for c in names],
        [(a, b) for a in calls.index for b in calls.columns if calls.loc[a, b] > 0],
        frozenset(node for node in nodes if node.endswith("_remote")),
        np.ones(len(normal), bool),
    )


def _values(table: pd.DataFrame, like: pd.DataFrame) -> F64:
    """Latencies in seconds, errors as a ratio, requests per second."""
    names = [c for c in like if c.partition("|")[2] in APM]
    values = table.reindex(columns=names).to_numpy(float)
    for i, name in enumerate(names):
        kind = APM[name.partition("|")[2]]
        if kind == "errors":
            percent = np.nan_to_num(values[:, i]).max() > 1.5
            share = values[:, i] / 100 if percent else values[:, i]
            values[:, i] = 1 - share
        elif kind == "traffic":
            values[:, i] /= 300
    return values


def nezha(data: Path, edges: bool, history: bool = True) -> list[Fault]:
    """24 faults; with `history`, four quiet hours of the same day stand before the first of them."""
    m = _boutique(data / "nezha_onlineboutique", edges)
    faults = pd.read_csv(data / "nezha_onlineboutique" / "2022-08-22__faults.csv")
    for fault in faults.itertuples():
        m.trusted[(m.at >= fault.start - 60) & (m.at < fault.start + 300)] = False
    if history:
        quiet = _quiet(m, faults.start.max()).values[:240]
        m = m._replace(
            at=np.concatenate([m.at[0] - 60 * np.arange(len(quiet), 0, -1), m.at]),
            values=np.vstack([quiet, m.values]),
            trusted=np.concatenate([np.ones(len(quiet), bool), m.trusted]),
        )
    return [Fault(m, float(f.start), float(f.start) + 240, None, f.service) for f in faults.itertuples()]


def _boutique(folder: Path, edges: bool) -> Metrics:
    pods = pd.read_csv(folder / "2022-08-22__pods.csv.gz")
    late = pods.timestamp > 1.7e9  # one pod's clock is off by 200,000,000 s in the source
    pods["timestamp"] = pods.timestamp.where(~late, pods.timestamp - 200_000_000)
    minutes = np.arange(int(pods.timestamp.min() // 60), int(pods.timestamp.max() // 60) + 1)

    def by_minute(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(m=table.timestamp // 60).drop_duplicates("m").set_index("m").reindex(minutes)

    columns: list[tuple[str, str, str, F64]] = []
    for service, mine in pods.groupby("service"):
        table = by_minute(mine)
        columns += [(str(service), kind, name, table[name].to_numpy(float)) for name, kind in POD.items()]
    front = by_minute(pd.read_csv(folder / "2022-08-22__front_service.csv"))
    errors = 1 - front["SuccessRate(%)"].to_numpy(float) / 100
    columns.append(("frontend", "errors", "errors", errors))
    for name, kind in (("source_50", "edge_client"), ("destination_50", "edge_server")) if edges else ():
        table = by_minute(pd.read_csv(folder / f"2022-08-22__{name}.csv"))
        for edge in table.columns.drop("timestamp"):
            columns.append(("->".join(edge.split("_")), kind, kind, table[edge].to_numpy(float)))
    services = {entity for entity, _, _, _ in columns}
    calls = pd.read_csv(folder / "2022-08-22__dependency.csv")
    pairs = [(a, b) for a, b in zip(calls.Source, calls.Target, strict=True) if {a, b} <= services]
    entities, kinds, metrics, values = zip(*columns, strict=True)
    trusted = np.ones(len(minutes), bool)
    at = minutes * 60.0
    return Metrics(at, np.stack(values, 1), [*entities], [*kinds], [*metrics], pairs, frozenset(), trusted)


def _quiet(m: Metrics, last: float) -> Metrics:
    later = m.at > last + 1800
    return m._replace(at=m.at[later], values=m.values[later], trusted=m.trusted[later])


def normal(data: Path, name: str, edges: bool = True) -> list[Fault]:
    """Alerts at random instants at which nothing was wrong."""
    random = np.random.default_rng(SEED)
    if name == "petshop":
        folder = data / "petshop"
        issues = pd.read_csv(folder / "low_traffic__issues.csv.gz")
        m = _apm(
            pd.read_csv(folder / "low_traffic__normal.csv.gz"), issues, folder / "low_traffic__graph.csv"
        )
        first, length = 20 * 3600.0, 720.0
        targets: list[Target] = [("PetSite", "latency"), ("PetSite", "errors")]
    else:
        faults = pd.read_csv(data / "nezha_onlineboutique" / "2022-08-22__faults.csv")
        m = _quiet(_boutique(data / "nezha_onlineboutique", edges), faults.start.max())
        first, length, targets = 3 * 3600.0, 240.0, [None]
    instants = random.uniform(m.at[0] + first, m.at[-1] - length, DRAWS)
    return [
        Fault(m, at, at + length, targets[i % len(targets)], "") for i, at in enumerate(instants.tolist())
    ]
