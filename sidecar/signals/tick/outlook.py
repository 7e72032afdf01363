"""What models take into account beside a series' own past: events, deployments and other queries, then and ahead.

What is planned is known ahead: an event has its times, and what a deployment stirs up is taken to last as long as it
is believed less (changes.AFTER). Of a query nobody knows the future: its own forecast of the tick before is carried
on, or its last value where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sidecar.signals.detect import scales
from sidecar.signals.forecast.guestbook import SeriesId
from sidecar.signals.forecast.guests import Outlook
from sidecar.signals.ingest import changes
from sidecar.signals.ingest.matching import partners
from sidecar.signals.known.snapshot import FORECAST_OF
from sidecar.signals.learn.trust import Incident
from sidecar.signals.models import Array
from sidecar.signals.watch.calendar import Planned, Window
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, HORIZONS, I64, Bools, Instant

if TYPE_CHECKING:
    from sidecar.signals.tick.rows import Rows

EVENT, QUERY, DEPLOYED = "event:", "query:", "deployed"
LOOK = 7200.0  # seconds of events that are worked out at once


def concerns(event: Planned, watch: Watch, keys: Sequence[bytes]) -> I64:
    """Which of a watch's series an event is about."""
    return Incident(event.match or ((),), 0.0, 0.0).among(watch, keys)


def during(windows: Iterable[Window | tuple[float, float]], at: F64) -> F64:
    """1 in a window, else 0."""
    out = np.zeros(len(at))
    for start, end in windows:
        out[(at >= start) & (at < end)] = 1
    return out


def events(calendar: Iterable[Planned], watch: Watch, key: bytes, at: F64) -> dict[str, F64]:
    """The events that concerned a series at some of these times, by the name of their regressor."""
    found: dict[str, F64] = {}
    for event in calendar:
        column = during(event.between(Instant(at[0]), Instant(at[-1] + 1)), at)
        if column.any() and len(concerns(event, watch, [key])):
            name = EVENT + event.name
            found[name] = np.maximum(found.get(name, 0.0), column)
    return found


def named(watch: Watch, watches: Iterable[Watch]) -> dict[str, str]:
    """The regressors of a watch that are queries, and the watch that asks each."""
    by_query = {(one.query, one.step, one.tz): one.name for one in watches}
    asked = ((query, by_query.get((query, watch.step, watch.tz))) for query in watch.regressors)
    return {QUERY + query: name for query, name in asked if name is not None}


class Outlooks:
    """The regressors of the seats of one engine, tick by tick."""

    def __init__(self) -> None:
        self._known: tuple[object, ...] = ()
        self._calendar: tuple[tuple[Planned, ...], float, float] = ((), 0.0, 0.0)
        self._windows: dict[str, list[Window]] = {}
        self._seats: dict[str, Bools] = {}
        """Whom each event concerns."""
        self._rows: dict[str, I64] = {}
        """Of each query, the row of each seat's partner."""
        self._ahead: dict[str, F64] = {}
        """And what was said of it at the tick before f64[horizons, seats]."""

    def ahead(
        self, rows: Rows, at: float, values: F64, names: tuple[str, ...], calendar: tuple[Planned, ...]
    ) -> Outlook:
        """All of these regressors, from all rows' values f64[rows]."""
        who = list(rows.guests.parties)
        self._follow(rows, who, names, calendar)
        if not self._calendar[1] <= at < self._calendar[2] or self._calendar[0] is not calendar:
            self._calendar = calendar, at - LOOK, at + LOOK
            self._windows = {}
            for event in calendar:
                mine = event.between(Instant(at - LOOK), Instant(at + 2 * LOOK))
                self._windows.setdefault(EVENT + event.name, []).extend(mine)
        times = np.array([at, *(at + horizon for _, horizon in HORIZONS)])
        x = np.zeros((len(times), len(who), len(names)))
        for i, name in enumerate(names):
            if name in self._seats:
                x[:, :, i] = during(self._windows.get(name, ()), times)[:, None] * self._seats[name]
            elif name in self._rows:
                now = np.append(values, np.nan)[self._rows[name]]
                x[0, :, i] = now
                said = self._ahead.get(name)
                x[1:, :, i] = now if said is None else np.where(np.isfinite(said), said, now)
            elif name == DEPLOYED:
                x[:, :, i] = _recent(rows, times)
            elif name.startswith(QUERY):
                x[:, :, i] = np.nan  # it is not asked any longer
        return Outlook(names, x)

    def note(self, columns: Mapping[str, Array]) -> None:
        """Keep what is said of queries now, before they are made silent."""
        for name, rows in self._rows.items():
            said = np.stack([np.append(columns[f], np.nan)[rows] for f in FORECAST_OF.values()])
            self._ahead[name] = said

    def _follow(
        self, rows: Rows, who: Sequence[SeriesId], names: tuple[str, ...], calendar: tuple[Planned, ...]
    ) -> None:
        view = rows.table.view()
        known = view, rows.watches, calendar, names, tuple(who)
        if known == self._known:
            return
        self._known = known
        self._seats, self._rows, self._ahead = {}, {}, {}
        for event in calendar:
            name = EVENT + event.name
            if name in names:
                mask = self._seats.setdefault(name, np.zeros(len(who), bool))
                for i, (watch, key) in enumerate(who):
                    if watch in rows.watches and len(concerns(event, rows.watches[watch], [key])):
                        mask[i] = True
        for watch in dict.fromkeys(watch for watch, _ in who):
            mine = [i for i, (of, _) in enumerate(who) if of == watch]
            asked = named(rows.watches[watch], rows.watches.values()) if watch in rows.watches else {}
            for name, other in asked.items():
                if name in names:
                    there = list(view.rows.get(other, ()))
                    keys = [view.keys[row] or b"{}" for row in there]
                    found = np.array(partners([who[i][1] for i in mine], keys) if keys else [-1] * len(mine))
                    place = self._rows.setdefault(name, np.full(len(who), -1))
                    place[mine] = np.where(found >= 0, np.array(there or [0])[found], -1)


def _recent(rows: Rows, times: F64) -> F64:
    """Whether each seat's workload was deployed lately, f64[times, seats]."""
    out = np.zeros((len(times), len(rows.guests.rows)))
    for lo, hi, block in rows.spans():
        mine = np.flatnonzero((rows.guests.rows >= lo) & (rows.guests.rows < hi))
        since = times[:, None] - block.life.changed[rows.guests.rows[mine] - lo]
        out[:, mine] = (since >= 0) & (since < changes.AFTER)
    return out


def seen(values: F64, watches: Sequence[Watch]) -> F64:
    """Values f64[seats] as the rows of their watches see them."""
    return scales.there(values, np.array([watch.unit for watch in watches], np.float32))
