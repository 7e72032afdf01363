"""Tables of causes: who is blamed for a fault, whether that is right, and whether anybody is when nothing is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sidecar.alerts.diagnose import diagnose
from sidecar.signals.scene.attribute import attribute
from sidecar.signals.scene.usual import quantiles
from sidecar.types import F64, Candidates
from tests.quality.data import File, load
from tests.quality.faults import Fault, Target, nezha, normal, petshop
from tests.quality.fleet import fleet

LEAST = 1 / 60  # requests per second below which latency and errors count for nothing
Line = tuple[str, ...]
Ranks = Callable[[Candidates, Target], dict[str, float]]
"""A method: a score for each service."""


class Said(NamedTuple):
    """What was said of one alert: services in order, and how likely the first is (0: nobody was blamed)."""

    order: list[str]
    likely: float


def ours(c: Candidates, target: Target) -> Said:
    """What Promantis says."""
    found = diagnose(c, target, LEAST)
    best = found.causes[0].probability if found.found else 0.0
    return Said([cause.entity for cause in found.causes], best)


# --------------------------------------------------------------------------- peers


def _by_service(c: Candidates, z: F64) -> dict[str, float]:
    """The furthest of each service's series; those of a call edge are the callee's."""
    out: dict[str, float] = {}
    for entity, kind, value in zip(c.entities, c.kinds, np.nan_to_num(z, posinf=0.0).tolist(), strict=True):
        if kind in ("traffic", "network"):
            continue  # they do better without
        service = entity.rpartition("->")[2]
        out[service] = max(out.get(service, 0.0), value)
    return out


class Past(NamedTuple):
    """Centre and spread of each series before, as each peer takes them."""

    mean: F64
    std: F64
    median: F64
    iqr: F64


def _past(fault: Fault, c: Candidates) -> Past:
    m = fault.of
    before = m.values[(m.at < fault.at - 240) & m.trusted][-480:]
    low, middle, high = quantiles(before, (0.25, 0.5, 0.75))
    known = np.isfinite(before)
    n = np.maximum(known.sum(0), 1)
    mean = np.where(known, before, 0.0).sum(0) / n
    std = np.sqrt((np.where(known, before - mean, 0.0) ** 2).sum(0) / n)
    return Past(mean, std, middle, high - low)


def peers(fault: Fault) -> dict[str, list[str]]:
    """Services in the order in which each peer blames them."""
    c = fault.candidates(calls=False)  # no derived series: these are ours
    past = _past(fault, c)
    n = len(past.mean)
    values = c.values[:, :n]
    with np.errstate(all="ignore"):
        baro = np.fmax.reduce(np.abs(values - past.median) / np.where(past.iqr > 0, past.iqr, 1))
        sigma = np.fmax.reduce(np.abs(values - past.mean) / np.where(past.std > 0, past.std, np.nan))
        floored = np.fmax.reduce(np.abs(values - c.level[:n]) / c.scale[:n])
    z = _by_service(c, floored)
    calls = sorted(set(fault.of.calls))
    return {
        "BARO, two-sided": _order(_by_service(c, baro)),
        "n-sigma": _order(_by_service(c, sigma)),
        "floored z": _order(z),
        "PageRank": _order(_walk(z, calls)),
        "deepest anomalous": _order(_deepest(z, calls)),
    }


def _order(scores: dict[str, float]) -> list[str]:
    return sorted(scores, key=lambda s: (-scores[s], s))


def _walk(z: dict[str, float], calls: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Random walk along calls, with restarts at what is anomalous (MicroRCA, MonitorRank)."""
    names = sorted({*z, *(s for call in calls for s in call)})
    at = {s: i for i, s in enumerate(names)}
    weight = np.array([z.get(s, 0.0) + 1e-6 for s in names])
    moves = np.eye(len(names)) * 0.1 * weight
    for a, b in calls:
        moves[at[a], at[b]] += weight[at[b]]
        moves[at[b], at[a]] += 0.1 * weight[at[a]]
    moves /= moves.sum(1, keepdims=True)
    start = weight / weight.sum()
    rank = start
    for _ in range(100):
        rank = 0.15 * start + 0.85 * rank @ moves
    return dict(zip(names, rank.tolist(), strict=True))


def _deepest(z: dict[str, float], calls: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Anomalous services none of whose callees is, then the others."""
    odd = {s for s, value in z.items() if value > 3}
    above = {a for a, b in calls if b in odd and a != b}
    return {s: value + (1e6 if s in odd and s not in above else 0.0) for s, value in z.items()}


# --------------------------------------------------------------------------- tables


def table(data: Path) -> list[Line]:
    """AC@1 and AC@3 by set and method."""
    sets = {
        "PetShop low traffic": (petshop(data, "low_traffic"), True),
        "PetShop temporal 1": (petshop(data, "temporal_traffic1"), True),
        "Nezha, call edges": (nezha(data, True), True),
        "Nezha, as recorded": (nezha(data, True, history=False), True),
        "PetShop low, no graph": (petshop(data, "low_traffic"), False),
        "PetShop temporal 1, no graph": (petshop(data, "temporal_traffic1"), False),
        "Nezha pods, no graph": (nezha(data, False), False),
    }
    names = ["BARO, two-sided", "n-sigma", "floored z", "PageRank", "deepest anomalous"]
    lines: list[Line] = [("set", "faults", "Promantis", "no cause found", *names, "random")]
    for name, (faults, graph) in sets.items():
        said = [ours(fault.candidates(graph), fault.target) for fault in faults]
        none = sum(s.likely == 0 for s in said) / len(said)
        cells = [_ac([s.order for s in said], faults), f"{none:.2f}"]
        theirs = [peers(fault if graph else _without_calls(fault)) for fault in faults]
        cells += [_ac([t[peer] for t in theirs], faults) for peer in names]
        services = len({e for e in faults[0].of.entities if "->" not in e})
        lines.append((name, str(len(faults)), *cells, f"{1 / services:.2f}/{3 / services:.2f}"))
    return lines


def _without_calls(fault: Fault) -> Fault:
    return fault._replace(of=fault.of._replace(calls=[]))


def _ac(orders: Sequence[list[str]], faults: Sequence[Fault]) -> str:
    shares = [
        sum(fault.truth in order[:n] for order, fault in zip(orders, faults, strict=True)) / len(faults)
        for n in (1, 3)
    ]
    return "/".join(f"{share:.2f}" for share in shares)


def sure(data: Path) -> list[Line]:
    """How often the first cause is right, by its likelihood, half of the alerts being false; and blame for nothing."""
    lines: list[Line] = [("set", "blamed when normal", "very likely", "right", "likely", "right")]
    shop = petshop(data, "low_traffic") + petshop(data, "temporal_traffic1")
    for name, faults, quiet, graph in (
        ("PetShop", shop, normal(data, "petshop"), True),
        ("PetShop, no graph", shop, normal(data, "petshop"), False),
        ("Nezha, call edges", nezha(data, True), normal(data, "nezha"), True),
        ("Nezha pods, no graph", nezha(data, False), normal(data, "nezha", edges=False), False),
    ):
        real = [(ours(f.candidates(graph), f.target), f.truth) for f in faults]
        false = [ours(f.candidates(graph), f.target) for f in quiet]
        cells = [f"{sum(s.likely > 0 for s in false) / len(false):.3f}"]
        for low, high in ((0.9, 2.0), (0.5, 0.9)):
            said = [s.order[0] == truth for s, truth in real if low <= s.likely < high]
            wrong = sum(low <= s.likely < high for s in false) * len(real) / len(false)
            whole = len(said) + wrong
            cells += [str(len(said)), f"{sum(said) / whole:.2f}" if whole else "-"]
        lines.append((f"{name} ({len(real)} real, {len(false)} normal)", *cells))
    return lines


def late(data: Path) -> list[Line]:
    """What is said so many seconds after a fault began, from what is there then; and on normal windows."""
    lines: list[Line] = [("set", "seconds", "first is right", "somebody is blamed", "and rightly")]
    for name, faults, after in (
        ("Nezha, 1 min, faults of 3 min", nezha(data, True), (60, 90, 120, 180, 300)),
        (
            "PetShop, 5 min",
            petshop(data, "low_traffic") + petshop(data, "temporal_traffic1"),
            (300, 420, 600),
        ),
    ):
        for seconds in after:
            found = [(diagnose(f.live(f.at + seconds), f.target, LEAST), f.truth) for f in faults]
            right = [bool(d.causes) and d.causes[0].entity == truth for d, truth in found]
            blamed = [yes for (d, _), yes in zip(found, right, strict=True) if d.found]
            rightly = f"{sum(blamed) / len(blamed):.2f}" if blamed else "-"
            shares = (sum(right) / len(found), len(blamed) / len(found))
            lines.append((name, str(seconds), *(f"{share:.2f}" for share in shares), rightly))
        quiet = normal(data, name.partition(",")[0].lower())
        blamed_for = [diagnose(f.live(f.end), f.target, LEAST).found for f in quiet]
        lines.append((name, "normal", "", f"{sum(blamed_for) / len(quiet):.3f}", ""))
    return lines


def metrics(data: Path) -> list[Line]:
    """Share of the metrics that experts name which are among as many (half as many more) first ones."""
    lines: list[Line] = [("set", "events", "Promantis @100/@150", "BARO, two-sided", "n-sigma", "random")]
    for name in ("asd", "smd"):
        hits: dict[str, list[tuple[float, float]]] = {}
        for file in load(data, name):
            for start, end, members in _events(data, name, file):
                for method, order in _metric_orders(file, start, end).items():
                    n, m = len(members), int(1.5 * len(members))
                    found = len(members & {*order[:n]}) / n, len(members & {*order[:m]}) / n
                    hits.setdefault(method, []).append(found)
        mean = {method: np.mean(found, axis=0) for method, found in hits.items()}
        cells = [f"{a:.3f}/{b:.3f}" for a, b in mean.values()]
        lines.append((name, str(len(next(iter(hits.values())))), *cells))
    return lines


def _events(data: Path, name: str, file: File) -> list[tuple[float, float, set[int]]]:
    folder = {"asd": "asd_servers", "smd": "smd_machines"}[name]
    table = pd.read_csv(data / folder / file.name.replace(".csv.gz", ".events.csv"))
    return [(e.start, e.end, {int(m[1:]) for m in e.root_metrics.split()}) for e in table.itertuples()]


def _metric_orders(file: File, start: float, end: float) -> dict[str, list[int]]:
    trusted = file.label == 0
    before = file.values[(file.at < start) & (file.at >= start - 86400) & trusted]
    during = file.values[(file.at >= start) & (file.at <= end)]
    low, middle, high = np.quantile(before, [0.25, 0.5, 0.75], axis=0)
    baro = np.abs(during - middle).max(0) / np.where(high > low, high - low, 1)
    std = before.std(0)
    sigma = np.abs(during - before.mean(0)).max(0) / np.where(std > 0, std, np.inf)
    chance = np.random.default_rng(int(start)).random(file.values.shape[1])
    return {
        "ours": [part.column for part in attribute(file.at, file.values, start, end, trusted)],
        **{
            method: np.argsort(-z, kind="stable").tolist()
            for method, z in (("baro", baro), ("sigma", sigma), ("random", chance))
        },
    }


def speed() -> list[Line]:
    """Milliseconds of a diagnosis of 500 services with 5,000 candidate series, from what is kept of them."""
    c = fleet(500)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        diagnose(c, ("s000", "latency"), LEAST)
        took.append(1000 * (time.perf_counter() - began))
    return [
        ("candidate series", "median ms", "max ms"),
        (str(len(c.entities)), f"{np.median(took):.0f}", f"{max(took):.0f}"),
    ]
