"""The life of a case: (case, event, now) -> (case, effects); pure.

    proposed -> planned -> approved -> acting -> verifying -> fixed | undone | failed | unknown
    and on the way: refused | denied | expired

What happened is recorded first, then something is done: `Record` effects go into the journal before the
effect behind them starts. A case that is found `acting` lost its outcome, and is never done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from sidecar.remedy import guard
from sidecar.remedy.actions.words import Job, Outcome
from sidecar.remedy.case import Case, Draft, Fact, fold
from sidecar.remedy.effect import held_back
from sidecar.remedy.events import (
    Answered,
    Apply,
    Approve,
    Ask,
    Deny,
    Effect,
    Event,
    Judged,
    LookAround,
    Looked,
    Made,
    MakePlan,
    Measure,
    Measured,
    Observed,
    PlanWanted,
    ReadBack,
    Record,
    Restarted,
    TakeBack,
    Tick,
)
from sidecar.remedy.guard import FINAL, WAITS, GuardConfig, Look, Planned
from sidecar.remedy.measure import difference, kept, read
from sidecar.remedy.past import Past
from sidecar.remedy.policy import (
    Proposal,
    Refusal,
    RemedyConfig,
    action_hash,
    acts_alone,
    kind,
    policy_hash,
)
from sidecar.types import Instant, JsonObject, Rejected

LAST_CHANCE = 30.0
"""Seconds, besides `hold`, that a verification found late after a restart still gets."""


class Journal(Protocol):
    """Append-only facts."""

    async def append(self, at: Instant, drafts: Sequence[Draft]) -> list[Fact]:
        """All or none, durable on return; Unavailable when they cannot be stored."""
        ...

    async def facts(self, since: int = 0) -> list[Fact]:
        """Facts with a seq above `since`, in order."""
        ...


def step(
    case: Case | None,
    event: Event,
    now: Instant,
    policy: RemedyConfig | None,
    past: Past,
    rules: GuardConfig,
) -> tuple[Case | None, tuple[Effect, ...]]:
    """One turn of a case. Rejected (409) when a person asks for what does not fit; late events are ignored.

    `policy` is the case's policy as the config has it now (None: gone), `past` everything done so far.
    """
    if isinstance(event, Judged):
        drafts, effect = _judged(case, event, now, policy, past, rules), None
    elif case is None:
        raise Rejected("there is no such case: `promantis cases` lists them", 404)
    else:
        drafts, effect = _turn(case, event, now, policy, past, rules)
        if isinstance(event, Restarted) and case.stage == "verifying" and case.deadline is not None:
            hold = policy.verify.hold if policy else 0.0
            late = Instant(max(case.deadline, now + hold + LAST_CHANCE))
            case = msgspec.structs.replace(case, deadline=late)
        if isinstance(event, Observed) and case.stage == "verifying":
            since = (case.holding_since or now) if _holds(event, policy) else None
            before = case.harm_before and event.harm is not False
            case = msgspec.structs.replace(case, holding_since=since, harm_before=before)
    for draft in drafts:
        case = fold(case, draft, now)
    return case, (*map(Record, drafts), *([effect] if effect else []))


Turn = tuple[list[Draft], Effect | None]


def _turn(
    case: Case, event: Event, now: Instant, policy: RemedyConfig | None, past: Past, rules: GuardConfig
) -> Turn:
    match event:
        case PlanWanted(who):
            _fits(case, now, "plan", "proposed", "planned")
            return _plan(case, policy, who)
        case Made(who, plan) if case.stage in ("proposed", "planned"):
            return _made(case, plan, who, policy, past), None
        case Approve(who, plan_hash):
            _fits(case, now, "approve", "planned")
            if plan_hash != case.plan_hash:
                raise Rejected(f"the plan is {case.plan_hash}, not {plan_hash}: look at it again", 409)
            return [_draft(case, "case.approved", {"plan_hash": plan_hash}, who)], None
        case Deny(who, reason):
            _fits(case, now, "deny", "proposed", "planned", "approved")
            return [_draft(case, "case.denied", {"words": reason}, who)], None
        case Looked(look) if case.stage == "approved":
            return _act(case, look, now, policy, past, rules)
        case Looked(look) if case.stage == "verifying" and case.to_undo:
            return _undo(case, look, policy)
        case Answered() if case.stage == "acting" and event.undo == case.undo_intent:
            return [_answered(case, event, now, policy)], None
        case Observed() if case.stage == "verifying" and not case.to_undo:
            drafts = _observed(case, event, now, policy)
            over = bool(drafts) and not drafts[0].data.get("harm")  # harm is undone before anything else
            return drafts, Measure(policy.verify.query) if over and policy and case.before else None
        case Measured(values) if values and case.before and case.effect is None:
            found = difference(read(case.before), values, case.labels)
            data = {"words": case.words, "after": kept(values), "effect": found}
            return [_draft(case, "effect.measured", data)] if found else [], None
        case Tick():
            return _tick(case, now, policy, past)
        case _:
            return [], None


def _judged(
    case: Case | None,
    event: Judged,
    now: Instant,
    policy: RemedyConfig | None,
    past: Past,
    rules: GuardConfig,
) -> list[Draft]:
    """A first proposal or refusal, or another try after a refusal; the same refusal is not said twice."""
    if policy is None or (case is not None and not _may_try_again(case, now, policy)):
        return []
    verdict = event.verdict
    if isinstance(verdict, Proposal):
        key = (event.fingerprint, event.episode, verdict.target)
        verdict = (
            guard.at_proposal(key, policy, event.look, past, rules, now)
            or _held_back(event, policy)
            or verdict
        )
    about: JsonObject = {
        "fingerprint": event.fingerprint,
        "episode": event.episode,
        "policy": event.policy,
        "labels": dict(event.alert.labels),
        "annotations": dict(event.alert.annotations),
    }
    if isinstance(verdict, Refusal):
        if case is not None and case.reason == verdict.reason:
            return []
        about |= {"reason": verdict.reason, "words": verdict.words, "within": float(policy.verify.within)}
        return [Draft("case.refused", event.case, "system", about)]
    about |= {"target": verdict.target, "why": list(verdict.why), "expires_at": now + verdict.expires}
    about |= {"cause": event.look.cause}
    return [Draft("case.proposed", event.case, "system", about)]


def _held_back(event: Judged, policy: RemedyConfig) -> Refusal | None:
    """A share is left to itself, to see what happens without the remedy."""
    if not held_back(policy.experiment, event.case, event.alert.label("severity")):
        return None
    return Refusal("held_back", f"held back at random as control, as are {policy.experiment:.0%}")


def _may_try_again(case: Case, now: Instant, policy: RemedyConfig) -> bool:
    """Refused before anything was done, and not for good; what was refused late waits for the cool-down."""
    if case.stage != "refused" or case.intent_at or case.resolved or case.reason in FINAL:
        return False
    return not case.guard or now - case.since >= policy.cooldown


def _tick(case: Case, now: Instant, policy: RemedyConfig | None, past: Past) -> Turn:
    if case.stage in ("proposed", "planned", "approved"):
        over = (
            Refusal("resolved", "the alert resolved by itself") if case.resolved else guard.expired(case, now)
        )
        if over:
            return [_draft(case, "case.expired", over._asdict())], None
        if case.stage == "approved":
            return [], LookAround(policy)
        if policy and not past.storm and acts_alone(policy, past.of(policy.name)):
            return _plan(case, policy, "system")
    elif case.stage == "acting":
        if policy is None or case.saved is None or not _same_action(case, policy):
            words = "Promantis stopped before the answer came, and the policy was changed"
            return [_answered(case, Answered(Outcome("unclear", words), case.undo_intent), now, policy)], None
        return [], ReadBack(policy.action, _job(case), case.undo_intent)
    elif case.stage == "verifying" and case.to_undo:
        return [], LookAround(None)
    elif case.stage == "verifying":
        if policy is None:
            return [_verify_failed(case, None, "the policy is gone, nobody knows how to verify", False)], None
        return [], Ask(policy.verify.query, policy.verify.harm)
    return [], None


def _plan(case: Case, policy: RemedyConfig | None, who: str) -> Turn:
    if policy is None:
        gone = Refusal("policy_gone", "the config has no such policy any more")
        return [_draft(case, "case.refused", gone._asdict())], None
    return [], MakePlan(policy, who)


def _made(
    case: Case, made: Planned | Refusal, who: str, policy: RemedyConfig | None, past: Past
) -> list[Draft]:
    """The plan; made for nobody it is approved as well, if the policy still may act alone."""
    if isinstance(made, Refusal):
        shown = [{"name": "plan", "ok": False, "words": made.words}]
        return [_draft(case, "case.refused", {**made._asdict(), "guard": shown})]
    drafts = [_planned(case, made, policy, who)]
    if who == "system" and policy and not past.storm and acts_alone(policy, past.of(policy.name)):
        bound = {"plan_hash": made.hash, "auto": True}
        drafts.append(_draft(case, "case.approved", bound, f"policy {policy.name}"))
    return drafts


def _planned(case: Case, made: Planned, policy: RemedyConfig | None, who: str, words: str = "") -> Draft:
    plan = made.plan
    data: JsonObject = {
        "plan": plan.shown(),
        "plan_hash": made.hash,
        "policy_hash": policy_hash(policy) if policy else "",
        "action_hash": action_hash(policy) if policy else "",
        "target": plan.target,
        "object": plan.object,
        "namespace": plan.namespace,
        "saved": plan.saved,
    }
    return _draft(case, "plan.made", data | ({"words": words} if words else {}), who)


def _same_action(case: Case, policy: RemedyConfig) -> bool:
    """Whether the policy still does, and takes back, what was planned."""
    if not case.action_hash:  # a journal of before
        return policy_hash(policy) == case.policy_hash
    return action_hash(policy) == case.action_hash


def _job(case: Case) -> Job:
    return Job(case.id, case.alert, case.saved or {})


def _act(
    case: Case, look: Look, now: Instant, policy: RemedyConfig | None, past: Past, rules: GuardConfig
) -> Turn:
    if look.at is not None and now - look.at > guard.FRESH:
        return [], None
    results = guard.checks(case, policy, look, past, rules, now)
    shown = guard.shown(results)
    refusals = [c.refusal for c in results if c.refusal]
    if (
        case.auto
        and policy
        and isinstance(look.plan, Planned)
        and not acts_alone(policy, past.of(policy.name))
    ):
        return [
            _planned(case, look.plan, policy, "system", "it may not act alone any more: approve it")
        ], None
    for refusal in refusals:
        if refusal.reason == "expired":
            return [_draft(case, "case.expired", refusal._asdict())], None
        if refusal.reason == "plan_changed" and isinstance(look.plan, Planned) and not case.auto:
            words = f"{refusal.words}: this is the new one, approve it again"
            return [_planned(case, look.plan, policy, "system", words)], None
        if refusal.reason not in WAITS:
            return [_draft(case, "case.refused", {**refusal._asdict(), "guard": shown})], None
    if refusals or policy is None:
        return [], None
    intent: JsonObject = {
        "guard": shown,
        "target": case.target,
        "plan_hash": case.plan_hash,
        "harm": look.harm is True,
        "within": float(policy.verify.within),
        "action": kind(policy),
        "cause": look.cause,
    }
    if look.values:
        intent["before"] = kept(look.values)
    if isinstance(look.plan, Planned):
        intent |= {"group": look.plan.plan.around.group, "takes": look.plan.plan.around.takes}
    return [_draft(case, "intent", intent)], Apply(policy.action, _job(case))


def _undo(case: Case, look: Look, policy: RemedyConfig | None) -> Turn:
    """At most once, and only what was approved with the plan."""
    words = ""
    if look.killed:
        words = "not undone: the kill switch is on"
    elif policy is None or not _same_action(case, policy):
        words = "not undone: the policy was changed after the plan was made"
    elif not case.undo_intent:
        return [_draft(case, "undo.intent", {})], TakeBack(policy.action, _job(case))
    return [_draft(case, "undo.failed", {"words": words})], None


def _answered(case: Case, event: Answered, now: Instant, policy: RemedyConfig | None) -> Draft:
    name = "undo" if event.undo else "action"
    data: JsonObject = {"words": event.outcome.words}
    if event.outcome.state == "done":
        kind = f"{name}.done"
    else:
        kind = f"{name}.failed"
        data["unclear"] = event.outcome.state == "unclear"
    if not event.undo:
        data["deadline"] = now + (policy.verify.within if policy else 0.0)
    return _draft(case, kind, data)


def _holds(event: Observed, policy: RemedyConfig | None) -> bool:
    """True, and known to do no harm."""
    harmless = event.harm is False or (policy is not None and policy.verify.harm is None)
    return event.ok is True and harmless


def _observed(case: Case, event: Observed, now: Instant, policy: RemedyConfig | None) -> list[Draft]:
    if policy is None:
        return []
    if event.harm and not case.harm_before:
        return [_verify_failed(case, policy, f"it did harm: {policy.verify.harm}", True)]
    if _holds(event, policy) and now - (case.holding_since or now) >= policy.verify.hold:
        return [_draft(case, "verify.passed", {"words": f"{policy.verify.query} holds"})]
    if case.deadline is not None and now >= case.deadline:
        said = (
            "could not be asked"
            if event.ok is None
            else "did not hold long enough"
            if event.ok
            else "is not true"
        )
        return [_verify_failed(case, policy, f"{policy.verify.query} {said} in time", False)]
    return []


def _verify_failed(case: Case, policy: RemedyConfig | None, words: str, harm: bool) -> Draft:
    undo = policy is not None and not policy.action.no_undo and not case.unclear and not case.undo_intent
    if case.unclear:
        words += "; whether the action was done is not known: look yourself"
    elif policy is not None and policy.action.no_undo:
        words += f"; not undone: {policy.action.no_undo}"
    return _draft(case, "verify.failed", {"words": words, "harm": harm, "undo": undo})


def _fits(case: Case, now: Instant, verb: str, *stages: str) -> None:
    if case.stage not in stages:
        hint = ": make a plan first" if (verb, case.stage) == ("approve", "proposed") else ""
        raise Rejected(f"cannot {verb} a case that is {case.stage}{hint}", 409)
    if case.resolved or guard.expired(case, now):
        raise Rejected(f"cannot {verb} a case that is {'resolved' if case.resolved else 'expired'}", 409)


def _draft(case: Case, kind: str, data: JsonObject, who: str = "system") -> Draft:
    return Draft(kind, case.id, who, data)
