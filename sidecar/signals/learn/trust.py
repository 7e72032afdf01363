"""What must not be learned: rows under an alert or a silence, in a planned event, or said to be planned.

Such samples are scored and not learned. Under an alert or a silence that goes on only for a bounded time (`patience`):
then a row is learned again, and a lasting new normal accepted. An event has an end of its own, and what is odd in it
is no news: its scores stay below the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import NamedTuple

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.detect.life import Life
from sidecar.signals.ingest import series
from sidecar.signals.models import Array, f4
from sidecar.signals.models.level import MISSED
from sidecar.signals.watch.calendar import Planned
from sidecar.signals.watch.selectors import Matcher, valid
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, OURS, Bools, Instant, Labels

REASONS = ("alert", "silence", "event", "feedback")
AHEAD = 7200.0  # seconds of events that are worked out at once
CALM = 0.99  # the most that a score says in a planned event


class Doubt(NamedTuple):
    """Which rows are not to be learned now, bool[rows]."""

    suspect: Bools
    """Under an alert or a silence."""
    planned: Bools
    patience: float
    """Seconds after which a suspect row is learned again."""

    def trusted(self, block: Block, at: float, rows: slice) -> Bools:
        """Which rows of a block are learned; notes there since when one has been in doubt without a break."""
        since, suspect, planned = block.life.doubted, self.suspect[rows], self.planned[rows]
        doubted, before = suspect | planned, ~np.isnan(since)
        if not (doubted.any() or before.any()):
            return ~doubted
        # after a while level and last value say nothing of what comes next
        back = before & ~doubted & (at - since > MISSED * block.step)
        np.copyto(block.level.missed, f4(MISSED + 1), where=back)
        np.copyto(since, np.nan, where=~doubted)
        np.copyto(since, at, where=doubted & ~(since <= at))
        out: Bools = ~(suspect & ~(at - since >= self.patience)) & ~planned
        return out

    def calm(self, life: Life, out: Mapping[str, Array], rows: slice) -> None:
        """Keep what is said in a planned event below the threshold; `out` are columns of these rows."""
        quiet = np.flatnonzero(self.planned[rows])
        if len(quiet):
            life.since[quiet] = out["since"][quiet] = np.nan
            out["score"][quiet] = np.minimum(out["score"][quiet], f4(CALM))
            for odd in (out["raw"], life.lately):  # groups are made of these
                odd[quiet] = np.minimum(odd[quiet], f4(0))
            out["confidence"][quiet] = np.minimum(out["confidence"][quiet], f4(0))


def none(rows: int) -> Doubt:
    """No doubt at all."""
    nothing = np.zeros(rows, bool)
    return Doubt(nothing, nothing, np.inf)


class Incident(NamedTuple):
    """A time in which some series are not to be learned."""

    match: tuple[tuple[Matcher, ...], ...]
    """They fit one of these; `watch` is a label too."""
    start: float
    end: float
    of_alerts: bool = False
    """Whether it is the alert that a series could raise that must fit: the labels of its rule count too."""

    def among(self, watch: Watch, keys: Sequence[bytes]) -> I64:
        """Which of a watch's series fit."""
        more = [{"watch": watch.name}]
        for limit in watch.limits if self.of_alerts else ():
            said = {**dict(limit.labels), "alertname": limit.alertname, "severity": limit.severity}
            more.append({name: value for name, value in said.items() if value})
        # what the watch alone decides is decided once
        ways = {
            tuple(m for m in matchers if m.name not in extra)
            for extra in more
            for matchers in self.match
            if all(m.matches(extra) for m in matchers if m.name in extra)
        }
        return np.array(sorted({i for way in ways for i in _fitting(keys, way)}), np.int64)


def _fitting(keys: Sequence[bytes], matchers: tuple[Matcher, ...]) -> Iterable[int]:
    """Which series fit all of these; most are told by a look at their bytes."""
    found: Iterable[int] = range(len(keys))
    for part in (m.part for m in matchers if m.part):
        found = [i for i in found if part in keys[i]]
    if hard := [m for m in matchers if not m.part]:
        found = [i for i in found if _all(hard, dict(series.labels(keys[i])))]
    return found


def _all(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)


class Silence(NamedTuple):
    """A silence of an Alertmanager."""

    match: tuple[Matcher, ...]
    start: float
    end: float


class Firing(NamedTuple):
    """Alerts that fire: the series of their rules are not to be learned."""

    alerts: tuple[Labels, ...]

    def among(self, watch: Watch, keys: Sequence[bytes]) -> I64:
        """Which of a watch's series have one of its rules: every label is the alert's, save what the rule sets."""
        mine = [said for said in map(dict, self.alerts) if said.get("alertname", "") in watch.alertnames]
        if not mine:
            return np.empty(0, np.int64)
        own = {"alertname"}.union(*({name for name, _ in limit.labels} for limit in watch.limits))
        own |= {"severity"} if any(limit.severity for limit in watch.limits) else set()
        firing: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        found = []
        for i, key in enumerate(keys):
            labels = {name: value for name, value in series.labels(key) if name not in own}
            names = tuple(labels)
            if names not in firing:
                firing[names] = {tuple(alert.get(name, "") for name in names) for alert in mine}
            if tuple(labels.values()) in firing[names]:
                found.append(i)
        return np.array(found, np.int64)


class _Mark:
    """Rows to which one of some incidents applies; worked out anew only for incidents and rows that are new."""

    def __init__(self) -> None:
        self._rows_of: dict[Incident | Firing, Bools] = {}
        self._watches: Mapping[str, Watch] = {}
        self._view = series.View((), (), {})
        self._rows = np.zeros(0, bool)

    def of(
        self,
        what: Sequence[Incident | Firing],
        view: series.View,
        watches: Mapping[str, Watch],
        changed: Mapping[str, Sequence[int]],
    ) -> Bools:
        """The rows bool[len(view.keys)]; `changed` are those of each watch that were others when last asked."""
        if watches is not self._watches:
            self._rows_of = {}
        elif view is self._view and list(self._rows_of) == list(what):
            return self._rows
        size = len(view.keys)
        known, self._rows_of = self._rows_of, {}
        for one in what:
            rows, anew = known.get(one), changed
            if rows is None:
                rows, anew = np.zeros(size, bool), view.rows
            elif view is not self._view:
                rows = np.concatenate([rows[:size], np.zeros(max(0, size - len(rows)), bool)])
            for name, mine in anew.items():
                numbers = np.array(mine, np.int64)
                rows[numbers] = False
                if name in watches:
                    rows[numbers[one.among(watches[name], [view.keys[row] or b"{}" for row in mine])]] = True
            self._rows_of[one] = rows
        self._watches, self._view = watches, view
        self._rows = np.logical_or.reduce([np.zeros(size, bool), *self._rows_of.values()])
        return self._rows


class Trust:
    """All that is going on; told by whoever looks, asked at each tick, from another thread."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._alerts: tuple[Labels, ...] = ()
        self._silences: tuple[Incident, ...] = ()
        self._said: tuple[Incident, ...] = ()
        self._calendar: tuple[Planned, ...] = ()
        self._events: tuple[tuple[Planned, ...], float, float, tuple[Incident, ...]] = ((), 0.0, 0.0, ())
        """Of which calendar, from when to when, and what is in it."""
        self._marks: dict[float, tuple[dict[str, _Mark], series.View]] = {}
        self._counts: dict[float, dict[str, int]] = {}

    # ------------------------------------------------------------------ told

    def fire(self, alerts: Iterable[Labels]) -> None:
        """The alerts that fire now."""
        # those on our own metrics stop no learning
        self._alerts = tuple(sorted(one for one in alerts if all(name != OURS for name, _ in one)))

    def silence(self, silences: Iterable[Silence]) -> None:
        """The silences that are or will be."""
        known = (one for one in silences if all(valid(matcher) for matcher in one.match))
        self._silences = tuple(Incident((one.match,), one.start, one.end, True) for one in known)

    def plan(self, calendar: tuple[Planned, ...]) -> None:
        """The planned events."""
        self._calendar = calendar

    @property
    def calendar(self) -> tuple[Planned, ...]:
        """The planned events."""
        return self._calendar

    def distrust(self, said: Iterable[Incident]) -> None:
        """What somebody says is out of its usual on purpose."""
        self._said = tuple(said)

    def retire(self, step: float) -> None:
        """Forget an engine that is no more."""
        self._marks.pop(step, None)
        self._counts.pop(step, None)

    # ------------------------------------------------------------------ asked

    def doubt(
        self, step: float, at: float, view: series.View, watches: Mapping[str, Watch], rows: int
    ) -> Doubt:
        """What must not be learned at a tick of the engine with this step; bool[rows]."""
        nobody = series.View((), (), {})
        marks, before = self._marks.get(step, ({reason: _Mark() for reason in REASONS}, nobody))
        self._marks[step] = marks, view
        changed = {} if view is before else _changed(before, view)
        going: dict[str, Sequence[Incident | Firing]] = {
            "alert": [Firing(self._alerts)] if self._alerts else [],
            "silence": _now(self._silences, at),
            "event": _now(self._near(at), at),
            "feedback": _now(self._said, at),
        }
        found = {reason: marks[reason].of(what, view, watches, changed) for reason, what in going.items()}
        self._counts[step] = {reason: int(mark.sum()) for reason, mark in found.items()}
        suspect, planned = np.zeros(rows, bool), np.zeros(rows, bool)
        suspect[: len(view.keys)] = found["alert"] | found["silence"]
        planned[: len(view.keys)] = found["event"] | found["feedback"]
        return Doubt(suspect, planned, self._patience)

    def past(self, at: F64, watches: Sequence[Watch], keys: Sequence[Sequence[bytes]]) -> Bools:
        """Which samples of some history lay in no planned event bool[times, series]; series of each watch in turn."""
        trust = np.ones((len(at), sum(map(len, keys))), bool)
        incidents = (*_planned(self._calendar, at[0], at[-1] + 1), *self._said) if len(at) else ()
        for one in incidents:
            when, lo = np.flatnonzero((at >= one.start) & (at < one.end)), 0
            for watch, mine in zip(watches, keys, strict=True) if len(when) else ():
                trust[np.ix_(when, lo + one.among(watch, mine))] = False
                lo += len(mine)
        return trust

    def counts(self) -> dict[str, int]:
        """Rows by what keeps them from being learned."""
        counts = list(self._counts.values())
        return {reason: sum(by[reason] for by in counts) for reason in REASONS}

    def _near(self, at: float) -> tuple[Incident, ...]:
        calendar, start, end, _ = self._events
        if calendar is not self._calendar or not start <= at < end:
            calendar, start, end = self._calendar, at - AHEAD, at + AHEAD
            self._events = calendar, start, end, tuple(_planned(calendar, start, end))
        return self._events[3]


def _now(incidents: Iterable[Incident], at: float) -> tuple[Incident, ...]:
    return tuple(one for one in incidents if one.start <= at < one.end)


def _planned(calendar: Iterable[Planned], start: float, end: float) -> Iterator[Incident]:
    for event in calendar:
        for window in event.between(Instant(start), Instant(end)):
            yield Incident(event.match or ((),), window.start, window.end)


def _changed(before: series.View, now: series.View) -> dict[str, list[int]]:
    """Rows that another series has, or none, by watch."""
    other = map(is_not, now.keys, (*before.keys, *[None] * (len(now.keys) - len(before.keys))))
    out: dict[str, list[int]] = {}
    for row in compress(count(), other):
        out.setdefault(now.watch_of[row], []).append(row)
    return out
