"""Explains alerts: one diagnosis for all of an incident, what was alike, and what chance scores while nothing fires."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from sidecar.alerts import kept, narrate
from sidecar.alerts.diagnose import LOAD, NONE, Diagnosis, by_chance, diagnose
from sidecar.alerts.evidence import Evidence, evidence
from sidecar.alerts.explain import RECENT, Changed, Explanation, Whose, explain
from sidecar.alerts.incidents import Incident, Incidents
from sidecar.alerts.knowledge import Pattern
from sidecar.alerts.times import resolved
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Candidates, Finding, Instant, JsonObject, Labels

FRESH = 15.0
"""Seconds for which a diagnosis is good: for all alerts of its incident."""
LEAST = 1 / 60
"""Requests per second below which latency and errors of a service say nothing."""
PATIENCE = 300.0
"""Seconds for which an alert without a cause is looked at again and again."""
SURER = 0.9
"""Of the probability of before, that a later explanation must have to take its place."""
AT_ONCE = 40
"""Diagnoses in `FRESH` seconds; beyond it the one for no alert in particular has to do."""
QUIET, RARE = 144, 0.97
"""Diagnoses of nothing that tell what chance scores here, and the share of them that must blame nobody."""
NONES = (1.25, 6.0)
"""Bounds of that."""
ALIKE, KEPT = 3, 500
"""Earlier incidents that are told of, and that are kept."""
NAMED = 50
"""Incidents that a metric names at once."""


class Before(NamedTuple):
    """An incident that is over."""

    id: str
    at: Instant
    alertname: str
    pattern: str
    cause: str
    ended: str


class Going(NamedTuple):
    """An incident that is open."""

    id: str
    began: Instant
    firing: tuple[Labels, ...]
    """Its alerts that fire, the first to come first."""
    fingerprints: frozenset[str]
    """Of all its alerts."""
    said: Explanation | None
    """The surest explanation that was found."""


class Evidences(Protocol):
    """Series of the last minutes."""

    def candidates(self, since: float) -> Candidates: ...


class Knows(Protocol):
    """What is known of series now."""

    def near(self, labels: Labels, limit: int) -> Sequence[Finding]: ...
    def one(self, watch: str, key: bytes) -> Finding | None: ...


def _look(least: float, hold: float) -> float:
    """Seconds before an alert that may be bad: as long as its rule waits, and a minute; of few lengths."""
    return max(least, math.ceil((hold + 60.0) / 120.0) * 120.0)


class _Kept(NamedTuple):
    """Candidates, the evidence in them, and what was said of them."""

    at: Instant
    c: Candidates
    ev: Evidence
    done: dict[tuple[Whose | None, bool], tuple[Diagnosis, Explanation]]


class Explainer:
    """`explainer(alert, now)` in the thread of enrichment, one call at a time."""

    def __init__(
        self,
        evidences: Evidences,
        knows: Knows,
        whose: Callable[[Labels, Finding | None], Whose | None],
        telemetry: Telemetry,
    ) -> None:
        """`whose` reads from an alert's labels, or those of its series, which service it is about."""
        self._evidences, self._knows, self._whose = evidences, knows, whose
        self._telemetry = telemetry
        self.incidents = Incidents()
        self.patterns: Sequence[Pattern] = ()
        self.look = 240.0
        self.none: float | None = None
        """Score that chance gives the best of ten services here; None: what it was in the study."""
        self.changed: list[Changed] = []
        self.before: list[Before] = []
        self.logs: dict[str, tuple[Instant, tuple[str, ...]]] = {}
        """When and what the logs of services that were blamed said."""
        self.again_after = 30.0
        """Seconds after an alert was first explained until it is worth a second look: two scrapes."""
        self._looks: dict[Labels, tuple[Instant, float]] = {}
        """When an alert was first explained, and after how many seconds it is looked at again."""
        self._chances: deque[float] = deque(maxlen=7 * QUIET)
        self._kept: dict[float, _Kept] = {}
        """By how far back is looked."""
        self._neighbours: dict[str, set[str]] = {}
        self._best: dict[tuple[str, Whose], tuple[float, Explanation]] = {}
        """How sure the explanation of a target in an incident is."""
        self._journalled: dict[tuple[str, Whose], kept.Stamp] = {}
        """What of it the journal has."""
        self._named: set[tuple[str, str, str]] = set()
        """Incidents that a metric names now."""
        self._lock = Lock()

    def __call__(
        self, alert: Alert, now: Instant, near: Sequence[Finding] | None = None
    ) -> Explanation | None:
        """What explains an alert that fires; None when nothing is known of whose it is, or it is over.

        `near` are its series, where they were looked up already.
        """
        found = self._knows.near(alert.labels, 1) if near is None else near
        finding = found[0] if found else None
        if resolved(alert, now):
            with self._lock:
                self.incidents.resolved(alert.labels, now)
                self._looks.pop(alert.labels, None)
            return None
        target = self._whose(alert.labels, finding)
        if target is None:
            with self._lock:
                self.incidents.again(alert, now)
            return self.told(alert, now)  # right after a restart not even its series are known
        hold = max((breach.hold for breach in finding.breaches), default=0.0) if finding else 0.0
        with self._lock:
            odd = finding is not None and finding.score >= 1
            diagnosis, said = self._explained(target, now, _look(self.look, hold), odd)
            blamed = diagnosis.causes[0].entity.removeprefix(LOAD) if diagnosis.found else ""
            incident = self.incidents.join(alert, now, (target[0], blamed), self._neighbours)
            self._looks.setdefault(alert.labels, (now, self.again_after))
            said = self._surest(incident.id, target, diagnosis, said)
            if diagnosis.found:
                incident.pattern, incident.cause = said.pattern or incident.pattern, said.blamed
            self._count()
        return self._whole(said, incident, alert, now)

    def _whole(self, said: Explanation, incident: Incident, alert: Alert, now: Instant) -> Explanation:
        """With what is of the incident: those that were alike, and the log of who is blamed."""
        alike = self.alike(incident.alertname, said.pattern, incident.id)
        at, logs = self.logs.get(said.blamed, (now, ()))
        logs = logs if now - at <= RECENT else ()
        what = alert.label("alertname")
        return msgspec.structs.replace(said, what=what, incident=incident.id, similar=alike, logs=logs)

    def told(self, alert: Alert, now: Instant) -> Explanation | None:
        """What was said of an alert while its incident is open, if anything; nothing is diagnosed for it."""
        with self._lock:
            incident = self.incidents.of(alert.labels)
            said = self._said(incident.id) if incident else None
        return self._whole(said, incident, alert, now) if said and incident else None

    def going(self) -> list[Going]:
        """The incidents that are open, the newest first."""
        with self._lock:
            found = [
                Going(one.id, one.began, tuple(one.alerts), frozenset(one.fingerprints), self._said(one.id))
                for one in self.incidents.open
            ]
        return sorted(found, key=lambda one: (not one.firing, -one.began))

    def _said(self, incident: str) -> Explanation | None:
        found = (best for (id, _), best in self._best.items() if id == incident)
        return max(found, key=lambda best: best[0], default=(0.0, None))[1]

    def _surest(self, incident: str, target: Whose, found: Diagnosis, said: Explanation) -> Explanation:
        """What an incident is explained by: what was surest, since a fault that stays soon looks like the usual."""
        sure = found.causes[0].probability if found.found else 0.0
        before, best = self._best.get((incident, target), (0.0, said))
        if sure >= SURER * before:
            self._best[incident, target] = sure, said
            return said
        return best

    def news(self) -> list[kept.Told]:
        """What is explained otherwise, or more surely, than the journal has it; `noted` when it has."""
        with self._lock:
            open_now = {one.id: one for one in self.incidents.open}
            told = [
                kept.Told(open_now[id], about, sure, said)
                for (id, about), (sure, said) in self._best.items()
                if id in open_now and said.blamed
            ]
            return [one for one in told if kept.Stamp.of(one).worth(self._journalled.get(_key(one)))]

    def noted(self, told: kept.Told) -> None:
        """The journal has it."""
        self._journalled[_key(told)] = kept.Stamp.of(told)

    def recall(self, told: Iterable[kept.Told]) -> None:
        """Go on with incidents from before a restart: nothing else knows by now what they looked like."""
        with self._lock:
            for one in told:
                self.incidents.recall(one.incident)
                self._best.setdefault(_key(one), (one.sure, one.said))
                self.noted(one)
            self._count()

    def suspects(self) -> dict[str, Instant]:
        """Services and machines that are part of what is going on, and those beside them: since when."""
        with self._lock:
            out: dict[str, Instant] = {}
            for incident in self.incidents.open:
                beside = (self._neighbours.get(one, ()) for one in incident.entities)
                for entity in incident.entities.union(*beside):
                    out[entity] = min(out.get(entity, incident.began), incident.began)
        return out

    def blamed(self, labels: Labels) -> str:
        """The likeliest cause of the incident that an alert belongs to, empty when there is none."""
        with self._lock:
            incident = self.incidents.of(labels)
        return incident.cause if incident else ""

    def pattern(self, labels: Labels) -> str:
        """The pattern of failure recognised in the incident that an alert belongs to, empty when there is none."""
        with self._lock:
            incident = self.incidents.of(labels)
        return incident.pattern if incident else ""

    def of(self, entity: str, kind: str, now: Instant) -> Explanation:
        """What is wrong with a service, whether it alerts or not."""
        with self._lock:
            _, said = self._explained((entity, kind), now, self.look)
        return msgspec.structs.replace(said, similar=self.alike("", said.pattern))

    def again(self, now: Instant) -> list[Labels]:
        """Alerts of which more is known now than when they were last explained.

        After two scrapes, and then after twice as long each time, until a cause was found or `PATIENCE` is over.
        """
        with self._lock:
            due = [one for one, (at, wait) in self._looks.items() if now - at >= wait]
            for one in due:
                at, wait = self._looks[one]
                incident = self.incidents.of(one)
                found = incident is not None and incident.cause
                self._looks[one] = at, math.inf if found or wait > PATIENCE else 2 * wait
        return due

    def rehearse(self, now: Instant) -> bool:
        """Diagnose while nothing fires: what is found is chance, which scores that much. Whether it was quiet."""
        with self._lock:
            if self.incidents:
                return False
        c = self._evidences.candidates(now - self.look)
        if not c.entities:
            return False
        found = diagnose(c, None, LEAST)
        self._chances.append(by_chance(found))
        if len(self._chances) >= QUIET:
            self.none = min(max(float(np.quantile(self._chances, RARE)), NONES[0]), NONES[1])
        return True

    def over(self, now: Instant) -> list[Incident]:
        """Incidents that have ended since this was asked last; to be told with `remember`."""
        with self._lock:
            ended = self.incidents.ended(now)
            self._count()
            gone = {labels for one in ended for labels in one.alerts}
            ids = {one.id for one in ended}
            self._best = {key: best for key, best in self._best.items() if key[0] not in ids}
            self._journalled = {key: of for key, of in self._journalled.items() if key[0] not in ids}
            self.logs = {one: said for one, said in self.logs.items() if now - said[0] <= RECENT}
            self._looks = {labels: look for labels, look in self._looks.items() if labels not in gone}
            return ended

    def _count(self) -> None:
        """Tell the metrics: all are counted, the newest named, so that a storm makes no flood of series."""
        open_now = self.incidents.open
        self._telemetry.incidents.set(len(open_now))
        named = {(one.id, one.alertname, one.cause) for one in open_now[-NAMED:]}
        for gone in self._named - named:
            self._telemetry.incident_info.remove(*gone)
        for new in named - self._named:
            self._telemetry.incident_info.labels(*new).set(1)
        self._named = named

    def remember(self, incident: Incident, words: str) -> JsonObject:
        """Keep one that ended for later, and the fact of it."""
        fact = ended(incident, words)
        self.before = [*self.before, *recalled([fact])][-KEPT:]
        return fact

    def alike(self, alertname: str, pattern: str, but: str = "") -> tuple[str, ...]:
        """Earlier incidents that began with the same alert, or had the same pattern, the newest first."""
        mine = [
            one
            for one in self.before
            if one.id != but and (one.alertname == alertname or (pattern and one.pattern == pattern))
        ]
        mine.sort(key=lambda one: (one.pattern != pattern or one.alertname != alertname, -one.at))
        return tuple(_before(one) for one in mine[:ALIKE])

    def _explained(
        self, target: Whose, now: Instant, look: float, odd: bool = False
    ) -> tuple[Diagnosis, Explanation]:
        kept = self._kept.get(look)
        if kept is None or not 0 <= now - kept.at < FRESH:
            c = self._evidences.candidates(now - look)
            kept = self._kept[look] = _Kept(now, c, evidence(c), {})
            self._kept = {one: of for one, of in self._kept.items() if 0 <= now - of.at < FRESH}
            self._neighbours = neighbours(c)
        many = len(kept.done) >= AT_ONCE and (target, odd) not in kept.done
        key: tuple[Whose | None, bool] = (None, False) if many else (target, odd)
        if key not in kept.done:
            with self._telemetry.diagnosis_duration.time():
                none = NONE if self.none is None else self.none
                found = diagnose(kept.c, key[0], LEAST, none, odd, kept.ev)
                said = explain(
                    kept.c,
                    kept.ev,
                    key[0],
                    now,
                    found,
                    patterns=self.patterns,
                    changed=tuple(self.changed),
                    finding=self._knows.one,
                    what=target[0],
                )
            self._telemetry.diagnoses.labels("cause" if found.found else "none").inc()
            kept.done[key] = found, said
        return kept.done[key]


def _key(told: kept.Told) -> tuple[str, Whose]:
    return told.incident.id, told.about


def neighbours(c: Candidates) -> dict[str, set[str]]:
    """Who calls whom or runs where, both ways."""
    out: dict[str, set[str]] = {}
    edges = (entity.partition("->") for entity in c.entities)
    for one, other in {*c.calls, *c.hosts, *((a, b) for a, arrow, b in edges if arrow)}:
        out.setdefault(one, set()).add(other)
        out.setdefault(other, set()).add(one)
    return out


def _before(one: Before) -> str:
    day = narrate.clock(one.at, Instant(one.at + 7 * 86400))
    pattern = f": {one.pattern} of {one.cause}" if one.pattern else ""
    return f"{day} {one.alertname}{pattern}; {one.ended}"


def recalled(facts: Iterable[Mapping[str, object]]) -> list[Before]:
    """Incidents that are over, as the journal has them."""
    return [
        Before(
            str(data["id"]),
            Instant(float(str(data["began"]))),
            str(data["alertname"]),
            str(data["pattern"]),
            str(data["cause"]),
            str(data["ended"]),
        )
        for data in facts
    ]


def ended(incident: Incident, words: str) -> JsonObject:
    """The fact of an incident that is over."""
    return {
        "id": incident.id,
        "began": incident.began,
        "alertname": incident.alertname,
        "pattern": incident.pattern,
        "cause": incident.cause,
        "ended": words,
    }
