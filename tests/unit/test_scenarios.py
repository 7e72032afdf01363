"""What happens to a series and what is said of it: each docstring's first line is the policy.

Three days at five minutes and 2,880 ticks at the live step are learned before each scenario begins: a daily wave
between 6 and 14 with noise of 0.4, and some odder ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.models.lasting import HOLDS
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit
from sidecar.types import F64, Instant
from tests.unit.made import START, key, learned, vector, watch
from tests.unit.test_models import run

NAMES = ("wave", "other", "constant", "negative", "large", "counter", "flat zero", "sparse", "tiny")
LIMIT = 30.0
Sample = Callable[[float], float | None]


def wave(t: float) -> float:
    return float(10 + 4 * np.sin(2 * np.pi * t / 86400))


class World(NamedTuple):
    """Series by name with noise of their own, and what is changed in a scenario."""

    step: float
    nursery: Block
    random: np.random.Generator

    def now(self, t: float) -> dict[str, float]:
        """A sample of each series at an instant."""
        noise = self.random.normal(0, 0.4, len(NAMES)).tolist()
        base = wave(t)
        return {
            "wave": base + noise[0],
            "other": base + noise[1],
            "constant": 7.25,
            "negative": -base + noise[3],
            "large": 1e12 + 1e9 * (base + noise[4]),
            "counter": 1e9 + (t - START) * 50 + noise[5],
            "flat zero": 0.0,
            "sparse": base + noise[7] if round(t / self.step) % 3 == 0 else np.nan,
            "tiny": 1e-9 * (base + noise[8]),
        }


def row(values: Mapping[str, float]) -> F64:
    return np.array([values[name] for name in NAMES])


@pytest.fixture(scope="module", params=[15.0, 60.0], ids=["15s", "60s"])
def taught(request: pytest.FixtureRequest) -> World:
    """The nursery that all scenarios of a step begin with."""
    world = World(request.param, Block(1, request.param), np.random.default_rng(5))
    return world._replace(nursery=learned(world.step, len(NAMES), lambda t: row(world.now(t))))


class Play:
    """A scenario: an engine that knows the past, ticked on."""

    def __init__(self, world: World) -> None:
        self.world, self.step = world._replace(random=np.random.default_rng(6)), world.step
        self.engine = Engine(self.step)
        limits = (Limit(">", LIMIT, alertname="High"),)
        self.engine.watch({"w": watch(step=self.step, limits=limits)})
        self.engine.adopt(START, "w", [key(i=name) for name in NAMES], world.nursery, 0, 100)
        self.at = START
        self.said: Snapshot
        self.ticks(max(4, int(120 / self.step)))

    def tick(self, **changed: float | None) -> Snapshot:
        """One tick; `changed` are the values of some series (underscore for space), None for not there."""
        values: dict[str, float | None] = {**self.world.now(self.at)}
        values |= {name.replace("_", " "): value for name, value in changed.items()}
        samples = {
            key(i=name): x for name, x in values.items() if x is not None and (name != "sparse" or x == x)
        }
        self.said = self.engine.tick(self.at, {"w": vector(samples)}, 100)
        self.at = Instant(self.at + self.step)
        return self.said

    def ticks(self, count: int, **changed: Sample) -> list[Snapshot]:
        """Some ticks, values as functions of time."""
        return [self.tick(**{name: f(self.at) for name, f in changed.items()}) for _ in range(count)]

    def get(self, column: str, name: str = "wave", said: Snapshot | None = None) -> float:
        said = self.said if said is None else said
        rows = [i for i, k in enumerate(said.keys) if k == key(i=name)]
        return float(said.columns[column][rows[0]]) if rows else np.nan

    def breach(self, name: str = "wave", said: Snapshot | None = None) -> tuple[list[float], float]:
        """Probabilities and ETA of a series' limit."""
        said = self.said if said is None else said
        line = next(i for i, r in enumerate(said.limits.row) if said.keys[r] == key(i=name))
        return said.limits.probability[:, line].tolist(), float(said.limits.eta[line])

    def quiet(self, name: str = "wave") -> bool:
        """No alarm, and a band around the value."""
        inside = self.get("lower", name) <= self.get("observed", name) <= self.get("upper", name)
        return inside and self.get("score", name) < 1


@pytest.fixture
def play(taught: World) -> Play:
    return Play(taught)


# --------------------------------------------------------------------------- shapes of series


@pytest.mark.parametrize("name", sorted({*NAMES} - {"counter"}))
def test_ordinary(play: Play, name: str) -> None:
    """A series that does what it always did scores below 1, in a band no wider than twice its own day."""
    worst = max(np.nan_to_num(play.get("score", name, said)) for said in play.ticks(40))
    assert worst < 1
    low, high = play.get("lower", name), play.get("upper", name)
    unit = {"large": 1e9, "tiny": 1e-9}.get(name, 1.0)
    if name != "sparse" or np.isfinite(low):
        assert low <= high
        assert high - low < 16 * unit


def test_constant(play: Play) -> None:
    """A constant series may stay as it is for ever; its first change is odd, and lasting it becomes ordinary."""
    play.ticks(20)
    assert play.quiet("constant")
    play.tick(constant=7.5)
    assert play.get("score", "constant") > 1
    assert play.breach("constant")[0][2] < 0.5


def test_negative(play: Play) -> None:
    """Negative values are as good as any; only a series that was never negative gets no band below zero."""
    assert play.get("upper", "negative") < 0
    assert play.get("f60", "negative") < 0
    assert play.get("f60_lower", "wave") >= 0
    play.tick(negative=-40.0)
    assert play.get("score", "negative") > 1


def test_large_numbers(play: Play) -> None:
    """Numbers of 1e12 keep nine digits: band, score and forecasts are those of the same series in small."""
    play.ticks(10)
    assert play.quiet("large")
    width = (play.get("upper", "large") - play.get("lower", "large")) / 1e9
    assert width == pytest.approx(play.get("upper", "other") - play.get("lower", "other"), rel=0.5)
    assert abs(play.get("f60", "large") - 1e12 - 1e9 * wave(play.at + 3600)) < 3e9
    play.tick(large=1e12 + 40e9)
    assert play.get("score", "large") > 1


def test_counter(play: Play) -> None:
    """A raw counter is forecast along its slope, and its reset is no anomaly."""
    ahead = play.get("f60", "counter") - play.get("observed", "counter")
    assert ahead == pytest.approx(50 * 3600, rel=0.1)
    play.ticks(15)
    began = play.at
    after = play.ticks(20, counter=lambda t: (t - began) * 50)
    assert max(play.get("score", "counter", said) for said in after) < 1
    assert play.get("lower", "counter") <= play.get("observed", "counter") <= play.get("upper", "counter")
    ahead = play.get("f60", "counter") - play.get("observed", "counter")
    assert ahead == pytest.approx(50 * 3600, rel=0.1)


def test_sparse(play: Play) -> None:
    """A series with gaps at its usual rhythm raises no alarm, and is trusted less."""
    for said in play.ticks(30):
        assert not play.get("score", "sparse", said) > 1
    while not np.isfinite(play.get("observed", "sparse")):
        play.tick()
    play.tick(sparse=60.0, other=60.0)
    assert play.get("confidence", "sparse") < 0.6 * play.get("confidence", "other")


# --------------------------------------------------------------------------- what goes wrong


def test_step_change(play: Play) -> None:
    """A step out of the band scores above 1 at its first tick and for minutes after."""
    lasting = play.ticks(max(2, int(120 / play.step)), wave=lambda t: wave(t) + 12)
    for said in lasting:
        assert play.get("score", said=said) > 1
    assert play.get("since") == play.at - max(2, int(120 / play.step)) * play.step
    assert play.get("confidence", said=lasting[0]) > 0.6
    assert play.get("confidence", "other") < 0.1
    assert play.quiet("other")


@pytest.mark.parametrize("shift", [-4.0, 6.0])
def test_level_that_stays(play: Play, shift: float) -> None:
    """A level that stays keeps its alarm for an hour, and is then the new ordinary, or within hours at 1 min."""
    least, most = (HOLDS - play.step, HOLDS + 600) if play.step == 15 else (HOLDS - play.step, 14400)
    said = play.ticks(int((most + 3600) / play.step), wave=lambda t: wave(t) + shift)
    odd = np.array([play.get("score", said=s) for s in said]) >= 1
    assert odd[: int(least / play.step)].all()
    assert not odd[int(most / play.step) :].any()
    assert play.quiet()
    assert play.get("expected") == pytest.approx(wave(play.at) + shift, abs=abs(shift) / 4)


def test_step_down(play: Play) -> None:
    """A step downwards counts as much as one upwards unless the watch says otherwise."""
    play.tick(wave=wave(play.at) - 6)
    assert play.get("score") > 1


def test_a_single_step_is_no_trend(play: Play) -> None:
    """A jump is no slope: no breach is announced from it."""
    for said in play.ticks(int(300 / play.step), wave=lambda t: wave(t) + 12):
        p, eta = play.breach(said=said)
        assert max(p) < 0.5
        assert np.isnan(eta)


def test_a_spike(play: Play) -> None:
    """One odd sample, however odd, scores once and widens the band at most threefold."""
    band = play.get("upper") - play.get("lower")
    play.tick(wave=60.0)
    assert play.get("score") > 1
    play.ticks(4)
    assert play.quiet()
    assert play.get("upper") - play.get("lower") < 3 * band


def test_drop_to_zero(play: Play) -> None:
    """Exactly zero where zero is not usual scores above 1 at once; where it is usual it is nothing."""
    play.tick(wave=0.0)
    assert play.get("score") > 1
    assert play.get("score", "flat zero") < 1


def test_vanished(play: Play) -> None:
    """A series that is not in the answer is waited for once, then scores above 1 for `absent_for`."""
    play.tick(wave=None)
    assert not play.get("score") > 1
    play.tick(wave=None)
    assert play.get("score") > 1
    assert np.isnan(play.get("expected"))
    assert np.isnan(play.breach()[0]).all()
    play.ticks(int(300 / play.step), wave=lambda t: None)
    assert np.isnan(play.get("score"))


def test_back_after_a_gap(play: Play) -> None:
    """A gap raises no alarm on return: level and differences start again, after hours too."""
    gap = int(3000 / play.step)
    play.ticks(gap, wave=lambda t: None)
    for said in play.ticks(10):
        assert play.get("score", said=said) < 1
        assert play.get("score", "other", said) < 1
    play.ticks(int(3700 / play.step), wave=lambda t: None)
    for said in play.ticks(10):
        assert play.get("score", said=said) < 1


def test_back_after_a_pause_of_promantis(play: Play) -> None:
    """Hours in which Promantis did not tick are a gap like any other."""
    play.at = Instant(play.at + 6 * 3600)
    for said in play.ticks(10):
        for name in ("wave", "constant", "negative", "large"):
            assert play.get("score", name, said) < 1, name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(play: Play, value: float) -> None:
    """NaN and infinity are neither samples nor absence: nothing is said, nothing learned, no alarm on return."""
    for said in play.ticks(10, wave=lambda t: value):
        assert np.isnan(play.get("score", said=said))
        assert np.isnan(play.get("expected", said=said))
    play.tick()
    assert play.quiet()
    play.tick(wave=np.inf)
    assert play.breach()[0] == [1, 1, 1]  # infinity is above any limit, as for Prometheus


def test_new_series(play: Play) -> None:
    """A new series is scored after forty samples, with a confidence near 0 that grows for days."""
    assert np.isnan(play.tick(young=10.0).columns["score"][-1])
    play.ticks(70, young=lambda t: 10 + np.sin(t))
    assert play.get("score", "young") < 1
    play.tick(young=80.0, wave=80.0)
    assert play.get("confidence", "young") < 0.2 < 0.8 < play.get("confidence")


# --------------------------------------------------------------------------- what is coming


def leaking(play: Play, seconds: float, per_second: float) -> list[Snapshot]:
    """Ticks of a leak on top of the wave."""
    began = play.at - play.step
    level = play.get("observed")
    return play.ticks(int(seconds / play.step), wave=lambda t: level + (t - began) * per_second)


def test_leak(play: Play) -> None:
    """A slope beyond the usual is believed within minutes: the breach is announced before it, its ETA shrinks."""
    slope = 0.1 if play.step == 15 else 0.02
    said = leaking(play, (LIMIT - 8) / slope * 1.3, slope)
    before = [s for s in said if play.get("observed", said=s) <= LIMIT]
    announced = [s for s in before if 0.8 < play.breach(said=s)[0][2] < 1]
    assert len(announced) >= 3
    etas = [play.breach(said=s)[1] for s in announced]
    assert etas[0] > 60
    assert etas[-1] < etas[0]
    truth = (LIMIT - play.get("observed", said=announced[-1])) / slope
    assert etas[-1] == pytest.approx(truth, rel=0.5, abs=2 * play.step)
    assert play.breach() == ([1, 1, 1], 0)
    assert all(max(play.breach("other", s)[0]) < 0.5 for s in said)


def test_limit_crossed(play: Play) -> None:
    """While a condition is true its probability is exactly 1 and its ETA 0; before it, 0.999 at most."""
    play.tick(wave=LIMIT)
    assert max(play.breach()[0]) < 1
    play.tick(wave=LIMIT + 0.01)
    assert play.breach() == ([1, 1, 1], 0)
    play.tick(wave=LIMIT - 0.01)
    assert max(play.breach()[0]) < 1


# --------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump", [-7200.0, 3 * 86400.0])
def test_clock_jump(play: Play, jump: float) -> None:
    """A clock that jumps is a gap: no alarm, and the season is that of the new time."""
    play.at = Instant(play.at + jump)
    for said in play.ticks(10):
        assert play.get("score", "constant", said) < 1
        assert play.get("score", said=said) < 1
    assert abs(play.get("expected") - wave(play.at)) < 1.5
    assert np.isfinite(play.get("f60"))


def test_after_a_pause_forecasts_begin_where_the_series_is(play: Play) -> None:
    """After ten minutes or more without samples means begin again at the first: no forecast from before the gap."""
    play.at = Instant(play.at + 5 * 3600)
    for said in play.ticks(int(300 / play.step)):
        for name, of, scale in (("wave", wave, 1.0), ("large", lambda t: 1e12 + 1e9 * wave(t), 1e9)):
            assert abs(play.get("f15", name, said) - of(play.at + 900)) < 1.5 * scale
            assert abs(play.get("f60", name, said) - of(play.at + 3600)) < 2 * scale


def test_a_slower_scrape_and_a_faster_one(play: Play) -> None:
    """A scrape interval that changes, so that values repeat or no longer do, raises no alarm."""
    held = {"wave": 0.0, "other": 0.0}
    for every in (4, 1, 8):
        for i in range(60):
            if i % every == 0:
                held = {name: x for name, x in play.world.now(play.at).items() if name in held}
            said = play.tick(**held)
            assert play.get("score", "wave", said) < 1
            assert play.get("score", "other", said) < 1


@pytest.mark.parametrize("back", [0.0, 15.0, 30.0])
def test_the_same_instant_twice_or_an_earlier_one(play: Play, back: float) -> None:
    """A sample of an instant that has passed is neither scored nor learned."""
    before = play.said
    seen = play.engine.blocks[0].life.seen.copy()
    again = play.engine.tick(Instant(play.engine.at - back), {"w": vector({key(i="wave"): 1000.0})}, 0)
    np.testing.assert_array_equal(play.engine.blocks[0].life.seen, seen)
    for name in before.columns:
        np.testing.assert_array_equal(again.columns[name], before.columns[name], err_msg=name)
    play.tick()
    assert play.quiet()


@pytest.mark.parametrize(("step", "share", "most"), [(300.0, 0.004, 0.1), (3600.0, 0.02, 0.15)])
def test_what_is_mostly_zero_does_not_page_for_each_count(step: float, share: float, most: float) -> None:
    """A single count is no page though the usual deviation is nothing: it is measured by what moves are usual."""
    lived = 11 if step < 3600 else 20
    rows = 280 // (lived - 6)
    ticks, first = int(lived * 86400 / step), int(6 * 86400 / step)
    x = (np.random.default_rng(0).random((ticks, rows)) < share).astype(float)
    score = run(Block(rows, step), START + np.arange(ticks) * step, x)["score"]
    over = score[first:] >= 1
    begins = over & ~np.vstack([np.zeros((1, rows), bool), over[:-1]])
    days = rows * (lived - 6)
    assert x[first:].sum() / days > 0.3
    assert begins.sum() / days < most


def test_the_first_change_of_a_constant_is_odd_but_not_beyond_measure() -> None:
    x = np.full((3 * 288, 1), 7.0)
    x[-1] = 9.0
    raw = run(Block(1, 300.0), START + np.arange(len(x)) * 300.0, x)["raw"]
    assert 1 < raw[-1, 0] < 6
