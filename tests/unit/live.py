"""What a real node_exporter said, replayed through an engine from a cold start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.wanted import WatchConfig
from sidecar.signals.watch.watches import from_config
from sidecar.types import F64, Instant

STEP = 15.0


def replayed(path: Path) -> tuple[list[dict[str, str]], F64]:
    """Labels of each series with its watch, and the scores f64[times, series], of an npz that holds `at` f64[times],
    `values` f64[times, series], `names` (JSON of labels and watch) and `watches` (JSON)."""
    with np.load(path) as recorded:
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
    return names, score
