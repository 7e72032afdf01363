"""Forecasts, decode and exposition, against json and prometheus-client."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from sidecar.adapters import decode
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.ingest.series import labels
from sidecar.signals.known.expose import Exposition, ExpositionConfig, limit_labels, render
from sidecar.signals.known.snapshot import Snapshot
from sidecar.types import HORIZONS, Instant
from tests.bench import fleet
from tests.bench.table import Row, interleaved


def forecasting(series: int) -> list[Row]:
    """Forecasts, intervals and breach odds alone, with each series' share of learning, and the state they keep."""
    engine, at = fleet.taught(fleet.keys(series))
    feed, spent, odds, ticks = fleet.values(series, 1), 0.0, 0.0, 40  # two five-minute blocks
    limits = engine.crossings
    for _ in range(ticks):
        x = np.full(engine.capacity, np.nan)
        x[:series] = next(feed)
        said = np.empty((9, engine.capacity))
        for lo, hi, block in engine.spans():
            mine = x[lo:hi]
            there, seen = np.isfinite(mine), (mine - block.life.origin).astype(np.float32)
            days = np.zeros((4, hi - lo), np.float32)
            began = time.process_time()
            with np.errstate(all="ignore"):
                values = block.ahead.tick(at, seen, there, there, fleet.STEP, days)
            spent += time.process_time() - began
            said[:, lo:hi] = np.concatenate(values) + block.life.origin
        began = time.process_time()
        limits.tick(at, engine.spans(), x, said)
        odds += time.process_time() - began
        at += fleet.STEP
    models = engine.blocks[0].ahead.models
    size = {n: sum(a.nbytes for a in m.state().values()) / m.rows for n, m in models.items()}
    what, both = f"CPU of forecasts and odds of {series // 1000}k series, per tick", spent + odds
    return [
        Row.below(what, both / ticks * 1e3, "ms", 60.0, f"(odds {odds / ticks * 1e3:.1f})"),
        Row.below("forecast state of a series", sum(size.values()) - size["profile"], "B", 3072.0),
        Row.below("and its profile", size["profile"], "B", 4096.0),
    ]


def decoding(series: int) -> Row:
    """An instant answer into keys and values, against dictionaries keyed by label sets."""
    keys = fleet.keys(series)
    body = fleet.body(keys, next(fleet.values(series)), fleet.START)
    found: list[Any] = [None, None]

    def ours() -> None:
        found[0] = None
        found[0] = decode.vector(body)

    def theirs() -> None:
        found[1] = None
        found[1] = {
            frozenset(one["metric"].items()): float(one["value"][1])
            for one in json.loads(body)["data"]["result"]
        }

    fast, slow = interleaved(5, ours, theirs)
    vector, mapping = found
    assert len(vector.keys) == len(mapping) == series
    assert sorted(vector.values) == sorted(mapping.values())
    megabytes = len(body) / 1e6
    what = f"decode of {series // 1000}k series ({megabytes:.0f} MB)"
    return Row.ratio(what, fast * 1e3, slow * 1e3, "json", "ms", 5)


class Collected(Collector):
    """The same samples for prometheus-client; label dictionaries are made once, as our label parts are."""

    def __init__(self, exposition: Exposition, snapshot: Snapshot, now: Instant) -> None:
        (self._prepared,) = exposition.prepare([snapshot], now)
        blank = dict.fromkeys(("job", "instance", *ExpositionConfig().blank_labels), "")
        limits, shown = snapshot.limits, self._prepared.shown
        source = {row: {**blank, **dict(labels(snapshot.keys[row] or b"{}"))} for row in shown.rows.tolist()}
        self._rows = [{**source[row], "watch": snapshot.watch_of[row]} for row in shown.rows.tolist()]
        self._lines = [
            {**source[int(limits.row[i])], **dict(limit_labels(fleet.WATCH.name, limits.limit[i]))}
            for i in shown.lines.tolist()
        ]
        self._ahead = [[{**line, "horizon": name} for line in self._lines] for name, _ in HORIZONS]

    def collect(self) -> Iterator[Metric]:
        """Score and confidence of each row, probabilities and time of breach of each limit line."""
        snapshot, shown = self._prepared.snapshot, self._prepared.shown
        limits = snapshot.limits
        for name, column in (("anomaly_score", "score"), ("anomaly_confidence", "confidence")):
            yield _metric(name, self._rows, snapshot.columns[column][shown.rows])
        chances = limits.probability[:, shown.lines]
        family = Metric("promantis_breach_probability", "Of breach.", "gauge")
        for known, numbers in zip(self._ahead, chances, strict=True):
            family.samples += _metric("breach_probability", known, numbers).samples
        yield family
        for name, column in (("", limits.eta), ("_lower", limits.soonest), ("_upper", limits.latest)):
            yield _metric(f"breach_eta{name}_seconds", self._lines, np.rint(column[shown.lines]))


def _metric(name: str, known: list[dict[str, str]], numbers: Any) -> Metric:
    family = Metric(f"promantis_{name}", "As ours.", "gauge")
    family.samples = [
        Sample(family.name, labels_, x)
        for labels_, x in zip(known, numbers.tolist(), strict=True)
        if x == x  # NaN is not said
    ]
    return family


def _samples(text: str) -> dict[Any, float]:
    return {
        (s.name, frozenset(s.labels.items())): float(np.float32(s.value))
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name.startswith(("promantis_anomaly", "promantis_breach"))
    }


def exposition(series: int) -> Row:
    """/metrics of five samples a series: score, confidence, and the breach lines of every second one."""
    work: list[Callable[[], int]] = []
    samples = 0
    for size in (2000, series):
        keys = fleet.keys(size)
        engine, at = fleet.taught(keys)
        answer = {fleet.WATCH.name: Vector(keys, next(fleet.values(size)))}
        snapshot = engine.tick(Instant(at), answer, 0)
        ours = Exposition(ExpositionConfig(max_series=5 * size))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collected(ours, snapshot, Instant(at)))

        def scrape(ours: Exposition = ours, snapshot: Snapshot = snapshot, at: float = at) -> int:
            """As the route does it: slices are written as they are made, the whole text never exists."""
            return sum(len(part) for part in render(ours.prepare([snapshot], Instant(at))))

        samples = sum(len(p.rows) * 2 + len(p.lines) * 6 for p in ours.prepare([snapshot], Instant(at)))

        def peer(registry: CollectorRegistry = registry) -> bytes:
            return generate_latest(registry)

        if size != series:  # the same code on fewer series: parsing all would take half a minute
            text = b"".join(render(ours.prepare([snapshot], Instant(at)))).decode()
            assert _samples(text) == _samples(peer().decode())
        work = [scrape, lambda peer=peer: len(peer())]
    gc.collect()
    fast, slow = interleaved(5, *work)
    what = f"/metrics of {series // 1000}k series ({samples // 1000}k samples)"
    return Row.ratio(what, fast * 1e3, slow * 1e3, "prometheus-client", "ms", 40)
