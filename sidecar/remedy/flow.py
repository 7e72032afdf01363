"""The life of a case: (case, event, now) -> (case, effects); pure.

    proposed -> planned -> approved -> acting -> verifying -> fixed | undone | failed | unknown
    and on the way: refused | denied | expired

What happened is recorded first, then something is done: `Record` effects go into the journal before the
effect behind them starts. A case that is found `acting` lost its outcome, and is never done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from sidecar.remedy import guard
from sidecar.remedy.action import Plan, Request
from sidecar.remedy.case import Case, Draft, Fact, Intent, fold
from sidecar.remedy.guard import Look
from sidecar.remedy.policy import Proposal, Refusal, RemedyConfig, plan
from sidecar.types import Alert, Instant, JsonObject, Rejected

LAST_CHANCE = 30.0
"""Seconds, besides `hold`, that a verification found late after a restart still gets."""
WAITS = ("alertmanager_unknown", "condition_unknown")
"""Refusals that may pass by themselves: an approved case waits for them until it expires."""


class Journal(Protocol):
    """Append-only facts."""

    async def append(self, at: Instant, drafts: Sequence[Draft]) -> list[Fact]:
        """All or none, durable on return; Unavailable when they cannot be stored."""
        ...

    async def facts(self, since: int = 0) -> list[Fact]:
        """Facts with a seq above `since`, in order."""
        ...


# --------------------------------------------------------------------------- events


class Judged(NamedTuple):
    """A policy was held against an episode."""

    case: str
    fingerprint: str
    episode: int
    alert: Alert
    policy: str
    verdict: Proposal | Refusal
    look: Look


class PlanWanted(NamedTuple):
    """Somebody wants to see what exactly would be done."""

    who: str


class Approve(NamedTuple):
    """Somebody agrees to the plan with this hash."""

    who: str
    plan_hash: str


class Deny(NamedTuple):
    """Somebody says no."""

    who: str
    reason: str


class Tick(NamedTuple):
    """Time has passed."""


class Restarted(NamedTuple):
    """The case was just read back from the journal."""


class Looked(NamedTuple):
    """The world just before acting."""

    look: Look


class Answered(NamedTuple):
    """The request came back: `status` None when nobody knows whether it arrived."""

    status: int | None
    words: str
    undo: bool


class Observed(NamedTuple):
    """What Prometheus says of the verification; None: it could not say."""

    ok: bool | None
    harm: bool | None


Event = Judged | PlanWanted | Approve | Deny | Tick | Restarted | Looked | Answered | Observed

# --------------------------------------------------------------------------- effects


class Record(NamedTuple):
    """Journal this."""

    draft: Draft


class LookAround(NamedTuple):
    """Ask Alertmanager, the kill switch and `when`; answer with Looked."""

    when: str | None


class Call(NamedTuple):
    """Send the request; answer with Answered."""

    request: Request
    undo: bool


class Ask(NamedTuple):
    """Ask Prometheus; answer with Observed."""

    query: str
    harm: str | None


Effect = Record | LookAround | Call | Ask


# --------------------------------------------------------------------------- the step


def step(
    case: Case | None, event: Event, now: Instant, policy: RemedyConfig | None, past: Sequence[Intent] = ()
) -> tuple[Case | None, tuple[Effect, ...]]:
    """One turn of a case. Rejected (409) when a person asks for what does not fit; late events are ignored.

    `policy` is the case's policy as the config has it now (None: gone), `past` every intent so far.
    """
    if isinstance(event, Judged):
        drafts, effect = _judged(case, event, now, policy, past), None
    elif case is None:
        raise Rejected("there is no such case", 404)
    else:
        drafts, effect = _turn(case, event, now, policy, past)
        if isinstance(event, Restarted) and case.stage == "verifying" and case.deadline is not None:
            hold = policy.verify.hold if policy else 0.0
            late = Instant(max(case.deadline, now + hold + LAST_CHANCE))
            case = msgspec.structs.replace(case, deadline=late)
        if isinstance(event, Observed) and case.stage == "verifying":
            since = (case.holding_since or now) if _holds(event, policy) else None
            case = msgspec.structs.replace(case, holding_since=since)
    for draft in drafts:
        case = fold(case, draft, now)
    return case, (*map(Record, drafts), *([effect] if effect else []))


Turn = tuple[list[Draft], Effect | None]


def _turn(
    case: Case, event: Event, now: Instant, policy: RemedyConfig | None, past: Sequence[Intent]
) -> Turn:
    match event:
        case PlanWanted(who):
            _fits(case, now, "plan", "proposed", "planned")
            return _plan(case, policy, who), None
        case Approve(who, plan_hash):
            _fits(case, now, "approve", "planned")
            if plan_hash != case.plan_hash:
                raise Rejected(f"the plan is {case.plan_hash}, not {plan_hash}: look at it again", 409)
            return [_draft(case, "case.approved", {"plan_hash": plan_hash}, who)], None
        case Deny(who, reason):
            _fits(case, now, "deny", "proposed", "planned", "approved")
            return [_draft(case, "case.denied", {"words": reason}, who)], None
        case Looked(look) if case.stage == "approved":
            return _act(case, look, now, policy, past)
        case Looked(look) if case.stage == "verifying" and case.to_undo:
            return _undo(case, look, policy)
        case Answered() if case.stage == "acting" and event.undo == case.undo_intent:
            return [_answered(case, event, now, policy)], None
        case Observed() if case.stage == "verifying" and not case.to_undo:
            return _observed(case, event, now, policy), None
        case Tick():
            return _tick(case, now, policy)
        case _:
            return [], None


def _judged(
    case: Case | None, event: Judged, now: Instant, policy: RemedyConfig | None, past: Sequence[Intent]
) -> list[Draft]:
    """A first proposal or refusal, or another try after a refusal; the same refusal is not said twice."""
    if policy is None or (case is not None and (case.stage != "refused" or case.intent_at or case.resolved)):
        return []
    verdict = event.verdict
    if isinstance(verdict, Proposal):
        key = (event.fingerprint, event.episode, verdict.target)
        verdict = guard.at_proposal(key, policy, event.look, past, now) or verdict
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
        about |= {"reason": verdict.reason, "words": verdict.words}
        return [Draft("case.refused", event.case, "system", about)]
    about |= {"target": verdict.target, "why": list(verdict.why), "expires_at": now + verdict.expires}
    return [Draft("case.proposed", event.case, "system", about)]


def _tick(case: Case, now: Instant, policy: RemedyConfig | None) -> Turn:
    if case.stage in ("proposed", "planned", "approved"):
        over = (
            Refusal("resolved", "the alert resolved by itself") if case.resolved else guard.expired(case, now)
        )
        if over:
            return [_draft(case, "case.expired", over._asdict())], None
        if case.stage == "approved":
            return [], LookAround(policy.when if policy else None)
        if policy and policy.approval == "auto":
            drafts = _plan(case, policy, "system")
            if drafts[-1].kind == "plan.made":
                bound = {"plan_hash": drafts[-1].data["plan_hash"]}
                drafts.append(_draft(case, "case.approved", bound, f"policy {policy.name}"))
            return drafts, None
    elif case.stage == "acting":
        lost = Answered(None, "Promantis stopped before the answer came", case.undo_intent)
        return [_answered(case, lost, now, policy)], None
    elif case.stage == "verifying" and case.to_undo:
        return [], LookAround(None)
    elif case.stage == "verifying":
        if policy is None:
            return [_verify_failed(case, None, "the policy is gone, nobody knows how to verify", False)], None
        return [], Ask(policy.verify.query, policy.verify.harm)
    return [], None


def _plan(case: Case, policy: RemedyConfig | None, who: str) -> list[Draft]:
    made = (
        plan(policy, case.alert)
        if policy
        else Refusal("policy_gone", "the config has no such policy any more")
    )
    if isinstance(made, Refusal):
        return [_draft(case, "case.refused", made._asdict())]
    data = {"plan": made[0].shown(), "plan_hash": made[1], "target": made[0].target}
    return [_draft(case, "plan.made", data, who)]


def _replan(case: Case, policy: RemedyConfig | None) -> tuple[Plan, str] | None:
    """The plan as it would be made now: the journal keeps no secrets, so it is rendered again."""
    made = plan(policy, case.alert) if policy else None
    return None if isinstance(made, Refusal) else made


def _act(case: Case, look: Look, now: Instant, policy: RemedyConfig | None, past: Sequence[Intent]) -> Turn:
    ready = _replan(case, policy)
    results = guard.checks(case, policy, ready[1] if ready else "", look, past, now)
    shown = [
        {"name": c.name, "ok": not c.refusal, "words": c.refusal.words if c.refusal else ""} for c in results
    ]
    refusals = [c.refusal for c in results if c.refusal]
    for refusal in refusals:
        if refusal.reason == "expired":
            return [_draft(case, "case.expired", refusal._asdict())], None
        if refusal.reason not in WAITS:
            return [_draft(case, "case.refused", {**refusal._asdict(), "guard": shown})], None
    if refusals or ready is None:
        return [], None
    intent = {"guard": shown, "target": case.target, "plan_hash": case.plan_hash}
    return [_draft(case, "intent", intent)], Call(ready[0].do, undo=False)


def _undo(case: Case, look: Look, policy: RemedyConfig | None) -> Turn:
    """At most once, and only what was approved with the plan."""
    made = _replan(case, policy)
    words = ""
    if look.killed:
        words = "not undone: the kill switch is on"
    elif made is None or made[1] != case.plan_hash or made[0].undo is None:
        words = "not undone: the policy was changed after the plan was made"
    elif not case.undo_intent:
        return [_draft(case, "undo.intent", {})], Call(made[0].undo, undo=True)
    return [_draft(case, "undo.failed", {"words": words})], None


def _answered(case: Case, event: Answered, now: Instant, policy: RemedyConfig | None) -> Draft:
    """2xx is done; no answer or 5xx may have been done; anything else was not."""
    name = "undo" if event.undo else "action"
    data: JsonObject = {"status": event.status, "words": event.words}
    if event.status is not None and 200 <= event.status < 300:
        kind = f"{name}.done"
    else:
        kind = f"{name}.failed"
        data["unclear"] = event.status is None or event.status >= 500
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
    if event.harm:
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
    undo = policy is not None and policy.action.undo is not None and not case.unclear and not case.undo_intent
    if case.unclear:
        words += "; whether the action was done is not known: look yourself"
    return _draft(case, "verify.failed", {"words": words, "harm": harm, "undo": undo})


def _fits(case: Case, now: Instant, verb: str, *stages: str) -> None:
    if case.stage not in stages:
        hint = ": make a plan first" if (verb, case.stage) == ("approve", "proposed") else ""
        raise Rejected(f"cannot {verb} a case that is {case.stage}{hint}", 409)
    if case.resolved or now >= case.expires_at:
        raise Rejected(f"cannot {verb} a case that is {'resolved' if case.resolved else 'expired'}", 409)


def _draft(case: Case, kind: str, data: JsonObject, who: str = "system") -> Draft:
    return Draft(kind, case.id, who, data)
