"""An alert and what is known of its series -> annotations; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from sidecar.alerts import narrate
from sidecar.alerts.aside import going_on
from sidecar.alerts.explain import Explanation, Steps
from sidecar.alerts.identity import fingerprint
from sidecar.alerts.relay import AlertsConfig
from sidecar.alerts.times import ends, resolved
from sidecar.types import Alert, Finding, Instant, Labels

PREFIX = "promantis_"
EXPLAINED = ("causes", "next_steps", "changes", "incident", "pattern", "outlook")
"""Annotations that need a diagnosis."""


Explains = Callable[[Alert, Instant, Sequence[Finding]], Explanation | None]
"""What explains an alert with these series, None when nothing is known of it."""


class Findings(Protocol):
    """What is known now; the snapshot."""

    def near(self, labels: Labels, limit: int) -> Sequence[Finding]:
        """Series of the alert's own rule that match its labels come first."""


class Enricher:
    """Callable as `enricher(alert, now)`: the annotations that are configured and for which there are words."""

    def __init__(
        self,
        findings: Findings,
        preview: Callable[[Alert], str],
        config: AlertsConfig,
        external_url: str,
        explain: Explains = lambda alert, now, near: None,
        noticed: Callable[[Alert, Finding | None, Instant], None] = lambda alert, finding, now: None,
    ) -> None:
        """`noticed` is told of every alert with its series."""
        self._findings = findings
        self._preview = preview
        self._explain = explain
        self._noticed = noticed
        self._names = config.annotations
        self._max_bytes = config.max_bytes
        self._url = external_url.rstrip("/")

    def __call__(self, alert: Alert, now: Instant) -> Mapping[str, str]:
        """Annotations by their full name; an alert of which nothing is known gets the url only."""
        found = self._findings.near(alert.labels, 1)
        self._noticed(alert, found[0] if found else None, now)
        explanation = self._explained(alert, now, found) if set(self._names) & set(EXPLAINED) else None
        words = {}
        for name in self._names:
            text = self._words(name, alert, found[0] if found else None, explanation, now)
            if text:
                words[PREFIX + name] = text
        return words

    def _explained(self, alert: Alert, now: Instant, near: Sequence[Finding]) -> Explanation | None:
        with going_on("no diagnosis, the alert goes on without causes labels=%s", dict(alert.labels)):
            return self._explain(alert, now, near)
        return None

    def _words(
        self, name: str, alert: Alert, finding: Finding | None, said: Explanation | None, now: Instant
    ) -> str:
        if name == "url":
            url = f"{self._url}/a/{fingerprint(alert.labels)}"
            return url if self._url and len(url.encode()) <= self._max_bytes else ""  # half a link is none
        if name == "remedy":
            return shorten(self._preview(alert), self._max_bytes)
        if name in EXPLAINED and said is not None:
            text = _explained(name, said, self._max_bytes)
            if text or name != "outlook":
                return shorten(text, self._max_bytes)
        if finding is None or name in EXPLAINED[:-1]:
            return ""
        return shorten(_said(name, alert, finding, now), self._max_bytes)


def _explained(name: str, said: Explanation, max_bytes: int) -> str:
    match name:
        case "causes":
            return causes(said, max_bytes)
        case "next_steps":
            return steps(said.next_steps, max_bytes)
        case "changes":
            return "; ".join(said.changes)
        case "incident":
            return said.incident
        case "pattern":
            return said.pattern
        case _:
            return said.outlook if said.pattern else ""


def _said(name: str, alert: Alert, finding: Finding, now: Instant) -> str:
    over = resolved(alert, now)
    match name:
        case "summary":
            return narrate.summary(finding, ends(alert) if over else None)
        case "outlook":
            return narrate.outlook(finding, alert.label("alertname"), over)
        case "expected":
            return narrate.expected(finding)
        case "since":
            return "" if finding.since is None else _iso(finding.since)
        case "score":
            return _known(finding.score)
        case "confidence":
            return _known(finding.confidence)
        case _:
            raise ValueError(f"no words for {name!r}")


def _known(value: float) -> str:
    return "" if math.isnan(value) else narrate.number(value)


def _iso(at: Instant) -> str:
    return datetime.fromtimestamp(at // 60 * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def causes(said: Explanation, max_bytes: int) -> str:
    """The cause, what changed last and what is new in its log; where there is no room for all, with less evidence."""
    changed = [f"Changed: {text.partition(' (')[0]}." for text in said.changes[:1]]
    logged = [f"{text[0].upper()}{text[1:]}." for text in said.logs[:1]]
    for more in ([*changed, *logged], changed):
        room = max_bytes - len(" ".join(["", *more]).encode())
        if room >= max_bytes / 2:
            return " ".join([shorten(said.summary, room), *more])
    return said.summary


def steps(of: Steps, max_bytes: int) -> str:
    """What to do now and later, with fewer of each where there is no room for all.

    >>> few = Steps(("stop", "look"), ("test", "count"))
    >>> steps(few, 99), steps(few, 30)
    ('Now: stop; look. Later: test; count.', 'Now: stop; look. Later: test.')
    """
    now, later = list(of.now), list(of.later)
    while True:
        parts = ("Now", now), ("Later", later)
        text = " ".join(f"{when}: {'; '.join(what)}." for when, what in parts if what)
        longer = later if len(later) >= len(now) else now
        if len(text.encode()) <= max_bytes or len(longer) <= 1:
            return text
        longer.pop()


def shorten(text: str, max_bytes: int) -> str:
    """Cut at the end of a word so that no more than this many UTF-8 bytes are left.

    >>> shorten("alpha beta gamma", 14), shorten("abcdefgh", 6), shorten("short", 6)
    ('alpha beta…', 'abc…', 'short')
    """
    raw = text.encode()
    if len(raw) <= max_bytes:
        return text
    room = max_bytes - len("…".encode())
    cut = raw[:room].decode(errors="ignore")
    if not text[len(cut) :].startswith(" ") and " " in cut:
        cut = cut[: cut.rindex(" ")]
    return cut.rstrip(" ,;:") + "…"
