"""What may change between a proposal and what follows: the config, the clock, the target, and who can be asked."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.remedy.actions.http import HttpAction
from sidecar.remedy.events import (
    Apply,
    Approve,
    LookAround,
    Looked,
    Observed,
    PlanWanted,
    ReadBack,
    TakeBack,
    Tick,
)
from sidecar.remedy.guard import FRESH, Look
from sidecar.remedy.policy import VerifyConfig
from sidecar.types import Instant, Rejected
from tests.unit.desk import AUTO, FINE, POLICY, Desk


def test_an_approved_case_waits_for_alertmanager_until_it_expires() -> None:
    desk = Desk()
    id = desk.approved()
    assert desk.step(id, desk.look(Look(alert=None, killed=False))) == []
    assert desk.stage(id) == "approved"
    desk.now = Instant(desk.now + 1000)
    assert desk.step(id, desk.look()) == []
    assert desk.stage(id) == "expired"


def test_an_old_look_is_no_look() -> None:
    """The journal was busy for long: meanwhile somebody may have silenced the alert, or mended what was wrong."""
    desk = Desk()
    id = desk.approved()
    look = msgspec.structs.replace(FINE, at=desk.now)
    desk.now = Instant(desk.now + FRESH + 1)
    assert desk.step(id, desk.look(look)) == []
    assert isinstance(desk.step(id, Tick())[0], LookAround), "it is looked again"
    assert isinstance(desk.step(id, desk.look(msgspec.structs.replace(FINE, at=desk.now)))[0], Apply)


def test_an_approved_case_waits_for_a_prometheus_that_can_say_how_it_stands() -> None:
    desk = Desk()
    id = desk.approved()
    assert desk.step(id, desk.look(msgspec.structs.replace(FINE, fine=None))) == []
    assert desk.stage(id) == "approved"
    assert isinstance(desk.step(id, desk.look())[0], Apply)


@pytest.mark.parametrize(("back", "stage"), [(59, "approved"), (61, "expired"), (86400, "expired")])
def test_what_waits_is_void_when_the_clock_is_set_back_behind_it(back: float, stage: str) -> None:
    desk = Desk()
    desk.now = Instant(1e6)
    id = desk.approved()
    desk.now = Instant(desk.now - back)
    desk.step(id, Tick())
    assert desk.stage(id) == stage
    if stage == "expired":
        assert desk.book.cases[id].words == "the clock was set back: nobody knows how old it is"


def test_nothing_is_approved_when_the_clock_was_set_back() -> None:
    desk = Desk()
    desk.hear("a", firing=True)
    id = desk.judge("a")
    desk.step(id, PlanWanted("ada"))
    desk.now = Instant(desk.now - 300)
    with pytest.raises(Rejected, match="cannot approve a case that is expired"):
        desk.step(id, Approve("ada", desk.book.cases[id].plan_hash))


def test_what_was_changed_since_is_planned_and_approved_anew() -> None:
    for change in (
        {"policy": msgspec.structs.replace(POLICY, verify=VerifyConfig(query="up"))},
        {"version": 1},
    ):
        desk = Desk()
        id = desk.approved()
        vars(desk).update(change)
        old = desk.book.cases[id].plan_hash
        assert desk.step(id, desk.look()) == []
        case = desk.book.cases[id]
        assert (case.stage, case.approved_by, case.plan_hash != old) == ("planned", "", True)
        assert case.words.endswith("this is the new one, approve it again")
        with pytest.raises(Rejected):
            desk.step(id, Approve("ada", old))
        desk.step(id, Approve("ada", case.plan_hash))
        assert isinstance(desk.step(id, desk.look())[0], Apply)


def test_a_removed_policy_does_nothing() -> None:
    desk = Desk()
    id = desk.approved()
    desk.policy = None
    assert desk.step(id, Looked(FINE)) == []
    assert desk.book.cases[id].reason == "policy_gone"


def test_what_a_changed_policy_did_before_a_restart_stays_unclear() -> None:
    desk = Desk()
    id = desk.approved()
    desk.step(id, desk.look())
    desk.policy = msgspec.structs.replace(POLICY, action=HttpAction(url="http://shop/another"))
    desk.restart()
    assert desk.step(id, Tick()) == [], "another action cannot say what the one before did"
    assert desk.stage(id) == "verifying"
    assert desk.book.cases[id].unclear


def test_what_was_approved_by_itself_waits_for_a_person_once_it_may_not() -> None:
    """The config was changed, or a policy that had earned it failed elsewhere, between approval and action."""
    desk = Desk(AUTO)
    desk.hear("a", firing=True)
    id = desk.judge("a")
    desk.step(id, Tick())
    desk.policy = POLICY
    assert desk.step(id, desk.look()) == []
    case = desk.book.cases[id]
    assert (case.stage, case.approved_by, case.auto) == ("planned", "", False)
    assert case.words == "it may not act alone any more: approve it"
    assert desk.step(id, Tick()) == []
    desk.step(id, Approve("ada", case.plan_hash))
    assert isinstance(desk.step(id, desk.look())[0], Apply)


def test_what_a_changed_policy_did_is_not_undone_by_the_new_one() -> None:
    desk = Desk()
    id = desk.acted()
    desk.step(id, Observed(True, True))
    assert desk.book.cases[id].to_undo
    desk.policy = msgspec.structs.replace(POLICY, action=HttpAction(url="http://shop/another"))
    assert desk.step(id, desk.look()) == []
    assert desk.stage(id) == "failed"
    assert desk.book.cases[id].words == "not undone: the policy was changed after the plan was made"


def test_what_was_done_is_undone_though_it_is_verified_otherwise_now() -> None:
    """Only the measure of success was changed: what was approved, and how it is taken back, is as it was."""
    desk = Desk()
    id = desk.acted()
    desk.policy = msgspec.structs.replace(POLICY, verify=msgspec.structs.replace(POLICY.verify, harm="new"))
    desk.step(id, Observed(True, True))
    assert isinstance(desk.step(id, desk.look())[0], TakeBack)
    desk.restart()
    assert isinstance(desk.step(id, Tick())[0], ReadBack)


def test_a_verification_found_late_still_gets_its_chance() -> None:
    desk = Desk()
    id = desk.acted()
    desk.now = Instant(desk.now + 5000)
    desk.restart()
    desk.step(id, Observed(True, False))
    assert desk.stage(id) == "verifying"
    desk.now = Instant(desk.now + 20)
    desk.step(id, Observed(True, False))
    assert desk.stage(id) == "fixed"
