"""`explained_by`: what load accounts for stays calm, what it does not account for is caught at any load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from sidecar.signals.engine import Engine
from sidecar.signals.frame import Matrix, Vector
from sidecar.signals.history import Span
from sidecar.signals.lesson import Lesson
from sidecar.signals.models import Array
from sidecar.signals.snapshot import Snapshot
from sidecar.signals.trust import Trust
from sidecar.signals.watches import Watch
from sidecar.types import F64, Instant
from tests.unit.made import START, key, vector, watch

State = tuple[Mapping[str, Any], Mapping[str, Array]]
STEP, LIVE = 15.0, 1440
SHOP, CART = key(service="shop"), key(service="cart")
CURVES: Mapping[str, Callable[[F64], F64]] = {
    "cpu": lambda r: 0.2 + 0.01 * r,
    "latency": lambda r: 0.05 / (1 - r / 400),
    "pool": lambda r: 20 * r / (80 + r),
}


def targets(*names: str, **more: object) -> list[Watch]:
    """Watches of these curves, explained by the rate, and the silent watch of the rate."""
    mine = [watch(name, name, explained_by=("rate",), **more) for name in names]
    return [*mine, Watch("regressor_rate", "rate", "regressor", STEP, absent="ignore")]


class World:
    """A service under a load that wanders within a daily wave; every value at any time, the same each time."""

    def __init__(self, noise: float = 0.03, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._waves = rng.uniform(3600, 20000, 8), rng.uniform(0, 2 * np.pi, 8)
        self._noise = noise

    def rate(self, at: F64) -> F64:
        at = np.asarray(at, np.float64)
        periods, phases = self._waves
        wander = np.sin(2 * np.pi * at[..., None] / periods + phases).sum(-1)
        return 100 + 30 * np.sin(2 * np.pi * at / 86400) + 8 * wander + 2 * _noise(at, 0)

    def value(self, name: str, at: F64, rate: F64 | None = None) -> F64:
        at = np.asarray(at, np.float64)
        load = self.rate(at) if rate is None else rate
        return CURVES[name](load) * (1 + self._noise * _noise(at, len(name)))


def _noise(at: F64, salt: int) -> F64:
    """Normal noise that is a function of time."""
    turn = np.sin(at[..., None] * 12.9898 + np.arange(1, 7) * (78.233 + salt)) * 43758.5453
    return (np.sum(turn - np.floor(turn), -1) - 3) * np.sqrt(2)


def taught(world: World, watches: list[Watch], keys: list[bytes], days: float = 3.0) -> Engine:
    """An engine that learned some days of these watches, every series of a watch alike."""
    made = Engine(STEP)
    made.watch({w.name: w for w in watches})
    lesson = Lesson(STEP, False)
    live = START - LIVE * STEP
    for w in watches:
        lesson.add(w, keys, Instant(live - days * 86400))
    for start, end, step in ((live - days * 86400, live - STEP, 300.0), (live, START - STEP, STEP)):
        at = np.arange(start, end + 1, step)
        columns = [world.rate(at) if w.query == "rate" else world.value(w.query, at) for w in watches]
        span = Span(Instant(at[0]), Instant(at[-1]), step)
        lesson.replay(
            span, [Matrix(keys, at, np.repeat(c[:, None], len(keys), 1)) for c in columns], Trust(0)
        )
    lesson.adopt(made, START, 1000)
    made.at = Instant(START - STEP)
    return made


def lived(
    made: Engine,
    world: World,
    ticks: int,
    load: Callable[[F64], float] = lambda i: 1.0,
    factor: Callable[[F64], float] = lambda i: 1.0,
    keys: list[bytes] | None = None,
) -> list[Snapshot]:
    """Ticks with the rate times `load` and the targets, along their curves, times `factor`."""
    out = []
    for i in range(ticks):
        at = np.array(made.at + STEP)
        rate = world.rate(at) * load(i)
        answers: dict[str, Vector] = {}
        for name, w in made.watches.items():
            value = rate if w.query == "rate" else world.value(w.query, at, rate) * factor(i)
            answers[name] = vector(dict.fromkeys(keys or [SHOP], float(value)))
        out.append(made.tick(Instant(float(at)), answers, 1000))
    return out


def of_watch(said: list[Snapshot], name: str, column: str = "score") -> F64:
    """A column of the first series of a watch, by tick."""
    return np.array([s.columns[column][s.rows[name][0]] for s in said], np.float64)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def state(world: World) -> State:
    """An engine that knows some days of all curves, as it is saved."""
    return dumped(taught(world, targets(*CURVES), [SHOP]))


def loaded(state: State, *names: str, **more: object) -> Engine:
    """An engine from the state with `explained_by`."""
    return Engine.load(*state, {w.name: w for w in targets(*(names or CURVES), **more)})


def alone(state: State) -> Engine:
    """The same without `explained_by`: every series by itself."""
    header = {**state[0], "explained": {"panels": [], "by": {}}}
    return Engine.load(header, state[1], {name: watch(name, name) for name in CURVES})


def dumped(made: Engine) -> State:
    (_, header), *arrays = made.dump()
    return header, {name: array.copy() for name, array in arrays}


# --------------------------------------------------------------------------- what it is for


def surge(i: float) -> float:
    """Twice the load within five minutes, for an hour."""
    return 1 + min(1.0, max(0.0, (i - 20) / 20)) * (i < 280)


@pytest.mark.parametrize("name", ["cpu", "pool"])
def test_a_load_surge_along_the_curve_is_calm(world: World, state: State, name: str) -> None:
    said = lived(loaded(state), world, 320, surge)
    assert of_watch(said, name).max() < 0.5
    band = [of_watch(said, name, column)[60:280] for column in ("lower", "observed", "expected", "upper")]
    assert (band[0] < band[1]).all()
    assert (band[1] < band[3]).all()
    assert np.abs(band[1] / band[2] - 1).mean() < 0.1
    if name == "cpu":  # which by itself is odd
        assert of_watch(lived(alone(state), world, 60, surge), name).max() > 1.5


def test_latency_up_at_equal_load_is_caught_inside_the_marginal_range(world: World, state: State) -> None:
    def low(i: float) -> float:
        return 1 - 0.4 * min(1.0, i / 30)

    def shift(i: float) -> float:
        return 1.25 if i >= 40 else 1.0

    said = lived(loaded(state), world, 80, low, shift)
    seen = world.value("latency", START - np.arange(4 * 288) * 300.0)
    shifted = of_watch(said, "latency", "observed")[40:]
    assert shifted.max() < np.quantile(seen, 0.98)  # nothing that had not been there often
    score = of_watch(said, "latency")
    assert score[:40].max() < 0.5
    assert score[40:42].max() > 1
    assert of_watch(lived(alone(state), world, 80, low, shift), "latency").max() < 0.7
