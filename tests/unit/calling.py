"""A few services that call one another, with two hours of past and five minutes that may be bad."""

from __future__ import annotations

import numpy as np

from sidecar.signals.scene.usual import usual
from sidecar.types import Candidates

CALLS = (("front", "cart"), ("front", "pay"), ("pay", "bank"))
LEVEL = {
    "latency": {"front": 0.3, "cart": 0.1, "pay": 0.15, "bank": 0.1},
    "errors": dict.fromkeys(("front", "cart", "pay", "bank"), 0.001),
    "traffic": {"front": 100.0, "cart": 100.0, "pay": 50.0, "bank": 50.0},
    "cpu": dict.fromkeys(("front", "cart", "pay", "bank"), 0.4),
}
Change = dict[tuple[str, str], float]


def candidates(change: Change, calls=CALLS, more: dict[tuple[str, str], float] | None = None) -> Candidates:
    """Two hours a minute, then five minutes in which some series have changed by so much."""
    random = np.random.default_rng(3)
    series = [(s, k) for k, of in LEVEL.items() for s in of] + sorted(more or {})
    level = np.array([(more or {}).get((s, k)) or LEVEL[k][s] for s, k in series])
    past = level * (1 + 0.02 * random.standard_normal((120, len(series))))
    now = level * (1 + 0.02 * random.standard_normal((5, len(series))))
    now[2:] += np.array([change.get(one, 0.0) for one in series])
    entities, kinds = [s for s, _ in series], [k for _, k in series]
    known = usual(past, kinds, kinds)
    return Candidates(entities, kinds, kinds, *known, 7200 + 60.0 * np.arange(5), now, calls)


SLOW_BANK: Change = {
    ("bank", "latency"): 0.4,
    ("pay", "latency"): 0.4,
    ("front", "latency"): 0.2,  # half of its requests pay
}
