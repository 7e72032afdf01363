"""Odds and time of breach, from forecasts and limits."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.breach import breach
from sidecar.signals.breach.breach import Limits, Odds
from sidecar.types import F64

RAMP = (20.0, 30.0, 50.0)
FLAT = (10.0, 10.0, 10.0)


def odds(
    op: str, value: float, x: float, forecast: tuple[float, ...] = FLAT, width: float = 2.0, hold: float = 0.0
) -> tuple[list[float], float]:
    """Probabilities by horizon and ETA of one line."""
    f: F64 = np.array(forecast).reshape(3, 1)
    said: Odds = breach.odds(
        Limits(
            np.array([0]), np.array([breach.OPS.index(op)], np.int8), np.array([value]), np.array([hold], np.float32)
        ),
        np.array([x]), f, f - width, f + width,
    )  # fmt: skip
    return said.probability[:, 0].tolist(), float(said.eta[0])


@pytest.mark.parametrize(
    ("op", "value", "x"), [(">", 9.0, 10.0), (">=", 10.0, 10.0), ("<", 11.0, 10.0), ("<=", 10.0, 10.0),
                           ("==", 10.0, 10.0), ("!=", 9.0, 10.0), (">", 9.0, np.inf), ("<", 9.0, -np.inf)]
)  # fmt: skip
def test_a_condition_that_is_true_is_certain_and_now(op: str, value: float, x: float) -> None:
    assert odds(op, value, x) == ([1, 1, 1], 0)
    assert odds(op, value, x, (np.nan,) * 3) == ([1, 1, 1], 0)


def test_before_it_is_true_nothing_is_certain() -> None:
    p, eta = odds(">", 15.0, 10.0, (1e6, 1e6, 1e6))
    assert p == [pytest.approx(0.999)] * 3
    assert eta == 1


def test_odds_grow_with_the_horizon_and_the_crossing_is_on_the_line() -> None:
    p, eta = odds(">", 25.0, 10.0, RAMP)
    assert p[0] < 0.05
    assert p[1:] == [pytest.approx(0.999)] * 2
    assert eta == pytest.approx(1350)
    down, eta_down = odds("<", -25.0, -10.0, tuple(-f for f in RAMP))
    assert (down, eta_down) == (p, eta)


def test_a_breach_on_the_way_is_a_breach() -> None:
    p, _ = odds(">", 15.0, 10.0, (20.0, 10.0, 5.0))
    assert p[0] == p[1] == p[2] == pytest.approx(0.999)


def test_what_ends_just_within_its_limit_for_sure_is_naught_beside_whatever_others() -> None:
    edge = (10 - 1e-9,) * 3
    assert odds(">", 10.0, 9.0, edge, width=0.0)[0] == [0, 0, 0]
    two = Limits(np.arange(2), np.zeros(2, np.int8), np.array([10.0, 10.0]), np.zeros(2, np.float32))
    ahead = np.stack([np.array(edge), np.array(RAMP)], axis=1)
    said = breach.odds(two, np.array([9.0, 9.0]), ahead, ahead, ahead)
    assert breach.OPS[0] == ">"
    assert said.probability[:, 0].tolist() == [0, 0, 0]
    assert (said.probability[:, 1] > 0.99).all()


def test_half_where_the_forecast_is_the_limit_and_a_twentieth_at_the_edge() -> None:
    assert odds(">", 10.0, 9.0)[0] == [pytest.approx(0.5)] * 3
    assert odds(">", 12.0, 9.0)[0] == [pytest.approx(0.05)] * 3
    assert odds("<", 12.0, 13.0)[0] == [pytest.approx(0.95)] * 3


def test_what_must_hold_has_to_begin_earlier() -> None:
    now, later = odds(">", 25.0, 10.0, RAMP)[0], odds(">", 25.0, 10.0, RAMP, hold=900)[0]
    assert later[0] == 0
    assert later[1] == now[0]
    assert now[1] <= later[2] <= now[2]
    assert odds(">", 25.0, 10.0, RAMP, hold=7200)[0] == [0, 0, 0]


@pytest.mark.parametrize(("op", "x"), [("<", 1.0), (">", 0.0), ("<", 0.0), (">", 1e12)])
def test_what_stands_at_a_strict_limit_is_not_expected_beyond_it(op: str, x: float) -> None:
    p, eta = odds(op, x, x, (x, x, x), width=0.0)
    assert p == [0, 0, 0]
    assert np.isnan(eta)


def test_equality_is_not_forecast() -> None:
    p, eta = odds("==", 9.0, 10.0)
    assert np.isnan([*p, eta]).all()


def test_nothing_is_said_without_a_sample() -> None:
    p, eta = odds(">", 15.0, np.nan, RAMP)
    assert np.isnan([*p, eta]).all()


def test_horizons_below_the_step_are_empty_and_the_others_are_not() -> None:
    p, eta = odds(">", 25.0, 10.0, (np.nan, 30.0, 50.0))
    assert np.isnan(p[0])
    assert p[1:] == [pytest.approx(0.999)] * 2
    assert eta == pytest.approx(1800 * 15 / 20)


def test_no_lines() -> None:
    none = np.empty(0)
    said = breach.odds(
        Limits(none.astype(np.int64), none.astype(np.int8), none, none.astype(np.float32)),
        none, np.empty((3, 0)), np.empty((3, 0)), np.empty((3, 0)),
    )  # fmt: skip
    assert said.probability.shape == (3, 0)
    assert said.eta.shape == (0,)
