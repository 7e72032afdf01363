"""What a policy changes: how often alerts end in time with it and without it, from a share held back at random.

Alerts end by themselves too, the more so as they fire at the worst moment: only what happened to those that
were held back says what would have happened anyway. Pure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import NamedTuple

from sidecar.remedy.past import Odds
from sidecar.types import Instant

CONFIDENCE = 1.959964
"""Standard normal quantile of a two-sided interval at 95 %."""
CRITICAL = "critical"
"""Alerts of this severity are never held back."""


class Trial(NamedTuple):
    """One episode that was acted on, or held back; `ended` None: it goes on."""

    policy: str
    treated: bool
    began: Instant
    within: float
    """Seconds in which it counts as ended."""
    ended: Instant | None = None

    def good(self, now: Instant) -> bool | None:
        """Whether it ended in time; None: not known yet."""
        if self.ended is not None:
            return self.ended - self.began <= self.within
        return False if now - self.began > self.within else None


class Effect(NamedTuple):
    """Ended in time, with and without; the difference with its interval of 95 % (Newcombe's hybrid score)."""

    treated: Odds
    control: Odds

    @property
    def difference(self) -> float | None:
        """By how much more often it ends in time; None without both."""
        both = (_share(self.treated), _share(self.control))
        return both[0] - both[1] if both[0] is not None and both[1] is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the difference lies, 95 times of 100.

        >>> low, high = Effect(Odds(56, 14), Odds(48, 32)).interval
        >>> round(low, 4), round(high, 4)
        (0.0524, 0.3339)
        """
        a, b = _share(self.treated), _share(self.control)
        if a is None or b is None:
            return None
        (low_a, high_a), (low_b, high_b) = self.treated.wilson(CONFIDENCE), self.control.wilson(CONFIDENCE)
        return (
            a - b - math.hypot(a - low_a, high_b - b),
            a - b + math.hypot(high_a - a, b - low_b),
        )


def held_back(share: float, case: str, severity: str) -> bool:
    """Whether a case is one of the share; the same for every replica and after every restart.

    >>> 900 < sum(held_back(0.1, str(n), "page") for n in range(10000)) < 1100
    True
    >>> held_back(1.0, "a", "critical")
    False
    """
    if severity == CRITICAL:
        return False
    drawn = int.from_bytes(hashlib.sha256(f"experiment/{case}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def effect(trials: Iterable[Trial], now: Instant) -> Effect:
    """The effect of these trials of one policy, of which some may not be over."""
    known = [(trial.treated, trial.good(now)) for trial in trials]
    treated, control = (Odds(known.count((of, True)), known.count((of, False))) for of in (True, False))
    return Effect(treated, control)


def _share(odds: Odds) -> float | None:
    n = odds.good + odds.bad
    return odds.good / n if n else None
