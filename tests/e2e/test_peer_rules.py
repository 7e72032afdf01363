"""What rules like those of grafana/promql-anomaly-detection find, told by the real promtool."""

from __future__ import annotations

import pytest

from sidecar.demo.binaries import Binaries
from tests.quality.scenes import peers as found_by_rules
from tests.unit.scenes import SCENES

pytestmark = pytest.mark.e2e


def test_what_the_rules_find(peers: Binaries) -> None:
    """The table of docs/accuracy.md: both find what is large and positive, robust also what lasts for hours."""
    found = found_by_rules(peers.promtool, 3, [scene for scene in SCENES if scene.noise == ""])
    by = {name: [scene for strategy, scene in found if strategy == name] for name in ("adaptive", "robust")}
    large = {"x2 for three hours", "x4 for three hours", "drop to 1 %"}
    assert set(by["adaptive"]) == large
    assert set(by["robust"]) == large | {"slow leak", "fast leak", "x1.5 that stays"}
    assert all(found["adaptive", name] == 5 for name in large)
    assert all(30 <= found["robust", name] <= 40 for name in large)
