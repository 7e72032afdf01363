"""PromQL: parsed by the real grammar, written in one way for all equal expressions, asked what it selects."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import timedelta

import promql_parser as pq

from sidecar.types import Duration, Labels

LONGEST = 8000
DEEPEST = 150
"""Beyond these the parser, which recurses in native code, could end the process instead of raising."""

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|#[^\n]*', re.DOTALL)
_MATCH = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
ITS_OWN = "it selects metrics of Promantis itself"
_OWN = ("promantis_anomaly_score", "ALERTS", "ALERTS_FOR_STATE")
_KEEPS_LABELS = re.compile(
    r"(?!absent).*_over_time|rate|irate|increase|i?delta|deriv|predict_linear|resets|changes|double_exponential_smoothing"
    r"|holt_winters|abs|ceil|floor|round|clamp(_min|_max)?|exp|ln|log2|log10|sqrt|sgn|timestamp|sort(_desc)?"
)
"""Functions whose results have the labels of what they are given."""


class NoWatch(Exception):
    """An expression that cannot be watched; says why, in words that follow "because"."""


def parse(text: str) -> pq.Expr:
    """Parse an expression; NoWatch when it is none."""
    if len(text) > LONGEST:
        raise NoWatch(f"it is longer than {LONGEST} characters")
    # the parser reads escapes in raw strings, where Prometheus reads none
    text = _QUOTED.sub(lambda m: _quote(m[0][1:-1]) if m[0][0] == "`" else m[0], text)
    bare, depth, deepest = _QUOTED.sub("", text), 0, 0
    for char in bare:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if max(deepest, len(re.findall(r"[-+*/%^<>=!]=?|\b(?:and|or|unless|atan2)\b", bare))) > DEEPEST:
        raise NoWatch(f"it has more than {DEEPEST} operators or nested parentheses")
    try:
        return pq.parse(text)
    except ValueError as error:
        raise NoWatch(f"it cannot be parsed: {error}") from None


def normalise(text: str) -> str:
    """One spelling for all equal expressions: spaces, parentheses, order of matchers and of labels.

    >>> normalise('(sum  by(b, a) (rate(x{k="v",a="1"}[60s])) ) /(y)')
    'sum by (a, b) (rate(x{a="1",k="v"}[1m])) / y'
    """
    return write(parse(text))


def check(text: str) -> None:
    """Raise NoWatch unless the expression can be asked every tick: parsed, a vector, not made of our own."""
    expr = parse(text)
    if isinstance(bare(expr), pq.MatrixSelector | pq.SubqueryExpr):
        raise NoWatch("it gives ranges, not one value per series")
    if isinstance(bare(expr), pq.StringLiteral):
        raise NoWatch("it gives a string, not numbers")
    if own := own_metrics(expr):
        raise NoWatch(own)
    write(expr)


def narrowed(text: str, labels: Labels) -> str:
    """The expression asked for those of its results that have these labels, as far as its selectors can be told so.

    >>> narrowed("sum by (pod) (rate(x[5m])) / on (job) group_left () y", (("job", "a"), ("pod", "b")))
    'sum by (pod) (rate(x{pod="b"}[5m])) / on (job) group_left () y{job="a"}'
    """
    try:
        return write(parse(text), tuple(label for label in labels if label[0] != "__name__"))
    except NoWatch:
        return text


def write(expr: pq.Expr, within: Labels = ()) -> str:
    """An expression as text that parses to the same expression; parentheses only around operations.

    `within`: labels of the results that are wanted; the text need not give others.
    """
    match expr:
        case pq.NumberLiteral():
            return number(expr.val)
        case pq.StringLiteral():
            return _quote(expr.val)
        case pq.ParenExpr():
            return write(expr.expr, within)
        case pq.UnaryExpr():
            return "-" + operand(expr.expr, within)
        case pq.BinaryExpr():
            left, right = _sides(expr, within)
            return f"{operand(expr.lhs, left)} {expr.op}{modifier(expr.modifier)} {operand(expr.rhs, right)}"
        case pq.VectorSelector():
            return _selector(expr, within) + _when(expr.offset, expr.at)
        case pq.MatrixSelector():
            vector = expr.vector_selector
            return f"{_selector(vector, within)}[{_span(expr.range)}]{_when(vector.offset, vector.at)}"
        case pq.SubqueryExpr():
            of = operand(expr.expr, within)
            return f"{of}[{_span(expr.range)}:{_span(expr.step)}]{_when(expr.offset, expr.at)}"
        case pq.AggregateExpr():
            by, word, named = "", "by", frozenset[str]()
            if expr.modifier is not None:
                named = frozenset(expr.modifier.labels)
                word = "by" if expr.modifier.type == pq.AggModifierType.By else "without"
                by = f" {word} ({_labels(expr.modifier.labels)}) "
            param = "" if expr.param is None else write(expr.param) + ", "
            same = str(expr.op) != "count_values"
            kept = tuple(one for one in within if same and (one[0] in named) == (word == "by"))
            return f"{expr.op}{by}({param}{write(expr.expr, kept)})"
        case pq.Call():
            kept = within if _KEEPS_LABELS.fullmatch(expr.func.name) else ()
            return f"{expr.func.name}({', '.join(write(arg, kept) for arg in expr.args)})"
        case _:
            raise NoWatch(f"it uses {type(expr).__name__}, which is not supported")


def _sides(expr: pq.BinaryExpr, within: Labels) -> tuple[Labels, Labels]:
    """Of the labels of an operation's results, those that its left and its right side have as well.

    Both have what they are matched by; of the others the results of arithmetic have those of the side with many.
    """
    matching = expr.modifier.matching if expr.modifier is not None else None
    named = frozenset(matching.labels if matching is not None else ())
    on = matching is not None and matching.type == pq.LabelModifierType.Include
    both = tuple(one for one in within if (one[0] in named) == on)
    card = expr.modifier.card if expr.modifier is not None else pq.VectorMatchCardinality.OneToOne
    got = frozenset((expr.modifier.group_labels or ()) if expr.modifier is not None else ())
    many = tuple(one for one in within if one[0] not in got)
    if str(expr.op) in ("and", "unless"):
        return within, both
    if card == pq.VectorMatchCardinality.ManyToOne:
        return many, tuple(one for one in both if one[0] not in got)
    if card == pq.VectorMatchCardinality.OneToMany:
        return tuple(one for one in both if one[0] not in got), many
    return both, both


def number(value: float) -> str:
    """A number as PromQL writes it.

    >>> number(0.5), number(3.0), number(-math.inf), number(1e-10)
    ('0.5', '3', '-Inf', '1e-10')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return repr(value).removesuffix(".0")


def selectors(expr: pq.Expr) -> Iterator[pq.VectorSelector]:
    """Every vector selector in the expression."""
    found: list[pq.VectorSelector] = []
    pq.walk(expr, pre_visit=lambda e: found.append(e) if isinstance(e, pq.VectorSelector) else None)
    pq.walk(
        expr,
        pre_visit=lambda e: found.append(e.vector_selector) if isinstance(e, pq.MatrixSelector) else None,
    )
    yield from found


def own_metrics(expr: pq.Expr) -> str | None:
    """Why the expression must not be watched: it selects what comes out of watching."""
    for selector in selectors(expr):
        for name in _OWN:
            if _selects(selector, name):
                return ITS_OWN if name == _OWN[0] else f"it selects {name}"
    return None


def bare(expr: pq.Expr) -> pq.Expr:
    """The expression without parentheses around it."""
    while isinstance(expr, pq.ParenExpr):
        expr = expr.expr
    return expr


def operand(expr: pq.Expr, within: Labels = ()) -> str:
    """An operand: in parentheses when it is an operation itself, or a negative number."""
    expr = bare(expr)
    text = write(expr, within)
    compound = isinstance(expr, pq.BinaryExpr | pq.UnaryExpr) or text.startswith("-")
    return f"({text})" if compound else text


def modifier(modifier: pq.BinModifier | None, *, bool_too: bool = True) -> str:
    """What stands between an operator and its right side: bool, matching, grouping."""
    if modifier is None:
        return ""
    fill = modifier.fill_values
    if fill.lhs is not None or fill.rhs is not None:
        raise NoWatch("it uses fill modifiers, which are not supported")
    out = " bool" if modifier.return_bool and bool_too else ""
    if modifier.matching is not None:
        on = modifier.matching.type == pq.LabelModifierType.Include
        out += f" {'on' if on else 'ignoring'} ({_labels(modifier.matching.labels)})"
    card = modifier.card
    if card in (pq.VectorMatchCardinality.ManyToOne, pq.VectorMatchCardinality.OneToMany):
        side = "left" if card == pq.VectorMatchCardinality.ManyToOne else "right"
        out += f" group_{side} ({_labels(modifier.group_labels or [])})"
    return out


def _selector(vector: pq.VectorSelector, within: Labels = ()) -> str:
    if vector.matchers.or_matchers:
        raise NoWatch("it uses `or` between matchers, which Prometheus does not know")
    matchers = sorted(
        {*((m.name, _MATCH[str(m.op)], m.value) for m in vector.matchers.matchers)}
        | {(label, "=", value) for label, value in within}
    )
    name = vector.name or ""
    if name and not _PLAIN_NAME.fullmatch(name):
        matchers.insert(0, ("__name__", "=", name))
        name = ""
    inside = ",".join(f"{_label(label)}{op}{_quote(value)}" for label, op, value in matchers)
    return name + (f"{{{inside}}}" if inside or not name else "")


def _labels(labels: list[str]) -> str:
    return ", ".join(_label(label) for label in sorted(labels))


def _label(label: str) -> str:
    return label if _PLAIN_LABEL.fullmatch(label) else _quote(label)


def _when(offset: timedelta | None, at: pq.AtModifier | None) -> str:
    out = ""
    if at is not None:
        out += " @ " + {
            "AtModifierType.Start": "start()",
            "AtModifierType.End": "end()",
        }.get(str(at.type), number(at.at.timestamp()) if at.at else "")
    if offset:
        out += f" offset {'-' if offset < timedelta(0) else ''}{_span(abs(offset))}"
    return out


def _span(span: timedelta | None) -> str:
    return "" if span is None else str(Duration(span.total_seconds()))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _selects(selector: pq.VectorSelector, name: str) -> bool:
    """Whether a selector can select a metric of this name; of Promantis' metrics, one stands for all."""
    names = [("=", selector.name)] if selector.name else []
    names += [(_MATCH[str(m.op)], m.value) for m in selector.matchers.matchers if m.name == "__name__"]
    for op, value in names:
        if op == "=" and (
            value == name or (name == _OWN[0] and value.startswith(("promantis_", "promantis:")))
        ):
            return True
        try:
            if op == "=~" and re.fullmatch(value, name):
                return True
        except re.error:  # RE2's grammar is not quite Python's
            continue
    return False
