"""Which comparisons an alert's expression rests on: `lhs op number`, wherever they stand in it; pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import promql_parser as pq

from sidecar.signals.watch.promql import (
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


class Other(NamedTuple):
    """A condition that must hold too, of the series that match on some labels, or on all but some."""

    query: str
    op: str
    value: float
    on: bool
    """Whether `labels` are those that must be equal; else all others must."""
    labels: tuple[str, ...]

    def __str__(self) -> str:
        """As it stands in a rule.

        >>> str(Other("b", "<", 2.0, False, ()))
        'b < 2'
        """
        return f"{self.query} {self.op} {number(self.value)}"


class Comparison(NamedTuple):
    """`query op value`, a condition that an alert rests on."""

    query: str
    op: str
    value: float
    whole: bool
    """Whether the alert's expression is true as soon as this is,"""
    also: tuple[Other, ...] = ()
    """or as soon as these hold as well; where there are none, what else must hold has no number."""
    kept: bool = True
    """Whether the series of the query have the labels that the comparison has."""

    @property
    def part(self) -> Comparison:
        """The same, where more must hold than can be told."""
        return self._replace(whole=False, also=())


def comparisons(text: str) -> list[Comparison]:
    """The comparisons that an alert's expression rests on, each once; NoWatch when there are none."""
    expr = parse(text)
    if own := own_metrics(expr):
        raise NoWatch(own)
    return list(dict.fromkeys(_comparisons(expr)))


def _comparisons(expr: pq.Expr) -> list[Comparison]:
    expr = bare(expr)
    if isinstance(expr, pq.BinaryExpr):
        op = str(expr.op)
        if op in COMPARE:
            return _compare(expr, op)
        if op == "unless":
            return [c.part for c in _comparisons(expr.lhs)]
        sides = _sides(expr)
        if op == "or":
            return sides[0] + sides[1]
        if op == "and":
            return _both(*sides, expr.modifier)
        # of a sum or product, too, each side filters what the other lets through
        found = [c.part for side in sides for c in side] if all(sides) else sides[0] + sides[1]
        return found if _alike(expr.modifier) else [c._replace(kept=False) for c in found]
    if isinstance(expr, pq.UnaryExpr):
        return _comparisons(expr.expr)
    if isinstance(expr, pq.AggregateExpr):  # it is there when any member is
        return [c._replace(kept=False) for c in _comparisons(expr.expr)]
    if isinstance(expr, pq.Call):
        if expr.func.name in ("absent", "absent_over_time"):
            raise NoWatch(f"{expr.func.name}() has no value that could be forecast")
        if expr.func.name in ("label_replace", "label_join"):
            rest = "".join(", " + write(arg) for arg in expr.args[1:])
            return [
                inner._replace(query=f"{expr.func.name}({inner.query}{rest})", also=())
                for inner in _comparisons(expr.args[0])
            ]
        if expr.func.name in ("sort", "sort_desc"):
            return _comparisons(expr.args[0])
    raise NoWatch("it compares nothing: there is no limit to come near to")


def _sides(expr: pq.BinaryExpr) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons of both sides, none of one that has none; the first reason when neither has any."""
    found, reasons = list[list[Comparison]](), list[NoWatch]()
    for side in (expr.lhs, expr.rhs):
        try:
            found.append(_comparisons(side))
        except NoWatch as error:
            reasons.append(error)
            found.append([])
    if len(reasons) == len(found):
        raise reasons[0]
    return found[0], found[1]


def _both(left: list[Comparison], right: list[Comparison], how: pq.BinModifier | None) -> list[Comparison]:
    """What `left and right` rests on: each way in which the left is true, with each simple one of the right."""
    matching = how.matching if how is not None else None
    on = matching is not None and matching.type == pq.LabelModifierType.Include
    labels = tuple(sorted(matching.labels)) if matching is not None else ()
    simple = [c for c in right if c.whole and c.kept and "__name__" not in labels]
    out = list[Comparison]()
    for c in left:
        others = [Other(r.query, r.op, r.value, on, labels) for r in simple]
        if others and c.kept and (c.whole or c.also):
            out += [c._replace(whole=False, also=(*c.also, other)) for other in others]
        else:
            out.append(c.part)
    return [*out, *(c.part for c in right)]


def _alike(how: pq.BinModifier | None) -> bool:
    """Whether an operation on two vectors keeps the labels of its left side."""
    return how is None or how.matching is None


def _compare(expr: pq.BinaryExpr, op: str) -> list[Comparison]:
    left, right = constant(expr.lhs), constant(expr.rhs)
    if left is not None and right is not None:
        raise NoWatch("it compares two constants")
    if left is None and right is None:
        minus = f"{operand(expr.lhs)} -{modifier(expr.modifier, bool_too=False)} {operand(expr.rhs)}"
        return [Comparison(minus, op, 0.0, True, kept=_alike(expr.modifier))]
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
        return [Comparison(write(side), op, value, True)]
    head, *rest = inner
    return [head._replace(whole=False, also=(*head.also, Other(head.query, op, value, False, ()))), *rest,
            Comparison(head.query, op, value, False)]  # fmt: skip


def _chained(side: pq.Expr) -> list[Comparison] | None:
    """Of `5 < x < 10`, the comparisons inside: both limits are limits of x."""
    if not isinstance(side, pq.BinaryExpr) or str(side.op) not in COMPARE:
        return None
    if side.modifier is not None and side.modifier.return_bool:
        return None
    if constant(side.lhs) is None and constant(side.rhs) is None:
        return None
    return _compare(side, str(side.op))


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
