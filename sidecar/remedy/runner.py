"""Drives the cases: stores what comes in, asks the flow what to do, does it through the ports.

Level-triggered: each round looks at what the journal's fold says and goes on from there, so a restart is
nothing special. One task per case, so that a slow target holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sidecar.remedy import flow
from sidecar.remedy.case import STAGES, Book, Case, Draft, Episode, Fact, Notice, case_id, ended, heard
from sidecar.remedy.flow import Journal
from sidecar.remedy.guard import AlertState, Look
from sidecar.remedy.policy import REASONS, Policies, RemedyConfig, propose
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Labels, PromantisError, Rejected, Unavailable

log = logging.getLogger(__name__)
TICK = 5.0
"""Seconds between rounds when nothing happens; a verification is asked this often."""
JUDGE_AGAIN = 60.0
"""Seconds after which an episode without a case is judged again, and Alertmanager asked whether it lives."""
ABSENT_FOR = 300.0
"""Seconds an alert must be absent to end its episode: a restarted Alertmanager knows nothing for a while."""


class Evidence(Protocol):
    """Prometheus."""

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        """The vector at one instant; Unavailable or Rejected when there is none."""
        ...


class Standing(Protocol):
    """What one Alertmanager says of an alert."""

    @property
    def state(self) -> AlertState:
        """active, suppressed (silenced or inhibited) or absent."""
        ...


class AlertStates(Protocol):
    """One Alertmanager."""

    async def state(self, labels: Labels) -> Standing:
        """How the alert with exactly these labels stands; Unavailable when it cannot say."""
        ...


class Http(Protocol):
    """The way out to targets."""

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> int:
        """Send one request, once; its status, or Unavailable when nobody knows whether it arrived."""
        ...


class Runner:
    """Every case of this process. `start()`, then `run()`; the other methods may be called in between."""

    def __init__(
        self,
        policies: Iterable[RemedyConfig],
        *,
        journal: Journal,
        evidence: Evidence,
        alertmanagers: Sequence[AlertStates],
        http: Http,
        confidence: Callable[[Labels], float | None],
        killed: Callable[[], bool],
        telemetry: Telemetry,
        clock: Callable[[], Instant],
        tick: float = TICK,
    ) -> None:
        self._policies = Policies(policies)
        self._journal = journal
        self._evidence = evidence
        self._alertmanagers = alertmanagers
        self._http = http
        self._confidence = confidence
        self._killed = killed
        self._telemetry = telemetry
        self._clock = clock
        self._tick = tick
        self._book = Book()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        """Cases and episodes that a task works on."""
        self._judged: dict[str, Instant] = {}
        self._absent: dict[str, Instant] = {}

    # ----------------------------------------------------------------- life

    async def start(self) -> None:
        """Read the journal back. Unavailable when it cannot be read."""
        for stage in STAGES:
            self._telemetry.cases.labels(stage).set(0)
        for reason in REASONS:
            self._telemetry.refusals.labels(reason)
        for fact in await self._journal.facts():
            self._book.add(fact)
        for case in self._book.cases.values():
            self._telemetry.cases.labels(case.stage).inc()
            if case.open:
                await self._step(case.id, flow.Restarted())

    async def run(self) -> None:
        """Go on with every case, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for case in [case for case in self._book.cases.values() if case.open]:
                    self._spawn(tasks, case.id)
                for key in self._due():
                    self._spawn(tasks, key)
                try:
                    async with asyncio.timeout(self._tick):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def reload(self, policies: Policies) -> None:
        """Use other policies from now on; what was planned under the old ones is refused if they differ."""
        self._policies = policies
        self._judged.clear()
        self._wake.set()

    def _spawn(self, tasks: asyncio.TaskGroup, key: str) -> None:
        if key not in self._busy:
            self._busy.add(key)
            tasks.create_task(self._guarded(key))

    async def _guarded(self, key: str) -> None:
        """One piece of work; what a peer or the disk refuses now is tried again in the next round."""
        try:
            await (self._drive(key) if key in self._book.cases else self._judge(key))
        except PromantisError as error:
            log.warning("remedy waits key=%s reason=%s", key, error)
        finally:
            self._busy.discard(key)

    # ----------------------------------------------------------------- what comes in

    async def webhook(self, notices: Iterable[Notice]) -> None:
        """Store what a webhook says, durably on return; Unavailable when it must be sent again."""
        async with self._lock:
            known = self._book.episodes
            drafts = [draft for n in notices if (draft := heard(known.get(n.fingerprint), n))]
            for draft in drafts:
                self._judged.pop(draft.data["fingerprint"], None)
            once = {draft.data["fingerprint"]: draft for draft in reversed(drafts)}  # of an alert named twice
            await self._append(self._clock(), list(once.values()))
        self._wake.set()

    async def plan(self, id: str, who: str) -> Case:
        """Make the plan of a case. Rejected (404, 409) when there is no such case or it does not fit."""
        return await self._ask_step(id, flow.PlanWanted(who))

    async def approve(self, id: str, who: str, plan_hash: str) -> Case:
        """Approve the plan with this hash."""
        return await self._ask_step(id, flow.Approve(who, plan_hash))

    async def deny(self, id: str, who: str, reason: str) -> Case:
        """Say no, for the rest of the episode."""
        return await self._ask_step(id, flow.Deny(who, reason))

    def cases(self) -> list[Case]:
        """All cases, the latest turn first."""
        return sorted(self._book.cases.values(), key=lambda case: -case.since)

    def case(self, id: str) -> tuple[Case, tuple[Fact, ...]]:
        """One case and its facts; Rejected (404) when there is none."""
        if id not in self._book.cases:
            raise Rejected("there is no such case", 404)
        return self._book.cases[id], tuple(self._book.facts[id])

    def preview(self, alert: Alert) -> str:
        """What a policy would do, for the promantis_remedy annotation; empty when none fits."""
        return self._policies.preview(alert)

    # ----------------------------------------------------------------- one case

    async def _ask_step(self, id: str, event: flow.Event) -> Case:
        await self._step(id, event)
        self._wake.set()
        return self._book.cases[id]

    async def _drive(self, id: str) -> None:
        """Carry one case as far as it goes now."""
        event: flow.Event | None = flow.Tick()
        while event is not None:
            effects = await self._step(id, event)
            todo = [effect for effect in effects if not isinstance(effect, flow.Record)]
            if not todo and effects and self._book.cases[id].open:
                event = flow.Tick()  # a fact was added: what follows from it?
            else:
                event = await self._perform(todo[0], self._book.cases[id]) if todo else None

    async def _step(self, id: str, event: flow.Event) -> tuple[flow.Effect, ...]:
        """One turn, with its facts in the journal before anything else may happen."""
        async with self._lock:
            old, now = self._book.cases.get(id), self._clock()
            name = event.policy if isinstance(event, flow.Judged) else old.policy if old else ""
            policy = self._policies.by_name.get(name)
            new, effects = flow.step(old, event, now, policy, self._book.intents)
            drafts = [effect.draft for effect in effects if isinstance(effect, flow.Record)]
            if drafts:
                await self._append(now, drafts)
            elif new is not None:
                self._book.put(new)
            return effects

    async def _perform(self, effect: flow.Effect, case: Case) -> flow.Event | None:
        match effect:
            case flow.LookAround(when):
                return flow.Looked(await self._look(case.labels, when))
            case flow.Call(request, undo):
                try:
                    body, headers = request.body, request.headers
                    status = await self._http.call(request.method, request.url, headers, body)
                except Unavailable as error:
                    return flow.Answered(None, str(error), undo)
                return flow.Answered(status, f"the target answered {status}", undo)
            case flow.Ask(query, harm):
                return flow.Observed(await self._true(query), await self._true(harm) if harm else None)
            case _:
                return None

    async def _look(self, labels: Labels, when: str | None) -> Look:
        return Look(await self._state(labels), self._killed(), await self._true(when) if when else None)

    async def _true(self, query: str) -> bool | None:
        """Whether the query has a result, as an alert rule would see it; None when nobody can say."""
        try:
            return bool(await self._evidence.ask(query, self._clock()))
        except (Unavailable, Rejected) as error:
            log.warning("query failed query=%r reason=%s", query, error)
            return None

    async def _state(self, labels: Labels) -> AlertState | None:
        """What the Alertmanagers say together; one that is silent leaves "absent" open."""
        answers = await asyncio.gather(*(self._state_at(one, labels) for one in self._alertmanagers))
        order: tuple[AlertState | None, ...] = ("suppressed", "active", None, "absent")
        return next((state for state in order if state in answers), None)

    async def _state_at(self, alertmanager: AlertStates, labels: Labels) -> AlertState | None:
        try:
            return (await alertmanager.state(labels)).state
        except (Unavailable, Rejected) as error:
            log.warning("Alertmanager cannot say how an alert stands reason=%s", error)
            return None

    # ----------------------------------------------------------------- one episode

    def _due(self) -> list[str]:
        """Episodes to look at now: new, or not looked at for a while."""
        now = self._clock()
        due = [
            key
            for key, episode in self._book.episodes.items()
            if episode.open and now - self._judged.get(key, -JUDGE_AGAIN) >= JUDGE_AGAIN
        ]
        self._judged.update(dict.fromkeys(due, now))
        return due

    async def _judge(self, key: str) -> None:
        """Hold the policies against an episode; the first that proposes has it."""
        episode = self._book.episodes[key]
        policies = self._policies.matching(episode.alert)
        if not policies and not self._book.cases_of(key):
            return
        state = await self._state(episode.alert.labels)
        if await self._gone(episode, state):
            return
        for policy in policies:
            id = case_id(key, episode.number, policy.name)
            case = self._book.cases.get(id)
            if case is None or case.stage == "refused":
                confidence = self._confidence(episode.alert.labels) if policy.min_confidence > 0 else None
                condition = await self._true(policy.when) if policy.when else None
                verdict = propose(policy, episode.alert, confidence, condition)
                look = Look(state, self._killed(), condition)
                await self._step(
                    id, flow.Judged(id, key, episode.number, episode.alert, policy.name, verdict, look)
                )
            case = self._book.cases.get(id)
            if case is not None and case.stage != "refused":
                self._wake.set()
                return

    async def _gone(self, episode: Episode, state: AlertState | None) -> bool:
        """End an episode whose alert Alertmanager has not known for a while."""
        key, now = episode.fingerprint, self._clock()
        if state != "absent":
            self._absent.pop(key, None)
            return False
        if now - self._absent.setdefault(key, now) < ABSENT_FOR:
            return False
        self._absent.pop(key)
        async with self._lock:
            if self._book.episodes[key] == episode:
                await self._append(now, [ended(episode, "absent from Alertmanager")])
        return True

    # ----------------------------------------------------------------- facts

    async def _append(self, now: Instant, drafts: Sequence[Draft]) -> None:
        """Into the journal, then into the fold and the metrics; call it with the lock held."""
        for fact in await self._journal.append(now, drafts) if drafts else ():
            old = self._book.cases.get(fact.case or "")
            self._book.add(fact)
            new = self._book.cases.get(fact.case or "")
            if old and new and old.stage != new.stage:
                self._telemetry.cases.labels(old.stage).dec()
            if new and (old is None or old.stage != new.stage):
                self._telemetry.cases.labels(new.stage).inc()
            self._count(fact, new)
            about = new.labels if new else fact.data.get("labels", {})
            words = "; ".join(filter(None, (dict(about).get("alertname"), fact.data.get("words"))))
            log.info("%s case=%s who=%s: %s", fact.kind, fact.case or "-", fact.who, words)

    def _count(self, fact: Fact, case: Case | None) -> None:
        if fact.kind == "case.refused":
            self._telemetry.refusals.labels(fact.data["reason"]).inc()
        part, _, outcome = fact.kind.partition(".")
        if case and part in ("action", "undo") and outcome != "intent":
            outcome = "unclear" if fact.data.get("unclear") else outcome
            name = "http" if part == "action" else "http undo"
            self._telemetry.actions.labels(case.policy, name, outcome).inc()
