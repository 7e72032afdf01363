"""What an action changed, against firings of the same alert in the past that got none. Pure.

An alert fires at the worst moment and would have got better anyway: so only such firings are compared that had
lasted as long as this one when it was acted on, by what became of them in the same time.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.remedy.case import Case, Fact
from sidecar.remedy.measure import MOST, Values, measured, ours
from sidecar.remedy.policy import RemedyConfig
from sidecar.types import F64, Instant, JsonObject, Labels, labels_of

FIRINGS = 20
"""Earlier firings that are looked at."""
LATE = 2 * 86400.0
"""Seconds after which a case is not compared any more."""
STACKS = 3
"""Cases of a policy from which its effect is told."""


class Firing(NamedTuple):
    """One firing of an alert, as Prometheus kept it; `ended` is infinite while it goes on."""

    labels: Labels
    began: float
    ended: float


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One firing beside the case it is compared for; a row of the regression."""

    case: str
    alert: str
    began: float
    treated: bool
    ended: bool
    """In time."""
    before: float | None = None
    after: float | None = None
    """Of what the verification compares; None where it was not there."""

    @property
    def move(self) -> float | None:
        """By how much it moved."""
        return None if self.before is None or self.after is None else self.after - self.before


class Due(NamedTuple):
    """A case that can be compared now."""

    case: Case
    at: Instant
    """When it was acted on."""
    within: float
    """Seconds in which an alert counts as ended."""
    took: float | None
    """Seconds until its values were measured again; None: they were not."""
    query: str | None
    """What is measured."""


def due(case: Case, facts: Iterable[Fact], policy: RemedyConfig | None, now: Instant) -> Due | None:
    """Whether a case is over, acted, not compared yet, and the time for its alert to end is over."""
    if case.open or case.acted_at is None or case.compared is not None or case.intent_at is None:
        return None
    found = list(facts)
    within = next((f.data.get("within") for f in reversed(found) if f.kind == "intent"), None)
    if within is None or not within <= now - case.intent_at <= within + LATE:
        return None
    measured_at = next((f.at for f in reversed(found) if f.kind == "effect.measured"), None)
    took = None if measured_at is None else measured_at - case.intent_at
    query = measured(policy.verify.query) if policy else None
    return Due(case, case.intent_at, float(within), took if query else None, query)


def step_of(within: float) -> float:
    """Seconds between two looks at whether an alert fired."""
    return min(60.0, max(15.0, within // 4))


def selector(alert: Labels, *, own: bool = False) -> str:
    """All firings of an alert's rule, or its `own` only: those with no other value in a label that both have.

    >>> selector((("alertname", "Pool"), ("pool", "db.1")))
    'ALERTS{alertstate="firing",alertname="Pool"}'
    >>> selector((("alertname", "Pool"), ("pool", "db.1")), own=True)
    'ALERTS{alertstate="firing",alertname="Pool",pool=~"db\\\\\\\\.1|"}'
    """
    parts = [f"alertname={json.dumps(dict(alert).get('alertname', ''), ensure_ascii=False)}"]
    if own:
        rest = ((name, f"{re.escape(text)}|") for name, text in alert if name != "alertname")
        parts += [f"{name}=~{json.dumps(text, ensure_ascii=False)}" for name, text in rest]
    return f'ALERTS{{alertstate="firing",{",".join(parts)}}}'


def firings(seen: Mapping[Labels, F64], step: float, end: float) -> list[Firing]:
    """Firings out of the times f64[n] at which each alert was seen to fire; short gaps are Prometheus' own."""
    out = []
    for labels, at in seen.items():
        breaks = np.flatnonzero(np.diff(at) > 3 * step)
        for first, last in zip([0, *(breaks + 1)], [*breaks, len(at) - 1], strict=True):
            over = float(at[last]) + step
            out.append(Firing(labels, float(at[first]), math.inf if over >= end else over))
    return sorted(out, key=lambda one: one.began)


def alert_of(series: Mapping[str, str]) -> Labels:
    """The labels of an alert from those of its series of ALERTS."""
    return labels_of({name: text for name, text in series.items() if name not in ("__name__", "alertstate")})


def own(found: Sequence[Firing], alert: Labels, at: Instant) -> Firing | None:
    """The firing that was acted on; on its way to Alertmanager an alert may have got more labels."""
    fits = (one for one in found if set(one.labels) <= set(alert) and one.began <= at <= one.ended)
    return max(fits, key=lambda one: len(one.labels), default=None)


def comparable(
    found: Sequence[Firing],
    mine: Firing,
    at: Instant,
    within: float,
    acted: Sequence[tuple[Labels, Instant]],
    since: float,
) -> list[Firing]:
    """Earlier firings without an action, that lasted as long as `mine` when it was acted on; its own alert first.

    `acted`: which alert something was done for, and when. What began before `since` is not known whole.
    """
    lasted = at - mine.began

    def left_alone(one: Firing) -> bool:
        until = one.began + lasted + within
        return not any(set(one.labels) <= set(of) and one.began <= then <= until for of, then in acted)

    fits = [
        one
        for one in found
        if one.began > since and one.began + lasted + within <= at and one.ended - one.began > lasted
        if left_alone(one)
    ]
    return sorted(fits, key=lambda one: (one.labels != mine.labels, -one.began))[:FIRINGS]


def level(values: Values | None, alert: Labels) -> float | None:
    """The mean of the series that differ from an alert in no label that both have."""
    of = dict(alert)
    fits = [value for labels, value in values or () if math.isfinite(value) and ours(labels, of)]
    return statistics.fmean(fits) if 0 < len(fits) <= MOST else None


def plain(rows: Sequence[Row]) -> JsonObject:
    """How many of the firings that were left alone ended in time, and how they moved: mean and standard deviation."""
    alone = [row for row in rows if not row.treated]
    moves = [row.move for row in alone if row.move is not None]
    found: JsonObject = {"firings": len(alone), "ended": sum(row.ended for row in alone)}
    found |= {"expected": statistics.fmean(moves) if moves else None, "error": None, "how": "mean"}
    if len(moves) > 1:
        found["error"] = statistics.stdev(moves) * math.sqrt(1 + 1 / len(moves))
    return found


def paired(rows: Sequence[Row]) -> JsonObject:
    """Of a policy: each case less the mean of what it is compared with, by `ended` and by `value`; with its error."""
    stacks: dict[str, list[Row]] = {}
    for row in rows:
        stacks.setdefault(row.case, []).append(row)
    out: JsonObject = {}
    for of in ("ended", "value"):
        differences = [d for stack in stacks.values() if (d := _difference(stack, of)) is not None]
        if len(differences) >= STACKS:
            error = statistics.stdev(differences) / math.sqrt(len(differences))
            out[of] = {"cases": len(differences), "estimate": statistics.fmean(differences), "error": error}
            out[of] |= {"interval": None, "how": "mean"}
    return out


def _difference(stack: Sequence[Row], of: str) -> float | None:
    known = [(row.treated, float(row.ended) if of == "ended" else row.move) for row in stack]
    treated = [value for is_treated, value in known if is_treated and value is not None]
    alone = [value for is_treated, value in known if not is_treated and value is not None]
    return statistics.fmean(treated) - statistics.fmean(alone) if treated and alone else None
