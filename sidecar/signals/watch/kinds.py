"""What an expression measures, guessed from the names of its metrics; pure."""

from __future__ import annotations

import re
from functools import lru_cache

import promql_parser as pq

from sidecar.signals.watch import promql

EDGES = ("edge_client", "edge_server", "gap", "fanout")
"""Of series of a call from one service to another: what the client waits, what the server works, the difference, and
calls per request of the client."""
KINDS = ("latency", "errors", "traffic", "saturation", "cpu", "memory", "disk", "network", "other", *EDGES)

_TABLE = (
    (
        "errors",
        r'\berr|_err|error|fail|drop|reject|retrans|_lost|\boom|_oom|panic|denied|corrupt|restart|=~?"\^?5(\.|xx|\d\d)',
    ),
    ("latency", r"latency|duration|response_time|_seconds_(bucket|sum)|_lag\b|_lag_|delay"),
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
        r"queue|usage|utili[sz]ation|pending|backlog|used|inflight|in_flight|threads|fds|quota",
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


_WHOLE = re.compile(
    r"(_max|_maximum|_limit|_limit_bytes|_capacity|_capacity_bytes|_size|_size_bytes|MemTotal_bytes)$"
)
"""Names of metrics that say how much there is at most."""


def guess_bounds(query: str) -> tuple[float | None, float | None]:
    """What the value of a query cannot pass: used / max lies between 0 and 1, in percent between 0 and 100.

    >>> guess_bounds("pool_in_use / pool_max"), guess_bounds("100 * (a / a_limit)"), guess_bounds("a / b")
    ((0.0, 1.0), (0.0, 100.0), (None, None))
    """
    whole = _share(promql.bare(promql.parse(query)))
    return (None, None) if whole is None else (0.0, whole)


_UNIT = re.compile(r"_(seconds|bytes|ratio)$")


@lru_cache(maxsize=4096)  # asked of each number on a page
def guess_unit(watch: str, query: str, kind: str) -> str:
    """What a value counts, by the conventions for names: "s", "B", "B/s", "share" (1 is the whole), or "".

    >>> guess_unit("PoolExhaustion", "pool_in_use / pool_max", "saturation"), guess_unit("w", "node_load1", "cpu")
    ('share', '')
    >>> guess_unit("seen_bytes", "rate(seen_bytes_total[2m])", "network"), guess_unit("w", "heap_bytes", "memory")
    ('B/s', 'B')
    """
    expr = promql.bare(promql.parse(query))
    if guess_bounds(query) == (0.0, 1.0) or (kind == "errors" and _divides(expr)):
        return "share"
    while isinstance(expr, pq.AggregateExpr) and str(expr.op) in ("avg", "max", "min", "sum"):
        expr = promql.bare(expr.expr)
    name = expr.name or "" if isinstance(expr, pq.VectorSelector) else ""
    unit = _UNIT.search(watch) or _UNIT.search(name)
    if unit is None:
        return "s" if kind == "latency" and "_seconds" in query else ""
    if unit[1] == "bytes":
        return "B/s" if "rate(" in query else "B"
    return {"seconds": "s", "ratio": "share"}[unit[1]]


def _divides(expr: pq.Expr) -> bool:
    return isinstance(expr, pq.BinaryExpr) and str(expr.op) == "/"


def _share(expr: pq.Expr) -> float | None:
    """1 for a share of a whole, 100 for one in percent, None for anything else."""
    if not isinstance(expr, pq.BinaryExpr):
        return None
    left, right = promql.bare(expr.lhs), promql.bare(expr.rhs)
    if str(expr.op) == "/":
        names = [selector.name or "" for selector in promql.selectors(right)]
        return 1.0 if names and all(_WHOLE.search(name) for name in names) else None
    if str(expr.op) == "*":
        for share, factor in ((left, right), (right, left)):
            if isinstance(factor, pq.NumberLiteral) and factor.val == 100 and _share(share) == 1:
                return 100.0
    return None
