"""What was done and what came of it, for the guard: counted by policy, target and namespace; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sidecar.types import Instant

CONFIDENCE = 1.645
"""Standard normal quantile of a one-sided bound at 95 %."""
ENOUGH, WEIGHT = 3, 4.0
"""Outcomes from which a cause speaks for itself, and how many those of other causes count for then."""


class Intent(NamedTuple):
    """Something was done, or may have been."""

    at: Instant
    policy: str
    target: str
    object: str
    namespace: str
    fingerprint: str
    episode: int


class Ended(NamedTuple):
    """What came of an action: `good` when it was verified."""

    at: Instant
    policy: str
    object: str
    good: bool
    person: bool
    """A person had approved it."""
    action: str = ""
    """Its type; empty in journals that do not say it."""
    cause: str = ""
    """The pattern of failure that was recognised before it was done; empty: none."""
    hash: str = ""
    """Of what was done and how it was verified."""


class Busy(NamedTuple):
    """An object that is acted on or verified now, and what that takes of its group."""

    object: str
    group: str = ""
    takes: int = 0


class Past(NamedTuple):
    """All that the guard counts."""

    intents: Sequence[Intent] = ()
    ended: Sequence[Ended] = ()
    """In order; one for each case at most."""
    undone: Sequence[tuple[Instant, str]] = ()
    """When which object was put back."""
    busy: Sequence[Busy] = ()
    """What is acted on or verified now."""
    storm: str = ""
    """Why nothing acts alone now; empty: it is calm."""

    def of(self, policy: str) -> list[Ended]:
        """What came of one policy."""
        return [one for one in self.ended if one.policy == policy]


class Odds(NamedTuple):
    """How often a policy helped: Beta-Bernoulli with a flat prior, and Wilson's one-sided bound at 95 %."""

    good: int
    bad: int
    prior: tuple[float, float] = (1.0, 1.0)
    """What is believed before the first outcome, in outcomes."""

    @property
    def belief(self) -> tuple[float, float]:
        """The two parameters of the Beta distribution."""
        return self.prior[0] + self.good, self.prior[1] + self.bad

    @property
    def mean(self) -> float:
        """Expected success rate.

        >>> Odds(8, 0).mean
        0.9
        """
        return self.belief[0] / sum(self.belief)

    @property
    def lower(self) -> float:
        """What the success rate is above, 19 times of 20; 0 without any outcome.

        >>> round(Odds(10, 0).lower, 3), Odds(0, 0).lower
        (0.787, 0.0)
        """
        return max(0.0, self.wilson(CONFIDENCE)[0]) if self.good + self.bad else 0.0

    def wilson(self, z: float) -> tuple[float, float]:
        """Where the success rate lies: Wilson's interval at this normal quantile; needs an outcome."""
        n = self.good + self.bad
        p = self.good / n
        middle = p + z * z / (2 * n)
        spread = z * math.sqrt((p * (1 - p) + z * z / (4 * n)) / n)
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def odds(ended: Iterable[Ended]) -> Odds:
    """The odds of these outcomes."""
    goods = [one.good for one in ended]
    return Odds(sum(goods), len(goods) - sum(goods))


def of_cause(own: Odds, all: Odds) -> Odds:
    """The odds for one cause, `own` of `all` outcomes of a policy, shrunk to those for the other causes.

    Below `ENOUGH` outcomes of its own the belief is the policy's; from there on the others weigh `WEIGHT` at most.

    >>> few, enough = of_cause(Odds(0, 2), Odds(18, 2)), of_cause(Odds(0, 3), Odds(18, 3))
    >>> few.mean == Odds(18, 2).mean, round(enough.mean, 2)
    (True, 0.54)
    """
    good, bad = 1 + all.good - own.good, 1 + all.bad - own.bad
    share = min(1.0, WEIGHT / (good + bad)) if own.good + own.bad >= ENOUGH else 1.0
    return own._replace(prior=(share * good, share * bad))


def in_a_row(ended: Sequence[Ended], *, person: bool = False) -> int:
    """How many good ones came last; only those that a person approved count with `person`.

    >>> last = Ended(Instant(0), "p", "o", True, False)
    >>> in_a_row([last._replace(good=False), last._replace(person=True), last], person=True)
    1
    """
    n = 0
    for one in reversed(ended):
        if not one.good:
            break
        n += one.person or not person
    return n
