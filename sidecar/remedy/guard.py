"""May it be done now? Every guardrail in front of every action, in one place; pure.

Everything is looked at again just before acting, and what is not known forbids it. A limit refuses, it does
not delay. Cool-downs and rates count by what is acted on: two policies that lead to the same object share them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from sidecar.remedy import breaker, matchers
from sidecar.remedy.actions.words import Plan
from sidecar.remedy.breaker import BreakerConfig
from sidecar.remedy.case import Case
from sidecar.remedy.measure import Values
from sidecar.remedy.past import Intent, Past
from sidecar.remedy.policy import Refusal, RemedyConfig, condition_refusal
from sidecar.remedy.storm import StormConfig
from sidecar.types import Duration, Instant, JsonObject, Section

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:]+\]?")
AlertState = Literal["active", "suppressed", "absent"]
SET_BACK = 60.0
"""Seconds by which the clock may go back, as those of two replicas may differ; beyond it nothing that waits counts."""
FRESH = 10.0
"""Seconds for which what was looked at counts: longer only where the journal is slow, and then it is looked again."""
WAITS = ("alertmanager_unknown", "condition_unknown", "target_unknown")
"""Refusals that may pass by themselves: an approved case waits for them until it expires."""
FINAL = ("rate_policy", "rate_target", "rate_namespace", "rate_total", "protected", "dry_run", "held_back")
"""Refusals for the rest of the episode: a limit does not delay."""


class Rate(Section, frozen=True, kw_only=True):
    """At most `count` actions within a time."""

    count: int
    """Actions at most; a rate refuses for the rest of the episode, it does not delay."""
    within: Duration = Duration(3600)
    """Within this time."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.count < 1:
            yield "count", "must be at least 1 (the kill switch forbids all)"
        if self.within <= 0:
            yield "within", "must be longer than 0s"


class Rates(Section, frozen=True, kw_only=True):
    """How often anything is done, by what it is counted."""

    policy: Rate = Rate(count=6)
    """Of one policy."""
    target: Rate = Rate(count=3)
    """On one target."""
    namespace: Rate = Rate(count=10)
    """In one namespace."""
    total: Rate = Rate(count=20)
    """In total."""


class GuardConfig(Section, frozen=True, kw_only=True):
    """The guardrails; they cannot be switched off, only moved."""

    dry_run: bool = False
    """Plan, approve, check everything, and do nothing."""
    protected_namespaces: tuple[str, ...] = ("kube-system", "kube-public", "kube-node-lease")
    """Nothing in them is touched, nor any object with the annotation `promantis.io/protect`."""
    rates: Rates = Rates()
    max_targets: int = 3
    """Targets that are acted on or verified at once."""
    max_share: float = 0.34
    """Of a workload's pods, or of nodes, that may be down or taken at once; one always may."""
    block_while: tuple[str, ...] = ()
    """Matchers: nothing is done while an alert fires that fits one of them."""
    allow_private: tuple[str, ...] = ()
    """Hosts and networks that `http` may call though they are not public, e.g. `[shop.local, 10.0.0.0/8]`;
    addresses of metadata services only as a network."""
    hands_off: Duration = Duration(900)
    """What somebody changed by hand is left alone for so long."""
    after_undo: Duration = Duration(7200)
    """How long a target is left alone on which something was undone, save for the next alternative."""
    storm: StormConfig = StormConfig()
    breaker: BreakerConfig = BreakerConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("policy", "target", "namespace", "total"):
            for place, words in getattr(self.rates, name).problems():
                yield f"rates.{name}.{place}", words
        if self.max_targets < 1:
            yield "max_targets", "must be at least 1 (the kill switch forbids all)"
        if not 0 < self.max_share <= 1:
            yield "max_share", "must be above 0 and at most 1"
        for i, text in enumerate(self.block_while):
            try:
                matchers.parse(text)
            except ValueError as error:
                yield f"block_while[{i}]", str(error)
        for i, text in enumerate(self.allow_private):
            try:
                if not _HOST.fullmatch(text):
                    ipaddress.ip_network(text)
            except ValueError:
                yield f"allow_private[{i}]", f"{text!r} is neither a host nor a network such as 10.0.0.0/8"
        for section in ("storm", "breaker"):
            for place, words in getattr(self, section).problems():
                yield f"{section}.{place}", words


class Planned(NamedTuple):
    """A plan and the hash that an approval is bound to."""

    plan: Plan
    hash: str


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The world just before acting."""

    alert: AlertState | None
    """What Alertmanager says; None: it did not answer."""
    at: Instant | None = None
    """When it was looked; None: just now."""
    killed: bool
    condition: bool | None = None
    """Whether `when` holds; None: not known, or there is none."""
    plan: Planned | Refusal | None = None
    """The plan as it is made now; None: not made, or the target did not answer."""
    frozen: str = ""
    """Name of the freeze that is on."""
    blocking: str | None = ""
    """The alert that fires and blocks; None: not known."""
    fine: bool | None = None
    """Whether what would verify the action holds already."""
    harm: bool | None = None
    """Whether the harm that it is watched for is there already."""
    values: Values | None = None
    """What the verification compares, now."""
    cause: str = ""
    """The pattern of failure that is recognised; empty: none."""


class Check(NamedTuple):
    """One guardrail; `refusal` None: passed."""

    name: str
    refusal: Refusal | None


def checks(
    case: Case, policy: RemedyConfig | None, look: Look, past: Past, rules: GuardConfig, now: Instant
) -> tuple[Check, ...]:
    """Every guardrail in front of an action."""
    plan = look.plan.plan if isinstance(look.plan, Planned) else None
    found = [
        Check("kill switch", killed(look)),
        Check("expiry", expired(case, now)),
        Check("plan", _plan(case, policy, look)),
        Check("alert", _state("absent" if case.resolved else look.alert)),
        Check(
            "condition", condition_refusal(policy.when, look.condition) if policy and policy.when else None
        ),
        Check("freeze", frozen(look)),
        Check("block", blocked(look)),
        Check("once", once((case.fingerprint, case.episode, case.target), case.policy, past)),
    ]
    if policy is not None and plan is not None:
        key = (case.fingerprint, case.episode)
        found += [
            Check("cool-down", cooldown(plan.object, policy, past, now, key)),
            Check("after undo", left_alone(plan.object, policy, past, rules, now, key)),
            Check("rates", rates(policy.name, plan.object, plan.namespace, past, rules, now)),
            Check("targets", _targets(plan, past, rules)),
            Check("share", _share(plan, past, rules)),
            Check("protected", _protected(plan, rules)),
            Check("hands off", _hands_off(plan, rules, now)),
            Check("breaker", breaker.refusal(policy.name, past, rules.breaker, now)),
            Check("storm", Refusal("storm", past.storm) if past.storm and case.auto else None),
            Check("still wrong", _still_wrong(policy, look)),
            Check("dry run", _dry_run(plan, rules)),
        ]
    return tuple(found)


def shown(found: Sequence[Check]) -> list[JsonObject]:
    """As the journal and people have them."""
    return [
        {"name": c.name, "ok": not c.refusal, "words": c.refusal.words if c.refusal else ""} for c in found
    ]


def standing(
    case: Case, policy: RemedyConfig | None, look: Look, past: Past, rules: GuardConfig, now: Instant
) -> tuple[Check, ...]:
    """How each would decide now, for who is about to approve: a case without a plan is taken with that of now."""
    if not case.plan_hash and isinstance(look.plan, Planned):
        case = msgspec.structs.replace(case, plan_hash=look.plan.hash)
    return checks(case, policy, look, past, rules, now)


def at_proposal(
    key: tuple[str, int, str], policy: RemedyConfig, look: Look, past: Past, rules: GuardConfig, now: Instant
) -> Refusal | None:
    """What already forbids to propose; a silent Alertmanager does not: it is asked again before acting."""
    fingerprint, episode, target = key
    known = next((i.object for i in past.intents if i.target == target), target)
    return (
        killed(look)
        or (_state(look.alert) if look.alert else None)
        or frozen(look)
        or (blocked(look) if look.blocking is not None else None)
        or once(key, policy.name, past)
        or cooldown(known, policy, past, now, (fingerprint, episode))
        or left_alone(known, policy, past, rules, now, (fingerprint, episode))
        or rates(policy.name, known, "", past, rules, now)
        or breaker.refusal(policy.name, past, rules.breaker, now)
    )


def killed(look: Look) -> Refusal | None:
    """Whether everything is switched off."""
    return Refusal("kill_switch", "the kill switch is on") if look.killed else None


def expired(case: Case, now: Instant) -> Refusal | None:
    """Whether the time to approve and act is over, or cannot be told."""
    if now < case.since - SET_BACK:
        return Refusal("expired", "the clock was set back: nobody knows how old it is")
    return Refusal("expired", "nobody approved it in time") if now >= case.expires_at else None


def frozen(look: Look) -> Refusal | None:
    """Whether it is a time in which nothing is done."""
    return Refusal("frozen", f"nothing is done during {look.frozen}") if look.frozen else None


def blocked(look: Look) -> Refusal | None:
    """Whether another alert fires that forbids it."""
    if look.blocking is None:
        return Refusal("alertmanager_unknown", "Alertmanager did not say whether a blocking alert fires")
    return Refusal("blocked", f"{look.blocking} fires") if look.blocking else None


def once(key: tuple[str, int, str], policy: str, past: Past) -> Refusal | None:
    """At most once per (fingerprint, episode, action), whichever policy did it; an alternative is another action."""
    fingerprint, episode, target = key
    for one in past.intents:
        same = (one.fingerprint, one.episode, one.target) == key
        if same and not _own_try(one, policy, (fingerprint, episode)):
            return Refusal("repeated", f"{target} was already done for this episode")
    return None


def cooldown(
    object: str, policy: RemedyConfig, past: Past, now: Instant, key: tuple[str, int]
) -> Refusal | None:
    """Whether anything was done to the object too short a time ago; its own first try does not count."""
    others = [i.at for i in past.intents if i.object == object and not _own_try(i, policy.name, key)]
    last = max(others, default=None)
    if last is None or now - last >= policy.cooldown:
        return None
    return Refusal("cooldown", f"{object} was acted on {now - last:.0f}s ago, cool-down {policy.cooldown}")


def left_alone(
    object: str, policy: RemedyConfig, past: Past, rules: GuardConfig, now: Instant, key: tuple[str, int]
) -> Refusal | None:
    """Whether something was undone on the object lately; the next alternative of the same policy may try."""
    if any(i.object == object and _own_try(i, policy.name, key) for i in past.intents):
        return None
    last = max((at for at, name in past.undone if name == object), default=None)
    if last is None or now - last >= rules.after_undo:
        return None
    return Refusal(
        "after_undo", f"{object} was put back {now - last:.0f}s ago, left alone {rules.after_undo}"
    )


def _own_try(intent: Intent, policy: str, key: tuple[str, int]) -> bool:
    """Whether it was an earlier alternative of the same policy for the same episode."""
    same = (intent.fingerprint, intent.episode) == key and family(intent.policy) == family(policy)
    return same and intent.policy != policy


def family(policy: str) -> str:
    """The name of the policy that an alternative belongs to.

    >>> family("pool/2"), family("pool")
    ('pool', 'pool')
    """
    return policy.partition("/")[0]


def rates(
    policy: str, object: str, namespace: str, past: Past, rules: GuardConfig, now: Instant
) -> Refusal | None:
    """Whether one more would be too many; an empty namespace is not counted."""
    counted: Sequence[tuple[str, Rate, list[Instant]]] = (
        ("policy", rules.rates.policy, [i.at for i in past.intents if i.policy == policy]),
        ("target", rules.rates.target, [i.at for i in past.intents if i.object == object]),
        (
            "namespace",
            rules.rates.namespace,
            [i.at for i in past.intents if namespace and i.namespace == namespace],
        ),
        ("total", rules.rates.total, [i.at for i in past.intents]),
    )
    what = {"policy": policy, "target": object, "namespace": f"namespace {namespace}", "total": "everything"}
    for name, rate, times in counted:
        n = sum(at > now - rate.within for at in times)
        if n >= rate.count:
            words = f"{n} actions on {what[name]} within {rate.within}, at most {rate.count}"
            return _too_often(name, words)
    return None


def _too_often(name: str, words: str) -> Refusal:
    match name:
        case "policy":
            return Refusal("rate_policy", words)
        case "target":
            return Refusal("rate_target", words)
        case "namespace":
            return Refusal("rate_namespace", words)
        case _:
            return Refusal("rate_total", words)


def _protected(plan: Plan, rules: GuardConfig) -> Refusal | None:
    """Whether the object, or a namespace that is touched, must be left alone."""
    for namespace in (plan.namespace, *plan.around.namespaces):
        if namespace in rules.protected_namespaces:
            return Refusal("protected", f"namespace {namespace} is protected")
    return Refusal("protected", plan.around.protected) if plan.around.protected else None


def _targets(plan: Plan, past: Past, rules: GuardConfig) -> Refusal | None:
    if any(one.object == plan.object for one in past.busy):
        return Refusal("busy", f"{plan.object} is being acted on already")
    if len(past.busy) < rules.max_targets:
        return None
    words = f"{len(past.busy)} targets are acted on or verified now, at most {rules.max_targets}"
    return Refusal("targets", words)


def _share(plan: Plan, past: Past, rules: GuardConfig) -> Refusal | None:
    """One at a time is always allowed; a share is rounded down. What others took since the look counts too."""
    seen = plan.around
    allowed = max(1, int(rules.max_share * seen.members))
    down = seen.down + sum(one.takes for one in past.busy if one.group == seen.group)
    if seen.takes == 0 or down + seen.takes <= allowed:
        return None
    words = f"{down} of {seen.members} {seen.group} are down or taken already and {seen.takes} would be taken"
    return Refusal("share", f"{words}, at most {allowed}")


def _hands_off(plan: Plan, rules: GuardConfig, now: Instant) -> Refusal | None:
    at = plan.around.changed_at
    if at is None or now - at >= rules.hands_off:
        return None
    words = f"{plan.around.changed_by} changed {plan.object} {max(now - at, 0):.0f}s ago"
    return Refusal("hands_off", f"{words}, left alone {rules.hands_off}")


def _still_wrong(policy: RemedyConfig, look: Look) -> Refusal | None:
    if look.fine is None:
        return Refusal("condition_unknown", f"Prometheus could not say whether {policy.verify.query}")
    return Refusal("already_fine", f"{policy.verify.query} holds already") if look.fine else None


def _dry_run(plan: Plan, rules: GuardConfig) -> Refusal | None:
    return Refusal("dry_run", f"dry run: {plan.target} was not done") if rules.dry_run else None


def _plan(case: Case, policy: RemedyConfig | None, look: Look) -> Refusal | None:
    if policy is None:
        return Refusal("policy_gone", f"the config has no policy {case.policy} any more")
    if look.plan is None:
        return Refusal("target_unknown", "the target did not answer")
    if isinstance(look.plan, Refusal):
        return look.plan
    if look.plan.hash != case.plan_hash:
        return Refusal("plan_changed", "the target or the policy was changed after the plan was made")
    return None


def _state(state: AlertState | None) -> Refusal | None:
    if state == "absent":
        return Refusal("resolved", "the alert is not firing any more")
    if state == "suppressed":
        return Refusal("suppressed", "the alert is silenced or inhibited")
    return None if state == "active" else Refusal("alertmanager_unknown", "Alertmanager did not answer")
