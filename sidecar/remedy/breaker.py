"""Breaker per policy: opens when it fails too often, lets one try through after a while; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sidecar.remedy.past import Past, in_a_row
from sidecar.remedy.policy import Refusal
from sidecar.types import Duration, Instant, Section

State = Literal["closed", "open", "half_open"]


class BreakerConfig(Section, frozen=True, kw_only=True):
    """When a policy is no longer trusted: failures in a row, or too low a share of its last outcomes."""

    failures: int = 2
    """Failures in a row after which a policy does nothing."""
    of_last: int = 10
    """Or, of so many outcomes."""
    min_rate: float = 0.5
    """A share of successes below this."""
    retry_after: Duration = Duration(21600)
    """Then one try is let through: a success closes the breaker."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.failures < 1:
            yield "failures", "must be at least 1"
        if self.of_last < 1:
            yield "of_last", "must be at least 1"
        if not 0 <= self.min_rate <= 1:
            yield "min_rate", "must lie between 0 and 1"
        if self.retry_after <= 0:
            yield "retry_after", "must be longer than 0s"


def state(policy: str, past: Past, rules: BreakerConfig, now: Instant) -> State:
    """Closed: it may act; half open: once, to see; open: not at all. A success closes it."""
    ended = past.of(policy)
    if not ended or in_a_row(ended):
        return "closed"
    bad_in_a_row = next((i for i, one in enumerate(reversed(ended)) if one.good), len(ended))
    last = ended[-rules.of_last :]
    low = len(last) == rules.of_last and sum(one.good for one in last) < rules.min_rate * len(last)
    if bad_in_a_row < rules.failures and not low:
        return "closed"
    return "open" if now - ended[-1].at < rules.retry_after else "half_open"


def refusal(policy: str, past: Past, rules: BreakerConfig, now: Instant) -> Refusal | None:
    """Why the breaker forbids it; half open it allows one try at a time."""
    match state(policy, past, rules, now):
        case "open":
            ended = past.of(policy)
            again = Duration(max(round(ended[-1].at + rules.retry_after - now), 0))
            return Refusal("breaker", f"{policy} failed too often, the next try is in {again}")
        case "half_open" if sum(i.policy == policy for i in past.intents) > len(past.of(policy)):
            return Refusal("breaker", f"{policy} failed too often, and a try of it is not over")
        case _:
            return None
