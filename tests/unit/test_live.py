"""An hour of a real node_exporter under changing load, replayed from a cold start: nothing pages.

Recorded by a real Prometheus every 15 s on a machine of two cores, while a script wrote to disk, kept a core busy for a
third, sent over the loopback or idled for three to fifteen minutes each, and other work came and went; watched by the
presets `node` and `prometheus` and by bare series of a node_exporter and a Prometheus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sidecar.signals.engine import Engine
from sidecar.signals.frame import Vector
from sidecar.signals.wanted import WatchConfig
from sidecar.signals.watches import from_config
from sidecar.types import Instant
from tests.unit.scenes import runs

RECORDED = Path(__file__).parent / "fixtures" / "node.npz"
"""`at` f64[times], `values` f64[times, series], `names` (JSON of labels and watch) and `watches` (JSON)."""
STEP = 15.0


def test_a_live_node() -> None:
    """No score stays at 1 for two minutes, and single ticks that do come seldom, from the first minute on."""
    with np.load(RECORDED) as recorded:
        at, values = recorded["at"], recorded["values"]
        names: list[dict[str, str]] = [json.loads(name) for name in recorded["names"]]
        config: list[Any] = json.loads(str(recorded["watches"]))
    watches = from_config(msgspec.convert(config, tuple[WatchConfig, ...]), STEP, "config")
    engine = Engine(STEP)
    engine.watch({watch.name: watch for watch in watches})
    keys = [json.dumps({k: v for k, v in sorted(name.items()) if k != "watch"}).encode() for name in names]
    of = {watch.name: [i for i, name in enumerate(names) if name["watch"] == watch.name] for watch in watches}
    place = {(name["watch"], key): i for i, (name, key) in enumerate(zip(names, keys, strict=True))}
    score = np.full(values.shape, np.nan)
    for i, x in enumerate(values):
        there = {watch: [j for j in mine if np.isfinite(x[j])] for watch, mine in of.items()}
        answers = {watch: Vector([keys[j] for j in mine], x[mine]) for watch, mine in there.items()}
        said = engine.tick(Instant(at[i]), answers, 1000)
        for row, (watch, key) in enumerate(zip(said.watch_of, said.keys, strict=True)):
            if key is not None:
                score[i, place[watch, key]] = said.columns["score"][row]
    days = np.isfinite(score).sum() * STEP / 86400
    assert days > 4
    pages = {json.dumps(names[j]): found for j in range(len(names)) if (found := runs(score[:, j], STEP))}
    assert not pages
    assert sum(len(runs(column, STEP, 0.0)) for column in score.T) / days < 10
