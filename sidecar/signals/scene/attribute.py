"""Which metrics of one machine belong to an incident? From their samples alone, where no call is known.

A metric is out as far as its furthest sample lies outside both its last five days and the same time on days before; the
unit is how far out is nothing special for it. A method of the same study as `usual`; pure.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.ingest import series
from sidecar.signals.ingest.ports import Source
from sidecar.signals.ingest.topology import place
from sidecar.signals.scene.recent import named
from sidecar.signals.scene.usual import TAIL, USUAL, median, quantiles, window
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, Bools, Instant

PAST, DAY, AROUND = (
    5 * 86400.0,
    86400.0,
    1800.0,
)  # seconds: what teaches, a day, around the same time on days before
DAYS = 3
RANGE, RELATIVE = 0.18, 0.02  # of all that was ever seen, and of the level: no scale is smaller
STEP = 300.0
LARGE = 200
"""Series of a watch beyond which its past of days is not asked for one machine's sake."""
SURE = ((1.0, 0.95), (1e-9, 0.81), (-math.inf, 0.3))
"""Share of metrics with so many doublings that belonged to the incident, on ASD and SMD; of the first all 40 did."""


class Part(NamedTuple):
    """One metric's part in an incident."""

    column: int
    doublings: float
    """log2(how far out / what is nothing special), unclipped; negative is inside its usual."""

    @property
    def probability(self) -> float:
        """That it belongs to the incident."""
        return next(p for least, p in SURE if self.doublings >= least)


def attribute(at: F64, values: F64, begin: float, end: float, trusted: Bools | None = None) -> list[Part]:
    """Columns of values f64[times, n], those that are furthest out between `begin` and `end` first."""
    teaches, during = window(at, begin, end, trusted, PAST)
    past, now = values[teaches], values[during]
    low, lower, level, upper, high = quantiles(past, (0.025, 0.25, 0.5, 0.75, 0.975))
    known = quantiles(values[: int(during.argmax())], (0.0, 1.0))
    with np.errstate(all="ignore"):
        scale = np.fmax(1.4826 * median(np.abs(past - level)), (upper - lower) / 1.349)
        scale = np.fmax(np.fmax(scale, (high - low) / 3.92), RANGE * np.nan_to_num(known[1] - known[0]))
        scale = np.fmax(scale, np.fmax(RELATIVE * np.abs(level), 1e-9))
        usual = np.clip(
            np.nan_to_num(quantiles(np.abs(past - level) / scale, (TAIL,))[0], nan=USUAL[0]), *USUAL
        )
        refs: Sequence[F64] = [np.broadcast_to(level, now.shape)]
        before = _days_before(at, values, np.flatnonzero(during))
        refs = [*refs, before] if before is not None else refs
        off = np.fmax(now - np.fmax.reduce(refs), np.fmin.reduce(refs) - now) / scale
        z = np.nan_to_num(np.fmax.reduce(off, initial=-np.inf), nan=0.0, neginf=0.0)
        doublings = np.log2(np.maximum(z, 1e-9) / usual)
    return [Part(int(i), float(doublings[i])) for i in np.lexsort((np.arange(len(z)), -doublings))]


def _days_before(at: F64, values: F64, rows: I64) -> F64 | None:
    """The median of the same time on the days before; None when they are not known."""
    if len(at) < 2 or not len(rows):
        return None
    step = float(np.median(np.diff(at[-50:])))
    found = []
    for day in range(1, DAYS + 1):
        for shift in (-AROUND, 0.0, AROUND):
            back = rows - round(day * DAY / step) + int(shift / step)
            if back[0] >= 0:
                found.append(values[back].ravel())
    return median(np.stack(found)).reshape(len(rows), -1) if found else None


async def parts_of(
    source: Source,
    watches: Mapping[str, Watch],
    sizes: Mapping[str, int],
    entity: str,
    at: float,
    look: float,
) -> list[tuple[str, Part]]:
    """Which metrics of a service or machine belong to what was wrong with it before `at`, asked of Prometheus.

    `sizes` says how many series each watch has; those of a watch that has none, or very many, are left out.
    """
    end = at // STEP * STEP
    start = end - (PAST + look) // STEP * STEP
    names: list[str] = []
    columns: list[F64] = []
    times: F64 = np.empty(0)
    for watch in watches.values():
        if not watch.told or not 0 < sizes.get(watch.name, 0) <= LARGE:
            continue
        found = await source.range(watch.query, Instant(start), Instant(end), STEP)
        for key, column in zip(found.keys, found.values.T, strict=True):
            where = place(watch, dict(series.labels(key)))
            if where is not None and where.entity == entity:
                names.append(named(watch))
                columns.append(column)
                times = found.at
    if not columns:
        return []
    values = np.stack(columns, 1)
    # in a thread: of many series it takes a while, for which no alert must wait
    found_parts = await asyncio.to_thread(attribute, times, values, at - max(look, 2 * STEP), end)
    return [(names[part.column], part) for part in found_parts if part.doublings > 0]
