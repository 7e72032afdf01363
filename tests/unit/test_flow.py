"""The life of a case, told step by step."""

from __future__ import annotations

import math

import msgspec
import pytest

from sidecar.remedy.effect import effect
from sidecar.remedy.events import (
    Apply,
    Approve,
    Ask,
    Deny,
    LookAround,
    Measure,
    Measured,
    Observed,
    PlanWanted,
    ReadBack,
    TakeBack,
    Tick,
)
from sidecar.remedy.guard import GuardConfig, Look, Rate, Rates
from sidecar.remedy.measure import difference
from sidecar.remedy.policy import Proposal, propose
from sidecar.types import Duration, Instant, Rejected, labels_of
from tests.unit.desk import ALERT, AUTO, FINE, POLICY, Desk, answered


def test_proposed_planned_approved_acted_verified() -> None:
    desk = Desk()
    id = desk.acted()
    assert desk.step(id, Tick()) == [Ask("used < 1", "errors > 1")]
    desk.step(id, Observed(True, False))
    assert desk.stage(id) == "verifying", "it must hold for 20s"
    desk.now = Instant(desk.now + 20)
    desk.step(id, Observed(True, False))
    assert desk.stage(id) == "fixed"
    kinds = ["episode.started", "case.proposed", "plan.made", "case.approved"]
    assert [f.kind for f in desk.journal] == [*kinds, "intent", "action.done", "verify.passed"]
    assert b"secret" not in msgspec.json.encode(desk.journal)


@pytest.mark.parametrize("observed", [Observed(False, False), Observed(None, False), Observed(True, None)])
def test_what_is_not_known_is_no_success_and_is_undone_once(observed: Observed) -> None:
    desk = Desk()
    id = desk.acted()
    for _ in range(11):
        desk.step(id, observed)
        desk.now = Instant(desk.now + 10)
    assert desk.stage(id) == "verifying"
    assert desk.book.cases[id].to_undo
    (look,) = desk.step(id, Tick())
    assert isinstance(look, LookAround)
    (call,) = desk.step(id, desk.look())
    assert isinstance(call, TakeBack)
    assert call.action.undo is not None
    assert call.action.undo.render(call.job.alert).body == '{"size": 20}'
    assert desk.step(id, desk.look()) == []
    desk.step(id, answered(200))
    assert desk.stage(id) == "acting", "a late answer of the action is none of its undo"
    desk.step(id, answered(204, undo=True))
    assert desk.stage(id) == "undone"


def test_harm_undoes_at_once() -> None:
    desk = Desk()
    id = desk.acted()
    desk.step(id, Observed(True, True))
    assert desk.book.cases[id].to_undo
    assert desk.book.cases[id].words == "it did harm: errors > 1"


def test_an_intent_without_outcome_is_never_done_again() -> None:
    desk = Desk()
    id = desk.approved()
    desk.step(id, desk.look())
    desk.restart()
    assert desk.stage(id) == "acting"
    (look,) = desk.step(id, Tick())
    assert isinstance(look, ReadBack)
    desk.step(id, answered(None))
    assert desk.stage(id) == "verifying"
    desk.now = Instant(desk.now + 100)
    desk.step(id, Observed(False, False))
    assert desk.stage(id) == "unknown"
    words = "used < 1 is not true in time; whether the action was done is not known: look yourself"
    assert desk.book.cases[id].words == words


@pytest.mark.parametrize(("status", "stage"), [(200, "verifying"), (302, "failed"), (404, "failed")])
def test_a_clear_answer(status: int, stage: str) -> None:
    desk = Desk()
    assert desk.stage(desk.acted(status)) == stage


@pytest.mark.parametrize("status", [500, 503, None])
def test_an_unclear_answer_is_verified_and_never_undone(status: int | None) -> None:
    desk = Desk()
    id = desk.acted(status)
    assert desk.stage(id) == "verifying"
    desk.step(id, Observed(False, True))
    assert desk.stage(id) == "unknown"


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (Look(alert="suppressed", killed=False), "suppressed"),
        (Look(alert="absent", killed=False), "resolved"),
        (Look(alert="active", killed=True), "kill_switch"),
        (Look(alert=None, killed=True), "kill_switch"),
    ],
)
def test_refused_just_before_acting(look: Look, reason: str) -> None:
    desk = Desk()
    id = desk.approved()
    assert desk.step(id, desk.look(look)) == []
    assert (desk.stage(id), desk.book.cases[id].reason) == ("refused", reason)
    first = ["kill switch", "expiry", "plan", "alert", "condition", "freeze", "block", "once"]
    then = ["cool-down", "after undo", "rates", "targets", "share", "protected", "hands off"]
    names = [*first, *then, "breaker", "storm", "still wrong", "dry run"]
    assert [check["name"] for check in desk.book.cases[id].guard] == names


def test_harm_that_was_there_before_counts_once_it_ended() -> None:
    desk = Desk()
    id = desk.approved()
    desk.step(id, desk.look(msgspec.structs.replace(FINE, harm=True)))
    desk.step(id, answered(200))
    desk.step(id, Observed(False, True))
    assert not desk.book.cases[id].to_undo
    desk.step(id, Observed(False, False))
    desk.step(id, Observed(False, True))
    assert desk.book.cases[id].to_undo


def test_cool_down_counts_by_target_over_alerts() -> None:
    desk = Desk()
    desk.acted()
    desk.hear("b", firing=True)
    id = desk.judge("b")
    assert desk.book.cases[id].words == "POST http://shop/db was acted on 0s ago, cool-down 1m30s"
    desk.judge("b")
    assert sum(f.kind == "case.refused" for f in desk.journal) == 1, "the same refusal is said once"
    desk.now = Instant(desk.now + 300)
    desk.judge("b")
    assert desk.stage(id) == "proposed"


def test_once_per_episode_and_again_in_the_next() -> None:
    desk = Desk()
    desk.acted()
    desk.now = Instant(desk.now + 300)
    desk.judge("a")
    assert len(desk.book.cases) == 1
    desk.hear("a", firing=False)
    desk.hear("a", firing=True)
    assert desk.stage(desk.judge("a")) == "proposed"


def test_another_policy_does_not_repeat_what_was_done_in_the_episode() -> None:
    desk = Desk()
    desk.acted()
    desk.policy = msgspec.structs.replace(POLICY, name="the same, again", cooldown=Duration(0))
    id = desk.judge("a")
    assert (desk.stage(id), desk.book.cases[id].reason) == ("refused", "repeated")


def test_late_notices_do_not_end_an_episode_or_begin_one_twice() -> None:
    desk = Desk()
    desk.hear("a", firing=True, starts=500)
    desk.hear("a", firing=True, starts=400)
    desk.hear("a", firing=False, starts=300, ends=450)
    assert [f.kind for f in desk.journal] == ["episode.started"]


def test_a_policy_approves_by_itself_only_when_it_says_auto() -> None:
    desk = Desk(AUTO)
    desk.hear("a", firing=True)
    id = desk.judge("a")
    desk.step(id, Tick())
    assert (desk.stage(id), desk.book.cases[id].approved_by) == ("approved", "policy bigger-pool")
    manual = Desk()
    manual.hear("a", firing=True)
    id = manual.judge("a")
    assert manual.step(id, Tick()) == []
    assert manual.stage(id) == "proposed"
    manual.step(id, PlanWanted("ada"))
    assert manual.step(id, desk.look()) == []
    assert manual.stage(id) == "planned"


def test_what_does_not_fit_is_a_conflict() -> None:
    desk = Desk()
    desk.hear("a", firing=True)
    id = desk.judge("a")
    for event, words in [
        (Approve("ada", "x"), "cannot approve a case that is proposed: make a plan first"),
        (PlanWanted("ada"), None),
        (Approve("ada", "x"), f"the plan is {POLICY and '%s'}, not x: look at it again"),
        (Deny("ada", "no"), None),
        (Deny("ada", "no"), "cannot deny a case that is denied"),
        (PlanWanted("ada"), "cannot plan a case that is denied"),
    ]:
        if words is None:
            desk.step(id, event)
            continue
        with pytest.raises(Rejected) as caught:
            desk.step(id, event)
        assert str(caught.value) == (words % desk.book.cases[id].plan_hash if "%s" in words else words)
        assert caught.value.status == 409
    desk.judge("a")
    assert desk.stage(id) == "denied", "no is no for the whole episode"


def test_a_resolved_alert_closes_what_waits() -> None:
    desk = Desk()
    id = desk.approved()
    desk.hear("a", firing=False)
    assert desk.step(id, desk.look()) == []
    assert desk.stage(id) == "refused"
    desk = Desk()
    id = desk.approved()
    desk.hear("a", firing=False)
    desk.step(id, Tick())
    assert (desk.stage(id), desk.book.cases[id].words) == ("expired", "the alert resolved by itself")


def test_the_kill_switch_stops_an_undo() -> None:
    desk = Desk()
    id = desk.acted()
    desk.step(id, Observed(False, True))
    assert desk.step(id, desk.look(Look(alert="active", killed=True))) == []
    assert (desk.stage(id), desk.book.cases[id].words) == ("failed", "not undone: the kill switch is on")


def test_a_proposal_says_why() -> None:
    verdict = propose(POLICY, ALERT, None, None)
    assert verdict == Proposal(
        "bigger-pool", "POST http://shop/db", ('PoolExhaustion matches alertname="PoolExhaustion"',), 1000.0
    )


def test_a_share_is_held_back_and_says_what_happens_without() -> None:
    desk = Desk(msgspec.structs.replace(AUTO, experiment=0.5))
    often = Rate(count=99, within=Duration(1))
    desk.rules = GuardConfig(rates=Rates(policy=often, target=often, namespace=often, total=often))
    for n in range(60):
        desk.now = Instant(desk.now + 1000)
        desk.hear(str(n), firing=True)
        id = desk.judge(str(n))
        if desk.stage(id) != "refused":
            desk.step(id, Tick())
            (call,) = desk.step(id, desk.look())
            assert isinstance(call, Apply)
            desk.step(id, answered(200))
        else:
            assert desk.book.cases[id].reason == "held_back"
            assert desk.step(id, Tick()) == []
        treated = desk.stage(id) == "verifying"
        desk.now = Instant(desk.now + (50 if treated or n % 3 == 0 else 150))
        desk.hear(str(n), firing=False)
        desk.step(id, Observed(True, False))
        desk.now = Instant(desk.now + 20)
        desk.step(id, Observed(True, False))
    found = effect(desk.book.trials.values(), desk.now)
    assert found.treated.bad == 0
    assert found.treated.good + found.control.good + found.control.bad == 60
    assert 15 <= found.treated.good <= 45
    assert found.interval is not None
    assert found.interval[0] > 0.2, "it helps beyond what ends by itself"


@pytest.mark.parametrize("ok", [True, False])
def test_what_it_moved_is_measured_against_siblings(ok: bool) -> None:
    desk = Desk()
    id = desk.approved()
    series = [(labels_of({"pool": pool}), value) for pool, value in (("db", 9.0), ("web", 5.0), ("job", 6.0))]
    desk.step(id, desk.look(msgspec.structs.replace(FINE, values=series)))
    desk.step(id, answered(200))
    desk.step(id, Observed(ok, False))
    desk.now = Instant(desk.now + (20 if ok else 100))
    assert desk.step(id, Observed(ok, False)) == [Measure("used < 1")]
    words = desk.book.cases[id].words
    after = [(labels, value - (7 if labels == (("pool", "db"),) else 1)) for labels, value in series]
    desk.step(id, Measured(after))
    case = desk.book.cases[id]
    assert case.effect == {"target": -7.0, "siblings": -1.0, "untouched": 2, "difference": -6.0, "error": 0.0}
    assert (case.stage, case.to_undo, case.words) == ("fixed" if ok else "verifying", not ok, words)
    assert desk.step(id, Measured(after)) == [], "measured once"
    if not ok:
        assert isinstance(desk.step(id, Tick())[0], LookAround), "and then undone"
    desk.restart()
    assert desk.book.cases[id].effect == case.effect


def test_what_is_no_number_moved_nothing() -> None:
    a, b = (("pod", "a"),), (("pod", "b"),)
    before = [(a, 9.0), (b, 5.0)]
    found = difference(before, [(a, 2.0), (b, math.nan)], a)
    assert found is not None
    assert (found["target"], found["untouched"]) == (-7.0, 0)
    assert difference(before, [(a, math.inf), (b, 4.0)], a) is None


def test_harm_is_undone_before_anything_is_measured() -> None:
    desk = Desk()
    id = desk.approved()
    desk.step(id, desk.look(msgspec.structs.replace(FINE, values=[((), 1.0)])))
    desk.step(id, answered(200))
    assert desk.step(id, Observed(False, True)) == []
    assert desk.book.cases[id].to_undo
