"""Under whatever order of events hypothesis finds, a case never does what nobody allowed."""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import event, given, settings

from sidecar.remedy.case import OPEN, Case
from sidecar.remedy.events import (
    Apply,
    Approve,
    Ask,
    Deny,
    Effect,
    Event,
    LookAround,
    Observed,
    PlanWanted,
    ReadBack,
    TakeBack,
    Tick,
)
from sidecar.remedy.guard import FRESH, SET_BACK, GuardConfig, Look
from sidecar.remedy.policy import RemedyConfig, VerifyConfig
from sidecar.types import Duration, Instant, Rejected
from tests.unit.desk import AUTO, POLICY, Desk, answered, planned

LIVES = int(os.environ.get("PROMANTIS_TEST_LIVES", "2000"))
"""How many lives are lived; more by hand: PROMANTIS_TEST_LIVES=50000."""
OTHER = msgspec.structs.replace(POLICY, verify=VerifyConfig(query="up"), cooldown=Duration(10))


class Life:
    """Webhooks twice, late and out of order, crashes at any point, clocks, people, peers that fail."""

    def __init__(self, auto: bool, approved: bool) -> None:
        self.desk = Desk(AUTO if auto else POLICY)
        self.world = Look(alert="active", killed=False, blocking="", fine=False, harm=False)
        self.pending: list[tuple[str, Effect]] = []
        self.done: list[tuple[str, int, str]] = []
        self.undone: list[str] = []
        self.denied: set[str] = set()
        self.looked = Instant(0.0)
        if approved:  # where most examples should begin, as few would get there
            self.desk.approved("a")

    def step(self, id: str, happened: Event) -> None:
        before = self.desk.book.cases.get(id)
        try:
            effects = self.desk.step(id, happened)
        except Rejected:
            return
        for effect in effects:
            if isinstance(effect, Apply | TakeBack):
                assert before is not None
                self.may_call(before, effect)
            self.pending.append((id, effect))

    def may_call(self, case: Case, call: Apply | TakeBack) -> None:
        facts = [f for f in self.desk.journal if f.case == case.id]
        approvals = [f for f in facts if f.kind == "case.approved"]
        undo = isinstance(call, TakeBack)
        assert self.desk.journal[-1].kind == ("undo.intent" if undo else "intent"), "journalled before"
        assert approvals, "never without approval"
        assert approvals[-1].data["plan_hash"] == case.plan_hash
        assert case.id not in self.denied
        assert not self.world.killed, "never when switched off"
        if undo:
            assert case.id not in self.undone, "undone at most once"
            assert [f.kind for f in facts[-2:]] == ["verify.failed", "undo.intent"]
            self.undone.append(case.id)
            return
        assert self.desk.policy is not None
        assert planned(self.desk.policy, self.desk.version).hash == case.plan_hash, "what was approved"
        assert sum(f.kind == "plan.made" for f in facts[facts.index(approvals[-1]) :]) == 0, (
            "not planned anew"
        )
        assert self.desk.now < case.expires_at, "never after expiry"
        assert self.desk.now >= approvals[-1].at - SET_BACK, "never before the approval, as the clock has it"
        assert self.world.alert == "active", "never while silenced or resolved"
        assert self.desk.now - self.looked <= FRESH, "never on an old look"
        assert not self.world.frozen, "never in a freeze"
        assert self.world.blocking == "", "never while another alert forbids it"
        assert self.world.fine is False, "never when it is fine already, nor when nobody can say"
        assert not (self.desk.storm and case.auto), "never alone in a storm"
        assert not (self.desk.policy.approval == "manual" and case.auto), (
            "never alone where a person is asked"
        )
        assert not self.desk.rules.dry_run, "never in a dry run"
        assert self.desk.book.episodes[case.fingerprint].open
        busy = [c for c in self.desk.book.cases.values() if c.stage in ("acting", "verifying")]
        assert [c.id for c in busy if c.object == case.object] == [case.id], "never two on one object"
        recent = [i for i in self.desk.book.intents if i.object == case.object][:-1]
        cooldown = self.desk.policy.cooldown
        assert all(self.desk.now - i.at >= cooldown for i in recent), "never in a cool-down"
        key = (case.fingerprint, case.episode, case.target)
        assert key not in self.done, "never twice"
        self.done.append(key)

    def some_case(self, n: int) -> str | None:
        ids = list(self.desk.book.cases)
        return ids[n % len(ids)] if ids else None

    def people_and_webhooks(self, name: str, firing: bool, starts: float, n: int, what: str) -> None:
        self.desk.hear(name, firing, starts, 0.0 if firing else starts)
        for key, episode in self.desk.book.episodes.items():
            if episode.open and self.desk.policy is not None:
                self.desk.judge(key, self.world)
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
        self,
        turns: int,
        status: int | None,
        ok: bool | None,
        harm: bool | None,
        known: bool,
        pick: int,
        late: int,
    ) -> None:
        """Some turns of the runner; it works on a case with one task, so what it waits for stays pending."""
        for _ in range(turns):
            if self.pending and (pick + turns) % 3:
                id, effect = self.pending.pop(pick % len(self.pending))
                if isinstance(effect, Apply | TakeBack):
                    self.step(id, answered(status, isinstance(effect, TakeBack)))
                elif isinstance(effect, ReadBack):
                    self.step(id, answered(status, effect.undo))
                elif isinstance(effect, Ask):
                    self.step(id, Observed(ok, harm))
                elif isinstance(effect, LookAround):
                    alert = self.world.alert if known else None
                    self.looked = Instant(self.desk.now - late)
                    look = msgspec.structs.replace(self.world, alert=alert, at=self.looked)
                    self.step(id, self.desk.look(look))
            busy = {id for id, _ in self.pending}
            for id in [id for id in self.desk.book.cases if id not in busy]:
                self.step(id, Tick())

    def happens(
        self,
        seconds: int,
        world: dict[str, Any],
        crash: bool,
        policy: RemedyConfig | str,
        desk: dict[str, Any],
    ) -> None:
        if policy != "as it was":
            self.desk.policy = policy if isinstance(policy, RemedyConfig) else None
        self.desk.now = Instant(self.desk.now + seconds)
        self.world = msgspec.structs.replace(self.world, **world)
        self.desk.version, self.desk.storm = desk["version"], desk["storm"]
        self.desk.rules = GuardConfig(dry_run=desk["dry_run"])
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
            "late": st.sampled_from([*[0] * 5, 30]),
        },
    ),
    _turns(
        "happens",
        {
            "seconds": st.sampled_from([0, 0, 1, 20, 20, 100, 300, 1000, -30, -5000]),
            "world": st.fixed_dictionaries(
                {
                    "alert": st.sampled_from([*["active"] * 6, "suppressed", "absent"]),
                    "killed": st.sampled_from([*[False] * 7, True]),
                    "frozen": st.sampled_from([*[""] * 7, "Christmas"]),
                    "blocking": st.sampled_from([*[""] * 7, "Outage", None]),
                    "fine": st.sampled_from([*[False] * 7, True, None]),
                    "harm": st.sampled_from([*[False] * 5, True, None]),
                }
            ),
            "desk": st.fixed_dictionaries(
                {
                    "version": st.sampled_from([*[0] * 5, 1]),
                    "storm": st.sampled_from([*[""] * 5, "too much"]),
                    "dry_run": st.sampled_from([*[False] * 7, True]),
                }
            ),
            "crash": st.booleans(),
            "policy": st.sampled_from([*["as it was"] * 7, POLICY, AUTO, OTHER, "removed"]),
        },
    ),
)


@pytest.mark.timeout(max(60, LIVES // 10))
@given(st.booleans(), st.booleans(), st.lists(TURNS, min_size=8, max_size=30))
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
