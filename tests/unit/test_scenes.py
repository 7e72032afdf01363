"""What goes wrong with a series is found in time, and nothing is said before; misses are named in scenes.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sidecar.types import F64, Instant
from tests.unit import made
from tests.unit.made import START, key, learned, vector, watch
from tests.unit.scenes import COPIES, NOISE, SCENES, Film, expand, look, play, season

pytestmark = pytest.mark.timeout(300)  # seconds of work, where other work is going on

STEPS = {15.0: 300, 60.0: 600, 300.0: 960}
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
    if math.isnan(within):  # a miss that scenes.py and docs/accuracy.md name
        return
    assert seen.paged >= COPIES - 1, seen
    assert seen.delay <= within, seen


def test_deploy() -> None:
    """New pods take over at once what the old ones taught: quiet through the deploy, and missed when they fail."""
    step = 60.0
    old, new = (
        [key(app="shop", pod=f"shop-{name}-x2x9{c}") for c in "bcdf"] for name in ("7d9f8b6c5", "86c57db685")
    )
    texts = dict.fromkeys(old, "1x59 _") | dict.fromkeys(new, "_x60 1x59 0.01")
    random = np.random.default_rng(7)

    def load(t: float) -> F64:
        return season(np.array([t])) + random.normal(0, NOISE, len(old))

    engine = made.engine(watch(step=step))
    engine.adopt(START, "w", old, learned(step, len(old), load), 0, 100)
    scores = []
    for t in np.arange(0, 125 * 60, step).tolist():
        factor = [expand(text)[min(int(t / 60), len(expand(text)) - 1)] for text in texts.values()]
        samples = dict(zip(texts, np.tile(load(START + t), 2) * factor, strict=True))
        said = engine.tick(
            Instant(START + t), {"w": vector({k: x for k, x in samples.items() if x == x})}, 100
        )
        row = {k: i for i, k in enumerate(said.keys)}
        scores.append([said.columns["score"][row[k]] if k in row else np.nan for k in texts])
    found, minutes = np.array(scores), np.arange(0, 125 * 60, step) / 60
    assert not np.nanmax(found[minutes < 120]) >= 1
    assert np.isfinite(
        found[(minutes >= 65) & (minutes < 120), len(old) :]
    ).all()  # scored from the first minutes on
    assert (found[minutes >= 121, len(old) :] > 1).all()


def test_notation() -> None:
    """The series notation is read as `promtool test rules` reads it."""
    got = expand("1x2 _x2 _ 5+2x2 -3-1x1 7 1e3 -2.5")
    want = [1, 1, 1, np.nan, np.nan, np.nan, 5, 7, 9, -3, -4, 7, 1000, -2.5]
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="'stale' is no item of Prometheus' series notation"):
        expand("1 stale")
