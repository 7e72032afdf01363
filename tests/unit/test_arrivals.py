"""Between which times crossings come: learned from those that came, apart for near and far ones."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.breach.arrivals import Arrivals
from sidecar.types import F32, F64

STEP, WIDTH, RING = 60.0, 300.0, 12
SIGMA = np.full((3, 200), 1.0, np.float32)


def played(off: float, seed: int = 0, rounds: int = 60) -> list[tuple[F32, F32, F64]]:
    """Lines that are said to cross in half an hour and do so early or late by a part of that: each round what was said
    first and when it came."""
    rng, arrivals, out = np.random.default_rng(seed), Arrivals(RING, STEP), []
    arrivals.follow(200)
    every, block = np.arange(200), 0
    for _ in range(rounds):
        comes = 1800 * np.exp(rng.normal(0, off, 200))
        for i in range(RING + 1):
            at, began = block * WIDTH, i * WIDTH
            arrivals.turn(at, block % RING, True)
            eta = np.maximum(1800 - began, 1).astype(np.float32)
            soonest, latest, unit = arrivals.between(np.full(200, eta), np.full(200, 2.0, np.float32), SIGMA)
            if i == 0:
                out.append((soonest, latest, comes))
            before = comes > began
            arrivals.said(block % RING, every[before], np.full(before.sum(), eta), unit[before])
            for tick in np.arange(0, WIDTH, STEP):
                arrivals.note(at + tick, (comes <= began + tick) & (comes > began + tick - STEP))
            block += 1
        arrivals.turn(block * WIDTH, block % RING, False)
    return out


@pytest.mark.parametrize("off", [0.05, 0.3])
def test_eight_in_ten_come_between(off: float) -> None:
    late = played(off)[30:]
    inside = np.mean([(s <= c) & (c <= e) for s, e, c in late])
    width = np.mean([e - s for s, e, _ in late])
    assert 0.7 < inside < 0.92
    assert width < (500 if off == 0.05 else 2200)


def test_an_interval_holds_its_time_and_ends_with_the_hour() -> None:
    arrivals = Arrivals(RING, STEP)
    eta = np.array([1, 600, 1700, 3500], np.float32)
    soonest, latest, _ = arrivals.between(eta, np.full(4, 1e-6, np.float32), SIGMA[:, :4])
    assert (soonest <= eta).all()
    assert (soonest >= 1).all()
    assert (eta <= latest).all()
    assert (latest <= 3600).all()
    nothing = np.full((3, 4), np.nan, np.float32)
    assert all(np.isfinite(one).all() for one in arrivals.between(eta, np.zeros(4, np.float32), nothing))


def test_of_a_time_of_which_nothing_is_known_nothing_is_learned() -> None:
    arrivals = Arrivals(RING, STEP)
    arrivals.follow(2)
    arrivals.turn(0.0, 0, True)
    arrivals.said(0, np.arange(2), np.full(2, 600, np.float32), np.full(2, 60, np.float32))
    before = arrivals.counts.copy()
    arrivals.note(700.0, np.array([True, False]))
    arrivals.turn(900.0, 3, False)
    np.testing.assert_array_equal(arrivals.counts, before)
    arrivals.note(1000.0, np.array([False, True]))
    arrivals.turn(1200.0, 4, True)
    np.testing.assert_array_equal(arrivals.counts, before)


def test_a_damaged_state_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Arrivals(RING, STEP).restore({"arrivals": np.zeros((2, 3))})
    Arrivals(RING, STEP).restore({})  # saved before there was one
