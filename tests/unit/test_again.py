"""An incident does not hide the next one."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.replay import backtest
from tests.unit.made import START
from tests.unit.scenes import NOISE, season

COPIES = 8


@pytest.mark.parametrize("sigmas", [30, 100])
def test_after_a_long_incident(sigmas: float) -> None:
    """A day far out, and eight days later four hours of ten sigma: they page, though the day was much worse."""
    random, hours = np.random.default_rng(12), np.arange(30 * 24)
    x = season(START + hours * 3600.0)[:, None] + random.normal(0, NOISE, (len(hours), COPIES))
    first, second = slice(14 * 24, 15 * 24), slice(23 * 24 + 5, 23 * 24 + 9)
    x[first] += sigmas * NOISE
    x[second] += 10 * NOISE
    said = backtest.run([backtest.Recording("again", START + hours * 3600.0, x)], 3600.0, ("score",))
    score = said[0]["score"]
    assert (score[first].max(0) >= 1).all()
    assert (score[second].max(0) >= 1).sum() >= COPIES - 1, score[second].max(0)


def test_after_forty_samples() -> None:
    """What is far out after forty samples is said to be, also of a series with an hour between them; not before."""
    random, hours = np.random.default_rng(5), np.arange(60)
    x = 100 + random.normal(0, NOISE, (len(hours), COPIES))
    x[41] += 60 * NOISE
    said = backtest.run([backtest.Recording("young", START + hours * 3600.0, x)], 3600.0, ("score",))
    score = said[0]["score"]
    assert np.isnan(score[:40]).all()
    assert (score[41] >= 1).all(), score[41]
    assert not (score[40] >= 1).any()
