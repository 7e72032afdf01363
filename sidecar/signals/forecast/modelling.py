"""What the worker process does for a series: fit one model to its past, and give it back as arrays.

Nothing of statsmodels, Prophet or torch is imported before it is called, and never in the main process. Whatever the
model, a curve of the week is taken off first, so that none has to carry a season of 288 or 2,016 states (the calendar
is the curve: hour and weekday), and regressors enter as themselves less their own curve.

`arima` and `uc` estimate regressors together with the rest; `ets` and `lstm` see what a regression with
autocorrelated errors (GLSAR) leaves; `prophet` has its own trend and season, and its curve is moved to where the series
is now, since Prophet itself never looks at a new sample.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sidecar.signals.forecast.hired import one_thread
from sidecar.signals.models.fitted import AHEAD, GRID, MODELS, WEEK, Cell, Fitted, Linear, past
from sidecar.signals.models.week import DAY, WEEKS, week
from sidecar.types import F64, I64

NEEDS: Mapping[str, tuple[str, ...]] = {
    "models": ("statsmodels",),
    "prophet": ("prophet",),
    "deep": ("torch",),
}
ENOUGH = 3 * DAY
"""Samples, without which nothing is fitted."""
JUDGED, WARM = 3 * DAY, DAY
"""The last part of the past, on which errors are measured; before it the state warms up."""
ITERATIONS = 50
UNITS, EPOCHS, WINDOW = 16, 30, 144
"""Of the LSTM: its size, how often it sees the past, and samples of one piece of it."""


class Past(NamedTuple):
    """The past of one series on the grid: NaN where there is no sample."""

    at: F64
    """Unix seconds f64[times]."""
    slot: I64
    """Which point of the week on the wall clock each is."""
    values: F64
    regressors: tuple[str, ...] = ()
    x: F64 = np.empty((0, 0))
    """[times, regressors]."""


class Tried(NamedTuple):
    """What came of one fit."""

    model: str
    outcome: str
    """`fitted`, `unfit` (too little to learn from, or no solution), `late`, `missing` (not installed), `failed`."""
    words: str = ""
    seconds: float = 0.0
    fitted: Fitted | None = None


class Late(Exception):
    """A fit took longer than it may."""


def fit(model: str, series: Past, within: float) -> Tried:
    """Fit one model, in at most so many seconds of the processor: of the clock it may be more on a busy machine."""
    began = _spent()
    outcome, words, found = "fitted", "", None
    try:
        with _at_most(within):
            found = _fit(model, series)
    except ImportError as error:
        extra = "models" if "statsmodels" in str(error) else MODELS[model]
        outcome, words = "missing", f"{error} (extra {extra})"
    except Late:
        outcome, words = "late", f"no result within {within:g} s of the processor"
    except _Unfit as error:
        outcome, words = "unfit", str(error)
    except (
        ValueError,
        ArithmeticError,
        IndexError,
        RuntimeError,
    ) as error:  # what libraries raise on odd numbers
        outcome, words = "failed", f"{type(error).__name__}: {error}"[:200]
    return Tried(model, outcome, words, _spent() - began, found)


class _Unfit(Exception):
    """There is nothing to fit to, in words."""


def _fit(model: str, series: Past) -> Fitted:
    known = np.isfinite(series.values)
    if known.sum() < ENOUGH:
        raise _Unfit(f"{known.sum()} samples of five minutes, {ENOUGH} are needed")
    for name in NEEDS[MODELS[model]]:
        importlib.import_module(name)
    one_thread()
    kept = [i for i, column in enumerate(series.x.T) if np.nanstd(column) > 0]
    series = series._replace(
        regressors=tuple(series.regressors[i] for i in kept),
        x=series.x[:, kept] if kept else np.empty((len(known), 0)),
    )
    prepared = _prophet_curve(series) if model == "prophet" else _curves(series)
    left = series.values - prepared.usual
    scale = float(np.nanstd(left))
    if not scale > 1e-9 * max(1.0, float(np.nanmax(np.abs(series.values)))):
        raise _Unfit("it never moves from its curve of the week")
    core, more = _CORES[model](left / scale, prepared.x if model in ("arima", "uc") else prepared.x[:, :0])
    more = more * scale if len(more) else np.zeros(prepared.x.shape[1])
    if not all(np.isfinite(part).all() for part in (*core, more)):
        raise _Unfit("the fit has no finite solution")
    left = (left - prepared.x @ more) / scale
    start = max(0, len(left) - JUDGED - WARM)
    core, said = past(core._replace(state=_begin(core)), left[start:])
    error = (
        np.array([_error(row, left[start:], ahead) for row, ahead in zip(said, AHEAD, strict=True)]) * scale
    )
    curve = (prepared.curve - prepared.curves @ more).astype(np.float32)
    beta = prepared.beta + more
    return Fitted(model, float(series.at[-1]), curve, series.regressors, beta, scale, error, core)


def _error(said: F64, left: F64, ahead: int) -> float:
    """Mean absolute error of what was said so many samples ahead, once it is warm."""
    begin = min(WARM, len(left) // 2)
    return float(np.nanmean(np.abs(said[begin:-ahead] - left[begin + ahead :])))


def _begin(core: Linear | Cell) -> F64:
    """A state that knows nothing yet."""
    out = np.zeros_like(core.state)
    if isinstance(core, Linear):
        out[-1] = 1
    return out


# --------------------------------------------------------------------------- the week


def _spent() -> float:
    """Seconds of the processor that this process and what it started have taken."""
    return sum(os.times()[:4])


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise Late after so long; where the platform or the thread has no alarm, it takes as long as it takes."""

    def ring(*_: object) -> None:
        raise Late

    try:
        before = signal.signal(signal.SIGPROF, ring)
    except (ValueError, AttributeError):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class _Prepared(NamedTuple):
    usual: F64
    """[times]: the curve, and what regressors add, at each sample."""
    curve: F64
    """[WEEK]."""
    x: F64
    """Regressors less their own curves, which are `curves` [WEEK, regressors]."""
    curves: F64
    beta: F64
    """What regressors add to the curve; a model may add more."""


def _curves(series: Past) -> _Prepared:
    """The season is that of what regressors leave, lest it be noise or theirs."""
    curve = week(series.values, series.slot)
    if not series.x.shape[1]:
        return _Prepared(curve[series.slot], curve, series.x, np.empty((WEEK, 0)), np.empty(0))
    curves = np.stack([week(column, series.slot) for column in series.x.T], axis=1)
    x = np.nan_to_num(series.x - curves[series.slot])
    beta = _regression(series.values - curve[series.slot], x)
    known = np.where(np.isfinite(series.x), series.x, curves[series.slot])
    curve = week(series.values - known @ beta, series.slot)
    return _Prepared(curve[series.slot] + known @ beta, curve, x, curves, beta)


def _prophet_curve(series: Past) -> _Prepared:
    """Prophet's trend, week and day, as a curve of the coming week, and its regressors."""
    pandas = importlib.import_module("pandas")
    for name in ("prophet", "cmdstanpy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    names = [f"x{i}" for i in range(len(series.regressors))]
    model = importlib.import_module("prophet").Prophet(
        yearly_seasonality=False, weekly_seasonality=len(series.at) >= WEEKS * WEEK, uncertainty_samples=0
    )
    for name in names:
        model.add_regressor(name)
    # on the wall clock, as the slots are
    wall = series.at[-1] + (series.slot[-1] - series.at[-1] / GRID) % WEEK * GRID

    def frame(at: F64, x: F64) -> Any:
        out = pandas.DataFrame({"ds": pandas.to_datetime(np.rint(at), unit="s")})
        for name, column in zip(names, x.T, strict=True):
            out[name] = column
        return out

    times = series.at - series.at[-1] + wall
    x = np.nan_to_num(series.x, nan=0.0)
    known = np.isfinite(series.values)
    model.fit(frame(times[known], x[known]).assign(y=series.values[known]))
    ahead = wall + GRID * np.arange(1, WEEK + 1)
    every = np.concatenate([times, ahead])
    of = np.concatenate([np.zeros((1, x.shape[1])), np.eye(x.shape[1]), np.zeros((len(every), x.shape[1]))])
    said = model.predict(frame(every, of[: len(every)]))  # the first rows say what each regressor adds
    parts = np.stack([said[name].to_numpy() for name in names] or [np.empty(len(every))], axis=1)[
        :, : len(names)
    ]
    beta = np.diagonal(parts[1 : len(names) + 1] - parts[0]).copy()
    usual = said["yhat"].to_numpy() - parts.sum(axis=1) + parts[0].sum()
    curve = np.empty(WEEK)
    curve[(series.slot[-1] + np.arange(1, WEEK + 1)) % WEEK] = usual[len(times) :]
    return _Prepared(usual[: len(times)] + x @ beta, curve, x, np.zeros((WEEK, x.shape[1])), beta)


# --------------------------------------------------------------------------- the models


def _arima(left: F64, x: F64) -> tuple[Linear, F64]:
    kind = importlib.import_module("statsmodels.tsa.statespace.sarimax").SARIMAX
    return _linear(kind(left, exog=x if x.shape[1] else None, order=(2, 0, 1), trend="c"), x.shape[1])


def _uc(left: F64, x: F64) -> tuple[Linear, F64]:
    kind = importlib.import_module("statsmodels.tsa.statespace.structural").UnobservedComponents
    return _linear(kind(left, "llevel", autoregressive=1, exog=x if x.shape[1] else None), x.shape[1])


def _ets(left: F64, x: F64) -> tuple[Linear, F64]:
    kind = importlib.import_module("statsmodels.tsa.statespace.exponential_smoothing").ExponentialSmoothing
    return _linear(kind(left, trend=True, damped_trend=True, initialization_method="concentrated"), 0)


def _regression(left: F64, x: F64) -> F64:
    """What regressors add, with errors that are correlated from sample to sample."""
    glsar = importlib.import_module("statsmodels.regression.linear_model").GLSAR
    known = np.isfinite(left)
    found = glsar(left[known], np.column_stack([np.ones(known.sum()), x[known]]), 1).iterative_fit(5)
    out: F64 = np.asarray(found.params[1:], float)
    return out


def _linear(model: Any, regressors: int) -> tuple[Linear, F64]:
    """Fit by maximum likelihood; the steady gain is that of the last sample that was there."""
    found = model.fit(disp=0, maxiter=ITERATIONS)
    names = list(model.param_names)
    beta = np.array([found.params[i] for i, name in enumerate(names) if name in _exog(model)][:regressors])
    inside = model.ssm
    transition, design = (_constant(inside[name]) for name in ("transition", "design"))
    intercept = np.asarray(inside["state_intercept"], float).reshape(len(transition), -1)[:, -1]
    gain = found.filter_results.kalman_gain[:, 0, :]
    there = np.flatnonzero(np.abs(gain).sum(axis=0) > 0)
    if not len(there):
        raise _Unfit("it learns nothing from a new sample")
    size = len(transition)
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[:size, size], whole[size, size] = transition, intercept, 1
    state = np.append(found.predicted_state[:, -1], 1.0)
    return Linear(whole, np.append(gain[:, there[-1]], 0.0), np.append(design[0], 0.0), state), beta


def _exog(model: Any) -> Sequence[str]:
    names = model.exog_names if getattr(model, "exog", None) is not None else ()
    return [f"beta.{name}" if f"beta.{name}" in model.param_names else name for name in names]


def _constant(matrix: Any) -> F64:
    out = np.asarray(matrix, float)
    return out[..., -1] if out.ndim == 3 else out


def _level(left: F64, x: F64) -> tuple[Linear, F64]:
    """How far off its curve a series is now: an exponential mean, as slow as was best for half an hour ahead."""
    rates = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0])
    mean, errors, ahead = np.zeros(len(rates)), np.zeros(len(rates)), AHEAD[1]
    for now, then in zip(left[-JUDGED:-ahead].tolist(), left[-JUDGED + ahead :].tolist(), strict=True):
        if np.isfinite(now):
            mean += rates * (now - mean)
        if np.isfinite(then):
            errors += np.abs(mean - then)
    rate = float(rates[errors.argmin()])
    return Linear(np.eye(2), np.array([rate, 0.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])), np.empty(0)


def _lstm(left: F64, x: F64) -> tuple[Cell, F64]:
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    z = np.nan_to_num(np.clip(left, -8, 8))
    truth = np.stack([np.append(left[a:], np.full(a, np.nan)) for a in AHEAD], axis=1)
    pieces = len(z) // WINDOW
    cut = slice(len(z) - pieces * WINDOW, None)
    inputs = torch.tensor(z[cut].reshape(pieces, WINDOW, 1), dtype=torch.float32)
    truths = torch.tensor(np.clip(truth[cut], -8, 8).reshape(pieces, WINDOW, -1), dtype=torch.float32)
    known = ~torch.isnan(truths)
    cell, head = torch.nn.LSTM(1, UNITS, batch_first=True), torch.nn.Linear(UNITS, len(AHEAD))
    steps = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)
    for _ in range(EPOCHS):
        steps.zero_grad()
        said = head(cell(inputs)[0])
        loss = (said - torch.nan_to_num(truths))[known].abs().mean()
        loss.backward()
        steps.step()
    numbers = {name: p.detach().numpy().astype(float) for name, p in cell.named_parameters()}
    weight, bias = (p.detach().numpy().astype(float) for p in head.parameters())
    return Cell(
        numbers["weight_ih_l0"][:, 0],
        numbers["weight_hh_l0"],
        numbers["bias_ih_l0"] + numbers["bias_hh_l0"],
        np.concatenate([weight, bias[:, None]], axis=1),
        np.zeros(2 * UNITS),
    ), np.empty(0)


_CORES: Mapping[str, Callable[[F64, F64], tuple[Any, F64]]] = {
    "arima": _arima,
    "uc": _uc,
    "ets": _ets,
    "prophet": _level,
    "lstm": _lstm,
}
