"""What one action changed: the series of its verification before and after, against siblings left alone. Pure.

Difference in differences: what the target moved, less what its siblings moved in the same time; what moves all
of them, a calmer hour or the alert's own return to the mean of everybody, is not the action's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import promql_parser

from sidecar.types import JsonObject, Labels, labels_of

MOST = 50
"""Series that are kept; a query with more is not measured."""
Values = Sequence[tuple[Labels, float]]


def measured(query: str) -> str | None:
    """The left side of a comparison with a number: what moves; None for any other query.

    >>> measured("max by (pod) (db_used / db_size) < 0.7")
    'max by (pod) (db_used / db_size)'
    >>> measured("up")
    """
    expr = promql_parser.parse(query)
    if not isinstance(expr, promql_parser.BinaryExpr) or not isinstance(
        expr.rhs, promql_parser.NumberLiteral
    ):
        return None
    if str(expr.op) not in ("==", "!=", "<", "<=", ">", ">="):
        return None
    return str(expr.lhs.prettify())


def difference(before: Values, after: Values, alert: Labels) -> JsonObject | None:
    """By how much the target moved, its siblings did, and the difference with its standard error.

    The target is every series that differs from the alert in no label that both have. None when it is not there
    before and after; without siblings there is no difference, with one no error.

    >>> before = [((("pod", "a"),), 9.0), ((("pod", "b"),), 5.0), ((("pod", "c"),), 6.0)]
    >>> after = [((("pod", "a"),), 2.0), ((("pod", "b"),), 4.0), ((("pod", "c"),), 4.0)]
    >>> difference(before, after, (("alertname", "X"), ("pod", "a")))
    {'target': -7.0, 'siblings': -1.5, 'untouched': 2, 'difference': -5.5, 'error': 0.5}
    """
    of, then = dict(alert), dict(after)
    moved: dict[bool, list[float]] = {True: [], False: []}
    for labels, value in before:
        if labels in then and math.isfinite(value) and math.isfinite(then[labels]):
            ours = all(of.get(name, wanted) == wanted for name, wanted in labels)
            moved[ours].append(then[labels] - value)
    if not moved[True]:
        return None
    target, others = statistics.fmean(moved[True]), moved[False]
    found: JsonObject = {"target": target, "siblings": None, "untouched": len(others)}
    found |= {"difference": None, "error": None}
    if others:
        found["siblings"] = statistics.fmean(others)
        found["difference"] = target - found["siblings"]
    if len(others) > 1:
        found["error"] = statistics.stdev(others) / math.sqrt(len(others))
    return found


def kept(values: Values) -> list[list[object]]:
    """Values as the journal keeps them; what is no number is left out."""
    return [[dict(labels), value] for labels, value in values if math.isfinite(value)]


def read(values: Sequence[Sequence[Any]]) -> Values:
    """Values out of the journal."""
    return [(labels_of(labels), float(value)) for labels, value in values]
