"""Alert + policies -> Proposal or Refusal(reason); pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import promql_parser

from sidecar.remedy import matchers
from sidecar.remedy.actions import Action
from sidecar.remedy.actions.words import Plan, digest
from sidecar.remedy.past import Ended, in_a_row, odds
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Duration, Section

ORDERS = ("given", "best")
APPROVALS = ("manual", "auto", "earned")


class VerifyConfig(Section, frozen=True, kw_only=True):
    """How success is recognised: `query` true for `hold`, within `within`; `harm` true undoes at once."""

    query: str
    """PromQL that says that it helped; must not hold yet when it acts. Of a comparison with a number, what is
    compared is kept before and after, beside its siblings that were left alone."""
    within: Duration = Duration(600)
    """How long it may take."""
    hold: Duration = Duration(0)
    """How long it must stay."""
    harm: str | None = None
    """PromQL that says that it did harm: undone at once; harm that was there before counts once it has ended."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from not_promql("query", self.query)
        yield from not_promql("harm", self.harm)
        if self.hold >= self.within:
            yield "hold", f"must be shorter than within ({self.within})"


def not_promql(place: str, query: str | None) -> Iterator[tuple[str, str]]:
    """The problem of a query that cannot be read."""
    try:
        if query is not None:
            promql_parser.parse(query)
    except ValueError as error:
        yield place, f"not PromQL: {error}"


class EarnedConfig(Section, frozen=True, kw_only=True):
    """When a policy with `approval: earned` acts alone; the first failure makes it ask again."""

    in_a_row: int = 10
    """Successes in a row that a person approved, before it acts alone; the first failure, or a change of
    its action or `verify`, makes it ask again."""
    floor: float = 0.7
    """And its success rate must be above this, 19 times of 20."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.in_a_row < 1:
            yield "in_a_row", "must be at least 1"
        if not 0 <= self.floor < 1:
            yield "floor", "must be at least 0 and below 1"


class Alternative(Section, frozen=True, kw_only=True):
    """What is proposed when the one before did not help."""

    action: Action
    verify: VerifyConfig | None = None


class RemedyConfig(Section, frozen=True, kw_only=True):
    """One policy."""

    name: str
    """Name of the policy."""
    match: tuple[str, ...]
    """Alertmanager matchers, all of which must fit."""
    when: str | None = None
    """PromQL that must hold too."""
    min_confidence: float = 0.0
    """Of the alert's series."""
    min_probability: float = 0.0
    """That a limit of it is crossed within the hour: for alerts on `promantis_breach_probability`."""
    action: Action
    """What is done, see actions."""
    approval: str = "manual"
    """`manual`: a person approves the plan; `auto`: nobody is asked; `earned`: nobody is asked once it proved
    itself. What cannot be undone needs a person always."""
    earned: EarnedConfig = EarnedConfig()
    verify: VerifyConfig
    then: tuple[Alternative, ...] = ()
    """List of `{action, verify}`: proposed one after the other when the one before did not help and was undone."""
    order: str = "given"
    """Of these and the first one: `given`, or `best`: by what helped most so far with the pattern of failure that is
    recognised (below three outcomes: with all), drawn at random by how sure that is (Thompson)."""
    cooldown: Duration = Duration(1800)
    """Between two actions on the same target, whichever policy acts."""
    expires: Duration = Duration(3600)
    """A case that nobody approved is void then."""
    experiment: float = 0.0
    """Share of proposals, at most 0.5, held back at random to see how alerts end without the remedy; never of
    severity `critical`."""
    cost_per_minute: float = 0.0
    """What a minute of its alert costs, in a currency of yours: for `promantis_cost_saved_total`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.name or "/" in self.name:
            yield "name", "must not be empty" if not self.name else "must not hold a slash"
        if not self.match:
            yield "match", "needs at least one matcher: none would match every alert"
        for i, text in enumerate(self.match):
            try:
                matchers.parse(text)
            except ValueError as error:
                yield f"match[{i}]", str(error)
        for name, most in (("min_confidence", 1), ("min_probability", 1), ("experiment", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                yield name, f"must lie between 0 and {most}"
        if not 0 <= self.cost_per_minute < math.inf:
            yield "cost_per_minute", "must be a number, at least 0"
        if self.approval not in APPROVALS:
            yield "approval", f"unknown approval {self.approval!r} (one of {', '.join(APPROVALS)})"
        if self.order not in ORDERS:
            yield "order", f"unknown order {self.order!r} (one of {', '.join(ORDERS)})"
        for place, words in self.earned.problems():
            yield f"earned.{place}", words
        yield from not_promql("when", self.when)
        tries = [("", self.action, self.verify)]
        tries += [(f"then[{i}].", one.action, one.verify or self.verify) for i, one in enumerate(self.then)]
        for below, action, verify in tries:
            for place, words in action.problems():
                yield f"{below}action.{place}", words
            for place, words in verify.problems():
                yield f"{below}verify.{place}", words
            if self.approval != "manual" and action.no_undo:
                yield f"{below}action", f"a person must approve what cannot be undone: {action.no_undo}"
        if self.expires <= 0:
            yield "expires", "must be longer than 0s"


REASONS = (
    *("confidence_unknown", "confidence_low", "condition_unknown", "condition_false", "template", "target"),
    *("kill_switch", "expired", "plan_changed", "policy_gone", "resolved", "suppressed", "frozen", "blocked"),
    *("alertmanager_unknown", "target_unknown", "repeated", "cooldown", "after_undo", "busy", "targets"),
    *("rate_policy", "rate_target", "rate_namespace", "rate_total", "share", "protected", "hands_off"),
    *(
        "probability_unknown",
        "probability_low",
        "held_back",
        "breaker",
        "storm",
        "already_fine",
        "dry_run",
        "not_allowed",
    ),
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
    """The policies of the config, their matchers compiled, in the order of the file.

    An alternative is a policy of its own, named `<policy>/2` and so on, that waits for the one before it.
    """

    def __init__(self, configs: Iterable[RemedyConfig]) -> None:
        self.by_name: dict[str, RemedyConfig] = {}  # config.py made sure that names differ
        self.families: dict[str, list[str]] = {}
        """By name: all alternatives of the policy that it belongs to, as written."""
        for config in configs:
            self.by_name[config.name] = config
            family = self.families[config.name] = [config.name]
            for n, one in enumerate(config.then, 2):
                name, verify = f"{config.name}/{n}", one.verify or config.verify
                family.append(name)
                self.families[name] = family
                self.by_name[name] = msgspec.structs.replace(
                    config, name=name, action=one.action, verify=verify, then=()
                )
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
                target = policy.action.target(alert)
            except Unfit:
                continue
            how = "at once" if policy.approval == "auto" else "when approved"
            condition = f", if {policy.when}" if policy.when else ""
            return f"{policy.name}: {target} {how}{condition}"
        return ""


def acts_alone(policy: RemedyConfig, ended: Sequence[Ended]) -> bool:
    """Whether nobody is asked; `ended` are the outcomes of this policy."""
    if policy.approval != "earned":
        return policy.approval == "auto"
    now = policy_hash(policy)  # another action, or another measure of success, has earned nothing yet
    ended = [one for one in ended if one.hash == now]
    enough = in_a_row(ended, person=True) >= policy.earned.in_a_row
    return enough and odds(ended).lower > policy.earned.floor


def propose(
    policy: RemedyConfig,
    alert: Alert,
    confidence: float | None,
    condition: bool | None,
    probability: float | None = None,
) -> Proposal | Refusal:
    """Judge one matching policy. What is not known (None) refuses: it fails closed.

    `confidence` is that of the alert's series, `probability` that of a breach within the hour, `condition` the
    outcome of `when`.
    """
    why = [f"{alert.label('alertname') or 'the alert'} matches {', '.join(policy.match)}"]
    if policy.min_confidence > 0:
        if confidence is None:
            return Refusal("confidence_unknown", "no watched series belongs to the alert")
        if confidence < policy.min_confidence:
            words = f"confidence {confidence:.2f} is below {policy.min_confidence:g}"
            return Refusal("confidence_low", words)
        why.append(f"confidence {confidence:.2f} is at least {policy.min_confidence:g}")
    if policy.min_probability > 0:
        if probability is None:
            return Refusal("probability_unknown", "no limit of the alert's series is forecast")
        if probability < policy.min_probability:
            words = f"probability {probability:.2f} is below {policy.min_probability:g}"
            return Refusal("probability_low", words)
        why.append(f"probability {probability:.2f} is at least {policy.min_probability:g}")
    if policy.when is not None:
        if refusal := condition_refusal(policy.when, condition):
            return refusal
        why.append(f"{policy.when} holds")
    try:
        target = policy.action.target(alert)
    except Unfit as error:
        return unfit(error)
    return Proposal(policy.name, target, tuple(why), float(policy.expires))


def unfit(error: Unfit) -> Refusal:
    """The refusal for what cannot be planned."""
    if error.reason == "template":
        return Refusal("template", str(error))
    return Refusal("target", str(error))


def condition_refusal(when: str, condition: bool | None) -> Refusal | None:
    """Why `when` forbids it, None when it holds."""
    if condition is None:
        return Refusal("condition_unknown", f"Prometheus could not say whether {when}")
    return None if condition else Refusal("condition_false", f"{when} does not hold")


def kind(policy: RemedyConfig) -> str:
    """The type of its action."""
    return str(policy.action.__struct_config__.tag)


def policy_hash(policy: RemedyConfig) -> str:
    """What would be done and how success is recognised, secrets included."""
    return digest(policy.action, policy.verify)


def action_hash(policy: RemedyConfig) -> str:
    """What would be done, secrets included."""
    return digest(policy.action)


def plan_hash(policy: RemedyConfig, plan: Plan) -> str:
    """What an approval is bound to: all that would be sent, what it changes, and how success is recognised."""
    return digest(policy_hash(policy), plan.target, plan.do, plan.undo, plan.saved)
