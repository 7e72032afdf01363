"""What was said of an incident that is open, as a fact, so that a restart does not forget it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from sidecar.alerts.explain import Explanation, Whose
from sidecar.alerts.identity import fingerprint
from sidecar.alerts.incidents import Incident
from sidecar.types import Instant, JsonObject, Labels, labels_of

MOST = 200
"""Alerts of an incident that are kept."""
SURER = 0.1
"""By which probability an explanation has to be surer to be written again."""


class Told(NamedTuple):
    """What was surest of a target in an incident."""

    incident: Incident
    about: Whose
    sure: float
    said: Explanation


def fact(told: Told) -> JsonObject:
    """As the journal has it."""
    incident = told.incident
    return {
        "id": incident.id,
        "began": incident.began,
        "alertname": incident.alertname,
        "entities": sorted(incident.entities),
        "alerts": [
            dict(labels) for labels in [*dict.fromkeys([*incident.alerts, *sorted(incident.before)])][:MOST]
        ],
        "pattern": incident.pattern,
        "cause": incident.cause,
        "about": list(told.about),
        "probability": round(told.sure, 3),
        "said": msgspec.to_builtins(told.said),
    }


class Stamp(NamedTuple):
    """What a fact says in short, to tell whether another is worth writing."""

    blamed: str
    pattern: str
    sure: float
    alerts: int

    @classmethod
    def of(cls, told: Told) -> Stamp:
        """Of what was said."""
        alerts = min(len(told.incident.fingerprints), MOST)
        return cls(told.said.blamed, told.said.pattern, told.sure, alerts)

    def worth(self, known: Stamp | None) -> bool:
        """Whether it says more than what is known: other words for the same do not.

        >>> one = Stamp("shop", "leak", 0.8, 1)
        >>> one.worth(None), one.worth(one), one._replace(sure=0.7).worth(one), one._replace(alerts=2).worth(one)
        (True, False, False, True)
        """
        if known is None or (self.blamed, self.pattern) != (known.blamed, known.pattern):
            return True
        return self.sure > known.sure + SURER or self.alerts > known.alerts


def recalled(facts: Iterable[tuple[Instant, Mapping[str, Any]]], now: Instant) -> list[Told]:
    """Incidents that no fact has ended, with what was said last; their alerts have to be heard of again.

    What cannot be read, of another version, is left out.
    """
    found: dict[tuple[str, Whose], Told] = {}
    incidents: dict[str, Incident] = {}
    for at, data in facts:
        try:
            said = msgspec.json.decode(msgspec.json.encode(data["said"]), type=Explanation)
            entity, kind = data["about"]
            incident = _incident(data, at, now)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError):
            continue
        incidents[incident.id] = incident
        found[incident.id, (entity, kind)] = Told(incident, (entity, kind), float(data["probability"]), said)
    return [told._replace(incident=incidents[told.incident.id]) for told in found.values()]


def _incident(data: Mapping[str, Any], at: Instant, now: Instant) -> Incident:
    labels: list[Labels] = [labels_of(one) for one in data["alerts"]]
    return Incident(
        str(data["id"]),
        Instant(float(data["began"])),
        now,
        set(data["entities"]),
        {},
        {fingerprint(one) for one in labels},
        str(data["alertname"]),
        str(data["pattern"]),
        str(data["cause"]),
        recalled=at,
        before=frozenset(labels),
    )
