"""How often something helps with which cause: counted, shrunk, shown, and used for whose turn it is."""

from __future__ import annotations

import random

import msgspec
from prometheus_client import CollectorRegistry

from sidecar.alerts.knowledge import Pattern, When
from sidecar.causes import Causes
from sidecar.remedy import numbers, order
from sidecar.remedy.actions.http import HttpAction
from sidecar.remedy.breaker import BreakerConfig
from sidecar.remedy.events import Observed
from sidecar.remedy.past import Ended, Odds, odds, of_cause
from sidecar.remedy.policy import EarnedConfig, Policies, acts_alone, policy_hash
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Duration, Instant, labels_of
from tests.unit.desk import FINE, POLICY, Desk, answered
from tests.unit.test_causes import World

HELPS = {("pool", "a"): 0.9, ("pool", "b"): 0.2, ("leak", "a"): 0.2, ("leak", "b"): 0.9}
"""By cause and alternative: each is good for one cause, and they are equal without it."""


def choices(seed: int, by_cause: bool) -> list[bool]:
    """Whether the better one had its turn, incident after incident of a made world."""
    dice, ended, right = random.Random(seed), list[Ended](), list[bool]()
    for n in range(80):
        cause = dice.choice(("pool", "leak"))
        known = {}
        for name in ("a", "b"):
            mine = [one for one in ended if one.policy == name]
            of = odds(one for one in mine if one.cause == cause)
            known[name] = of_cause(of, odds(mine)) if by_cause else odds(mine)
        turn = order.turn(["a", "b"], {}, "best", known, f"{seed}/{n}")
        assert turn is not None
        right.append(turn == ("a" if cause == "pool" else "b"))
        good = dice.random() < HELPS[cause, turn]
        ended.append(Ended(Instant(n), turn, "o", good, True, "http", cause))
    return right[40:]


def test_the_best_for_a_cause_is_found_where_both_are_equal_without_it() -> None:
    found = [sum(sum(choices(seed, by)) for seed in range(20)) / 800 for by in (True, False)]
    assert found[0] > 0.85
    assert found[1] < 0.65


def test_a_cause_that_is_little_known_is_believed_to_be_like_the_others() -> None:
    all = Odds(20, 4)
    assert of_cause(Odds(0, 0), all).mean == all.mean
    means = [of_cause(Odds(0, n), Odds(20, 4 + n)).mean for n in range(8)]
    assert means == sorted(means, reverse=True)
    assert means[2] > 0.7, "two failures are no news"
    assert means[7] < 0.35, "seven are, whatever the others say"
    assert of_cause(Odds(5, 1), Odds(5, 1)).mean == Odds(5, 1).mean, "without others nothing is shrunk"


def act(desk: Desk, name: str, cause: str, good: bool) -> str:
    """One episode of an alert with this cause."""
    desk.now = Instant(desk.now + 10_000)
    id = desk.approved(name)
    desk.step(id, desk.look(msgspec.structs.replace(FINE, cause=cause)))
    desk.step(id, answered(200))
    for _ in range(2):
        desk.step(id, Observed(good, False))
        desk.now = Instant(desk.now + (20 if good else 100))
    desk.step(id, Observed(good, False))
    if not good:
        desk.step(id, desk.look())
        desk.step(id, answered(200, undo=True))
    assert desk.stage(id) == ("fixed" if good else "undone")
    return id


def test_the_cause_that_is_known_last_before_it_acts_is_kept_counted_and_exported() -> None:
    desk = Desk()
    id = act(desk, "a", "pool exhaustion", True)
    assert (desk.book.cases[id].cause, desk.book.cases[id].action) == ("pool exhaustion", "http")
    act(desk, "b", "pool exhaustion", True)
    act(desk, "c", "memory leak", False)
    act(desk, "d", "", True)
    desk.restart()
    name = POLICY.name
    assert {one.cause for one in desk.book.outcomes(name)} == {"pool exhaustion", "memory leak", ""}
    assert desk.book.odds(name, "http") == Odds(3, 1)
    assert desk.book.odds(name, "http", "pool exhaustion")[:2] == (2, 0)
    assert desk.book.odds(name, "scale") == Odds(0, 0), (
        "of another action under the same name nothing is known"
    )
    telemetry = Telemetry()
    rules = BreakerConfig()
    numbers.publish(telemetry, Policies([POLICY]), desk.book, rules, desk.now)
    assert counted(telemetry.registry, "pool exhaustion") == (2, 0)
    assert counted(telemetry.registry, "memory leak") == (0, 1)
    assert counted(telemetry.registry, "unknown") == (1, 0)
    numbers.publish(telemetry, Policies([]), desk.book, rules, desk.now)
    assert counted(telemetry.registry, "unknown") == (None, None), "policies that are gone are not shown"


def counted(registry: CollectorRegistry, cause: str) -> tuple[float | None, float | None]:
    labels = {"policy": POLICY.name, "action": "http", "cause": cause}
    name = "promantis_cause_outcomes"
    good, bad = (registry.get_sample_value(name, labels | {"helped": helped}) for helped in ("true", "false"))
    return good, bad


def test_another_action_under_the_same_name_has_earned_nothing() -> None:
    earned = msgspec.structs.replace(POLICY, approval="earned", earned=EarnedConfig(in_a_row=3, floor=0.4))
    desk = Desk(earned)
    for n in range(3):
        act(desk, str(n), "", True)
    ended = desk.book.past().of(earned.name)
    assert acts_alone(earned, ended)
    other = msgspec.structs.replace(earned, action=HttpAction(url="http://shop/another"))
    assert not acts_alone(other, ended)
    laxer = msgspec.structs.replace(
        earned, verify=msgspec.structs.replace(earned.verify, within=Duration(999))
    )
    assert policy_hash(laxer) != policy_hash(earned)
    assert not acts_alone(laxer, ended)


async def test_the_cause_is_that_of_the_incident_or_a_known_one_that_came_with_the_alert() -> None:
    causes: Causes = World().causes
    causes.explainer.patterns = [Pattern(pattern="pool exhaustion", when=When(), says="is full")]
    labels = labels_of({"alertname": "HighLatency", "job": "shop"})

    def alert(**annotations: str) -> Alert:
        return Alert(labels, annotations, "2025-11-24T16:00:00Z")

    assert await causes.pattern(alert()) == ""
    assert await causes.pattern(alert(promantis_pattern="pool exhaustion")) == "pool exhaustion"
    assert await causes.pattern(alert(promantis_pattern="made up")) == "", "labels of metrics are bounded"
    causes.explainer.incidents.join(alert(), Instant(0), ["shop"], {}).pattern = "memory leak"
    assert await causes.pattern(alert(promantis_pattern="pool exhaustion")) == "memory leak"
