"""Under whatever order of events hypothesis finds, a case never does what nobody allowed."""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import event, given, settings

from sidecar.remedy import flow
from sidecar.remedy.case import OPEN, Case
from sidecar.remedy.flow import Answered, Approve, Ask, Call, Deny, Looked, Observed, PlanWanted, Tick
from sidecar.remedy.guard import Look
from sidecar.remedy.policy import RemedyConfig, VerifyConfig, plan
from sidecar.types import Duration, Instant, Rejected
from tests.unit.desk import AUTO, POLICY, Desk

LIVES = int(os.environ.get("PROMANTIS_TEST_LIVES", "2000"))
"""How many lives are lived; more by hand: PROMANTIS_TEST_LIVES=50000."""
OTHER = msgspec.structs.replace(POLICY, verify=VerifyConfig(query="up"), cooldown=Duration(0))


class Life:
    """Webhooks twice, late and out of order, crashes at any point, clocks, people, peers that fail."""

    def __init__(self, auto: bool, approved: bool) -> None:
        self.desk = Desk(AUTO if auto else POLICY)
        self.alert: Any = "active"
        self.killed = False
        self.pending: list[tuple[str, flow.Effect]] = []
        self.done: list[tuple[str, int, str]] = []
        self.undone: list[str] = []
        self.denied: set[str] = set()
        if approved:  # where most examples should begin, as few would get there
            self.desk.approved("a")

    def step(self, id: str, happened: flow.Event) -> None:
        before = self.desk.book.cases.get(id)
        try:
            effects = self.desk.step(id, happened)
        except Rejected:
            return
        for effect in effects:
            if isinstance(effect, Call):
                assert before is not None
                self.may_call(before, effect)
            self.pending.append((id, effect))

    def may_call(self, case: Case, call: Call) -> None:
        facts = [f for f in self.desk.journal if f.case == case.id]
        approvals = [f for f in facts if f.kind == "case.approved"]
        assert self.desk.journal[-1].kind == ("undo.intent" if call.undo else "intent"), "journalled before"
        assert approvals, "never without approval"
        assert approvals[-1].data["plan_hash"] == case.plan_hash
        assert case.id not in self.denied
        assert not self.killed
        if call.undo:
            assert case.id not in self.undone, "undone at most once"
            assert [f.kind for f in facts[-2:]] == ["verify.failed", "undo.intent"]
            self.undone.append(case.id)
            return
        assert self.desk.policy is not None
        assert plan(self.desk.policy, case.alert)[1] == case.plan_hash, "what was approved"
        assert self.desk.now < case.expires_at, "never after expiry"
        assert self.alert == "active", "never while silenced or resolved"
        assert self.desk.book.episodes[case.fingerprint].open
        key = (case.fingerprint, case.episode, case.target)
        assert key not in self.done, "never twice"
        self.done.append(key)

    def some_case(self, n: int) -> str | None:
        ids = list(self.desk.book.cases)
        return ids[n % len(ids)] if ids else None

    def people_and_webhooks(self, name: str, firing: bool, starts: float, n: int, what: str) -> None:
        self.desk.hear(name, firing, starts, 0.0 if firing else starts)
        for key, episode in self.desk.book.episodes.items():
            if episode.open:
                self.desk.judge(key, Look(self.alert, self.killed))
        if not (id := self.some_case(n)):
            return
        if what == "deny":
            was_open = self.desk.stage(id) in OPEN[:3]
            self.step(id, Deny("ada", "no"))
            if was_open and self.desk.stage(id) == "denied":
                self.denied.add(id)
        else:
            self.step(id, PlanWanted("ada"))
            right = what == "approve"
            self.step(id, Approve("ada", self.desk.book.cases[id].plan_hash if right else "wrong"))

    def go_on(
        self, turns: int, status: int | None, ok: bool | None, harm: bool | None, known: bool, pick: int
    ) -> None:
        """Some turns of the runner; it works on a case with one task, so what it waits for stays pending."""
        for _ in range(turns):
            if self.pending and (pick + turns) % 3:
                id, effect = self.pending.pop(pick % len(self.pending))
                if isinstance(effect, Call):
                    self.step(id, Answered(status, "", effect.undo))
                elif isinstance(effect, Ask):
                    self.step(id, Observed(ok, harm))
                else:
                    self.step(id, Looked(Look(self.alert if known else None, self.killed)))
            busy = {id for id, _ in self.pending}
            for id in [id for id in self.desk.book.cases if id not in busy]:
                self.step(id, Tick())

    def happens(
        self, seconds: int, alert: str, killed: bool, crash: bool, policy: RemedyConfig | None
    ) -> None:
        self.desk.policy = policy or self.desk.policy
        self.desk.now = Instant(self.desk.now + seconds)
        self.alert = alert
        self.killed = killed
        if crash:
            self.pending.clear()
            self.desk.restart()

    def intents_and_calls_agree(self) -> None:
        kinds = [f.kind for f in self.desk.journal]
        assert kinds.count("intent") == len(self.done)
        assert kinds.count("undo.intent") == len(self.undone)


def _turns(name: str, arguments: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


TURNS = st.one_of(
    _turns(
        "people_and_webhooks",
        {
            "name": st.sampled_from("aab"),
            "firing": st.sampled_from([*[True] * 5, False]),
            "starts": st.sampled_from([0.0, 900.0, 1500.0]),
            "n": st.integers(0, 7),
            "what": st.sampled_from([*["approve"] * 6, "approve wrong", "deny"]),
        },
    ),
    _turns(
        "go_on",
        {
            "turns": st.integers(1, 12),
            "status": st.sampled_from([200, 200, 404, 500, None]),
            "ok": st.sampled_from([True, False, None]),
            "harm": st.sampled_from([False, False, True, None]),
            "known": st.sampled_from([*[True] * 5, False]),
            "pick": st.integers(0, 7),
        },
    ),
    _turns(
        "happens",
        {
            "seconds": st.sampled_from([0, 0, 1, 20, 20, 100, 300, 1000]),
            "alert": st.sampled_from([*["active"] * 6, "suppressed", "absent"]),
            "killed": st.sampled_from([*[False] * 7, True]),
            "crash": st.booleans(),
            "policy": st.sampled_from([*[None] * 7, POLICY, AUTO, OTHER]),
        },
    ),
)


@pytest.mark.timeout(max(60, LIVES // 10))
@given(st.booleans(), st.booleans(), st.lists(TURNS, min_size=10, max_size=40))
@settings(max_examples=LIVES, deadline=None)
def test_never_what_nobody_allowed(
    auto: bool, approved: bool, turns: list[tuple[str, dict[str, Any]]]
) -> None:
    """Plain lists of turns: hypothesis' own state machines switch rules off, and few lives got to act."""
    life = Life(auto, approved)
    for name, arguments in turns:
        getattr(life, name)(**arguments)
        life.intents_and_calls_agree()
    event(f"acted {len(life.done)} undone {len(life.undone)}")
