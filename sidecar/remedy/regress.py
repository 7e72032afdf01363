"""The comparison by regression, with statsmodels: runs in a worker process, which alone imports it. Pure.

One case: what a firing moves when it is left alone is regressed on how bad it was, which is where the return to
the mean is; the effect is what is left, with the error of a prediction. A policy: stacked difference in differences,
a dummy for each case with the firings it is compared with, adjusted for how bad each was. Standard errors are HC3, or
clustered by firing where one is compared with several cases, by leaving out one cluster after the other (CR3): the
usual sandwich says less than the truth with few clusters. The interval is Student's with the cases as its degrees of
freedom, since few are treated and many are not (Conley and Taber 2011 on why that matters).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sidecar.remedy.compare import STACKS, Row
from sidecar.types import F64, I64, JsonObject

NEEDED = "statsmodels"
LEAST = 5
"""Firings left alone from which a line is drawn through them."""
LEVEL = 0.95


def study(rows: Sequence[Row], of_policy: Sequence[Row]) -> tuple[JsonObject | None, JsonObject]:
    """What one case was expected to move, None with too few firings; and the effect of its policy by outcome.

    ImportError without statsmodels.
    """
    sm = importlib.import_module("statsmodels.api")
    effects = {of: found for of in ("ended", "value") if (found := _policy(sm, of_policy, of)) is not None}
    return _expected(sm, rows), effects


def _expected(sm: Any, rows: Sequence[Row]) -> JsonObject | None:
    known = [row for row in rows if row.move is not None]
    alone = [row for row in known if not row.treated]
    mine = next((row for row in known if row.treated), None)
    before = np.array([row.before for row in alone], np.float64)
    if mine is None or len(alone) < LEAST or np.ptp(before) == 0:
        return None
    moves = np.array([row.move for row in alone], np.float64)
    fit = sm.OLS(moves, np.column_stack([np.ones(len(before)), before])).fit()
    said = fit.get_prediction(np.array([[1.0, mine.before]]))
    return {
        "expected": float(said.predicted_mean[0]),
        "error": float(said.se_obs[0]),
        "how": "regression",
    }


def _policy(sm: Any, rows: Sequence[Row], of: str) -> JsonObject | None:
    known = [row for row in rows if of == "ended" or row.move is not None]
    sides: dict[str, set[bool]] = {}
    for row in known:
        sides.setdefault(row.case, set()).add(row.treated)
    cases = [case for case, found in sides.items() if len(found) == 2]
    known = [row for row in known if row.case in cases]
    adjusted = all(row.before is not None for row in known)
    columns = 1 + len(cases) + adjusted
    if len(cases) < STACKS or len(known) < columns + LEAST:
        return None
    y = np.array([row.ended if of == "ended" else row.move for row in known], np.float64)
    parts = [np.array([[row.treated for row in known]], np.float64).T, _dummies(known, cases)]
    if adjusted:
        parts.append(np.array([[row.before for row in known]], np.float64).T)
    x = np.hstack(parts)
    firings = {(row.alert, row.began): n for n, row in enumerate(known)}
    groups = np.array([firings[row.alert, row.began] for row in known])
    shared = len(firings) < len(known)
    fit = sm.OLS(y, x).fit(cov_type="HC3")
    estimate = float(fit.params[0])
    error = _clustered(y, x, groups, estimate) if shared else float(fit.bse[0])
    if not math.isfinite(error):
        return None
    t = float(importlib.import_module("scipy.stats").t.ppf((1 + LEVEL) / 2, len(cases) - 1))
    return {
        "cases": len(cases),
        "estimate": estimate,
        "error": error,
        "interval": [estimate - t * error, estimate + t * error],
        "how": "clustered" if shared else "HC3",
    }


def _clustered(y: F64, x: F64, groups: I64, estimate: float) -> float:
    """The standard error of the first coefficient: how far it moves when a cluster is left out."""
    there = [groups != group for group in np.unique(groups)]
    others = np.array([np.linalg.lstsq(x[rest], y[rest], rcond=None)[0][0] for rest in there])
    return float(np.sqrt((1 - 1 / len(there)) * np.sum((others - estimate) ** 2)))


def _dummies(rows: Sequence[Row], cases: Sequence[str]) -> F64:
    return np.array([[row.case == case for case in cases] for row in rows], np.float64)
