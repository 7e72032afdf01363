"""What the metrics say of cases and policies, from the fold of the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sidecar.remedy import breaker
from sidecar.remedy.breaker import BreakerConfig
from sidecar.remedy.case import STAGES, Book, Case, Draft, Fact
from sidecar.remedy.guard import family
from sidecar.remedy.past import odds, of_cause
from sidecar.remedy.policy import REASONS, Policies, kind
from sidecar.remedy.worth import Over
from sidecar.telemetry import Telemetry
from sidecar.types import Instant


def start(telemetry: Telemetry, cases: Iterable[Case]) -> None:
    """All that can be counted is there from the first scrape on."""
    for stage in STAGES:
        telemetry.cases.labels(stage).set(0)
    for reason in REASONS:
        telemetry.refusals.labels(reason)
    for case in cases:
        telemetry.cases.labels(case.stage).inc()


def forget(telemetry: Telemetry) -> None:
    """Say nothing of cases and policies: another replica does."""
    of_policies = (telemetry.odds, telemetry.trials, telemetry.breaker_open)
    for gauge in (*of_policies, telemetry.cause_rate, telemetry.cause_outcomes, telemetry.policy_effect):
        gauge.clear()
    start(telemetry, ())


def publish(telemetry: Telemetry, policies: Policies, book: Book, rules: BreakerConfig, now: Instant) -> None:
    """How each policy does."""
    past = book.past()
    telemetry.cause_rate.clear()  # of policies that are gone
    telemetry.cause_outcomes.clear()
    telemetry.policy_effect.clear()
    for name, policy in policies.by_name.items():
        ended = book.outcomes(name, kind(policy))  # looked through once: they are kept for good
        told = odds(ended)
        for cause in {one.cause for one in ended}:
            mine = of_cause(odds(one for one in ended if one.cause == cause), told)
            labels = (name, kind(policy), cause or "unknown")
            telemetry.cause_rate.labels(*labels).set(mine.mean)
            telemetry.cause_outcomes.labels(*labels, "true").set(mine.good)
            telemetry.cause_outcomes.labels(*labels, "false").set(mine.bad)
        telemetry.exhausted.labels(family(name))
        telemetry.avoided.labels(name)
        telemetry.saved.labels(name)
        for outcome in ("fixed", "failed"):
            telemetry.outcomes.labels(name, kind(policy), outcome)
        for outcome in ("done", "failed", "unclear"):
            telemetry.actions.labels(name, kind(policy), outcome)
        for of, found in (book.compared.get(name) or {}).items():
            shown = [found["estimate"], *(found["interval"] or ())]
            for stat, number in zip(("estimate", "lower", "upper"), shown, strict=False):
                telemetry.policy_effect.labels(name, of, stat).set(number)
        opened = breaker.state(name, past, rules, now) != "closed"
        telemetry.breaker_open.labels(name).set(opened)
        trials = book.effect(name, now)
        telemetry.odds.labels(name, "mean").set(told.mean)
        telemetry.odds.labels(name, "lower").set(told.lower)
        for group, value in (("treated", trials.treated), ("control", trials.control)):
            telemetry.trials.labels(name, group, "true").set(value.good)
            telemetry.trials.labels(name, group, "false").set(value.bad)


def breakers(policies: Policies, book: Book, rules: BreakerConfig, now: Instant) -> dict[str, str]:
    """The breakers that are not closed, by policy."""
    past = book.past()
    states = {name: breaker.state(name, past, rules, now) for name in policies.by_name}
    return {f"breaker {name}": state for name, state in states.items() if state != "closed"}


def turned(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Draft]:
    """Facts about what turned: `breaker.opened`, `.half_open`, `.closed`, and `storm.began`, `.ended`."""
    for key in {**before, **now}:
        kind, _, policy = key.partition(" ")
        new = now.get(key, "")
        if kind == "storm" and bool(before.get(key)) != bool(new):
            yield Draft("storm.began" if new else "storm.ended", None, "system", {"words": new})
        elif kind == "breaker" and before.get(key, "") != new:
            verb = {"open": "opened", "half_open": "half_open", "": "closed"}[new]
            yield Draft(f"breaker.{verb}", None, "system", {"policy": policy})


def count(telemetry: Telemetry, policies: Policies, fact: Fact, old: Case | None, new: Case | None) -> None:
    """One more fact, and the case before and after it."""
    if new and (old is None or old.stage != new.stage):
        telemetry.cases.labels(new.stage).inc()
        if old:
            telemetry.cases.labels(old.stage).dec()
    if fact.kind == "case.refused":
        telemetry.refusals.labels(fact.data["reason"]).inc()
    part, _, outcome = fact.kind.partition(".")
    if new and part in ("action", "undo") and outcome != "intent":
        outcome = "unclear" if fact.data.get("unclear") else outcome
        name = _kind(policies, new.policy)
        telemetry.actions.labels(new.policy, name if part == "action" else f"{name} undo", outcome).inc()
    lost = fact.kind == "action.failed" and not fact.data.get("unclear")
    if new and (part == "verify" or lost):
        good = fact.kind == "verify.passed"
        name = _kind(policies, new.policy)
        telemetry.outcomes.labels(new.policy, name, "fixed" if good else "failed").inc()


def count_over(telemetry: Telemetry, policies: Policies, over: Over) -> None:
    """An episode that ended."""
    if not over.own:
        telemetry.time_to_recover.labels(over.remedy).observe(over.lasted)
    if policy := policies.by_name.get(over.policy):
        telemetry.avoided.labels(policy.name).inc(over.spared)
        telemetry.saved.labels(policy.name).inc(over.spared / 60 * policy.cost_per_minute)


def _kind(policies: Policies, name: str) -> str:
    policy = policies.by_name.get(name)
    return kind(policy) if policy else "gone"
