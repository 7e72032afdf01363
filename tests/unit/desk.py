"""A journal in memory and the steps of its cases, for the tests of the flow."""

from __future__ import annotations

from typing import Literal

import msgspec

from sidecar.adapters.targets import Targets
from sidecar.remedy import flow
from sidecar.remedy.actions.http import HttpAction, HttpCall
from sidecar.remedy.actions.words import Outcome, World
from sidecar.remedy.case import Book, Draft, Fact, Notice, case_id, heard
from sidecar.remedy.events import (
    Answered,
    Apply,
    Approve,
    Effect,
    Event,
    Judged,
    Looked,
    Made,
    MakePlan,
    PlanWanted,
    Record,
    Restarted,
)
from sidecar.remedy.guard import GuardConfig, Look, Planned
from sidecar.remedy.policy import RemedyConfig, VerifyConfig, plan_hash, propose
from sidecar.types import Alert, Duration, Instant

ALERT = Alert((("alertname", "PoolExhaustion"), ("pool", "db")), {"summary": "full"})
POLICY = RemedyConfig(
    name="bigger-pool",
    match=('alertname="PoolExhaustion"',),
    action=HttpAction(
        url="http://shop/{{ labels.pool }}",
        headers={"Authorization": "Bearer secret"},
        body='{"size": 40}',
        undo=HttpCall(url="http://shop/{{ labels.pool }}", body='{"size": 20}'),
    ),
    verify=VerifyConfig(query="used < 1", within=Duration(100), hold=Duration(20), harm="errors > 1"),
    cooldown=Duration(90),
    expires=Duration(1000),
)
AUTO = msgspec.structs.replace(POLICY, approval="auto")
FINE = Look(alert="active", killed=False, fine=False)


def planned(policy: RemedyConfig, version: int = 0) -> Planned:
    """The plan of a policy whose action asks nobody; `version` is that of a target that others change."""
    coroutine = policy.action.plan(ALERT, World(Targets(list)))
    try:
        coroutine.send(None)
    except StopIteration as done:
        plan = msgspec.structs.replace(done.value, saved={"version": version})
        return Planned(plan, plan_hash(policy, plan))
    raise AssertionError("it waits for somebody")


def answered(status: int | None, undo: bool = False) -> Answered:
    """What an HTTP target's status means."""
    state: Literal["done", "failed", "unclear"] = (
        "unclear" if status is None or status >= 500 else "done" if status // 100 == 2 else "failed"
    )
    return Answered(Outcome(state, f"the target answered {status}"), undo)


class Desk:
    """A journal in memory and the steps of its cases."""

    def __init__(self, policy: RemedyConfig | None = POLICY) -> None:
        self.now = Instant(1000.0)
        self.policy = policy
        self.journal: list[Fact] = []
        self.book = Book()
        self.rules = GuardConfig()
        self.storm = ""
        self.version = 0

    def append(self, *drafts: Draft) -> None:
        for d in drafts:
            data = msgspec.json.decode(msgspec.json.encode(d.data))
            fact = Fact(1, len(self.journal) + 1, self.now, d.kind, d.case, d.who, data, "")
            self.journal.append(fact)
            self.book.add(fact)

    def hear(self, fingerprint: str, firing: bool, starts: float = 0.0, ends: float = 0.0) -> None:
        notice = Notice(fingerprint, ALERT, firing, starts, ends)
        if draft := heard(self.book.episodes.get(fingerprint), notice):
            self.append(draft)

    def judge(self, fingerprint: str, look: Look = FINE) -> str:
        episode = self.book.episodes[fingerprint]
        assert self.policy is not None
        id = case_id(fingerprint, episode.number, self.policy.name)
        verdict = propose(self.policy, episode.alert, None, None)
        self.step(id, Judged(id, fingerprint, episode.number, ALERT, self.policy.name, verdict, look))
        return id

    def step(self, id: str, event: Event) -> list[Effect]:
        past = self.book.past(self.storm)
        case, effects = flow.step(self.book.cases.get(id), event, self.now, self.policy, past, self.rules)
        drafts = [e.draft for e in effects if isinstance(e, Record)]
        self.append(*drafts)
        if drafts:
            assert self.book.cases.get(id) == case, "the case is the fold of its facts"
        elif case is not None:
            self.book.put(case)
        rest = [e for e in effects if not isinstance(e, Record)]
        if rest and isinstance(rest[0], MakePlan):  # asks nobody, so it is made at once
            return self.step(id, Made(rest[0].who, planned(rest[0].policy, self.version)))
        return rest

    def look(self, look: Look = FINE) -> Looked:
        """With the plan as it would be made now."""
        return Looked(
            msgspec.structs.replace(look, plan=planned(self.policy, self.version) if self.policy else None)
        )

    def restart(self) -> None:
        self.book = Book()
        for fact in self.journal:
            self.book.add(fact)
        for case in list(self.book.cases.values()):
            self.step(case.id, Restarted())

    def stage(self, id: str) -> str:
        return self.book.cases[id].stage

    def approved(self, fingerprint: str = "a") -> str:
        self.hear(fingerprint, firing=True)
        id = self.judge(fingerprint)
        self.step(id, PlanWanted("ada"))
        self.step(id, Approve("ada", self.book.cases[id].plan_hash))
        assert self.stage(id) == "approved"
        return id

    def acted(self, status: int | None = 200) -> str:
        id = self.approved()
        (call,) = self.step(id, self.look())
        assert isinstance(call, Apply)
        assert call.action.render(call.job.alert).body == '{"size": 40}'
        self.step(id, answered(status))
        return id
