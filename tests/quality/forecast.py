"""Forecasts against naive ones: mean absolute error relative to same-time-yesterday, and coverage of the interval."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from sidecar.types import F64, HORIZONS
from tests.quality.data import File
from tests.quality.ours import Said
from tests.quality.peers import DAY, shifted

STILL = 0.05  # share of exact truths: beyond, no interval that holds the forecast can cover only 90 %
METHODS = ("ours", "last value", "7-day median", "season+shift")


class Errors(NamedTuple):
    """Of one series and horizon: errors relative to same-time-yesterday, and truths inside the interval of all."""

    horizon: int
    relative: tuple[float, ...]
    inside: int
    judged: int
    winkler: float
    """Interval score, relative to the best interval of constant width around the same forecasts, in hindsight."""
    still: float
    """Share of truths that are exactly the forecast or an end of its interval."""


def judge(file: File, said: Said) -> list[Errors]:
    """After seven days, where the truth is not labelled; series on which yesterday is exact say nothing."""
    day, out = round(DAY / file.step), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians without any past
        past = np.stack([shifted(file.values, k * day) for k in range(1, 8)])
        median = np.nanmedian(past, axis=0)  # of the same time of the last seven days
    lately = max(1, round(2400 / file.step))
    residual = file.values - median
    shift = np.stack([shifted(residual, k) for k in range(lately)]).mean(0)
    for h, (_, horizon) in enumerate(HORIZONS):
        ticks = round(horizon / file.step)
        if horizon < file.step or len(file.at) <= 7 * day + ticks:
            continue
        now = np.arange(7 * day, len(file.at) - ticks)
        then = now + ticks
        normal = (file.label[then] == 0) & (np.abs(file.at[then] - file.at[now] - horizon) < file.step / 2)
        for j in range(file.values.shape[1]):
            x = file.values[:, j]
            value, lower, upper = (column[:, j] for column in said.ahead[h])
            said_of = np.stack(
                [value[now], x[now], median[then, j], median[then, j] + shift[now, j], x[then - day]]
            )
            ok = normal & np.isfinite(x[then]) & np.isfinite(said_of).all(0)
            if ok.sum() < 100:
                continue
            *errors, yesterday = np.abs(said_of[:, ok] - x[then][ok]).mean(1)
            inside = (x[then][ok] >= lower[now][ok]) & (x[then][ok] <= upper[now][ok])
            band = _winkler(lower[now][ok], upper[now][ok], x[then][ok])
            error = x[then][ok] - value[now][ok]
            least = _winkler(*(value[now][ok] + np.quantile(error, q) for q in (0.05, 0.95)), x[then][ok])
            relative = tuple(max(1e-6, e / yesterday) if yesterday > 1e-12 else np.nan for e in errors)
            ends = np.stack([value[now], lower[now], upper[now]])[:, ok]
            still = float(np.isclose(ends, x[then][ok], rtol=1e-6, atol=1e-12).any(0).mean())
            score = band / max(least, 1e-12)
            out.append(Errors(h, relative, int(inside.sum()), int(ok.sum()), score, still))
    return out


def _gmean(x: list[float]) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(x, 1e-6))))) if x else np.nan


def _covered(errors: list[Errors]) -> float:
    return sum(e.inside for e in errors) / max(1, sum(e.judged for e in errors))


def _winkler(lower: F64, upper: F64, x: F64) -> float:
    """Mean width of a 90 % interval, and twenty times what lies outside of it."""
    return float((upper - lower + 20 * (np.maximum(lower - x, 0) + np.maximum(x - upper, 0))).mean())


def table(results: dict[str, list[Errors]]) -> list[tuple[str, ...]]:
    """One line per set and horizon."""
    lines = [("set", "h", "series", *METHODS, "covered", "p10", "of moving", "Winkler")]
    for name, errors in results.items():
        for h, (horizon, _) in enumerate(HORIZONS):
            mine = [e for e in errors if e.horizon == h]
            if not mine:
                continue
            relative = np.array([e.relative for e in mine])
            means = np.exp(np.nanmean(np.log(relative), axis=0))
            share = np.array([e.inside / e.judged for e in mine])
            moving = [e for e in mine if e.still < STILL]
            lines.append(
                (
                    name,
                    horizon,
                    str(len(mine)),
                    *(f"{m:.3f}" for m in means),
                    f"{_covered(mine):.3f}",
                    f"{np.quantile(share, 0.1):.3f}",
                    f"{_covered(moving):.3f}",
                    f"{_gmean([e.winkler for e in mine if e.winkler < 1e3]):.2f}",
                )
            )
    return lines
