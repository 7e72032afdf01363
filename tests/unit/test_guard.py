"""Each guardrail forbids what it is for, says so, and nothing else."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from sidecar import config
from sidecar.remedy import breaker, guard
from sidecar.remedy.actions.words import Around, Plan
from sidecar.remedy.breaker import BreakerConfig
from sidecar.remedy.events import Approve, PlanWanted, Tick
from sidecar.remedy.guard import GuardConfig, Look, Planned, Rate, Rates
from sidecar.remedy.past import Busy, Ended, Intent, Past
from sidecar.remedy.policy import REASONS, RemedyConfig
from sidecar.types import ConfigError, Instant, labels_of
from tests.unit.desk import FINE, POLICY, Desk

NOW = Instant(100_000.0)
NOTHING = Past()
POOL = "pods of deployment shop/api"


def plan(**around: object) -> Plan:
    return Plan(
        target="delete pod shop/api-1",
        object="pod shop/api-1",
        namespace="shop",
        do={},
        undo=None,
        around=Around(**around),  # type: ignore[arg-type]
    )


def acted(
    ago: float, *, policy: str = POLICY.name, object: str = "pod shop/api-1", episode: int = 9
) -> Intent:
    return Intent(Instant(NOW - ago), policy, f"delete {object}", object, "shop", "f", episode)


def refused(
    plan: Plan, past: Past = NOTHING, look: Look | None = None, policy: RemedyConfig = POLICY, **rules: object
) -> dict[str, str]:
    """Names of the guardrails that refuse, and what they say."""
    desk = Desk()
    case = desk.book.cases[desk.approved()]
    case = msgspec.structs.replace(case, plan_hash="h", target=plan.target, expires_at=Instant(NOW + 1))
    look = look or FINE
    look = msgspec.structs.replace(look, plan=Planned(plan, "h"))
    rules_ = GuardConfig(**rules)  # type: ignore[arg-type]
    found = guard.checks(case, policy, look, past, rules_, NOW)
    return {check.name: check.refusal.words for check in found if check.refusal}


def test_nothing_stands_in_the_way() -> None:
    assert refused(plan()) == {}


def test_protected_namespaces_and_objects() -> None:
    system = msgspec.structs.replace(plan(), namespace="kube-system")
    assert refused(system) == {"protected": "namespace kube-system is protected"}
    marked = plan(protected="pod shop/api-1 has the annotation promantis.io/protect")
    assert refused(marked) == {"protected": "pod shop/api-1 has the annotation promantis.io/protect"}


def test_a_cool_down_counts_whoever_acted_on_the_object() -> None:
    words = "pod shop/api-1 was acted on 60s ago, cool-down 1m30s"
    assert refused(plan(), Past([acted(60, policy="another")])) == {"cool-down": words}
    assert refused(plan(), Past([acted(60, object="pod shop/api-2")])) == {}
    assert refused(plan(), Past([acted(90)])) == {}


@pytest.mark.parametrize(
    ("policy", "ok"), [(POLICY.name, False), ("another", False), (f"{POLICY.name}/2", True)]
)
def test_once_is_once_for_the_policy_itself_too(policy: str, ok: bool) -> None:
    before = acted(10_000, policy=policy, episode=1)._replace(fingerprint="a")
    words = "delete pod shop/api-1 was already done for this episode"
    assert refused(plan(), Past([before])) == ({} if ok else {"once": words})


def test_the_next_alternative_need_not_wait_for_the_one_before() -> None:
    second = msgspec.structs.replace(POLICY, name="bigger-pool/2")
    own = Intent(Instant(NOW - 5), "bigger-pool", "first", "pod shop/api-1", "shop", "a", 1)
    undone = [(Instant(NOW - 1), "pod shop/api-1")]
    assert refused(plan(), Past([own], undone=undone), policy=second) == {}
    found = refused(plan(), Past([own._replace(fingerprint="b")], undone=undone), policy=second)
    assert list(found) == ["cool-down", "after undo"]
    assert found["after undo"] == "pod shop/api-1 was put back 1s ago, left alone 2h"


@pytest.mark.parametrize("by", ["policy", "target", "namespace", "total"])
def test_a_rate_refuses(by: str) -> None:
    far = Rate(count=100)
    rates = Rates(**{name: far for name in ("policy", "target", "namespace", "total")} | {by: Rate(count=2)})
    past = Past([acted(200), acted(300)])
    (words,) = refused(plan(), past, rates=rates).values()
    assert words.startswith("2 actions on ")
    assert words.endswith(" within 1h, at most 2")
    assert refused(plan(), Past([acted(200), acted(3601)]), rates=rates) == {}


def test_what_a_limit_refuses_is_not_merely_put_off() -> None:
    desk = Desk()
    desk.rules = GuardConfig(rates=Rates(total=Rate(count=1)))
    desk.acted()
    desk.now = Instant(desk.now + 100)
    desk.hear("b", firing=True)
    id = desk.judge("b")
    assert desk.book.cases[id].reason == "rate_total"
    desk.now = Instant(desk.now + 7200)
    desk.judge("b")
    assert desk.stage(id) == "refused"


def test_targets_at_once() -> None:
    busy = Past(busy=[Busy("a"), Busy("b"), Busy("c")])
    assert refused(plan(), busy) == {"targets": "3 targets are acted on or verified now, at most 3"}
    assert refused(plan(), busy, max_targets=4) == {}
    same = Past(busy=[Busy("pod shop/api-1")])
    assert refused(plan(), same) == {"targets": "pod shop/api-1 is being acted on already"}


@pytest.mark.parametrize(
    ("members", "down", "takes", "share", "ok"),
    [
        *[(10, 2, 1, 0.34, True), (10, 3, 1, 0.34, False), (1, 0, 1, 0.34, True), (2, 1, 1, 0.5, False)],
        *[(3, 2, 0, 0.34, True), (10, 0, 4, 0.34, False), (10, 9, 1, 1.0, True)],
    ],
)
def test_a_share_of_a_workload(members: int, down: int, takes: int, share: float, ok: bool) -> None:
    made = plan(group=POOL, members=members, down=down, takes=takes)
    found = refused(made, max_share=share)
    assert list(found) == ([] if ok else ["share"])
    if not ok:
        words = f"{down} of {members} {POOL} are down or taken already and {takes} would be taken, at most "
        assert found["share"] == f"{words}{max(1, int(share * members))}"


def test_what_others_took_since_the_look_counts_too() -> None:
    made = plan(group=POOL, members=5, down=0, takes=1)
    assert refused(made) == {}
    other = Past(busy=[Busy("pod shop/api-2", POOL, 1)])
    words = f"1 of 5 {POOL} are down or taken already and 1 would be taken, at most 1"
    assert refused(made, other) == {"share": words}
    assert refused(made, Past(busy=[Busy("pod shop/web-1", "pods of deployment shop/web", 1)])) == {}


def test_a_namespace_that_is_touched_is_protected_too() -> None:
    found = refused(plan(namespaces=("shop", "kube-system")))
    assert found == {"protected": "namespace kube-system is protected"}


def test_what_a_person_changed_lately_is_left_alone() -> None:
    changed = plan(changed_at=Instant(NOW - 60), changed_by="kubectl-edit")
    words = "kubectl-edit changed pod shop/api-1 60s ago, left alone 15m"
    assert refused(changed) == {"hands off": words}
    assert refused(plan(changed_at=Instant(NOW - 900), changed_by="kubectl-edit")) == {}


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"frozen": "Christmas"}, "freeze", "nothing is done during Christmas"),
        ({"blocking": "Outage"}, "block", "Outage fires"),
        ({"blocking": None}, "block", "Alertmanager did not say whether a blocking alert fires"),
        ({"killed": True}, "kill switch", "the kill switch is on"),
        ({"fine": True}, "still wrong", "used < 1 holds already"),
        ({"fine": None}, "still wrong", "Prometheus could not say whether used < 1"),
    ],
)
def test_the_world_around(change: dict[str, object], name: str, words: str) -> None:
    look = msgspec.structs.replace(FINE, **change)
    assert refused(plan(), look=look) == {name: words}


def test_a_dry_run_says_what_it_did_not_do() -> None:
    assert refused(plan(), dry_run=True) == {"dry run": "dry run: delete pod shop/api-1 was not done"}


@pytest.mark.parametrize("made", [False, True])
def test_who_is_about_to_approve_sees_how_each_stands(made: bool) -> None:
    """A case without a plan is taken with that of now; one with a plan that is old is told so."""
    desk = Desk()
    desk.hear("f", True)
    id = desk.judge("f")
    if made:
        desk.step(id, PlanWanted("ada"))
    case = desk.book.cases[id]
    look = msgspec.structs.replace(FINE, alert="suppressed", plan=Planned(plan(), "of now"))
    found = guard.standing(case, POLICY, look, NOTHING, GuardConfig(), Instant(case.expires_at - 1))
    wrong = {check.name: check.refusal.reason for check in found if check.refusal}
    assert wrong == {"alert": "suppressed"} | ({"plan": "plan_changed"} if made else {})
    assert [one["name"] for one in guard.shown(found)] == [check.name for check in found]
    assert len(found) > 15


def test_in_a_storm_only_people_act() -> None:
    desk = Desk(msgspec.structs.replace(POLICY, approval="auto"))
    desk.storm = "99 alerts fire"
    desk.hear("a", firing=True)
    id = desk.judge("a")
    desk.step(id, Tick())
    assert desk.stage(id) == "proposed", "only a proposal"
    desk.step(id, PlanWanted("ada"))
    desk.step(id, Approve("ada", desk.book.cases[id].plan_hash))
    assert desk.step(id, desk.look())
    desk.storm = ""
    desk.hear("b", firing=True)
    desk.now = Instant(desk.now + 100)
    id = desk.judge("b")
    desk.step(id, Tick())
    assert desk.stage(id) == "approved"
    desk.storm = "99 alerts fire"
    desk.book._busy.clear()
    desk.step(id, desk.look())
    assert desk.book.cases[id].reason == "storm"


def outcomes(*goods: bool, ago: float = 0.0) -> Past:
    return Past(ended=[Ended(Instant(NOW - ago), "p", "o", good, True) for good in goods])


@pytest.mark.parametrize(
    ("goods", "ago", "state"),
    [
        ([], 0, "closed"),
        ([False], 0, "closed"),
        ([True, False, False], 0, "open"),
        ([False, False, True], 0, "closed"),
        ([True, False, False], 21600, "half_open"),
        ([True, False] * 5, 0, "closed"),
        ([False, True, False, True, False, False, True, False, True, False], 0, "open"),
    ],
)
def test_the_breaker(goods: list[bool], ago: float, state: str) -> None:
    assert breaker.state("p", outcomes(*goods, ago=ago), BreakerConfig(), NOW) == state


def test_half_open_lets_one_through() -> None:
    past = outcomes(False, False, ago=21600)
    assert breaker.refusal("p", past, BreakerConfig(), NOW) is None
    tries = [acted(ago, policy="p") for ago in (21700, 21650)]
    for late in (5, -3600, 22000):  # since then; the clock was set back; and one that is not over for so long
        busy = past._replace(intents=[*tries, acted(late, policy="p")])
        refusal = breaker.refusal("p", busy, BreakerConfig(), NOW)
        assert refusal is not None, late
    assert refusal.words == "p failed too often, and a try of it is not over"
    assert breaker.refusal("p", past._replace(intents=tries), BreakerConfig(), NOW) is None
    refusal = breaker.refusal("p", outcomes(False, False, ago=600), BreakerConfig(), NOW)
    assert refusal is not None
    assert refusal.words == "p failed too often, the next try is in 5h50m"


def test_a_freeze_follows_the_clock_on_the_wall() -> None:
    text = """
freezes:
  - {name: nights, cron: "0 18 * * *", duration: 14h, tz: Europe/Berlin}
  - {name: till, start: 2026-11-27, end: 2026-11-28, match: ['{service="till"}']}
"""
    frozen = config.freezes(config.parse(text))

    def at(*when: int) -> Instant:
        return Instant(datetime(*when, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())  # type: ignore[misc,arg-type]

    shop, till = labels_of({"service": "shop"}), labels_of({"service": "till"})
    assert [frozen(shop, at(2026, 7, 1, hour)) for hour in (7, 8, 17, 18)] == ["nights", "", "", "nights"]
    assert [frozen(shop, at(2026, 12, 1, hour)) for hour in (7, 8, 17, 18)] == ["nights", "", "", "nights"]
    assert frozen(till, at(2026, 11, 27, 12)) == "till"
    assert frozen(shop, at(2026, 11, 27, 12)) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{rates: {total: {count: 0}}}",
            "rates.total.count: must be at least 1 (the kill switch forbids all)",
        ),
        ("{max_share: 0}", "max_share: must be above 0 and at most 1"),
        ("{max_targets: 0}", "max_targets: must be at least 1 (the kill switch forbids all)"),
        (
            "{block_while: [x]}",
            "block_while[0]: not a matcher: 'x' (write name=\"value\" with =, !=, =~ or !~)",
        ),
        ("{storm: {unhealthy: 'up =='}}", "storm.unhealthy: not PromQL: invalid promql query"),
        ("{storm: {alerts: 0}}", "storm.alerts: must be at least 1"),
        ("{breaker: {min_rate: 2}}", "breaker.min_rate: must lie between 0 and 1"),
    ],
)
def test_a_wrong_guard_is_found_when_the_file_is_loaded(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f"guard: {text}")
    assert str(caught.value) == f"promantis.yml: guard.{words}"


def test_the_reasons_that_wait_or_last_are_reasons() -> None:
    assert {*guard.WAITS, *guard.FINAL} <= set(REASONS)
