"""Alert + policies -> Proposal or Refusal(reason); pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import promql_parser

from sidecar.remedy import matchers, templates
from sidecar.remedy.action import HttpAction, Plan, plan_hash
from sidecar.types import Alert, Duration, Section

APPROVALS = ("manual", "auto")


class VerifyConfig(Section, frozen=True, kw_only=True):
    """How success is recognised: `query` true for `hold`, within `within`; `harm` true undoes at once."""

    query: str
    within: Duration = Duration(600)
    hold: Duration = Duration(0)
    harm: str | None = None


class RemedyConfig(Section, frozen=True, kw_only=True):
    """One policy."""

    name: str
    match: tuple[str, ...]
    when: str | None = None
    min_confidence: float = 0.0
    action: HttpAction
    approval: str = "manual"
    verify: VerifyConfig
    cooldown: Duration = Duration(1800)
    expires: Duration = Duration(3600)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.name:
            yield "name", "must not be empty"
        if not self.match:
            yield "match", "needs at least one matcher: none would match every alert"
        for i, text in enumerate(self.match):
            try:
                matchers.parse(text)
            except ValueError as error:
                yield f"match[{i}]", str(error)
        if not 0 <= self.min_confidence <= 1:
            yield "min_confidence", "must lie between 0 and 1"
        for place, words in self.action.problems():
            yield f"action.{place}", words
        if self.approval not in APPROVALS:
            yield "approval", f"unknown approval {self.approval!r} (one of {', '.join(APPROVALS)})"
        queries = {"when": self.when, "verify.query": self.verify.query, "verify.harm": self.verify.harm}
        for place, query in queries.items():
            try:
                if query is not None:
                    promql_parser.parse(query)
            except ValueError as error:
                yield place, f"not PromQL: {error}"
        if self.verify.hold >= self.verify.within:
            yield "verify.hold", f"must be shorter than within ({self.verify.within})"
        if self.expires <= 0:
            yield "expires", "must be longer than 0s"


REASONS = (
    *("confidence_unknown", "confidence_low", "condition_unknown", "condition_false", "template"),
    *("kill_switch", "expired", "plan_changed", "policy_gone", "resolved", "suppressed"),
    *("alertmanager_unknown", "repeated", "cooldown"),
)
"""Every reason of a refusal."""


class Refusal(NamedTuple):
    """Why not: `reason` is a metric label and one of REASONS, `words` are for people."""

    reason: str
    words: str


class Proposal(msgspec.Struct, frozen=True):
    """What a policy would do for an alert."""

    policy: str
    target: str
    why: tuple[str, ...]
    expires: float
    """Seconds from the proposal until it is void."""


class Policies:
    """The policies of the config, their matchers compiled, in the order of the file."""

    def __init__(self, configs: Iterable[RemedyConfig]) -> None:
        self.by_name = {config.name: config for config in configs}  # config.py made sure that names differ
        self._matchers = {n: [matchers.parse(m) for m in c.match] for n, c in self.by_name.items()}

    def matching(self, alert: Alert) -> list[RemedyConfig]:
        """The policies whose matchers all fit the alert."""
        return [
            config
            for name, config in self.by_name.items()
            if all(matcher.matches(alert.labels) for matcher in self._matchers[name])
        ]

    def preview(self, alert: Alert) -> str:
        """What a policy would do, in words for the promantis_remedy annotation; empty when none fits."""
        for policy in self.matching(alert):
            try:
                target = policy.action.plan(alert).target
            except templates.Missing:
                continue
            how = "at once" if policy.approval == "auto" else "when approved"
            condition = f", if {policy.when}" if policy.when else ""
            return f"{policy.name}: {target} {how}{condition}"
        return ""


def propose(
    policy: RemedyConfig, alert: Alert, confidence: float | None, condition: bool | None
) -> Proposal | Refusal:
    """Judge one matching policy. What is not known (None) refuses: it fails closed.

    `confidence` is that of the alert's series, `condition` the outcome of `when`.
    """
    why = [f"{alert.label('alertname') or 'the alert'} matches {', '.join(policy.match)}"]
    if policy.min_confidence > 0:
        if confidence is None:
            return Refusal("confidence_unknown", "no watched series belongs to the alert")
        if confidence < policy.min_confidence:
            words = f"confidence {confidence:.2f} is below {policy.min_confidence:g}"
            return Refusal("confidence_low", words)
        why.append(f"confidence {confidence:.2f} is at least {policy.min_confidence:g}")
    if policy.when is not None:
        if refusal := condition_refusal(policy.when, condition):
            return refusal
        why.append(f"{policy.when} holds")
    planned = plan(policy, alert)
    if isinstance(planned, Refusal):
        return planned
    return Proposal(policy.name, planned[0].target, tuple(why), float(policy.expires))


def condition_refusal(when: str, condition: bool | None) -> Refusal | None:
    """Why `when` forbids it, None when it holds."""
    if condition is None:
        return Refusal("condition_unknown", f"Prometheus could not say whether {when}")
    return None if condition else Refusal("condition_false", f"{when} does not hold")


def plan(policy: RemedyConfig, alert: Alert) -> tuple[Plan, str] | Refusal:
    """The plan for an alert and its hash."""
    try:
        made = policy.action.plan(alert)
    except templates.Missing as error:
        return Refusal("template", str(error))
    return made, plan_hash(made, policy.verify)
