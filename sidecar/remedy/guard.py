"""May it be done now? Cool-down, expiry, at most once, silence, kill switch; pure.

Everything is looked at again just before acting, and what is not known forbids it. The target of a
cool-down is the method and url that would be called: two alerts that lead to the same call share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from sidecar.remedy.case import Case, Intent
from sidecar.remedy.policy import Refusal, RemedyConfig, condition_refusal
from sidecar.types import Instant

AlertState = Literal["active", "suppressed", "absent"]


class Look(msgspec.Struct, frozen=True):
    """The world just before acting."""

    alert: AlertState | None
    """What Alertmanager says; None: it did not answer."""
    killed: bool
    condition: bool | None = None
    """Whether `when` holds; None: not known, or there is none."""


class Check(NamedTuple):
    """One guardrail; `refusal` None: passed."""

    name: str
    refusal: Refusal | None


def checks(
    case: Case, policy: RemedyConfig | None, plan_hash: str, look: Look, past: Sequence[Intent], now: Instant
) -> tuple[Check, ...]:
    """Every guardrail in front of an action; `plan_hash` is that of the plan as it would be made now."""
    when = policy.when if policy else None
    return (
        Check("kill switch", Refusal("kill_switch", "the kill switch is on") if look.killed else None),
        Check("expiry", expired(case, now)),
        Check("plan", _plan(case, policy, plan_hash)),
        Check("alert", _alert(case, look.alert)),
        Check("condition", condition_refusal(when, look.condition) if when else None),
        Check("once", once((case.fingerprint, case.episode, case.target), past)),
        Check("cool-down", cooldown(case.target, policy, past, now) if policy else None),
    )


def at_proposal(
    key: tuple[str, int, str], policy: RemedyConfig, look: Look, past: Sequence[Intent], now: Instant
) -> Refusal | None:
    """What already forbids to propose; a silent Alertmanager does not: it is asked again before acting."""
    if look.killed:
        return Refusal("kill_switch", "the kill switch is on")
    return (
        (_state(look.alert) if look.alert else None) or once(key, past) or cooldown(key[2], policy, past, now)
    )


def expired(case: Case, now: Instant) -> Refusal | None:
    """Whether the time to approve and act is over."""
    return Refusal("expired", "nobody approved it in time") if now >= case.expires_at else None


def once(key: tuple[str, int, str], past: Sequence[Intent]) -> Refusal | None:
    """At most once per (fingerprint, episode, action), whichever policy did it."""
    if any((intent.fingerprint, intent.episode, intent.target) == key for intent in past):
        return Refusal("repeated", f"{key[2]} was already done for this episode")
    return None


def cooldown(target: str, policy: RemedyConfig, past: Sequence[Intent], now: Instant) -> Refusal | None:
    """Whether the policy acted on the target too short a time ago."""
    last = max((i.at for i in past if (i.policy, i.target) == (policy.name, target)), default=None)
    if last is None or now - last >= policy.cooldown:
        return None
    return Refusal("cooldown", f"{target} was done {now - last:.0f}s ago, cool-down {policy.cooldown}")


def _plan(case: Case, policy: RemedyConfig | None, plan_hash: str) -> Refusal | None:
    if policy is None:
        return Refusal("policy_gone", f"the config has no policy {case.policy} any more")
    if plan_hash != case.plan_hash:
        return Refusal("plan_changed", "the policy was changed after the plan was made")
    return None


def _alert(case: Case, state: AlertState | None) -> Refusal | None:
    return _state("absent" if case.resolved else state)


def _state(state: AlertState | None) -> Refusal | None:
    if state == "absent":
        return Refusal("resolved", "the alert is not firing any more")
    if state == "suppressed":
        return Refusal("suppressed", "the alert is silenced or inhibited")
    return None if state == "active" else Refusal("alertmanager_unknown", "Alertmanager did not answer")
