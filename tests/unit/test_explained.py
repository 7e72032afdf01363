"""`explained_by`: what load accounts for stays calm, what it does not account for is caught at any load."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.ingest.matching import partners
from sidecar.signals.known.expose import Exposition, ExpositionConfig, render
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.history import Span
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models.conditional import GROWN, Conditional, prequential
from sidecar.signals.tick.engine import Engine
from sidecar.signals.tick.lesson import Lesson, together
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, Instant
from tests.unit.made import START, State, dumped, key, vector, watch

STEP, LIVE = 15.0, 1440
SHOP = key(service="shop")
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


# --------------------------------------------------------------------------- what it is for


def surge(i: float) -> float:
    """Twice the load within five minutes, for an hour."""
    return 1 + min(1.0, max(0.0, (i - 20) / 20)) * (i < 280)


def test_a_load_surge_along_the_curve_is_calm(world: World, state: State) -> None:
    said = lived(loaded(state), world, 320, surge)
    for name in ("cpu", "pool"):
        assert of_watch(said, name).max() < 0.5, name
        band = [of_watch(said, name, column)[60:280] for column in ("lower", "observed", "expected", "upper")]
        assert (band[0] < band[1]).all(), name
        assert (band[1] < band[3]).all(), name
        assert np.abs(band[1] / band[2] - 1).mean() < 0.1, name
    # which by itself is odd
    assert of_watch(lived(alone(state), world, 60, surge), "cpu").max() > 1


def test_latency_up_at_equal_load_is_caught_inside_the_marginal_range(world: World, state: State) -> None:
    def low(i: float) -> float:
        return 1 - 0.4 * min(1.0, i / 30)

    def shift(i: float) -> float:
        return 1.3 if i >= 40 else 1.0

    said = lived(loaded(state), world, 80, low, shift)
    seen = world.value("latency", START - np.arange(4 * 288) * 300.0)
    shifted = of_watch(said, "latency", "observed")[40:]
    assert shifted.max() < np.quantile(seen, 0.98)  # nothing that had not been there often
    score = of_watch(said, "latency")
    assert score[:40].max() < 0.5
    assert score[40:42].max() > 1
    assert of_watch(lived(alone(state), world, 80, low, shift), "latency").max() < 0.7


def test_without_a_regressor_the_series_is_scored_by_itself(world: World, state: State) -> None:
    made, by_itself = loaded(state), alone(state)
    widths = [
        of_watch(lived(e, world, 3), "cpu", "upper") - of_watch([e.snapshot(e.at)], "cpu", "lower")
        for e in (made, by_itself)
    ]
    assert widths[0][-1] < widths[1][-1]
    at = Instant(made.at + STEP)
    answers = {name: vector({SHOP: float(world.value(name, np.array(at)))}) for name in CURVES}
    said, own = (
        made.tick(at, {**answers, "regressor_rate": vector({})}, 1000),
        by_itself.tick(at, answers, 1000),
    )
    for column in ("score", "raw", "expected", "lower", "upper", "confidence"):
        assert of_watch([said], "cpu", column) == of_watch([own], "cpu", column), column
    assert of_watch(lived(made, world, 2), "cpu").max() < 0.5  # nothing was absent


def test_what_only_explains_says_nothing(world: World, state: State) -> None:
    snapshot = lived(loaded(state), world, 2, lambda i: 5.0)[-1]
    row = snapshot.rows["regressor_rate"][0]
    said = {name for name, column in snapshot.columns.items() if np.isfinite(column[row])}
    assert said == {"observed", "age"}
    known = Known()
    known.publish(snapshot)
    assert "regressor_rate" not in {finding.watch for finding in known.top(10)}
    exposition = Exposition(ExpositionConfig())
    assert b"regressor_rate" not in b"".join(render(exposition.prepare([snapshot], snapshot.at)))
    assert len(snapshot.keys) == len(CURVES) + 1  # twins are no series


def test_what_is_saved_goes_on_as_if_nothing_had_been(world: World, state: State) -> None:
    one = loaded(state)
    lived(one, world, 50)
    two = Engine.load(*dumped(one), {w.name: w for w in targets(*CURVES)})
    a, b = lived(one, world, 80, surge), lived(two, world, 80, surge)
    for name in CURVES:
        for column in ("raw", "expected", "upper", "confidence"):
            np.testing.assert_array_equal(of_watch(a, name, column), of_watch(b, name, column))


def test_another_explanation_begins_anew(state: State) -> None:
    other = [watch("cpu", "cpu", explained_by=("rate", "latency")), *targets("latency")]
    made = Engine.load(*state, {w.name: w for w in other})
    assert made.learned == {"latency", "regressor_rate"}
    assert made.known_until(other[0]) is None


def test_a_new_pod_inherits_the_curve_if_it_fits(world: World) -> None:
    old, new, big = (key(pod=f"shop-7d9f8b6c5-{end}") for end in ("x2x9k", "a8z4c", "q7w2e"))
    made = taught(world, targets("cpu"), [old], 1.0)
    for i in range(40):
        at = Instant(made.at + STEP)
        rate = world.rate(np.array(at)) * surge(i)
        cpu = float(world.value("cpu", np.array(at), rate))
        answer = {"cpu": vector({old: cpu, new: cpu, big: 9 * cpu})}
        said = made.tick(
            at, {**answer, "regressor_rate": vector(dict.fromkeys((old, new, big), float(rate)))}, 99
        )
        if i == 2:
            of = dict(
                zip((old, new), said.columns["expected"][list(said.rows["cpu"][:2])].tolist(), strict=True)
            )
            assert of[new] == pytest.approx(of[old], rel=0.02)
    earned = [
        bool(p.model.earned[row]) for p in made.explained.panels for row in np.flatnonzero(p.target >= 0)
    ]
    assert sorted(earned) == [False, True, True]
    assert said.columns["score"][said.rows["cpu"][1]] < 0.5


# --------------------------------------------------------------------------- which belongs to which


@pytest.mark.parametrize(
    ("target", "others", "which"),
    [
        ({"pod": "a", "job": "x"}, [{"job": "x"}, {"pod": "a", "job": "x"}, {}], 1),  # the most of its labels
        ({"pod": "a", "job": "x"}, [{"job": "y"}, {"job": "x"}, {}], 1),
        ({"pod": "a", "code": "500"}, [{"pod": "a", "zone": "1"}, {"pod": "b", "zone": "1"}], 0),
        ({"pod": "a"}, [{"pod": "a", "code": "200"}, {"pod": "a", "code": "500"}], -1),  # which of them?
        ({"pod": "a"}, [{"pod": "a", "code": "200"}, {"pod": "a", "code": "500"}, {}], 2),
        ({"pod": "a"}, [{"pod": "b"}, {"zone": "1"}], -1),
        ({}, [{}], 0),
        ({"pod": "a"}, [], -1),
    ],
)
def test_partners(target: dict[str, str], others: list[dict[str, str]], which: int) -> None:
    assert partners([key(**target)], [key(__name__="up", **other) for other in others]) == [which]


def test_what_explains_one_another_is_learned_together() -> None:
    a, b = watch("a", "a", explained_by=("r",)), watch("b", "b", explained_by=("r", "s"))
    r, s, alone = watch("r", "r"), watch("s", "s"), watch("c", "c")
    groups = together([a, alone, b, r], [a, b, r, s, alone])
    assert [sorted(w.name for w in group) for group in groups] == [["a", "b", "r", "s"], ["c"]]


# --------------------------------------------------------------------------- the curve


def history(days: float, k: int = 1, seed: int = 3) -> tuple[F64, F64]:
    """Times every five minutes, and regressors f64[times, k, 1] that wander around 100."""
    at = START + np.arange(int(days * 288)) * 300.0
    x = np.stack([World(seed=seed + i).rate(at + i * 1e6) for i in range(k)], 1)
    return at, x[:, :, None]


def test_eight_regressors() -> None:
    at, x = history(6, 8)
    y = 3 + (x[:, :, 0] * np.arange(1, 9)).sum(1)[:, None]
    left, _ = prequential(at, y, x, 300.0)
    assert np.nanmax(np.abs(left[-288:])) < 0.02 * y.std()
    assert np.isnan(left[: int(GROWN / 300)]).all()


def test_what_explains_nothing_is_not_believed() -> None:
    at, x = history(5)
    rng = np.random.default_rng(0)
    model = Conditional(1)
    with np.errstate(all="ignore"):
        for i, now in enumerate(at.tolist()):
            model.learn(now, 50 + rng.normal(0, 1, 1), model.curve(x[i]), np.ones(1, bool), 300.0)
    assert not model.earned[0]


def test_a_regressor_that_stands_still_for_weeks_blows_nothing_up() -> None:
    at, x = history(30)
    x[4 * 288 :] = 100.0
    rng = np.random.default_rng(0)
    y = 10 + 0.5 * x[:, 0] + rng.normal(0, 0.1, (len(at), 1))
    left, _ = prequential(at, y, x, 300.0)
    assert np.abs(left[5 * 288 :]).max() < 1


def test_an_anomaly_is_not_learned_as_the_curve() -> None:
    at, x = history(6)
    rng = np.random.default_rng(0)
    y = 10 + 0.5 * x[:, 0] + rng.normal(0, 0.5, (len(at), 1))
    _, calm = prequential(at, y, x, 300.0)
    y[-60:-12] += 100  # for four hours
    _, said = prequential(at, y, x, 300.0)
    assert np.abs(said[-12:] - calm[-12:]).max() < 0.5
