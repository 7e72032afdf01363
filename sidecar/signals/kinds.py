"""What an expression measures, guessed from the names of its metrics; pure."""

from __future__ import annotations

import re

KINDS = ("latency", "errors", "traffic", "saturation", "cpu", "memory", "disk", "network", "other")

_TABLE = (
    (
        "errors",
        r'\berr|_err|error|fail|drop|reject|retrans|_lost|\boom|_oom|panic|denied|corrupt|restart|=~?"\^?5(\.|xx|\d\d)',
    ),
    ("latency", r"latency|duration|response_time|_seconds_(bucket|sum)|_lag\b|_lag_|delay"),
    ("cpu", r"cpu|_load\d+|throttl"),
    ("memory", r"mem(ory)?_|_mem\b|memory|_rss|heap|swap"),
    ("disk", r"disk|filesystem|_fs_|volume|inode|storage|tsdb|_io_"),
    (
        "network",
        r"network|_net_|socket|tcp|udp|conntrack|connections?|(receive|transmit|sent|received)_bytes",
    ),
    (
        "saturation",
        r"queue|pool|usage|utili[sz]ation|pending|backlog|used|inflight|in_flight|threads|fds|quota",
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
