"""What must not be learned: rows under an alert or a silence, in a planned event, or said to be planned.

Such samples are scored and not learned. Under an alert or a silence that goes on only for a bounded time (`patience`):
then a row is learned again, and a lasting new normal accepted. An event has an end of its own, and what is odd in it
is no news: its scores stay below the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals import series
from sidecar.signals.block import Life
from sidecar.signals.calendar import Planned
from sidecar.signals.models import Array, f4
from sidecar.signals.selectors import Matcher, valid
from sidecar.signals.watches import Watch
from sidecar.types import F64, I64, Bools, Instant, Labels

REASONS = ("alert", "silence", "event", "feedback")
AHEAD = 7200.0  # seconds of events that are worked out at once
CALM = 0.99  # the most that a score says in a planned event
OURS = "promantis_kind"  # label of alerts on our own metrics, which stop no learning


class Doubt(NamedTuple):
    """Which rows are not to be learned now, bool[rows]."""

    suspect: Bools
    """Under an alert or a silence."""
    planned: Bools
    patience: float
    """Seconds after which a suspect row is learned again."""

    def trusted(self, life: Life, at: float, rows: slice) -> Bools:
        """Which rows of a block are learned; notes in `life` since when one is suspect without a break."""
        suspect = self.suspect[rows]
        if suspect.any() or not np.isnan(life.suspect).all():
            np.copyto(life.suspect, np.nan, where=~suspect)
            np.copyto(life.suspect, at, where=suspect & ~(life.suspect <= at))
        out: Bools = ~(suspect & ~(at - life.suspect >= self.patience)) & ~self.planned[rows]
        return out

    def calm(self, life: Life, out: Mapping[str, Array], rows: slice) -> None:
        """Keep what is said in a planned event below the threshold; `out` are columns of these rows."""
        quiet = np.flatnonzero(self.planned[rows])
        if len(quiet):
            life.since[quiet] = out["since"][quiet] = np.nan
            out["score"][quiet] = np.minimum(out["score"][quiet], f4(CALM))
            out["raw"][quiet] = np.minimum(out["raw"][quiet], f4(0))  # groups are made of it
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

    def among(self, watch: Watch, keys: Iterable[bytes]) -> I64:
        """Which of a watch's series fit."""
        more = [{"watch": watch.name}]
        for limit in watch.limits if self.of_alerts else ():
            said = {**dict(limit.labels), "alertname": limit.alertname, "severity": limit.severity}
            more.append({name: value for name, value in said.items() if value})
        # what the watch alone decides is decided once, and most series are told by a look at their bytes
        ways = [
            tuple(m for m in matchers if m.name not in extra)
            for extra in more
            for matchers in self.match
            if all(m.matches(extra) for m in matchers if m.name in extra)
        ]
        tests = [(rest, [m.part for m in rest if m.part]) for rest in ways]
        found = [i for i, key in enumerate(keys) if any(_fits(key, *test) for test in tests)]
        return np.array(found, np.int64)


def _fits(key: bytes, matchers: tuple[Matcher, ...], parts: Iterable[bytes]) -> bool:
    if not all(part in key for part in parts):
        return False
    labels = dict(series.labels(key)) if matchers else {}
    return all(matcher.matches(labels) for matcher in matchers)


class Silence(NamedTuple):
    """A silence of an Alertmanager."""

    match: tuple[Matcher, ...]
    start: float
    end: float


What = tuple[Labels, ...] | tuple[Incident, ...]


class _Mark:
    """Rows to which one of some alerts or incidents applies, worked out anew only for what changed."""

    def __init__(self) -> None:
        self._what: What = ()
        self._watches: Mapping[str, Watch] = {}
        self._view = series.View((), (), {})
        self._rows = np.zeros(0, bool)

    def of(self, what: What, view: series.View, watches: Mapping[str, Watch]) -> Bools:
        """The rows bool[len(view.keys)]."""
        same = what == self._what and watches is self._watches
        if same and view is self._view:
            return self._rows
        rows = np.zeros(len(view.keys), bool)
        groups: Mapping[str, Sequence[int]] = view.rows
        if same:
            kept = min(len(rows), len(self._rows))
            rows[:kept] = self._rows[:kept]
            groups = _changed(self._view, view) if what else {}
        for name, mine in groups.items() if what else ():
            numbers = np.array(mine, np.int64)
            rows[numbers] = False
            if name in watches:
                keys = [view.keys[row] or b"{}" for row in mine]
                for one in what:
                    if isinstance(one, Incident):
                        rows[numbers[one.among(watches[name], keys)]] = True
                alerts = [one for one in what if not isinstance(one, Incident)]
                rows[numbers[np.fromiter(_fired(watches[name], keys, alerts), np.int64)]] = True
        self._what, self._watches, self._view, self._rows = what, watches, view, rows
        return rows


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
        self._marks: dict[float, dict[str, _Mark]] = {}
        self._counts: dict[float, dict[str, int]] = {}

    # ------------------------------------------------------------------ told

    def fire(self, alerts: Iterable[Labels]) -> None:
        """The alerts that fire now."""
        self._alerts = tuple(sorted(one for one in alerts if all(name != OURS for name, _ in one)))

    def silence(self, silences: Iterable[Silence]) -> None:
        """The silences that are or will be."""
        known = (one for one in silences if all(valid(matcher) for matcher in one.match))
        self._silences = tuple(Incident((one.match,), one.start, one.end, True) for one in known)

    def plan(self, calendar: tuple[Planned, ...]) -> None:
        """The planned events."""
        self._calendar = calendar

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
        marks = self._marks.setdefault(step, {reason: _Mark() for reason in REASONS})
        going: dict[str, What] = {
            "alert": self._alerts,
            "silence": _now(self._silences, at),
            "event": _now(self._near(at), at),
            "feedback": _now(self._said, at),
        }
        found = {reason: marks[reason].of(what, view, watches) for reason, what in going.items()}
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
    old = (*before.keys, *[None] * (len(now.keys) - len(before.keys)))
    out: dict[str, list[int]] = {}
    for row, key in enumerate(now.keys):
        if key is not old[row] or (row < len(before.keys) and before.watch_of[row] != now.watch_of[row]):
            out.setdefault(now.watch_of[row], []).append(row)
    return out


def _fired(watch: Watch, keys: Iterable[bytes], alerts: Iterable[Labels]) -> Iterator[int]:
    """Which of a watch's series have an alert of its rules: every label is the alert's, save what the rule sets."""
    mine = [dict(one) for one in alerts if dict(one).get("alertname", "") in watch.alertnames]
    if not mine:
        return
    own = {"alertname"}.union(*({name for name, _ in limit.labels} for limit in watch.limits))
    own |= {"severity"} if any(limit.severity for limit in watch.limits) else set()
    firing: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for i, key in enumerate(keys):
        labels = {name: value for name, value in series.labels(key) if name not in own}
        names = tuple(labels)
        if names not in firing:
            firing[names] = {tuple(alert.get(name, "") for name in names) for alert in mine}
        if tuple(labels.values()) in firing[names]:
            yield i
