"""Findings in the words and shapes of the pages: numbers, shares, times, a value against its band; pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sidecar.alerts import narrate
from sidecar.alerts.scene import Moved
from sidecar.signals.ingest.series import labels
from sidecar.signals.known import picture
from sidecar.types import Breach, Duration, Finding, Forecast, JsonObject, Labels


class Ahead(NamedTuple):
    """One limit of one series that is likely to be crossed."""

    finding: Finding
    breach: Breach
    probability: float
    """The highest over the horizons."""


def ahead(findings: Sequence[Finding]) -> list[Ahead]:
    """The limits still to be crossed, the soonest first; those without an expected time after them."""
    lines = [
        Ahead(finding, breach, max(breach.probability.values(), default=0.0))
        for finding in findings
        for breach in finding.breaches
    ]
    coming = [line for line in lines if line.probability < 1]
    return sorted(coming, key=lambda a: (math.inf if a.breach.eta is None else a.breach.eta, -a.probability))


def number(value: float) -> str:
    """Three digits, as the annotations write it; a dash for what is not known.

    >>> number(0.123456), number(12345678.0), number(float("nan"))
    ('0.123', '12.3M', '-')
    """
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return narrate.number(value)


def amount(value: float, of: Finding) -> str:
    """A value of a series in its unit; a dash for what is not known.

    >>> from sidecar.types import Instant
    >>> of = Finding("w", "q", "other", (), Instant(0), 1.0, 1.0, 1.0, 1.0, 0.0, 0.9, None, unit="share")
    >>> amount(0.85, of), amount(float("nan"), of)
    ('85%', '-')
    """
    return narrate.amount(value, of.unit) if math.isfinite(value) else number(value)


def usual(of: Finding) -> str:
    """Its band; a dash while it has none."""
    return within(of, of)


def within(edges: Finding | Forecast, of: Finding) -> str:
    """From a lower edge to an upper one, the unit said once."""
    if math.isfinite(edges.lower) and math.isfinite(edges.upper):
        return narrate.within(edges.lower, edges.upper, of.unit)
    lower, upper = amount(edges.lower, of), amount(edges.upper, of)
    return "-" if lower == upper == "-" else f"{lower} to {upper}"


def score(value: float) -> str:
    """One digit after the point.

    >>> score(3.21), score(float("nan"))
    ('3.2', '-')
    """
    return "-" if math.isnan(value) else f"{value:.1f}"


def percent(value: float) -> str:
    """A share in words; only what is certain is 100%, and only what is impossible 0%.

    >>> percent(0.873), percent(0.999), percent(1.0), percent(0.001), percent(0.0), percent(float("nan"))
    ('87%', '>99%', '100%', '<1%', '0%', '-')
    """
    if math.isnan(value):
        return "-"
    rest = "<1%" if 0 < value < 0.01 else f"{round(value, 2) + 0.0:.0%}"  # -0% is 0%
    return ">99%" if 0.99 < value < 1 else rest


def span(seconds: float) -> str:
    """A length of time, to the minute above two minutes.

    >>> span(42), span(185), span(7300)
    ('42s', '3m', '2h1m')
    """
    seconds = max(0.0, seconds)
    return str(Duration(round(seconds) if seconds < 120 else seconds // 60 * 60))


def utc(at: float) -> str:
    """ISO 8601 in UTC, as `<time datetime>` wants it.

    >>> utc(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def labelled(labels: Labels | JsonObject) -> str:
    """A series or an alert in Prometheus' notation.

    >>> labelled((("job", "shop"),)), labelled(())
    ('{job="shop"}', '{}')
    """
    pairs = labels.items() if isinstance(labels, dict) else labels
    return "{" + ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in pairs) + "}"


def crossed(f: Finding) -> list[Breach]:
    """The limits that are crossed now."""
    return [breach for breach in f.breaches if max(breach.probability.values(), default=0.0) >= 1]


def planned(plan: JsonObject) -> str:
    """A plan as it would be sent, each request below its verb and indented, so that no text can pose as another.

    >>> print(planned({"do": {"method": "POST", "url": "http://a/pool", "headers": {}, "body": "b"}, "undo": None}))
    do    POST http://a/pool
          b
    """
    parts = [(verb, _request(plan[verb])) for verb in ("do", "undo") if plan.get(verb)]
    parts += [("diff", "\n".join(plan["diff"]))] if plan.get("diff") else []
    parts += [("undo", f"none: {plan['no_undo']}")] if plan.get("no_undo") else []
    return "\n".join(f"{name:6}" + text.replace("\n", "\n" + " " * 6) for name, text in parts)


def _request(request: JsonObject) -> str:
    """An HTTP request as it would be sent, or the words of another action."""
    if "method" not in request:
        return str(request["words"])
    head = [f"{request['method']} {request['url']}"]
    head += [f"{name}: {value}" for name, value in request["headers"].items()]
    return "\n".join([*head, request["body"] or ""]).rstrip()


def compared(found: JsonObject) -> str:
    """One sentence on what an action changed, against earlier firings that nothing was done for.

    >>> said = {"firings": 14, "ended": 3, "within": 600.0, "lasted": 2520.0, "in_time": True}
    >>> compared(said | {"moved": -5.5, "expected": -1.25, "error": 0.5})[:94]
    'Of 14 earlier firings that lasted as long and were left alone 3 ended within 10m (all lasted 4'
    >>> compared(said | {"moved": -5.5, "expected": -1.25, "error": 0.5})[94:]
    '2m in the median); this one did. Left alone it would have moved by -1.25 ± 0.5; it moved by -5.5.'
    >>> compared({"firings": 0})
    'No earlier firing is known that lasted as long and was left alone.'
    """
    if not found["firings"]:
        return "No earlier firing is known that lasted as long and was left alone."
    ended = f"{found['ended']} ended within {span(found['within'])}"
    text = f"Of {found['firings']} earlier firings that lasted as long and were left alone {ended}"
    if found["lasted"] is not None and math.isfinite(found["lasted"]):
        text += f" (all lasted {span(found['lasted'])} in the median)"
    text += f"; this one {'did' if found['in_time'] else 'did not'}."
    if found["moved"] is not None and found["expected"] is not None:
        error = f" ± {number(found['error'])}" if found["error"] is not None else ""
        text += f" Left alone it would have moved by {number(found['expected'])}{error}; "
        text += f"it moved by {number(found['moved'])}."
    return text


DEEDS = {
    "firing": "fires",
    "resolved": "is over",
    "moved": "",
    "change": "",
    "said": "was said",
    "case.proposed": "proposed",
    "case.refused": "refused",
    "plan.made": "plan made",
    "case.approved": "approved",
    "case.denied": "denied",
    "case.expired": "expired",
    "intent": "acts",
    "action.done": "done",
    "action.failed": "failed",
    "verify.passed": "it helped",
    "verify.failed": "it did not help",
    "effect.measured": "effect measured",
    "effect.compared": "compared with earlier firings",
    "undo.intent": "takes it back",
    "undo.done": "taken back",
    "undo.failed": "could not be taken back",
}
"""Kinds of what happened, in words."""
GOOD = ("resolved", "verify.passed", "fixed")
ODD = (
    "firing",
    "moved",
    "case.refused",
    "action.failed",
    "verify.failed",
    "undo.failed",
    "failed",
    "refused",
    "unknown",
)


def deed(kind: str) -> str:
    """What happened, in words.

    >>> deed("verify.passed"), deed("episode.started")
    ('it helped', 'episode started')
    """
    return DEEDS.get(kind, kind.replace(".", " "))


def mood(kind: str) -> str:
    """Whether it is good or odd, for its colour; the words say it too.

    >>> mood("fixed"), mood("failed"), mood("planned")
    ('good', 'odd', '')
    """
    return "good" if kind in GOOD else "odd" if kind in ODD else ""


def points(share: float) -> str:
    """A difference of shares.

    >>> points(0.193), points(-0.05)
    ('19 points more often', '5 points less often')
    """
    return f"{abs(share) * 100:.0f} points {'more' if share >= 0 else 'less'} often"


def series(moved: Moved) -> str:
    """What is moved, in PromQL: the series of its results."""
    return picture.selector_of(moved.watch, labels(moved.key))


class Strip(NamedTuple):
    """A drawing of a value against its band, in 0..100."""

    lower: float
    width: float
    value: float


def strip(f: Finding) -> Strip | None:
    """Where value and band lie on a line that holds both; None when one of them is not known.

    >>> from sidecar.types import Instant
    >>> strip(Finding("w", "q", "other", (), Instant(0), 3.0, 1.5, 1.0, 2.0, 2.0, 0.9, None))
    Strip(lower=5.0, width=45.0, value=95.0)
    """
    ends = (f.lower, f.upper, f.observed)
    if not all(map(math.isfinite, ends)):
        return None
    low, high = min(ends), max(ends)
    scale = 90 / (high - low) if high > low else 0.0
    lower, upper, value = (round(5 + (x - low) * scale, 1) for x in ends)
    return Strip(lower, max(upper - lower, 1.0), value)


FILTERS = {
    f.__name__: f
    for f in (
        number,
        amount,
        usual,
        within,
        score,
        percent,
        points,
        span,
        utc,
        labelled,
        series,
        crossed,
        planned,
        compared,
        strip,
        deed,
        mood,
    )
} | {"selected": picture.selector}
"""What the templates may use, by name."""
