"""An hour of a real node_exporter under changing load, replayed from a cold start: nothing pages.

Recorded by a real Prometheus every 15 s on a machine of two cores, while a script wrote to disk, kept a core busy for a
third, sent over the loopback or idled for three to fifteen minutes each, and other work came and went; watched by the
presets `node` and `prometheus` and by bare series of a node_exporter and a Prometheus.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.unit.live import STEP, replayed
from tests.unit.scenes import runs

RECORDED = Path(__file__).parent / "fixtures" / "node.npz"


def test_a_live_node() -> None:
    """No score stays at 1 for two minutes, and single ticks that do come seldom, from the first minute on."""
    names, score = replayed(RECORDED)
    days = np.isfinite(score).sum() * STEP / 86400
    assert days > 4
    pages = {
        json.dumps(name): found for name, x in zip(names, score.T, strict=True) if (found := runs(x, STEP))
    }
    assert not pages
    assert sum(len(runs(column, STEP, 0.0)) for column in score.T) / days < 10
