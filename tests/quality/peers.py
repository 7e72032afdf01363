"""What we are measured against: simple statistics, and pyod's Isolation Forest and PCA."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
from pyod.models.iforest import IForest
from pyod.models.pca import PCA

from sidecar.types import F64
from tests.quality.data import File

DAY = 86400.0
LAGS, REFITS, TREES = 10, 6, 50


def top2(scores: F64) -> F64:
    """A group's score: the mean of its two most anomalous members."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    filled = np.sort(np.nan_to_num(scores, nan=-9.0), axis=1)
    return np.asarray(np.where(np.isnan(scores).all(1), np.nan, filled[:, -2:].mean(1)))


def chance(file: File) -> F64:
    """Random numbers."""
    return np.random.default_rng(len(file.at)).random(len(file.at))


def usual(file: File) -> F64:
    """Distance from the last day's mean in its deviations; 1 is three of them."""
    day = max(round(DAY / file.step), 12)
    past = pd.DataFrame(file.values).shift(1).rolling(day, min_periods=day // 2)
    deviation = np.maximum(past.std().to_numpy(), 1e-9)
    return top2(np.abs(file.values - past.mean().to_numpy()) / deviation / 3)


def shifted(x: F64, ticks: int) -> F64:
    """x as it was some ticks ago; NaN before."""
    out = np.full_like(x, np.nan)
    if ticks < len(x):
        out[ticks:] = x[: len(x) - ticks]
    return out


def seasonal(file: File) -> F64:
    """Distance from the median of the same time in the last seven days, in MADs; 1 is three deviations."""
    day = max(round(DAY / file.step), 1)
    same = np.stack(
        [shifted(file.values, k * day + d) for k in range(1, 8) for d in (-1, 0, 1) if k * day + d > 0]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any past
        middle = np.nanmedian(same, axis=0)
        mad = 1.4826 * np.nanmedian(np.abs(same - middle), axis=0)
    spread = pd.DataFrame(file.values).shift(1).rolling(7 * day, min_periods=day).std().to_numpy()
    return top2(np.abs(file.values - middle) / np.maximum(mad, np.maximum(0.05 * spread, 1e-9)) / 3)


def forest(file: File) -> F64:
    """Isolation Forest on windows of ten values, fitted anew on the past a few times."""
    x = pd.Series(file.values[:, 0]).ffill().fillna(0).to_numpy()
    windows = np.lib.stride_tricks.sliding_window_view(x, LAGS)
    out = np.full(len(x), np.nan)
    ends = np.linspace(0, len(windows), REFITS + 2).astype(int)[1:]
    for begin, end in itertools.pairwise(ends):
        model = IForest(n_estimators=TREES, random_state=0).fit(windows[:begin])
        out[begin + LAGS - 1 : end + LAGS - 1] = model.decision_function(windows[begin:end])
    return out


def group_models(file: File) -> dict[str, F64]:
    """PCA and Isolation Forest on the members, fitted on the train split."""
    x = np.nan_to_num(file.values)
    x = x[:, x[~file.test].std(0) > 0]  # PCA divides by the deviation
    train = x[~file.test][:: max(1, int((~file.test).sum()) // 10_000)]
    out = {}
    for name, model in (("IForest", IForest(n_estimators=TREES, random_state=0)), ("PCA", PCA())):
        scores = np.full(len(x), np.nan)
        scores[file.test] = model.fit(train).decision_function(x[file.test])
        out[name] = scores
    return out
