"""An alert, or any service, explained: one diagnosis per incident, its pattern, outlook, next steps, what was alike."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from sidecar.alerts import because, narrate
from sidecar.alerts.diagnose import LOAD, NONE, RESOURCES, Diagnosis, by_chance, diagnose
from sidecar.alerts.evidence import evidence
from sidecar.alerts.incidents import Incident, Incidents
from sidecar.alerts.knowledge import Pattern, Seen, filled, recognised
from sidecar.alerts.times import ends
from sidecar.types import Alert, Candidates, Finding, Instant, JsonObject, Labels

FRESH = 15.0
"""Seconds for which a diagnosis is good: for all alerts of its incident."""
LEAST = 1 / 60
"""Requests per second below which latency and errors of a service say nothing."""
RECENT = 3600.0
"""Seconds for which a deployment may be what changed."""
PATIENCE = 300.0
"""Seconds for which an alert without a cause is looked at again and again."""
AT_ONCE = 40
"""Diagnoses in `FRESH` seconds; beyond it the one for no alert in particular has to do."""
QUIET, RARE = 144, 0.97
"""Diagnoses of nothing that tell what chance scores here, and the share of them that must blame nobody."""
NONES = (1.25, 6.0)
"""Bounds of that."""
ALIKE, KEPT = 3, 500
"""Earlier incidents that are told of, and that are kept."""
Whose = tuple[str, str]
"""A service or machine, and the kind of the series that an alert is about."""


class Changed(NamedTuple):
    """A service that was deployed."""

    entity: str
    at: Instant


class Before(NamedTuple):
    """An incident that is over."""

    id: str
    at: Instant
    alertname: str
    pattern: str
    cause: str
    ended: str


class Evidences(Protocol):
    """Series of the last minutes."""

    def candidates(self, since: float) -> Candidates: ...


class Knows(Protocol):
    """What is known of series now."""

    def near(self, labels: Labels, limit: int) -> Sequence[Finding]: ...
    def one(self, watch: str, key: bytes) -> Finding | None: ...


class Said(msgspec.Struct, frozen=True):
    """One cause in words."""

    entity: str
    kind: str
    words: str
    likelihood: str
    probability: float


class Steps(msgspec.Struct, frozen=True):
    """What to do."""

    now: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class Metric(msgspec.Struct, frozen=True):
    """A metric of the blamed service or machine, and the probability that it belongs to what is wrong."""

    name: str
    probability: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is said of an alert or a service, the parts of `/api/v1/explain`."""

    what: str
    causes: tuple[Said, ...]
    none_likelihood: float
    summary: str
    """The causes in one or two sentences."""
    pattern: str = ""
    outlook: str = ""
    next_steps: Steps = Steps()
    changes: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    incident: str = ""

    @property
    def blamed(self) -> str:
        """The service or machine that is the likeliest cause, empty when there is none."""
        found = self.causes and self.causes[0].probability > self.none_likelihood
        return self.causes[0].entity.removeprefix(LOAD) if found else ""


def explain(
    c: Candidates,
    target: Whose | None,
    now: Instant,
    found: Diagnosis,
    *,
    patterns: Sequence[Pattern],
    changed: Sequence[Changed] = (),
    finding: Callable[[str, bytes], Finding | None] = lambda watch, key: None,
    what: str = "",
) -> Explanation:
    """Put into words what was `found` to explain what is wrong with `target`, from these candidates."""
    ev = evidence(c)
    listed = [cause for cause in found.causes if cause.probability >= 0.01][:5]
    sentences = [because.told(cause, c, ev, now) for cause in listed]
    causes = tuple(
        Said(cause.entity, because.leading(cause).kind, words, cause.likelihood, round(cause.probability, 3))
        for cause, words in zip(listed, sentences, strict=True)
    )
    involved = {target[0] if target else "", *(cause.entity for cause in listed[:3])}
    recent = sorted({one for one in changed if one.entity in involved and 0 <= now - one.at <= RECENT})
    base = Explanation(
        what=what,
        causes=causes,
        none_likelihood=round(found.none, 3),
        summary=because.listed(found, "", sentences),
        changes=tuple(_deployed(one, now) for one in recent),
    )
    if not found.found:
        return base
    first = found.causes[0]
    reason = because.leading(first)
    entity = first.entity.removeprefix(LOAD)
    seen = Seen(
        reason.kind,
        c.names[reason.series] if reason.series >= 0 else "",
        entity,
        any(one.entity == entity for one in recent),
        target is not None and target[0] != entity,
        frozenset(r.kind for r in first.reasons if r.weight > 0.1),
    )
    pattern = recognised(patterns, seen)
    series = finding(*c.ids[reason.series]) if c.ids and reason.series >= 0 else None
    outlook = (
        _outlook(series, seen.metric, reason.kind, because.slope(c, reason.series))
        if series is not None
        else ""
    )
    if pattern is None:
        return msgspec.structs.replace(base, outlook=outlook)
    parts = {"cause": entity, "metric": seen.metric, "alert": target[0] if target else entity}
    return msgspec.structs.replace(
        base,
        summary=because.listed(found, filled(pattern.says, parts), sentences),
        pattern=pattern.pattern,
        outlook=outlook,
        next_steps=Steps(
            tuple(filled(text, parts) for text in pattern.now),
            tuple(filled(text, parts) for text in pattern.later),
        ),
    )


def _outlook(series: Finding, metric: str, kind: str, slope: float) -> str:
    end = because.exhaustion(series, slope) if kind in RESOURCES else ""
    if end:
        return f"If nobody acts: {metric} is at {because.amount(kind, series.observed)}, {end}."
    return narrate.outlook(series, "")


def _deployed(one: Changed, now: Instant) -> str:
    return f"{one.entity} was deployed at {narrate.clock(one.at, now)} ({narrate.age(now - one.at)} ago)"


class Explainer:
    """`explainer(alert, now)` in the thread of enrichment, one call at a time."""

    def __init__(
        self,
        evidences: Evidences,
        knows: Knows,
        whose: Callable[[Labels, Finding | None], Whose | None],
    ) -> None:
        """`whose` reads from an alert's labels, or those of its series, which service it is about."""
        self._evidences, self._knows, self._whose = evidences, knows, whose
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
        self._kept: tuple[float, float, Candidates] | None = None
        self._done: dict[tuple[Whose | None, bool], tuple[Diagnosis, Explanation]] = {}
        self._neighbours: dict[str, set[str]] = {}
        self._lock = Lock()

    def __call__(self, alert: Alert, now: Instant) -> Explanation | None:
        """What explains an alert that fires; None when nothing is known of whose it is, or it is over."""
        found = self._knows.near(alert.labels, 1)
        finding = found[0] if found else None
        end = ends(alert)
        if end is not None and end <= now:
            with self._lock:
                self.incidents.resolved(alert.labels, now)
                self._looks.pop(alert.labels, None)
            return None
        target = self._whose(alert.labels, finding)
        if target is None:
            return None
        hold = max((breach.hold for breach in finding.breaches), default=0.0) if finding else 0.0
        with self._lock:
            odd = finding is not None and finding.score >= 1
            diagnosis, said = self._explained(target, now, max(self.look, hold + 60.0), odd)
            blamed = diagnosis.causes[0].entity.removeprefix(LOAD) if diagnosis.found else ""
            incident = self.incidents.join(alert, now, (target[0], blamed), self._neighbours)
            self._looks.setdefault(alert.labels, (now, self.again_after))
            if diagnosis.found:
                incident.pattern, incident.cause = said.pattern or incident.pattern, blamed
        alike = self.alike(incident.alertname, said.pattern, incident.id)
        at, logs = self.logs.get(said.blamed, (now, ()))
        logs = logs if now - at <= RECENT else ()
        what = alert.label("alertname")
        return msgspec.structs.replace(said, what=what, incident=incident.id, similar=alike, logs=logs)

    def blamed(self, labels: Labels) -> str:
        """The likeliest cause of the incident that an alert belongs to, empty when there is none."""
        with self._lock:
            incident = self.incidents.of(labels)
        return incident.cause if incident else ""

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
        found = diagnose(self._evidences.candidates(now - self.look), None, LEAST)
        self._chances.append(by_chance(found))
        if len(self._chances) >= QUIET:
            self.none = min(max(float(np.quantile(self._chances, RARE)), NONES[0]), NONES[1])
        return True

    def over(self, now: Instant) -> list[Incident]:
        """Incidents that have ended since this was asked last; to be told with `remember`."""
        with self._lock:
            ended = self.incidents.ended(now)
            gone = {labels for one in ended for labels in one.alerts}
            self.logs = {one: said for one, said in self.logs.items() if now - said[0] <= RECENT}
            self._looks = {labels: look for labels, look in self._looks.items() if labels not in gone}
            return ended

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
        if self._kept is None or self._kept[1] != look or not 0 <= now - self._kept[0] < FRESH:
            c = self._evidences.candidates(now - look)
            self._kept, self._done = (now, look, c), {}
            self._neighbours = neighbours(c)
        c = self._kept[2]
        many = len(self._done) >= AT_ONCE and (target, odd) not in self._done
        key: tuple[Whose | None, bool] = (None, False) if many else (target, odd)
        if key not in self._done:
            found = diagnose(c, key[0], LEAST, NONE if self.none is None else self.none, odd)
            said = explain(
                c,
                key[0],
                now,
                found,
                patterns=self.patterns,
                changed=tuple(self.changed),
                finding=self._knows.one,
                what=target[0],
            )
            self._done[key] = found, said
        return self._done[key]


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
