"""What the user says reaches the rows: the present is the new normal at once, and confidence moves by watch."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.detect.belief import Beliefs, moved
from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.models import f4
from sidecar.signals.tick.engine import Engine
from sidecar.types import Instant
from tests.unit.made import START, engine, key, learned, watch

A, B = key(i="a"), key(i="b")


def around(t: float) -> float:
    return 50 + 10 * float(np.sin(2 * np.pi * t / 86400))


@pytest.fixture(scope="module")
def nursery() -> Block:
    """Two series with a day's swing, known for three days."""
    rng = np.random.default_rng(1)
    return learned(15.0, 2, lambda t: around(t) + rng.normal(0, 1, 2))


@pytest.fixture
def known(nursery: Block) -> Engine:
    """An engine that knows them for two watches."""
    e = engine(watch(kind="cpu"), watch("other", "y", kind="disk"))
    for name in ("w", "other"):
        e.adopt(START, name, [A, B], nursery, 0, 100)
    return e


def run(e: Engine, shift: float, ticks: int, since: int = 0) -> list[Snapshot]:
    """Ticks in which both watches' series A is shifted."""
    rng, out = np.random.default_rng(2 + since), []
    for i in range(since, since + ticks):
        at = START + i * e.step
        x = around(at) + rng.normal(0, 1, 2) + np.array([shift, 0])
        out.append(e.tick(Instant(at), {name: Vector([A, B], x) for name in ("w", "other")}, 10))
    return out


def worst(snapshots: list[Snapshot], row: int) -> float:
    return max(float(s.columns["score"][row]) for s in snapshots)


def test_the_present_is_the_new_normal_at_once(known: Engine) -> None:
    assert worst(run(known, 60, 4), 0) > 2
    known.accept("w", [A, key(i="never seen")])
    after = run(known, 60, 240, 4)
    assert worst(after[1:], 0) < 1
    assert after[1].columns["lately"][0] < 1 < after[1].columns["lately"][2]
    assert worst(after, 2) > 2  # the other watch's row was not spoken of
    assert worst(after, 1) < 1
    last = after[-1].columns
    assert last["expected"][0] == pytest.approx(110 + around(START) - 50, abs=8)
    assert last["f60"][0] == pytest.approx(last["observed"][0], abs=8)
    assert worst(run(known, 0, 10, 244), 0) > 2  # and the old one no longer is


def test_zero_that_is_expected_is_no_alarm(known: Engine) -> None:
    def gone(i: int) -> Snapshot:
        x = np.array([0.0, around(START)])
        return known.tick(Instant(START + i * 15), {"w": Vector([A, B], x)}, 10)

    assert worst([gone(i) for i in range(4)], 0) > 1
    known.accept("w", [A])
    assert worst([gone(i) for i in range(5, 100)], 0) < 1


def test_beliefs_move_confidence_of_their_watch_old_rows_and_new(known: Engine) -> None:
    beliefs = Beliefs(watches={"w": -2.0}, kinds={"disk": 0.5})
    rows = {name: known.table.rows(name) for name in ("w", "other")}
    known.believe(beliefs)
    (said,) = run(known, 60, 1)
    prior = said.columns["confidence"][rows["other"][0]]
    without = moved(np.array([prior], f4), f4(-0.5))
    assert 0.3 < without[0] < prior
    np.testing.assert_allclose(said.columns["confidence"][rows["w"][0]], moved(without, f4(-2))[0], rtol=1e-4)
    known.tick(Instant(START + 15), {"w": Vector([A, B, key(i="c")], np.full(3, 50.0))}, 10)
    new = known.table.find("w", [key(i="c")])[0]
    assert known.blocks[0].life.belief[new] == -2


def test_beliefs_outlive_a_change_of_watches(known: Engine) -> None:
    known.believe(Beliefs(watches={"w": -2.0}))
    known.watch({"w": watch(kind="cpu", min_deviation=0.1)})
    assert known.blocks[0].life.belief[known.table.rows("w")].tolist() == [-2, -2]
