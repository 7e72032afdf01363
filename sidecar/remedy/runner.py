"""Drives the cases: stores what comes in, asks the flow what to do, does it through the ports.

Level-triggered: each round looks at what the journal's fold says and goes on from there, so a restart is
nothing special. One task per case, so that a slow target holds up nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from sidecar.remedy import events, flow, hands, numbers, order
from sidecar.remedy.actions.words import UNFORESEEN, World
from sidecar.remedy.case import Book, Case, Draft, Episode, Fact, Notice, case_id, ended, heard
from sidecar.remedy.effect import Effect
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.flow import Journal
from sidecar.remedy.guard import AlertState, Check, GuardConfig, family, standing
from sidecar.remedy.past import Odds
from sidecar.remedy.policy import Policies, RemedyConfig, kind, propose
from sidecar.remedy.weather import Weather
from sidecar.remedy.worth import Worth
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, JsonObject, Labels, PromantisError, Rejected, Unavailable

log = logging.getLogger(__name__)
NOT_HERE = "another replica leads now, or the journal cannot be read"
TICK = 5.0
"""Seconds between rounds when nothing happens; a verification is asked this often."""
JUDGE_AGAIN = 60.0
"""Seconds after which an episode without a case is judged again, and Alertmanager asked whether it lives."""
ABSENT_FOR = 300.0
"""Seconds an alert must be absent to end its episode: a restarted Alertmanager knows nothing for a while."""

WEATHER = "weather"
"""The key of the work that looks for a storm."""


class Runner:
    """Every case of this process. `start()`, then `run()`; the other methods may be called in between."""

    def __init__(
        self,
        policies: Policies,
        rules: GuardConfig,
        *,
        journal: Journal,
        eyes: Eyes,
        world: World,
        kill: Callable[[bool], None],
        confidence: Callable[[Labels], float | None],
        probability: Callable[[Labels], float | None] = lambda labels: None,
        telemetry: Telemetry,
        clock: Callable[[], Instant],
        tick: float = TICK,
    ) -> None:
        self._policies = policies
        self._rules = rules
        self._journal = journal
        self._eyes = eyes
        self._world = world
        self._kill = kill
        self._confidence = confidence
        self._probability = probability
        self._telemetry = telemetry
        self._clock = clock
        self._tick = tick
        self._weather = Weather(eyes, telemetry, tick)
        self._said: dict[str, str] = {}
        """What is not as it should be, by policy or storm, as it was last said."""
        self._book, self._worth = Book(), Worth()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        """Cases and episodes that a task works on."""
        self._judged: dict[str, Instant] = {}
        self._absent: dict[str, Instant] = {}
        self._causes: dict[str, str] = {}
        """What was recognised behind an alert when its episode was last judged."""

    # ----------------------------------------------------------------- life

    async def start(self) -> None:
        """Read the journal back. Unavailable when it cannot be read."""
        async with self._lock:  # what comes in meanwhile waits for it
            book, worth = Book(), Worth()
            for fact in await self._journal.facts():
                book.add(fact)
                worth.add(book, fact)
            self._book, self._worth = book, worth
        self._publish()
        self._said = numbers.breakers(self._policies, self._book, self._rules.breaker, self._clock())
        numbers.start(self._telemetry, self._book.cases.values())
        for case in list(self._book.cases.values()):
            if case.open:
                await self._step(case.id, events.Restarted())

    def rest(self) -> None:
        """Forget what the journal said: another replica leads, and writes it now."""
        self._book = Book()
        for known in (self._judged, self._absent, self._causes, self._said):
            known.clear()
        numbers.forget(self._telemetry)

    async def run(self) -> None:
        """Go on with every case, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                self._spawn(tasks, WEATHER)
                for case in [case for case in self._book.cases.values() if case.open and self._eyes.leads()]:
                    self._spawn(tasks, case.id)
                for key in self._due():
                    self._spawn(tasks, key)
                try:
                    async with asyncio.timeout(self._tick):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def reload(self, policies: Policies, rules: GuardConfig) -> None:
        """Use other policies from now on; what was planned under the old ones is planned anew if they differ."""
        self._policies, self._rules = policies, rules
        self._publish()
        self._judged.clear()
        self._wake.set()

    def _spawn(self, tasks: asyncio.TaskGroup, key: str) -> None:
        if key not in self._busy:
            self._busy.add(key)
            tasks.create_task(self._guarded(key))

    async def _guarded(self, key: str) -> None:
        """One piece of work; what a peer or the disk refuses now, or nobody foresaw, is tried in the next round."""
        try:
            if key == WEATHER:
                await self._look_around()
            else:
                await (self._drive(key) if key in self._book.cases else self._judge(key))
        except PromantisError as error:
            log.warning("remedy waits key=%s reason=%s", key, error)
        except UNFORESEEN:
            log.exception("remedy waits key=%s", key)
        finally:
            self._busy.discard(key)

    # ----------------------------------------------------------------- what comes in

    async def webhook(self, notices: Iterable[Notice]) -> None:
        """Store what a webhook says, durably on return; Unavailable when it must be sent again."""
        async with self._lock:
            if not self._eyes.leads():
                raise Unavailable(NOT_HERE)
            known = self._book.episodes
            drafts = [draft for n in notices if (draft := heard(known.get(n.fingerprint), n))]
            for draft in drafts:
                self._judged.pop(draft.data["fingerprint"], None)
            once = {draft.data["fingerprint"]: draft for draft in reversed(drafts)}  # of an alert named twice
            await self._append(self._clock(), list(once.values()))
        self._wake.set()

    async def plan(self, id: str, who: str) -> Case:
        """Make the plan of a case. Rejected (404, 409) when there is no such case or it does not fit."""
        for wanted in await self._step(id, events.PlanWanted(who)):
            if isinstance(wanted, events.MakePlan):
                made = await self._perform(wanted, id)
                if made is None:
                    raise Unavailable("the target does not answer: no plan can be made now")
                await self._step(id, made)
        self._wake.set()
        return self._book.cases[id]

    async def approve(self, id: str, who: str, plan_hash: str) -> Case:
        """Approve the plan with this hash."""
        return await self._ask_step(id, events.Approve(who, plan_hash))

    async def deny(self, id: str, who: str, reason: str) -> Case:
        """Say no, for the rest of the episode."""
        return await self._ask_step(id, events.Deny(who, reason))

    async def kill(self, on: bool, who: str, reason: str) -> None:
        """Switch everything off, or on again; recorded after it is done, so that nothing can hold it up."""
        self._kill(on)
        self._telemetry.killswitch.set(on)
        switched = f"kill switch is {'on' if on else 'off'} by {who}"
        if not self._eyes.leads():
            log.warning("%s: not in the journal, another replica leads", switched)
            return
        data = {"on": on, "words": reason}
        try:
            async with self._lock:
                await self._append(self._clock(), [Draft("killswitch", None, who, data)])
        except Unavailable as error:
            log.error("%s, and not in the journal: %s", switched, error)
        self._wake.set()

    @property
    def killed(self) -> bool:
        """Whether the kill switch is on."""
        return self._eyes.killed()

    @property
    def stormy(self) -> str:
        """Why nothing acts alone now; empty: it may."""
        return self._weather.words

    def cases(self) -> list[Case]:
        """All cases, the latest turn first."""
        return sorted(self._book.cases.values(), key=lambda case: -case.since)

    def case(self, id: str) -> tuple[Case, tuple[Fact, ...]]:
        """One case and its facts; Rejected (404) when there is none."""
        if id not in self._book.cases:
            raise Rejected("there is no such case: `promantis cases` lists them", 404)
        return self._book.cases[id], tuple(self._book.facts[id])

    async def standing(self, id: str) -> tuple[Check, ...]:
        """Each guardrail of a case as it stands now, asked anew; nothing is recorded or done. Rejected (404)."""
        case = self.case(id)[0]
        policy = self.policy(case.policy)
        look = await self._eyes.look(case.alert, policy, self._rules, closely=True)
        past = self._book.past(self._weather.words)
        return standing(case, policy, look, past, self._rules, self._clock())

    def odds(self, policy: str, cause: str | None = None) -> Odds:
        """How often what a policy does now helped so far, for one cause where it is named."""
        config = self.policy(policy)
        return self._book.odds(policy, kind(config) if config else "", cause)

    def effect(self, policy: str) -> Effect:
        """How often alerts end in time with a policy, and without it."""
        return self._book.effect(policy, self._clock())

    def policy(self, name: str) -> RemedyConfig | None:
        """A policy, or alternative, as the config has it now."""
        return self._policies.by_name.get(name)

    async def tell(self, id: str, kind: str, data: JsonObject) -> None:
        """Add to a case what was found out about it; its words stay."""
        async with self._lock:
            if not self._eyes.leads():
                raise Unavailable(NOT_HERE)
            told = data | {"words": self._book.cases[id].words}
            await self._append(self._clock(), [Draft(kind, id, "system", told)])

    def preview(self, alert: Alert) -> str:
        """What a policy would do, or that none is left; for the promantis_remedy annotation."""
        for case in self._book.cases_of(self._book.by_labels.get(alert.labels, "")):
            if self._exhausted(case):
                return f"{case.policy}: {case.words}; a person is needed"
        return self._policies.preview(alert)

    def _exhausted(self, case: Case) -> bool:
        """It did not help, nothing else is to be tried, and the alert fires: somebody must be told."""
        over = case.stage in ("failed", "undone", "unknown") and not case.resolved
        return over and not (case.escalates and self._turn(case.policy, case.fingerprint, case.episode))

    # ----------------------------------------------------------------- one case

    async def _ask_step(self, id: str, event: events.Event) -> Case:
        await self._step(id, event)
        self._wake.set()
        return self._book.cases[id]

    async def _drive(self, id: str) -> None:
        """Carry one case as far as it goes now."""
        event: events.Event | None = events.Tick()
        while event is not None:
            effects = await self._step(id, event)
            todo = [effect for effect in effects if not isinstance(effect, events.Record)]
            if not todo and effects and self._book.cases[id].open:
                event = events.Tick()  # a fact was added: what follows from it?
            else:
                event = await self._perform(todo[0], id) if todo else None

    async def _step(self, id: str, event: events.Event) -> tuple[events.Effect, ...]:
        """One turn, with its facts in the journal before anything else may happen."""
        async with self._lock:
            if not self._eyes.leads():
                raise Unavailable(NOT_HERE)
            old, now = self._book.cases.get(id), self._clock()
            name = event.policy if isinstance(event, events.Judged) else old.policy if old else ""
            policy = self._policies.by_name.get(name)
            past = self._book.past(self._weather.look(self._book.firing, self._rules.storm, now))
            new, effects = flow.step(old, event, now, policy, past, self._rules)
            drafts = [effect.draft for effect in effects if isinstance(effect, events.Record)]
            if drafts:
                await self._append(now, drafts)
            elif new is not None:
                self._book.put(new)
            return effects

    async def _perform(self, effect: events.Effect, id: str) -> events.Event | None:
        return await hands.perform(effect, self._book.cases[id].alert, self._eyes, self._world, self._rules)

    # ----------------------------------------------------------------- weather

    async def _look_around(self) -> None:
        """Ask for a storm, and say what turned."""
        await self._weather.ask(self._book.firing, self._rules.storm, self._clock())
        async with self._lock:
            words = self._weather.look(self._book.firing, self._rules.storm, self._clock())
            found = numbers.breakers(self._policies, self._book, self._rules.breaker, self._clock())
            found |= {"storm": words} if words else {}
            if self._eyes.leads():
                await self._append(self._clock(), [*numbers.turned(self._said, found)])
                self._said = found

    def _publish(self) -> None:
        numbers.publish(self._telemetry, self._policies, self._book, self._rules.breaker, self._clock())

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
        self._causes[key] = await self._eyes.cause(episode.alert) if policies else ""
        if not policies and not self._book.cases_of(key):
            return
        state = await self._eyes.state(episode.alert.labels)
        if await self._gone(episode, state):
            return
        for policy in policies:
            id = case_id(key, episode.number, policy.name)
            case = self._book.cases.get(id)
            turn = self._turn(policy.name, key, episode.number)
            if (case is None or case.stage == "refused") and turn == policy.name:
                confidence = self._confidence(episode.alert.labels) if policy.min_confidence > 0 else None
                look = await self._eyes.look(episode.alert, policy, self._rules, closely=False)
                probability = self._probability(episode.alert.labels) if policy.min_probability > 0 else None
                verdict = propose(policy, episode.alert, confidence, look.condition, probability)
                alert, number = episode.alert, episode.number
                judged = events.Judged(id, key, number, alert, policy.name, verdict, look)
                await self._step(id, judged)
            case = self._book.cases.get(id)
            if case is not None and case.stage != "refused":
                self._wake.set()
                if not (case.escalates and self._turn(policy.name, key, episode.number)):
                    return

    def _turn(self, policy: str, fingerprint: str, episode: int) -> str | None:
        """Which of a policy's alternatives has its turn, when what was tried did not help and nothing of it is left."""
        names = self._policies.families.get(policy, [])
        ids = {name: case_id(fingerprint, episode, name) for name in names}
        cases = {name: self._book.cases[id] for name, id in ids.items() if id in self._book.cases}
        config = self._policies.by_name.get(policy)
        if config is None or config.order == "given":
            return order.turn(names, cases, "given", {}, "")
        cause = self._causes.get(fingerprint, "")
        known = {name: self.odds(name, cause) for name in names}
        return order.turn(names, cases, config.order, known, f"{fingerprint}/{episode}")

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
            numbers.count(self._telemetry, self._policies, fact, old, new)
            if over := self._worth.add(self._book, fact):
                numbers.count_over(self._telemetry, self._policies, over)
            if fact.kind.partition(".")[0] in ("action", "verify", "undo", "effect"):
                self._publish()
            if new and (old is None or old.stage != new.stage) and self._exhausted(new):
                self._telemetry.exhausted.labels(family(new.policy)).inc()
                log.warning("a person is needed case=%s policy=%s: %s", new.id, new.policy, new.words)
            if new and new.escalates:
                self._judged.pop(new.fingerprint, None)  # the next alternative has its turn now
            about = new.labels if new else fact.data.get("labels", {})
            words = "; ".join(filter(None, (dict(about).get("alertname"), fact.data.get("words"))))
            log.info("%s case=%s who=%s: %s", fact.kind, fact.case or "-", fact.who, words)
