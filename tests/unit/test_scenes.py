"""What goes wrong with a series is found in time, and nothing is said before; misses are named in scenes.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.unit.scenes import COPIES, SCENES, Film, expand, look, play

STEPS = {15.0: 420, 60.0: 960, 300.0: 960}
"""Steps in seconds, and how many minutes are played."""


@pytest.fixture(scope="module", params=list(STEPS), ids=["15s", "1m", "5m"])
def film(request: pytest.FixtureRequest) -> Film:
    """All scenes, played once for each step."""
    return play(request.param, STEPS[request.param])


@pytest.mark.parametrize("number", range(len(SCENES)), ids=[scene.name for scene in SCENES])
def test_scene(film: Film, number: int) -> None:
    """All copies of a scene but one page, half of them within its minutes, and none before it."""
    scene = SCENES[number]
    seen = look(film, number, scene)
    assert seen.before == 0, seen
    within = scene.within[list(STEPS).index(film.step)]
    if math.isnan(within):  # a miss that scenes.py and README.md name
        return
    assert seen.paged >= COPIES - 1, seen
    assert seen.delay <= within, seen


def test_notation() -> None:
    """The series notation is read as `promtool test rules` reads it."""
    got = expand("1x2 _x2 _ 5+2x2 -3-1x1 7 1e3 -2.5")
    want = [1, 1, 1, np.nan, np.nan, np.nan, 5, 7, 9, -3, -4, 7, 1000, -2.5]
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="'stale' is no item of Prometheus' series notation"):
        expand("1 stale")
