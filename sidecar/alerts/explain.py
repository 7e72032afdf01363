"""What was found, put into words: causes, pattern, outlook, next steps, what had changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from sidecar.alerts import because, narrate
from sidecar.alerts.diagnose import LOAD, Diagnosis
from sidecar.alerts.evidence import Evidence
from sidecar.alerts.knowledge import Pattern, Seen, filled, recognised
from sidecar.alerts.scene import Moved, calls_around, moved
from sidecar.types import CONFIG, STOCKS, Candidates, Finding, Instant

RECENT = 3600.0
"""Seconds for which a change may be the reason."""
Whose = tuple[str, str]
"""A service or machine, and the kind of the series that an alert is about."""


class Changed(NamedTuple):
    """What happened to a service, a machine, or a configuration."""

    entity: str
    at: Instant
    words: str
    kind: str = ""
    """Of CHANGES; empty where it is none that does harm."""


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
    moved: tuple[Moved, ...] = ()
    """What is out of its usual, in order of time."""
    calls: tuple[tuple[str, str], ...] = ()
    """Who calls whom around it: caller and callee, or a service and the machine that it runs on."""

    @property
    def blamed(self) -> str:
        """The service or machine that is the likeliest cause, empty when there is none."""
        found = self.causes and self.causes[0].probability > self.none_likelihood
        return self.causes[0].entity.removeprefix(LOAD) if found else ""


def explain(
    c: Candidates,
    ev: Evidence,
    target: Whose | None,
    now: Instant,
    found: Diagnosis,
    *,
    patterns: Sequence[Pattern],
    changed: Sequence[Changed] = (),
    finding: Callable[[str, bytes], Finding | None] = lambda watch, key: None,
    what: str = "",
) -> Explanation:
    """Put into words what was `found` to explain what is wrong with `target`, from candidates and their evidence."""
    listed = [cause for cause in found.causes if cause.probability >= 0.01][:5]
    sentences = [because.told(cause, c, ev, now) for cause in listed]
    causes = tuple(
        Said(cause.entity, because.leading(cause, c).kind, words, cause.likelihood, _odds(cause.probability))
        for cause, words in zip(listed, sentences, strict=True)
    )
    named = [target[0] if target else "", *(cause.entity.removeprefix(LOAD) for cause in listed)]
    involved = set(named[:4])
    recent = _recent(changed, involved, c, now)
    calls = calls_around(c, named)
    base = Explanation(
        what=what,
        causes=causes,
        none_likelihood=_odds(found.none),
        summary=because.listed(found, "", sentences, because.out(c, ev, target)),
        changes=tuple(
            f"{one.words} at {narrate.clock(one.at, now)} ({narrate.age(now - one.at)} ago)" for one in recent
        ),
        moved=moved(c, ev, frozenset(involved).union(*calls)),
        calls=calls,
    )
    if not found.found:
        return base
    first = found.causes[0]
    reason = because.leading(first, c)
    entity = first.entity.removeprefix(LOAD)
    seen = Seen(
        reason.kind,
        c.names[reason.series] if reason.series >= 0 else "",
        c.query(reason.series) if reason.series >= 0 else "",
        entity,
        frozenset(one.kind for one in _recent(changed, {entity}, c, now)),
        target is not None and target[0] != entity,
        frozenset(r.kind for r in first.reasons if r.weight > because.ODD)
        | ({"traffic"} if because.asked_again(entity, c, ev) else set()),
        reason.series >= 0 and not bool(ev.up[reason.series]),
    )
    pattern = recognised(patterns, seen)
    series = finding(*c.ids[reason.series]) if c.ids and reason.series >= 0 else None
    outlook = (
        _outlook(
            series,
            because.named(c, reason.series, entity),
            reason.kind,
            c.way(reason.series),
            because.slope(c, reason.series),
        )
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


def _odds(p: float) -> float:
    """A probability as it is said: nothing that is only likely is certain.

    >>> _odds(0.87654), _odds(0.99999), _odds(0.00001)
    (0.877, 0.999, 0.001)
    """
    return min(max(round(p, 3), 0.001), 0.999)


_AHEAD = re.compile(r"\b(predict_linear|deriv|i?delta|i?rate|increase|changes)\s*\(")
"""Of queries whose value is not what is used, or left, now."""


def _outlook(series: Finding, metric: str, kind: str, way: int, slope: float) -> str:
    now = kind in STOCKS and not _AHEAD.search(series.query)
    end = because.exhaustion(series, way, slope) if now else ""
    at = f"{metric} is at {narrate.amount(series.observed, series.unit, 2)}"
    if end:
        soon = end != because.USED_UP
        return f"If nobody acts: {at}, {end}." if soon else f"{at}: {end}, and who needs it waits or fails."
    lead, text = "If nobody acts: ", narrate.outlook(series, "")
    if text.startswith(lead):
        return f"{lead}{metric} {text.removeprefix(lead)}"
    return f"{metric}: {text[0].lower()}{text[1:]}" if text else ""


def _recent(changed: Sequence[Changed], involved: set[str], c: Candidates, now: Instant) -> list[Changed]:
    """What happened to who is involved, to where it runs and to what it may read: nothing twice, the newest first.

    What may do harm comes before what does none, such as a machine that is ready again.
    """
    there = involved | {host for service, host in c.hosts if service in involved}
    newest: dict[str, Changed] = {}
    for one in sorted(changed, key=lambda one: one.at):
        if 0 <= now - one.at <= RECENT and (one.entity in there or _reads(one.entity, involved)):
            newest[one.words] = one
    return sorted(newest.values(), key=lambda one: (not one.kind, -one.at, one.words))


def _reads(entity: str, involved: set[str]) -> bool:
    """Whether it is a configuration that is named for one of these services.

    >>> [_reads(CONFIG + name, {"shop"}) for name in ("shop", "shop-settings", "shopping")]
    [True, True, False]
    """
    name = entity.removeprefix(CONFIG)
    return name != entity and any(who and f"{name}-".startswith(f"{who}-") for who in involved)
