"""Which comparisons an alert's expression rests on: `lhs op number`, wherever they stand in it; pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import promql_parser as pq

from sidecar.signals.promql import (
    NoWatch,
    bare,
    modifier,
    number,
    operand,
    own_metrics,
    parse,
    selectors,
    write,
)

COMPARE = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}
"""Each operator, and the one with its sides changed."""


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "^": math.pow,
    "atan2": math.atan2,
}


class Comparison(NamedTuple):
    """`query op value`, a condition that an alert rests on."""

    query: str
    op: str
    value: float
    whole: bool
    """Whether the alert's expression is true as soon as this is; else other conditions must hold as well."""


def comparisons(text: str) -> list[Comparison]:
    """The comparisons that an alert's expression rests on, each once; NoWatch when there are none."""
    expr = parse(text)
    if own := own_metrics(expr):
        raise NoWatch(own)
    return list(dict.fromkeys(_comparisons(expr, True)))


def _comparisons(expr: pq.Expr, whole: bool) -> list[Comparison]:
    expr = bare(expr)
    if isinstance(expr, pq.BinaryExpr):
        op = str(expr.op)
        if op in COMPARE:
            return _compare(expr, op, whole)
        if op == "unless":
            return _comparisons(expr.lhs, False)
        # of a sum or product, too, each side filters what the other lets through
        return _any_of([expr.lhs, expr.rhs], whole and op != "and")
    if isinstance(expr, pq.UnaryExpr | pq.AggregateExpr):  # an aggregation is there when any member is
        return _comparisons(expr.expr, whole)
    if isinstance(expr, pq.Call):
        if expr.func.name in ("absent", "absent_over_time"):
            raise NoWatch(f"{expr.func.name}() has no value that could be forecast")
        if expr.func.name in ("label_replace", "label_join"):
            rest = "".join(", " + write(arg) for arg in expr.args[1:])
            return [
                inner._replace(query=f"{expr.func.name}({inner.query}{rest})")
                for inner in _comparisons(expr.args[0], whole)
            ]
        if expr.func.name in ("sort", "sort_desc"):
            return _comparisons(expr.args[0], whole)
    raise NoWatch("it compares nothing: there is no limit to come near to")


def _any_of(sides: list[pq.Expr], whole: bool) -> list[Comparison]:
    """The comparisons of all sides that have some; the first reason when none has."""
    found: list[Comparison] = []
    reason: NoWatch | None = None
    for side in sides:
        try:
            found += _comparisons(side, whole)
        except NoWatch as error:
            reason = reason or error
    if not found and reason:
        raise reason
    return found


def _compare(expr: pq.BinaryExpr, op: str, whole: bool) -> list[Comparison]:
    left, right = constant(expr.lhs), constant(expr.rhs)
    if left is not None and right is not None:
        raise NoWatch("it compares two constants")
    if left is None and right is None:
        minus = f"{operand(expr.lhs)} -{modifier(expr.modifier, bool_too=False)} {operand(expr.rhs)}"
        return [Comparison(minus, op, 0.0, whole)]
    side, value = (expr.lhs, right) if right is not None else (expr.rhs, left)
    assert value is not None
    if not math.isfinite(value):
        raise NoWatch(f"it compares with {number(value)}")
    side, op = bare(side), op if right is not None else COMPARE[op]
    if isinstance(side, pq.Call) and side.func.name in ("absent", "absent_over_time"):
        raise NoWatch(f"{side.func.name}() has no value that could be forecast")
    if next(selectors(side), None) is None:
        raise NoWatch("it selects no metric")
    inner = _chained(side)
    if inner is None:
        return [Comparison(write(side), op, value, whole)]
    return [*(c._replace(whole=False) for c in inner), Comparison(inner[0].query, op, value, False)]


def _chained(side: pq.Expr) -> list[Comparison] | None:
    """Of `5 < x < 10`, the comparisons inside: both limits are limits of x."""
    if not isinstance(side, pq.BinaryExpr) or str(side.op) not in COMPARE:
        return None
    if side.modifier is not None and side.modifier.return_bool:
        return None
    if constant(side.lhs) is None and constant(side.rhs) is None:
        return None
    return _compare(side, str(side.op), False)


def constant(expr: pq.Expr) -> float | None:
    """The value of an expression of numbers alone, else None.

    >>> constant(parse("15 * 60")), constant(parse("1 - 0.95")), constant(parse("x"))
    (900.0, 0.05, None)
    """
    expr = bare(expr)
    if isinstance(expr, pq.NumberLiteral):
        return float(expr.val)
    if isinstance(expr, pq.UnaryExpr):
        value = constant(expr.expr)
        return None if value is None else -value
    if not isinstance(expr, pq.BinaryExpr):
        return None
    a, b = constant(expr.lhs), constant(expr.rhs)
    if a is None or b is None or str(expr.op) not in _ARITHMETIC:
        return None
    try:
        return float(f"{_ARITHMETIC[str(expr.op)](a, b):.12g}")  # 0.05, as it was meant
    except (ArithmeticError, ValueError):
        return math.nan
