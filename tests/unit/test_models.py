"""Checks that every columnar model passes, and the block that joins them."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.detect.block import THRESHOLD, Block
from sidecar.signals.forecast.calibrate import Intervals
from sidecar.signals.forecast.ensemble import Ensemble
from sidecar.signals.known.snapshot import COLUMNS, FORECASTS, blank
from sidecar.signals.models import Columns, conditional, profile
from sidecar.signals.models.lasting import Lasting
from sidecar.signals.models.level import Level
from sidecar.signals.models.mixture import Mixture
from sidecar.signals.models.rare import Rare
from sidecar.signals.models.recent import Recent
from sidecar.signals.models.ridge import Ridge
from sidecar.signals.models.season import Season, knots
from sidecar.signals.models.spikes import Spikes
from sidecar.signals.models.spread import Spread, SpreadTail
from sidecar.signals.models.still import Still
from sidecar.signals.models.tail import Tail
from sidecar.types import F64

MODELS = (
    Season,
    Level,
    Tail,
    Spikes,
    Lasting,
    Rare,
    Still,
    Spread,
    SpreadTail,
    Ensemble,
    Recent,
    Mixture,
    Ridge,
    profile.of(24),
    Intervals,
    conditional.Conditional,
    conditional.of(8),
)
START = 1_700_000_100.0
STEP = 60.0


def signal(ticks: int, rows: int = 5, seed: int = 1, step: float = STEP) -> tuple[F64, F64]:
    """Times and values f64[ticks, rows] of a daily wave with noise."""
    rng = np.random.default_rng(seed)
    at = START // step * step + np.arange(ticks) * step
    wave = 100 + 20 * np.sin(2 * np.pi * at / 86400)[:, None] * np.linspace(0.5, 1.5, rows)
    return at, wave + rng.normal(0, 2, (ticks, rows))


def run(block: Block, at: F64, x: F64, trust: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Tick a block through all of x; every column as [ticks, rows]."""
    said = {name: np.full(x.shape, np.nan) for name in COLUMNS}
    out = {name: np.full(block.rows, np.nan, kind) for name, kind in COLUMNS.items()}
    asked = np.ones(block.rows, bool)
    for i, now in enumerate(at):
        block.tick(float(now), x[i], asked, asked if trust is None else trust[i], out)
        for name in COLUMNS:
            said[name][i] = out[name]
    return said


def copy_of(block: Block) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in block.state().items()}


@pytest.mark.parametrize("model", MODELS)
def test_a_forgotten_row_is_as_fresh_as_a_new_one(model: type[Columns]) -> None:
    rng = np.random.default_rng(0)
    used, new = model(3), model(3)
    for name, field in used.fields.items():
        array = getattr(used, name)
        array[...] = rng.integers(0, 2, array.shape).astype(field.dtype)
    used.forget(np.array([0, 1, 2]))
    for name in used.fields:
        np.testing.assert_array_equal(getattr(used, name), getattr(new, name), err_msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_restore_is_exact_and_refuses_another_shape(model: type[Columns]) -> None:
    one = model(4)
    for name in one.fields:
        getattr(one, name)[...] = 1
    two = model(4)
    two.restore(one.state())
    for name in one.fields:
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name))
    with pytest.raises(ValueError, match="does not fit"):
        model(5).restore(one.state())


def test_scoring_changes_nothing() -> None:
    block = Block(5, STEP)
    at, x = signal(200)
    run(block, at, x)
    before = copy_of(block)
    with np.errstate(all="ignore"):
        block.score(at[-1] + STEP, x[0] * 3, np.ones(5, bool))
    for name, array in block.state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_restored_state_says_the_same() -> None:
    at, x = signal(300)
    one, two = Block(5, STEP), Block(5, STEP)
    run(one, at[:200], x[:200])
    two.restore(copy_of(one))
    two.ahead.pool.restore(one.ahead.pool.state())
    at, x = at[200:], x[200:]
    a, b = run(one, at, x), run(two, at, x)
    for name in COLUMNS:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_rows_do_not_touch_each_other_and_their_order_does_not_matter() -> None:
    at, x = signal(400)
    base = run(Block(5, STEP), at, x)
    other = x.copy()
    other[:, 0] = 1e9 * np.random.default_rng(3).normal(size=len(at))
    touched = run(Block(5, STEP), at, other)
    order = np.array([4, 2, 0, 1, 3])
    permuted = run(Block(5, STEP), at, x[:, order])
    for name in COLUMNS:
        if name in FORECASTS:  # these have a regression in common, in units of each row's own deviation
            assert np.nanmean(np.abs(touched[name][:, 1:] - base[name][:, 1:])) < 1.2, name  # of a noise of 2
            np.testing.assert_allclose(permuted[name], base[name][:, order], atol=1e-2, err_msg=name)
            continue
        np.testing.assert_array_equal(touched[name][:, 1:], base[name][:, 1:], err_msg=name)
        np.testing.assert_array_equal(permuted[name], base[name][:, order], err_msg=name)


def test_what_is_distrusted_teaches_the_detector_nothing() -> None:
    at, x = signal(300)
    block = Block(5, STEP)
    run(block, at[:250], x[:250])
    before = copy_of(block)
    run(block, at[250:], x[250:] * 7, np.zeros((50, 5), bool))
    for name, array in block.state().items():
        learned = name.split(".")[0] in ("season", "tail") or name in (
            "life.age",
            "life.seen",
            "ensemble.scale",
        )
        if learned:
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_never_nan_after_warm_up_whatever_comes() -> None:
    at, x = signal(600)
    x[:, 0], x[:, 1] = 0.0, 7.5
    x[:, 2] *= 1e-9
    x[:, 3] = 1e12 + np.arange(600)
    x[300:330, 4] = np.nan
    x[340, 4] = np.inf
    said = run(Block(5, STEP), at, x)
    known = np.isfinite(x)
    known[:120] = False
    for name in ("score", "confidence", "expected", "lower", "upper", "f15", "f60_lower", "f60_upper"):
        assert np.isfinite(said[name][known]).all(), name
    assert (said["lower"][known] <= said["expected"][known]).all()
    assert (said["expected"][known] <= said["upper"][known]).all()


def test_shift_and_scale_do_not_change_the_score() -> None:
    at, x = signal(700)
    base = run(Block(5, STEP), at, x)["score"]
    moved = run(Block(5, STEP), at, x * 1024 - 4096)["score"]
    np.testing.assert_allclose(moved[100:], base[100:], rtol=2e-2, atol=5e-2)


def test_the_edge_of_the_band_is_where_the_score_reaches_one() -> None:
    """Also after half an hour a little above, when it is a mean that gets there first, of which less is believed."""
    at, x = signal(3 * 1440, rows=4)
    block = Block(4, STEP)
    run(block, at, x)
    off, asked = float(np.diff(x[-500:], axis=0).std()), np.ones(4, bool)
    for ticks in (0, 30):
        for tick in range(ticks):
            block.tick(float(at[-1] + (tick + 1) * STEP), x[tick - 1440] + off, asked, asked, blank(4)[0])
        with np.errstate(all="ignore"):
            now = float(at[-1] + (ticks + 1) * STEP)
            band = block.score(now, x[-1], asked)
            for edge in (band.lower, band.upper):
                e = block.score(now, edge.astype(np.float64) + block.life.origin, asked).e
                np.testing.assert_allclose(e, THRESHOLD, atol=0.02)


def test_knots_are_exact_on_the_hour() -> None:
    assert knots(3 * 3600.0, 86400.0, 96, 15.0)[:3] == (12, 13, 0.0)
    assert knots(86400.0 - 1, 86400.0, 96, 15.0)[:2] == (95, 0)
