"""The worker's fits: the arrays go on as the library would, regressors are found, and what fails says why."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sidecar.signals.forecast import modelling
from sidecar.signals.forecast.modelling import Past, Tried, fit
from sidecar.signals.models.fitted import AHEAD, GRID, WEEK, Linear, past
from sidecar.signals.models.week import DAY, week
from sidecar.types import F64

START = 1_750_000_200.0 // GRID * GRID
STATS = ("arima", "ets", "uc")
pytestmark = pytest.mark.timeout(300)  # of a loaded machine


def made(days: int, seed: int = 0, effect: float = 0.0, gaps: int = 0) -> Past:
    """A daily wave of 30 around 100 with noise that remembers (.9), and an event now and then that adds `effect`."""
    rng, n = np.random.default_rng(seed), days * DAY
    at = START + GRID * np.arange(n)
    slot = (at / GRID).astype(np.int64) % WEEK
    noise = np.zeros(n)
    for i in range(1, n):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 2)
    event = np.zeros(n)
    for begin in rng.integers(0, n - 12, days):
        event[begin : begin + 12] = 1
    values = 100 + 30 * np.sin(slot / DAY * 2 * np.pi) + noise + effect * event
    values[rng.integers(0, n, gaps)] = np.nan
    names = ("event:sale",) if effect else ()
    return Past(at, slot, values, names, event[:, None] if effect else np.empty((n, 0)))


def tried(model: str, series: Past, within: float = 100.0) -> Tried:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(model, series, within)


def naive(series: Past) -> F64:
    """Mean absolute error of the last value."""
    x = series.values[-modelling.JUDGED :]
    return np.array([np.nanmean(np.abs(x[h:] - x[:-h])) for h in AHEAD])


@pytest.mark.parametrize("model", STATS)
def test_each_model_of_statsmodels_is_better_than_the_last_value_and_knows_the_event(model: str) -> None:
    pytest.importorskip("statsmodels", reason="extra models is not installed")
    series = made(7, effect=40.0, gaps=30)
    one = tried(model, series)
    assert (one.outcome, one.words) == ("fitted", "")
    assert one.fitted is not None
    assert one.fitted.regressors == ("event:sale",)
    assert one.fitted.beta[0] == pytest.approx(40, abs=4)
    assert (one.fitted.error < 0.9 * naive(series)).all()
    assert one.fitted.at == series.at[-1]
    np.testing.assert_allclose(
        one.fitted.curve[series.slot[-1]],
        np.nanmedian(series.values[series.slot % DAY == series.slot[-1] % DAY]),
        atol=8,
    )


def test_the_arrays_go_on_as_the_library_would() -> None:
    sarimax = pytest.importorskip(
        "statsmodels.tsa.statespace.sarimax", reason="extra models is not installed"
    ).SARIMAX
    series = made(4)
    curve = week(series.values, series.slot)
    one = tried("arima", series)
    assert one.fitted is not None
    assert isinstance(one.fitted.core, Linear)
    left = (series.values - curve[series.slot]) / one.fitted.scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = sarimax(left, order=(2, 0, 1), trend="c").fit(disp=0, maxiter=modelling.ITERATIONS)
    more = np.random.default_rng(5).normal(0, 1, 20)
    _, said = past(one.fitted.core, more)
    theirs = library.append(more).forecast(AHEAD[-1])
    np.testing.assert_allclose(said[:, -1], theirs[np.array(AHEAD) - 1], atol=1e-4)


def test_a_series_that_says_too_little_is_not_fitted() -> None:
    short = tried("arima", made(2))
    assert (short.outcome, short.words) == ("unfit", "576 samples of five minutes, 864 are needed")


def test_a_series_that_never_leaves_its_curve_is_not_fitted() -> None:
    pytest.importorskip("statsmodels", reason="extra models is not installed")
    flat = made(4)
    flat = flat._replace(values=np.full(len(flat.at), 7.0))
    assert tried("ets", flat).words == "it never moves from its curve of the week"


def test_what_is_not_installed_is_missing_and_says_which_extra_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modelling, "NEEDS", {"models": ("no_such_library",)})
    one = tried("uc", made(4))
    assert one.outcome == "missing"
    assert one.words.endswith("(extra models)")


def test_what_takes_too_long_is_late_and_what_breaks_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelling, "NEEDS", {"models": ()})

    def slow(left: F64, x: F64) -> tuple[Linear, F64]:
        while True:  # of the processor, not of the clock
            pass

    def broken(left: F64, x: F64) -> tuple[Linear, F64]:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(modelling, "_CORES", {"arima": slow})
    late = tried("arima", made(4), 0.2)
    assert (late.outcome, late.words) == ("late", "no result within 0.2 s of the processor")
    assert 0.15 < late.seconds < 2
    monkeypatch.setattr(modelling, "_CORES", {"arima": broken})
    assert tried("arima", made(4)).words == "LinAlgError: Singular matrix"


def test_weekdays_are_told_apart_from_two_weeks_on() -> None:
    slot = np.arange(3 * WEEK) % WEEK
    values = np.where(slot < DAY, 10.0, 2.0)
    assert week(values[:WEEK], slot[:WEEK])[5] == 2
    curve = week(values, slot)
    assert 7 < curve[5] <= 10  # shrunk to the other days
    assert curve[DAY + 5] == 2


def test_what_has_no_season_gets_a_line_and_what_has_one_keeps_its_edges() -> None:
    rng, slot = np.random.default_rng(2), np.arange(WEEK)
    noise = rng.normal(0, 5, WEEK)
    assert np.ptp(week(noise, slot)) == 0
    edged = week(noise + np.where(slot % DAY < DAY / 2, 100, 0), slot)
    assert edged[DAY // 2 + 2] < 10 < 90 < edged[DAY // 2 - 3]


def test_a_curve_bridges_slots_that_were_never_seen() -> None:
    slot = np.arange(0, WEEK, 2)
    assert week(np.cos(slot / DAY * 2 * np.pi), slot)[1] == pytest.approx(1, abs=1e-3)


def test_prophet_finds_the_curve_and_the_event() -> None:
    pytest.importorskip("prophet", reason="extra prophet is not installed")
    series = made(14, effect=40.0)
    one = tried("prophet", series)
    assert one.outcome == "fitted", one.words
    assert one.fitted is not None
    assert one.fitted.beta[0] == pytest.approx(40, abs=6)
    usual = 100 + 30 * np.sin(np.arange(WEEK) / DAY * 2 * np.pi)
    assert np.abs(one.fitted.curve - usual).mean() < 5
    assert (one.fitted.error < naive(series)).all()


def test_the_net_learns_that_what_is_off_comes_back() -> None:
    pytest.importorskip("torch", reason="extra deep is not installed")
    series = made(7)
    one = tried("lstm", series)
    assert one.outcome == "fitted", one.words
    assert one.fitted is not None
    assert (one.fitted.error < 0.9 * naive(series)).all()
