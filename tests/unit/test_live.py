"""A live node_exporter under changing load, replayed from a cold start: nothing pages.

Recorded by a real Prometheus every 15 s on machines of two cores, an hour and once 98 minutes, while a script wrote to
disk, computed, sent over the loopback or idled for three to fifteen minutes each, and other work came and went; watched
by the presets `node` and `prometheus` and by bare series of a node_exporter and a Prometheus (tests.quality.node).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.live import STEP, replayed
from tests.unit.scenes import runs

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize(("name", "least"), [("node", 4), ("node_busy", 10)])
def test_a_live_node(name: str, least: float) -> None:
    """No score stays at 1 for two minutes, and single ticks that do come seldom, from the first minute on."""
    names, score = replayed(FIXTURES / f"{name}.npz")
    days = np.isfinite(score).sum() * STEP / 86400
    assert days > least
    pages = {
        json.dumps(name): found for name, x in zip(names, score.T, strict=True) if (found := runs(x, STEP))
    }
    assert not pages
    assert sum(len(runs(column, STEP, 0.0)) for column in score.T) / days < 10
