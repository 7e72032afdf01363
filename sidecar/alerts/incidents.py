"""Which alerts are one incident: the same service or cause, or a call between them, at about the same time. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from sidecar.alerts.identity import fingerprint
from sidecar.alerts.times import instant
from sidecar.types import Alert, Instant, Labels

TOGETHER = 600.0
"""Seconds after the last news of an incident for which an alert may still join it."""


class Incident(msgspec.Struct):
    """Alerts that have one cause; its id is made of the first one, so that replicas agree."""

    id: str
    began: Instant
    last: Instant
    entities: set[str]
    """Services and machines that alert, or are blamed."""
    alerts: dict[Labels, Instant]
    """Those that fire, and when each was last heard of."""
    fingerprints: set[str]
    alertname: str = ""
    pattern: str = ""
    cause: str = ""
    recalled: Instant | None = None
    """When it was noted, where that was before a restart; `before`: alerts that belonged to it then."""
    before: frozenset[Labels] = frozenset()


class Incidents:
    """All that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Incident] = {}
        self._of: dict[Labels, str] = {}

    @property
    def open(self) -> list[Incident]:
        """Those that are not over."""
        return list(self._open.values())

    def __bool__(self) -> bool:
        return bool(self._open)

    def of(self, labels: Labels) -> Incident | None:
        """The incident that an alert belongs to."""
        return self._open.get(self._of.get(labels, ""))

    def recall(self, incident: Incident) -> None:
        """Go on with one from before a restart, unless it is known."""
        if incident.id not in self._open:
            self._open[incident.id] = incident
            for labels in incident.before:
                self._of.setdefault(labels, incident.id)

    def again(self, alert: Alert, now: Instant) -> Incident | None:
        """The incident of an alert that was heard of again; None where it has fired anew since a restart."""
        incident = self.of(alert.labels)
        if incident is None:
            return None
        if incident.recalled is not None and (instant(alert.starts_at) or now) > incident.recalled:
            del self._of[alert.labels]
            return None
        incident.last = max(incident.last, now)
        incident.alerts[alert.labels] = now
        return incident

    def join(
        self, alert: Alert, now: Instant, entities: Iterable[str], neighbours: Mapping[str, Iterable[str]]
    ) -> Incident:
        """The incident of an alert on (or for) these entities; a new one when it has nothing to do with those open."""
        mine = {entity for entity in entities if entity}
        incident = self.again(alert, now)
        if incident is None:
            around = mine.union(*(neighbours.get(one, ()) for one in mine))
            near = (
                one
                for one in self._open.values()
                if now - one.last <= TOGETHER
                and around & one.entities
                and (one.alerts or one.recalled is None)
            )
            incident = min(near, key=lambda one: (one.began, one.id), default=None)
        if incident is None:
            began = instant(alert.starts_at) or now
            name = f"{fingerprint(alert.labels)}/{alert.starts_at or ''}"
            id = hashlib.sha256(name.encode()).hexdigest()[:8]
            incident = Incident(id, began, now, set(), {}, set(), alert.label("alertname"))
            self._open[id] = incident
        incident.last = max(incident.last, now)
        incident.entities |= mine
        incident.alerts[alert.labels] = now
        incident.fingerprints.add(fingerprint(alert.labels))
        self._of[alert.labels] = incident.id
        return incident

    def resolved(self, labels: Labels, now: Instant) -> None:
        """An alert is over."""
        incident = self.of(labels)
        if incident is not None:
            incident.alerts.pop(labels, None)
            incident.last = max(incident.last, now)

    def ended(self, now: Instant) -> list[Incident]:
        """Take out those of which nothing fires, or was heard of, any more."""
        over = [
            one
            for one in self._open.values()
            if now - one.last > TOGETHER or (not one.alerts and now - one.last > TOGETHER / 2)
        ]
        for one in over:
            del self._open[one.id]
        gone = {one.id for one in over}
        self._of = {labels: id for labels, id in self._of.items() if id not in gone}
        return over
