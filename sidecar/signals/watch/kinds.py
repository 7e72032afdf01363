"""What an expression measures, guessed from the names of its metrics; pure."""

from __future__ import annotations

import re
from functools import lru_cache

import promql_parser as pq

from sidecar.signals.watch import promql
from sidecar.types import HARM, STOCKS

EDGES = ("edge_client", "edge_server", "gap", "fanout")
"""Of series of a call from one service to another: what the client waits, what the server works, the difference, and
calls per request of the client."""
KINDS = ("latency", "errors", "traffic", "saturation", "cpu", "memory", "disk", "network", "other", *EDGES)

_TABLE = (
    (
        "errors",
        r'\berr|_err|error|fail|drop|reject|retrans|_lost|\boom|_oom|panic|denied|corrupt|restart|[=!]~?"\^?5(\.|xx|\d\d)',
    ),
    ("latency", r"latency|duration|response_time|_seconds_(bucket|sum)|lag_(milli)?seconds|delay"),
    ("cpu", r"cpu|_load\d+|throttl"),
    ("memory", r"mem(ory)?_|_mem\b|memory|_rss|heap|swap"),
    ("disk", r"disk|filesystem|_fs_|volume|inode|storage|tsdb|_io_"),
    ("saturation", r"pool"),
    (
        "network",
        r"network|_net_|socket|tcp|udp|conntrack|connections?|(receive|transmit|sent|received)_bytes",
    ),
    (
        "saturation",
        r"queue|usage|utili[sz]ation|pending|backlog|_lag\b|_lag_|used|inflight|in_flight|threads|fds|quota",
    ),
    ("traffic", r"requests?|messages?|_total\b|:rate|rate\("),
)
"""The first that matches wins, so what is unwanted comes before where it happens."""


def guess_kind(query: str) -> str:
    """The kind of what a query measures.

    >>> guess_kind("rate(http_requests_total[5m])"), guess_kind('rate(http_requests_total{code=~"5.."}[5m])')
    ('traffic', 'errors')
    """
    lower = query.lower()
    return next((kind for kind, pattern in _TABLE if re.search(pattern, lower)), "other")


_WHOLE = re.compile(r"((_max|_maximum|_limits?|_capacity|_quota|_size)(_bytes)?|(Mem|Swap)Total_bytes)$")
"""Names of metrics that say how much there is at most."""


def guess_bounds(query: str) -> tuple[float | None, float | None]:
    """What the value of a query cannot pass: used / max lies between 0 and 1, in percent between 0 and 100.

    >>> guess_bounds("pool_in_use / pool_max"), guess_bounds("100 * (a / a_limit)"), guess_bounds("a / b")
    ((0.0, 1.0), (0.0, 100.0), (None, None))
    >>> [guess_bounds(query)[1] for query in ("a_free * 100 / a_size", "100 - 100 * a_free / a_size", "8 * a / a_max")]
    [100.0, 100.0, None]
    """
    whole = _share(promql.bare(promql.parse(query)))
    return (None, None) if whole is None else (0.0, whole)


_UNIT = re.compile(r"[_:](milliseconds|seconds|ms|bytes|ratio|percent)$")
_UNITS = {
    "milliseconds": "ms",
    "ms": "ms",
    "seconds": "s",
    "bytes": "B",
    "ratio": "share",
    "percent": "%",
}


_TIMES = re.compile(r"_(milliseconds|ms)(?:_|\b)|_seconds")


@lru_cache(maxsize=4096)  # asked of each number on a page
def guess_unit(watch: str, query: str, kind: str) -> str:
    """What a value counts, by the conventions for names; "" where they do not say.

    "s", "ms", "B", "B/s", "/s", "%", or "share" (1 is the whole).

    >>> guess_unit("PoolExhaustion", "pool_in_use / pool_max", "saturation"), guess_unit("w", "node_load1", "cpu")
    ('share', '')
    >>> guess_unit("seen_bytes", "rate(seen_bytes_total[2m])", "network"), guess_unit("w", "heap_bytes", "memory")
    ('B/s', 'B')
    >>> guess_unit("w", "sum(rate(failures_total[5m]))", "errors"), guess_unit("w", "cert_expiry - time()", "other")
    ('/s', 's')
    >>> guess_unit("w", 'rate(a{b="c"}[1m]) / rate(a[1m])', "other"), guess_unit("w", "rate(t_ms_sum[5m])", "latency")
    ('share', 'ms')
    >>> guess_unit("w", "x / x offset 1w", "other")
    ''
    """
    expr = promql.bare(promql.parse(query))
    bounds = guess_bounds(query)
    if bounds[1] is not None:
        return "share" if bounds[1] == 1 else "%"
    if _divides(expr) and (kind == "errors" or _of_itself(expr)):
        return "share"
    expr = _inside(expr)
    if isinstance(expr, pq.BinaryExpr) and str(expr.op) == "-" and _is_now(expr.lhs, expr.rhs):
        return "s"
    name = expr.name or "" if isinstance(expr, pq.VectorSelector) else ""
    unit = _UNIT.search(watch) or _UNIT.search(name)
    if unit is None:
        if kind == "latency" and (times := _TIMES.search(query)):
            return "ms" if times[1] else "s"
        return "/s" if kind in ("errors", "traffic") and _is_rate(expr) else ""
    found = _UNITS[unit[1]]
    return "B/s" if found == "B" and "rate(" in query else found


_OF_ITS_OWN = (
    "avg_over_time",
    "max_over_time",
    "min_over_time",
    "last_over_time",
    "quantile_over_time",
    "predict_linear",
)
"""Functions whose value counts what their argument counts."""


def _inside(expr: pq.Expr) -> pq.Expr:
    """What is aggregated, or looked at over a time, without changing what it counts."""
    while True:
        if isinstance(expr, pq.AggregateExpr) and str(expr.op) in ("avg", "max", "min", "sum"):
            expr = promql.bare(expr.expr)
        elif isinstance(expr, pq.Call) and expr.func.name in _OF_ITS_OWN:
            expr = next(promql.bare(one) for one in expr.args if not isinstance(one, pq.NumberLiteral))
        elif isinstance(expr, pq.MatrixSelector):
            return expr.vector_selector
        else:
            return expr


def _of_itself(expr: pq.Expr) -> bool:
    """Whether a part of a metric is divided by the whole of it: both sides select it, the left side less of it."""
    if not isinstance(expr, pq.BinaryExpr):
        return False
    left, right = ([*promql.selectors(side)] for side in (expr.lhs, expr.rhs))
    same = len({one.name for one in (*left, *right)}) == 1 and bool(right)
    fewest, most = ([len(one.matchers.matchers) for one in side] or [0] for side in (left, right))
    return same and min(fewest) > max(most)


def _is_now(*sides: pq.Expr) -> bool:
    return any(isinstance(promql.bare(side), pq.Call) and promql.write(side) == "time()" for side in sides)


def _is_rate(expr: pq.Expr) -> bool:
    return isinstance(expr, pq.Call) and expr.func.name in ("rate", "irate")


_LEFT = re.compile(
    r"(_|^|[a-z])(available|avail|Available|free|Free|remaining|left)(_(bytes|ratio|percent))?$"
)
"""Names of metrics that say how much is left."""


@lru_cache(maxsize=4096)
def guess_way(query: str, kind: str, direction: str) -> int:
    """Which way of a series does harm: 1 up, -1 down, 0 both; of what is left of something it is down.

    >>> guess_way("node_filesystem_avail_bytes / node_filesystem_size_bytes", "disk", "both")
    -1
    >>> guess_way("probe_success", "errors", "down"), guess_way("node_load1", "cpu", "both")
    (-1, 1)
    """
    if kind in ("traffic", "network", *EDGES):
        return HARM[kind]
    if direction != "both":
        return 1 if direction == "up" else -1
    if kind == "errors":
        return -1 if re.search(r'!~?"\^?5(\.|xx|\d\d)|success', query) else 1
    expr = promql.bare(promql.parse(query)) if kind in STOCKS else None
    while isinstance(expr, pq.AggregateExpr | pq.BinaryExpr):
        if isinstance(expr, pq.BinaryExpr) and str(expr.op) not in "/*":
            return HARM[kind]
        expr = promql.bare(expr.expr if isinstance(expr, pq.AggregateExpr) else expr.lhs)
    left = isinstance(expr, pq.VectorSelector) and _LEFT.search(expr.name or "") is not None
    return -1 if left else HARM[kind]


def _divides(expr: pq.Expr) -> bool:
    return isinstance(expr, pq.BinaryExpr) and str(expr.op) == "/"


def _share(expr: pq.Expr) -> float | None:
    """1 for a share of a whole, 100 for one in percent, None for anything else."""
    if not isinstance(expr, pq.BinaryExpr):
        return None
    left, right = promql.bare(expr.lhs), promql.bare(expr.rhs)
    if str(expr.op) == "/":
        names = [selector.name or "" for selector in promql.selectors(right)]
        return _factor(left) if names and all(_WHOLE.search(name) for name in names) else None
    if str(expr.op) == "*":
        for share, factor in ((left, right), (right, left)):
            if isinstance(factor, pq.NumberLiteral) and factor.val == 100 and _share(share) == 1:
                return 100.0
    if str(expr.op) == "-" and isinstance(left, pq.NumberLiteral):  # what is not left of the whole
        return left.val if left.val == _share(right) else None
    return None


def _factor(part: pq.Expr) -> float | None:
    """By what a part is multiplied before it is divided by the whole: 100, or nothing (1); None for all else."""
    if not isinstance(part, pq.BinaryExpr) or str(part.op) != "*":
        return 1.0
    numbers = [s.val for side in (part.lhs, part.rhs) if isinstance(s := promql.bare(side), pq.NumberLiteral)]
    return (100.0 if numbers == [100] else None) if numbers else 1.0
