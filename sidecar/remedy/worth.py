"""What remedies were worth: how long alerts lasted with and without them, and what that spared. Pure.

An estimate, and a careful one: what was spared is the median of what the same alert lasted when nothing was done,
less what it lasted now. Alerts that ended before anybody approved are among the former and make it smaller; those
that were held back at random (`experiment`) are too, and make it right.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import NamedTuple

from sidecar.remedy.case import Book, Episode, Fact
from sidecar.types import OURS, Alert

KEPT = 20
"""Times that an alert lasted, of which the median is its usual."""
LEAST = 3
"""Fewer say nothing."""
UNDER_WAY = ("acting", "verifying")
CHANCE = {"high": 0.9, "medium": 0.7, "low": 0.5}
"""Least probability that an announced breach comes, by tier of PromantisPredictedBreach."""


class Over(NamedTuple):
    """An episode that ended, as Alertmanager told it."""

    lasted: float
    """Seconds for which the user's own alert fired."""
    remedy: str
    """fixed, tried, or none"""
    policy: str
    """The one that fixed it, or none."""
    spared: float
    """Seconds of firing that were spared; 0 where nothing is known of what it usually lasts."""
    own: bool
    """An alert on Promantis' metrics, not one of the user's rules."""


class Worth:
    """Fold every fact once, in order, after the book."""

    def __init__(self) -> None:
        self._lasted: dict[str, deque[float]] = {}
        """By name of the alert: when nothing was done."""
        self._ended: dict[str, tuple[Episode, float]] = {}
        """By case: episodes that ended before it was verified, and what they lasted."""

    def add(self, book: Book, fact: Fact) -> Over | None:
        """The episode of which this fact is the last that matters, if the time of its end is known."""
        if fact.case in self._ended and book.cases[fact.case].stage not in UNDER_WAY:
            return self._over(book, *self._ended.pop(fact.case))
        if fact.kind != "episode.ended" or fact.data["words"] != "resolved":
            return None
        episode = book.episodes[fact.data["fingerprint"]]
        if episode.starts <= 0:
            return None
        lasted = max(0.0, (fact.data.get("ends") or fact.at) - episode.starts)
        for case in book.cases_of(episode.fingerprint):
            if case.stage in UNDER_WAY:
                self._ended[case.id] = episode, lasted
                return None
        return self._over(book, episode, lasted)

    def _over(self, book: Book, episode: Episode, lasted: float) -> Over:
        alert, cases = episode.alert, book.cases_in(episode)
        fixed = next((case.policy for case in cases if case.stage == "fixed"), "")
        tried = any(case.intent_at is not None for case in cases)
        own = bool(alert.label(OURS))
        if not own and not tried:
            self._lasted.setdefault(alert.label("alertname"), deque(maxlen=KEPT)).append(lasted)
        spared = self._spared(alert, 0.0 if own else lasted) if fixed else 0.0
        return Over(lasted, "fixed" if fixed else "tried" if tried else "none", fixed, spared, own)

    def _spared(self, alert: Alert, lasted: float) -> float:
        """Of an announced breach that was averted all that it usually lasts, weighed by how likely it was."""
        name, chance = alert.label("source_alertname"), CHANCE.get(alert.label("promantis_tier"), 0.0)
        known = self._lasted.get(name or alert.label("alertname"), ())
        if len(known) < LEAST:
            return 0.0
        return max(0.0, statistics.median(known) - lasted) * (chance if name else 1.0)
