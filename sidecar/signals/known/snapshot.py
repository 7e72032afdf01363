"""What is known at one tick: columns by name, swapped whole; readers take no lock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.ingest import series
from sidecar.signals.ingest.alike import Alike, alike
from sidecar.signals.known import why
from sidecar.signals.known.ledger import Decided
from sidecar.signals.known.record import Kept
from sidecar.signals.models import Array
from sidecar.signals.watch.kinds import guess_unit
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import F32, F64, HORIZONS, I64, Breach, Finding, Forecast, Instant, Labels

VALUES = ("observed", "expected", "lower", "upper")
FORECAST_OF = {name: f"f{name[:-1]}" for name, _ in HORIZONS}
FORECASTS = tuple(f"{f}{kind}" for kind in ("", "_lower", "_upper") for f in FORECAST_OF.values())
COLUMNS: Mapping[str, type[np.generic]] = {
    **dict.fromkeys((*VALUES, *FORECASTS, "since"), np.float64),  # float32 would round a counter of 1e9 to 64
    **dict.fromkeys(("score", "confidence", "raw", "lately", "age", "why"), np.float32),
}


def blank(rows: int) -> tuple[dict[str, Array], F64]:
    """Columns of a tick, not filled yet, and the forecasts among them as one f64[9, rows]: values, lowers, uppers."""
    forecasts = np.empty((len(FORECASTS), rows))
    columns = {name: np.empty(rows, dtype) for name, dtype in COLUMNS.items() if name not in FORECASTS}
    return {**columns, **dict(zip(FORECASTS, forecasts, strict=True))}, forecasts


class LimitLines(NamedTuple):
    """One line per row and limit: which row, which of the watch's limits, and the odds."""

    row: I64
    """Ascending."""
    limit: Sequence[Limit]
    probability: F32
    """f32[3, lines] by horizon."""
    eta: F32
    soonest: F32
    """Between this and `latest` eight in ten of the crossings come that come within the hour."""
    latest: F32


class Members(NamedTuple):
    """Which rows are together: those of group g are `rows[starts[g] : starts[g + 1]]`."""

    names: tuple[tuple[str, str], ...] = ()
    """Of each group: `("group", its name)` or `("watch", its watch)`."""
    labels: tuple[Labels, ...] = ()
    """What its members share."""
    rows: I64 = np.empty(0, np.int64)
    starts: I64 = np.zeros(1, np.int64)

    @property
    def sizes(self) -> I64:
        """Members of each group."""
        return np.diff(self.starts)


class Groups(NamedTuple):
    """All groups of one engine at one tick."""

    of: Members = Members()
    raw: F32 = np.empty(0, np.float32)
    """Unclipped score of each group, with its members of other steps; NaN: no member is known."""
    top: F32 = np.empty((2, 0), np.float32)
    """Scores of the two oddest members of this step; NaN where there are not so many."""
    odd: F32 = np.empty(0, np.float32)
    """How odd each member of `of.rows` is: 0 when it is not."""

    @property
    def score(self) -> F32:
        """By group, as the score of a series: 0 is ordinary, 1 the threshold."""
        return np.maximum(self.raw, np.float32(0))


class Skill(NamedTuple):
    """Per watch and horizon: mean absolute error of ours and of three naive forecasts, and share inside the band."""

    loss: F32
    """f32[3, 4]: ours, last value, season, season with ten-minute shift."""
    covered: F32


class Member(NamedTuple):
    """A series of a group, and its share in what is odd there."""

    finding: Finding
    share: float


class Group(NamedTuple):
    """One group at one tick, for whoever explains it; `by` is `group` or `watch`, and `name` which."""

    by: str
    name: str
    labels: Labels
    at: Instant
    score: float
    size: int
    members: tuple[Member, ...]
    """Of the `size` series those that are odd."""


class Snapshot(NamedTuple):
    """All rows of one engine at one tick."""

    at: Instant
    step: float
    keys: Sequence[bytes | None]
    """Raw label object of each row; None where no series lives."""
    watch_of: Sequence[str]
    rows: Mapping[str, Sequence[int]]
    """Of each watch."""
    watches: Mapping[str, Watch]
    columns: Mapping[str, Array]
    limits: LimitLines
    skill: Mapping[str, Skill]
    groups: Groups = Groups()
    decided: Decided = Decided()
    """What became of announcements at this tick."""
    record: Kept = Kept()

    def rows_of(self, watch: str) -> Sequence[int]:
        """Rows of a watch."""
        return self.rows.get(watch, ())

    def finding(self, row: int) -> Finding:
        """One row in words' terms."""
        c = {name: float(column[row]) for name, column in self.columns.items()}
        key, watch = self.keys[row], self.watches[self.watch_of[row]]
        since = c["since"]
        return Finding(
            watch=watch.name,
            query=watch.query,
            kind=watch.kind,
            labels=series.labels(key) if key else (),
            at=self.at,
            observed=c["observed"],
            expected=c["expected"],
            lower=c["lower"],
            upper=c["upper"],
            score=c["score"],
            confidence=c["confidence"],
            since=None if math.isnan(since) else Instant(since),
            forecasts=tuple(
                Forecast(name, c[f], c[f"{f}_lower"], c[f"{f}_upper"])
                for name, f in FORECAST_OF.items()
                if not math.isnan(c[f])
            ),
            breaches=tuple(
                self.breach(line) for line in range(*self.limits.row.searchsorted((row, row + 1)))
            ),
            why=why.words(int(c["why"]), c["observed"] > c["expected"]) if c["score"] >= 1 else "",
            key=key or b"",
            unit=guess_unit(watch.name, watch.query, watch.kind),
        )

    def breach(self, line: int) -> Breach:
        """One line of the limit table."""
        limit = self.limits.limit[line]
        times = (float(column[line]) for column in self.limits[3:])
        eta, soonest, latest = (None if math.isnan(time) else time for time in times)
        chances = self.limits.probability[:, line]
        return Breach(
            alertname=limit.alertname,
            severity=limit.severity,
            op=limit.op,
            value=limit.value,
            hold=limit.hold,
            probability={
                name: float(p) for (name, _), p in zip(HORIZONS, chances, strict=True) if not math.isnan(p)
            },
            eta=eta,
            between=None if soonest is None or latest is None else (soonest, latest),
            also=limit.together,
        )


class Known:
    """The newest snapshot of every engine: what alerts, remedies and pages read."""

    def __init__(self, joint: Callable[[Snapshot, Mapping[float, Snapshot]], Snapshot] | None = None) -> None:
        """`joint` scores the groups of a new snapshot together with their members in those of other steps."""
        self.snapshots: Mapping[float, Snapshot] = {}
        self._joint = joint
        self._read: dict[tuple[float, str], tuple[Sequence[int], Sequence[bytes | None], Alike]] = {}

    def publish(self, snapshot: Snapshot) -> Snapshot:
        """Swap in a new snapshot of its engine, as it is given back."""
        snapshot = self._joint(snapshot, self.snapshots) if self._joint else snapshot
        self.snapshots = {**self.snapshots, snapshot.step: snapshot}
        return snapshot

    def amend(self, snapshot: Snapshot, groups: Groups) -> Snapshot | None:
        """Say something else of a snapshot's groups, if it is still the newest; None if not."""
        if self.snapshots.get(snapshot.step) is not snapshot:
            return None
        snapshot = snapshot._replace(groups=groups)
        self.snapshots = {**self.snapshots, snapshot.step: snapshot}
        return snapshot

    def retire(self, steps: Iterable[float]) -> None:
        """Forget engines that are no more."""
        gone = set(steps)
        self.snapshots = {step: s for step, s in self.snapshots.items() if step not in gone}
        self._read.clear()

    def near(self, labels: Labels, limit: int) -> list[Finding]:
        """The series that an alert is about: of its rule's watch, those that share most labels and differ in fewest.

        Replica, external and relabelled labels on the alert only fail to match; they do not exclude a series.
        """
        said = dict(labels)
        wanted = said.get("source_alertname") or said.get("alertname", "")
        ranked: list[tuple[int, float, int, Snapshot]] = []
        for snapshot in self.snapshots.values():
            mine = [w for w, watch in snapshot.watches.items() if wanted in watch.alertnames or wanted == w]
            group = said.get(
                "group", ""
            )  # an alert on our own metrics says which watch, or which group of them
            mine = mine or [w for w, watch in snapshot.watches.items() if group and watch.group == group]
            for name in mine or [said.get("watch", "")]:
                of = self._alike(snapshot, name)
                if not len(of.rows):
                    continue
                least, rows = of.nearest(labels)
                scores = snapshot.columns["score"][rows]
                if len(rows) > limit:
                    first = np.lexsort((rows, -np.nan_to_num(scores, nan=-1.0)))[:limit]
                    rows, scores = rows[first], scores[first]
                for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
                    ranked.append((least, 1.0 if math.isnan(score) else -score, row, snapshot))
        ranked.sort(key=lambda r: r[:3])
        return [snapshot.finding(row) for least, _, row, snapshot in ranked[:limit] if least == ranked[0][0]]

    def _alike(self, snapshot: Snapshot, watch: str) -> Alike:
        """The labels of a watch's series; read anew only when series came or went."""
        rows = snapshot.rows_of(watch)
        known = self._read.get((snapshot.step, watch))
        if known is None or known[0] is not rows or known[1] is not snapshot.keys:
            there = [(row, key) for row in rows if (key := snapshot.keys[row]) is not None]
            known = rows, snapshot.keys, alike([row for row, _ in there], [key for _, key in there])
            self._read[snapshot.step, watch] = known
        return known[2]

    def one(self, watch: str, key: bytes) -> Finding | None:
        """A series by its watch and key."""
        for snapshot in self.snapshots.values():
            for row in snapshot.rows_of(watch):
                if snapshot.keys[row] == key:
                    return snapshot.finding(row)
        return None

    def top(self, limit: int) -> list[Finding]:
        """The most anomalous of the series that have a score."""
        found: list[tuple[float, int, Snapshot]] = []
        for snapshot in self.snapshots.values():
            score = np.nan_to_num(snapshot.columns["score"], nan=-1.0)
            n = min(limit, len(score))
            rows = np.argpartition(-score, n - 1)[:n] if n else np.empty(0, np.int64)
            found += [(float(score[row]), int(row), snapshot) for row in rows if score[row] >= 0]
        found.sort(key=lambda f: (-f[0], f[1]))
        return [snapshot.finding(row) for _, row, snapshot in found[:limit]]

    def breaches(self, limit: int) -> list[Finding]:
        """Series whose limit is true or expected to be, the soonest first."""
        found: list[tuple[float, int, Snapshot]] = []
        for snapshot in self.snapshots.values():
            eta = snapshot.limits.eta
            lines = np.flatnonzero(~np.isnan(eta) & (np.nan_to_num(snapshot.limits.probability[2]) > 0.5))
            found += [(float(eta[i]), int(snapshot.limits.row[i]), snapshot) for i in lines]
        found.sort(key=lambda f: f[:2])
        return [snapshot.finding(row) for _, row, snapshot in found[:limit]]

    def groups(self, wanted: Callable[[Mapping[str, str]], bool], limit: int, members: int) -> list[Group]:
        """Groups whose labels (`watch` or `group` is one of them) pass a test, the oddest first."""
        parts: dict[tuple[tuple[str, str], Labels], list[tuple[Snapshot, int]]] = {}
        for snapshot in sorted(self.snapshots.values(), key=lambda s: -s.at):
            of = snapshot.groups.of
            for i, id in enumerate(zip(of.names, of.labels, strict=True)):
                if wanted({**dict(id[1]), id[0][0]: id[0][1]}):
                    parts.setdefault(id, []).append((snapshot, i))
        found = [(-float(of[0][0].groups.score[of[0][1]]), id, of) for id, of in parts.items()]
        found.sort(key=lambda f: (math.isnan(f[0]), f[:2]))
        return [_group(id, of, members) for _, id, of in found[:limit]]

    def watched(self) -> tuple[int, int, int]:
        """How many watches and series there are, and how many of the series have a score."""
        of = self.snapshots.values()
        return (
            sum(len(s.watches) for s in of),
            sum(len(s.keys) - s.keys.count(None) for s in of),
            sum(int(np.count_nonzero(np.isfinite(s.columns["score"]))) for s in of),
        )

    def skills(self) -> list[tuple[str, F32, F32]]:
        """Of each watch, by horizon: skill (1 - our error / the best naive one's) and coverage; NaN: not known yet."""
        found = {
            name: skill
            for s in self.snapshots.values()
            for name, skill in s.skill.items()
            if name in s.watches
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            return [
                (name, 1 - skill.loss[:, 0] / skill.loss[:, 1:].min(1), skill.covered)
                for name, skill in sorted(found.items())
            ]

    def confidence(self, labels: Labels) -> float | None:
        """Of the series that an alert is about; None when none is known."""
        found = [f.confidence for f in self.near(labels, 1) if not math.isnan(f.confidence)]
        return found[0] if found else None

    def probability(self, labels: Labels) -> float | None:
        """That a limit of the series that an alert is about is crossed within the hour; None: no forecast."""
        name = dict(labels).get("source_alertname")
        found = [
            max(breach.probability.values())
            for finding in self.near(labels, 1)
            for breach in finding.breaches
            if breach.probability and name in (None, breach.alertname)
        ]
        return max(found, default=None)

    def matching(self, wanted: Callable[[Mapping[str, str]], bool], limit: int) -> list[Finding]:
        """Series whose labels (`watch` is one of them) pass a test; of its `texts`, a key that lacks one cannot."""
        out: list[Finding] = []
        texts: Sequence[bytes] = getattr(wanted, "texts", ())
        for snapshot in self.snapshots.values():
            for row, key in enumerate(snapshot.keys):
                if len(out) >= limit:
                    return out
                if key is None or not all(text in key for text in texts):
                    continue
                if wanted({**dict(series.labels(key)), "watch": snapshot.watch_of[row]}):
                    out.append(snapshot.finding(row))
        return out


def _group(id: tuple[tuple[str, str], Labels], parts: Sequence[tuple[Snapshot, int]], most: int) -> Group:
    """A group in words' terms, from its parts at each step, the newest first, with up to `most` of its odd members."""
    odd: list[tuple[float, int, Snapshot]] = []
    size = 0
    for snapshot, number in parts:
        of = snapshot.groups.of
        s = slice(int(of.starts[number]), int(of.starts[number + 1]))
        size += s.stop - s.start
        pairs = zip(snapshot.groups.odd[s].tolist(), of.rows[s].tolist(), strict=True)
        odd += [(value, row, snapshot) for value, row in pairs if value > 0]
    whole = sum(value for value, _, _ in odd)
    odd.sort(key=lambda o: (-o[0], o[1]))
    newest, number = parts[0]
    return Group(
        *id[0],
        labels=id[1],
        at=newest.at,
        score=float(newest.groups.score[number]),
        size=size,
        members=tuple(Member(snapshot.finding(row), value / whole) for value, row, snapshot in odd[:most]),
    )
