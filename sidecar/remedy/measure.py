"""What one action changed: the series of its verification before and after, against siblings left alone. Pure.

Difference in differences: what the target moved, less what its siblings moved in the same time; what moves all
of them, a calmer hour or the alert's own return to the mean of everybody, is not the action's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import promql_parser

from sidecar.types import JsonObject, Labels, labels_of

MOST = 50
"""Series that are kept; a query with more is not measured."""
Values = Sequence[tuple[Labels, float]]


class Compared(NamedTuple):
    """A comparison with a number."""

    query: str
    """Its left side: what moves."""
    op: str
    limit: float


def measured(query: str) -> str | None:
    """The left side of a comparison with a number: what moves; None for any other query.

    >>> measured("max by (pod) (db_used / db_size) < 0.7")
    'max by (pod) (db_used / db_size)'
    >>> measured("up")
    """
    found = compared(query)
    return found.query if found else None


def compared(query: str) -> Compared | None:
    """A comparison with a number, taken apart; None for any other query.

    >>> compared("db_used / db_size < 0.7")
    Compared(query='db_used / db_size', op='<', limit=0.7)
    """
    expr = promql_parser.parse(query)
    if not isinstance(expr, promql_parser.BinaryExpr) or not isinstance(
        expr.rhs, promql_parser.NumberLiteral
    ):
        return None
    if str(expr.op) not in ("==", "!=", "<", "<=", ">", ">="):
        return None
    return Compared(str(expr.lhs.prettify()), str(expr.op), float(expr.rhs.val))


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
            moved[ours(labels, of)].append(then[labels] - value)
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


def ours(labels: Labels, alert: Mapping[str, str]) -> bool:
    """Whether a series is the target's: it differs from the alert in no label that both have."""
    return all(alert.get(name, wanted) == wanted for name, wanted in labels)


def kept(values: Values) -> list[list[object]]:
    """Values as the journal keeps them; what is no number is left out."""
    return [[dict(labels), value] for labels, value in values if math.isfinite(value)]


def read(values: Sequence[Sequence[Any]]) -> Values:
    """Values out of the journal."""
    return [(labels_of(labels), float(value)) for labels, value in values]
