"""Candidate series of many services, some of them out: for the speed of a diagnosis."""

from __future__ import annotations

import numpy as np

from sidecar.types import Candidates


def fleet(services: int) -> Candidates:
    """A tree of services with 6 series each and 4 on each call, some of them out."""
    random = np.random.default_rng(7)
    names = [f"s{i:03}" for i in range(services)]
    kinds = ["latency", "errors", "traffic", "cpu", "memory", "saturation"]
    calls = [(names[(i - 1) // 3], names[i]) for i in range(1, services)]
    per_edge = ["edge_client", "edge_server", "gap", "fanout"]
    series = [(s, k) for s in names for k in kinds] + [(f"{a}->{b}", k) for a, b in calls for k in per_edge]
    n = len(series)
    level = np.full(n, 0.1)
    values = 0.1 + 0.005 * random.standard_normal((16, n)) + np.where(random.random(n) < 0.1, 0.2, 0.0)
    return Candidates(
        [s for s, _ in series],
        [k for _, k in series],
        [k for _, k in series],
        level,
        np.full(n, 0.005),
        np.full(n, 3.0),
        level,
        60.0 * np.arange(16),
        values,
        calls,
    )
