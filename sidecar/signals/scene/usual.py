"""What is usual for each series, in the terms of a diagnosis: level, scale, how far out is nothing special.

Source of the method: a study on PetShop, Nezha, ASD and SMD (`make quality ARGS="--only causes"` measures it). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidecar.types import F64, HARM, I64, Bools

LEAST = 5  # samples without which a series has no say
RELATIVE = 0.05  # of the level: no scale is smaller
PEERS = 0.5  # of the usual relative scale of the same metric elsewhere: no scale is smaller
TAIL = 0.95  # what is nothing special for a series is this quantile of its own past,
USUAL = (3.0, 10.0)  # within these bounds: neither calm nor an incident of before decides
JUST = 2  # last samples before the window that are "just before"
FLOORS = {
    "latency": 1e-3,
    "errors": 2e-3,
    "edge_client": 1e-3,
    "edge_server": 1e-3,
    "gap": 1e-3,
    "fanout": 0.05,
}
"""Of each kind: the least scale, in its own unit (seconds, ratios)."""


class Usual(NamedTuple):
    """Of each series f64[n]; where there is too little history all but `usual` are NaN."""

    level: F64
    scale: F64
    usual: F64
    """How many scales out is nothing special."""
    just: F64
    """Where it was right before."""


def usual(
    past: F64,
    kinds: Sequence[str],
    groups: Sequence[str],
    floors: F64 | None = None,
    ways: I64 | None = None,
) -> Usual:
    """Of samples f64[times, n], oldest first, that may be taken as normal (NaN: none).

    A series that is far calmer than others of its group (the same metric of other entities) is taken to be at least
    half as restless as they usually are. `floors` f64[n] are least scales of the series' own, in their units. `ways`
    i64[n]: which way of each does harm, as in HARM; None: that of its kind.
    """
    sign = np.array([HARM[kind] for kind in kinds], np.int64) if ways is None else ways
    least = np.array([FLOORS.get(kind, 0.0) for kind in kinds]) + 1e-9
    least = least if floors is None else np.fmax(least, floors)
    lower, level, upper = quantiles(past, (0.25, 0.5, 0.75))
    with np.errstate(invalid="ignore"):
        scale = np.fmax(1.4826 * median(np.abs(past - level)), (upper - lower) / 1.349)
        scale = np.fmax(scale, np.fmax(RELATIVE * np.abs(level), least))
        _raise_to_peers(scale, level, groups)
        off = (past - level) / scale
        off = np.where(sign == 0, np.abs(off), np.where(sign > 0, off, -off))
    beyond = np.nan_to_num(quantiles(off, (TAIL,))[0], nan=USUAL[0])
    known = np.isfinite(past).sum(0) >= LEAST
    return Usual(
        np.where(known, level, np.nan),
        np.where(known, scale, np.nan),
        np.clip(beyond, *USUAL),
        np.where(known, last(past, JUST), np.nan),
    )


def _raise_to_peers(scale: F64, level: F64, groups: Sequence[str]) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.abs(level) > 0, scale / np.fmax(np.abs(level), 1e-12), np.nan)
    _, member = np.unique(np.array(groups, dtype=str), return_inverse=True)
    order = np.argsort(member, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        if len(rows) > 2 and np.isfinite(ratio[rows]).any():
            floor = PEERS * np.nanmedian(ratio[rows]) * np.abs(level[rows])
            scale[rows] = np.fmax(scale[rows], floor)


def quantiles(values: F64, at: Sequence[float]) -> list[F64]:
    """Of each column without its NaN, NaN where there is nothing; by one sort, `np.nanquantile` takes ten times longer.

    >>> quantiles(np.array([[1.0, np.nan], [3.0, np.nan]]), (0.5,))
    [array([ 2., nan])]
    """
    if not len(values):
        return [np.full(values.shape[1], np.nan) for _ in at]
    order = np.sort(values, axis=0)
    count, columns = np.isfinite(order).sum(0), np.arange(order.shape[1])
    end = np.maximum(count - 1, 0)
    out = []
    for q in at:
        below: I64 = (q * end).astype(np.int64)
        low, high = order[below, columns], order[np.minimum(below + 1, end), columns]
        out.append(np.where(count > 0, low + (q * end - below) * (high - low), np.nan))
    return out


def median(values: F64) -> F64:
    """Of each column without its NaN."""
    return quantiles(values, (0.5,))[0]


def last(values: F64, n: int) -> F64:
    """Mean of the last `n` samples of each column; NaN where there is none.

    >>> last(np.array([[1.0, np.nan], [3.0, np.nan], [5.0, np.nan], [np.nan, np.nan]]), 2)
    array([ 4., nan])
    """
    there = np.isfinite(values)
    there &= there[::-1].cumsum(0)[::-1] <= n
    count = there.sum(0)
    return np.where(count > 0, np.where(there, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def window(
    at: F64, begin: float, end: float, trusted: Bools | None = None, history: float = 7200.0
) -> tuple[Bools, Bools]:
    """Which times f64[n] are the past that teaches (60 samples at least, however old) and which may be bad."""
    past = at < begin if trusted is None else (at < begin) & trusted
    found = np.flatnonzero(past)
    teaches = np.zeros(len(at), bool)
    teaches[found[at[found] >= begin - history]] = True
    teaches[found[-60:]] = True
    return teaches, (at >= begin) & (at <= end)
