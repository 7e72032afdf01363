"""A line through the last hours: what it says of fills and leaks, through restarts, and nothing of what wanders."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.breach import straight
from sidecar.signals.models import half
from sidecar.types import F32, HORIZONS

SHORT, BEYOND, STRAIGHT, ENDS_BEYOND = range(straight.FEATURES)
HOURS = np.array([h for _, h in HORIZONS]) / 3600


def tops(height: np.ndarray) -> half.Halves:
    """A day of blocks whose last ones are these heights over the limit f64[blocks], for one line."""
    out = np.full((288, 1), -np.inf, np.float32)
    out[-len(height) :, 0] = height
    return half.code(out)


def said(height: np.ndarray, width: float = 300.0) -> F32:
    """Of one line, right after these blocks."""
    return straight.features(tops(height), 288, width)[:, :, 0]


@pytest.mark.parametrize("hours", [0.1, 0.4, 0.9, 3.0])
def test_a_fill_is_beyond_where_it_ends_beyond(hours: float) -> None:
    rate = 6.0
    out = said(-rate * hours - rate * np.arange(60, 0, -1) / 12)
    np.testing.assert_array_equal(out[:, STRAIGHT], 1)
    np.testing.assert_array_equal(out[:, ENDS_BEYOND], hours < HOURS)
    np.testing.assert_array_equal(out[:, SHORT] > 0, hours > HOURS)
    np.testing.assert_array_equal(out[:, BEYOND] < 0, hours < HOURS)


@pytest.mark.parametrize("since", [3, 10, 25, 40])
def test_a_restart_is_not_seen_in_the_slope(since: int) -> None:
    """It leaked before, was restarted so many blocks ago, and leaks again as fast."""
    blocks, rate = np.arange(60), 6.0
    height = -20 + rate / 12 * (blocks - 60)
    height[-since:] -= 8
    out = said(height)
    np.testing.assert_array_equal(out[:, STRAIGHT], 1)
    # ends 28 below and rises by 6 an hour: so far in hundredths of what it rises, the least that it may be off
    np.testing.assert_allclose(out[-1, SHORT], np.log1p(40), rtol=1e-5)


def test_what_wanders_has_no_slope() -> None:
    rng = np.random.default_rng(0)
    some = [said(np.cumsum(rng.normal(0, 1, 60)) - 20)[-1, STRAIGHT] for _ in range(200)]
    noise = [said(rng.normal(0, 1, 60) - 20)[-1, STRAIGHT] for _ in range(200)]
    assert np.mean(some) < 0.25
    assert np.mean(noise) < 0.05


def test_nothing_is_said_of_what_is_not_known() -> None:
    np.testing.assert_array_equal(said(np.array([-3.0, -2.0])), 0)
    np.testing.assert_array_equal(straight.features(np.full((288, 3), half.LEAST, np.int16), 7, 300.0), 0)
    np.testing.assert_array_equal(said(np.full(60, -5.0)), 0)  # stands still


def test_hourly_samples_have_lines_too() -> None:
    top = np.full((24, 1), -np.inf, np.float32)
    top[:, 0] = -1 - 3.0 * np.arange(24, 0, -1)
    out = straight.features(half.code(top), 24, 3600.0)[:, :, 0]
    np.testing.assert_array_equal(out[:, ENDS_BEYOND], [0, 0, 1])
