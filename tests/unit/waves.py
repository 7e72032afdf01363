"""Made recordings of a daily wave."""

from __future__ import annotations

import numpy as np

from sidecar.signals.replay.backtest import Recording

STEP, DAY = 900.0, 96
START = 1_700_000_100.0


def wave(days: float, seed: int = 1, start: float = START) -> Recording:
    rng = np.random.default_rng(seed)
    at = start + np.arange(int(days * DAY)) * STEP
    return Recording(
        "a", at, 50 + 10 * np.sin(at / 86400 * 2 * np.pi)[:, None] + rng.normal(0, 1, (len(at), 1))
    )
