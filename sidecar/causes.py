"""Where signals and alerts meet for a diagnosis: what is kept of series, who they belong to, what explains an alert."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from sidecar.adapters.loki import Loki
from sidecar.adapters.prometheus import Prometheus
from sidecar.alerts import kept, logs
from sidecar.alerts.aside import again_and_again
from sidecar.alerts.diagnose import diagnose
from sidecar.alerts.enrich import PREFIX
from sidecar.alerts.evidence import evidence
from sidecar.alerts.explain import RECENT, Changed, Explanation, Metric, Whose, explain
from sidecar.alerts.explainer import KEPT, LEAST, QUIET, Explainer, recalled
from sidecar.alerts.knowledge import Pattern
from sidecar.alerts.relay import Relay
from sidecar.remedy.case import Case, Fact
from sidecar.signals.ingest.changes import Change
from sidecar.signals.ingest.happenings import Event
from sidecar.signals.ingest.topology import NODE, CausesConfig, Topology, whose
from sidecar.signals.known.snapshot import Known
from sidecar.signals.scene.attribute import Part, parts_of
from sidecar.signals.scene.recent import Recent, then
from sidecar.signals.watch.watches import Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Candidates, Finding, Instant, JsonObject, Labels, PromantisError

log = logging.getLogger(__name__)

INCIDENT, EXPLAINED, CHANCE = "incident.ended", "incident.explained", "causes.fitted"
"""Kinds of facts."""
MINUTE = 60.0
REHEARSE = 10
"""Minutes between diagnoses of nothing."""
METRICS = 8
"""That are told of a service or machine."""
MATCHED = 1000
"""Series among which the oddest is taken."""


class Watching(Protocol):
    """What is watched."""

    @property
    def watches(self) -> Mapping[str, Watch]: ...


class Causes:
    """`run()` until cancelled; `adopt` a config first."""

    def __init__(
        self,
        prometheus: Prometheus,
        known: Known,
        watching: Watching,
        relay: Relay,
        note: Callable[[str, JsonObject], Awaitable[None]],
        cases: Callable[[], Sequence[Case]],
        clock: Callable[[], Instant],
        telemetry: Telemetry,
        loki: Loki | None = None,
    ) -> None:
        """`note` writes a fact into the journal."""
        self._loki, self._relay = loki, relay
        self._prometheus, self._known, self._watching = prometheus, known, watching
        self._note, self._cases, self._clock = note, cases, clock
        self.topology = Topology(prometheus)
        self.recent = Recent(prometheus, lambda: self.topology.map)
        self.explainer = Explainer(self.recent, known, self._whose, telemetry)
        self.recent.suspects = self.explainer.suspects
        self._interval = 15.0

    def adopt(self, config: CausesConfig, interval: float, patterns: Sequence[Pattern]) -> None:
        """Take what a reload may change."""
        self.topology.adopt(config)
        self.explainer.patterns, self.explainer.look = patterns, float(config.look)
        self.explainer.again_after, self._interval = 2 * interval, interval

    def restore(self, facts: Iterable[Fact]) -> None:
        """Take over what the journal has: incidents that ended, what was said of the others, what chance scored."""
        ended, going = [], dict[str, list[Fact]]()
        for fact in facts:
            if fact.kind == INCIDENT:
                ended.append(fact.data)
                going.pop(str(fact.data["id"]), None)
            elif fact.kind == EXPLAINED:
                going.setdefault(str(fact.data.get("id")), []).append(fact)
            elif fact.kind == CHANCE:
                self.explainer.none = float(fact.data["none"])
        self.explainer.before = recalled(ended[-KEPT:])
        said = ((fact.at, fact.data) for one in going.values() for fact in one)
        self.explainer.recall(kept.recalled(said, self._clock()))

    async def run(self) -> None:
        """Keep what comes, look at what runs where, tell more of alerts when more is known, and journal."""
        async with asyncio.TaskGroup() as group:
            for work in (self.recent.run, self._keep_looking, self._keep_telling):
                group.create_task(again_and_again("what explains alerts", work))

    async def deployed(self, changes: Sequence[Change], at: Instant) -> None:
        """Note what was deployed, for an hour."""
        names = [workload.name for change in changes for workload in change.workloads]
        self._changed([Changed(name, at, f"{name} was deployed", "deployed") for name in names], at)

    def happened(self, events: Sequence[Event], at: Instant) -> None:
        """Note what else changed, for an hour."""
        self._changed([Changed(event.entity, at, event.words, event.kind) for event in events], at)

    def _changed(self, found: Iterable[Changed], at: Instant) -> None:
        self.explainer.changed = [one for one in self.explainer.changed if at - one.at <= RECENT] + [*found]

    # ------------------------------------------------------------------ asked

    async def pattern(self, alert: Alert) -> str:
        """The pattern of failure behind an alert, as it is diagnosed here, or else by who wrote its annotations."""
        found = await asyncio.to_thread(self.explainer.pattern, alert.labels)
        told = alert.annotations.get(f"{PREFIX}pattern", "")
        return found or (told if any(told == one.pattern for one in self.explainer.patterns) else "")

    async def explained(self, fingerprint: str, at: Instant | None) -> Explanation | None:
        """What explains an alert that was received, or did; None when it is not known, or nobody knows whose it is."""
        received = self._relay.alert(fingerprint)
        if received is None:
            return None
        labels = received.alert.labels
        if at is None:
            return await asyncio.to_thread(self.explainer, received.alert, self._clock())
        near = self._known.near(labels, 1)
        about = self._whose(labels, near[0] if near else None)
        return await self._then(about, at) if about else None

    async def explained_series(
        self, wanted: Callable[[Mapping[str, str]], bool], at: Instant | None
    ) -> Explanation | None:
        """What is wrong with the service of the series that are wanted, the oddest of them first."""
        found = await asyncio.to_thread(self._known.matching, wanted, MATCHED)
        found.sort(key=lambda one: -one.score if one.score == one.score else 0.0)
        about = next((about for one in found if (about := self._whose((), one))), None)
        if about is None:
            return None
        if at is None:
            said = await asyncio.to_thread(self.explainer.of, *about, self._clock())
            return await self._in_full(said, about[0], self._clock())
        return await self._then(about, at)

    async def _in_full(self, said: Explanation, entity: str, at: Instant) -> Explanation:
        """With what takes a while to ask: the log of who is blamed, and which of its metrics belong to it."""
        found = await self.logged(said.blamed, at) if said.blamed else ()
        parts = await self._parts(said.blamed or entity, at)
        metrics = tuple(Metric(name, part.probability) for name, part in parts[:METRICS])
        return msgspec.structs.replace(said, logs=found, metrics=metrics)

    async def _parts(self, entity: str, at: Instant) -> list[tuple[str, Part]]:
        watches, look = self._watching.watches, self.explainer.look
        sizes = {name: len(s.rows_of(name)) for s in self._known.snapshots.values() for name in s.rows}
        return await parts_of(self._prometheus, watches, sizes, entity, at, look)

    async def _then(self, about: Whose, at: Instant) -> Explanation:
        watches, look = self._watching.watches, self.explainer.look
        c = await then(self._prometheus, watches, at, look, self.topology.map)
        said = await asyncio.to_thread(self._explained_then, c, about, at)
        return await self._in_full(said, about[0], at)

    def _explained_then(self, c: Candidates, about: Whose, at: Instant) -> Explanation:
        ev = evidence(c)
        found = diagnose(c, about, LEAST, ev=ev)
        patterns, changed = self.explainer.patterns, tuple(self.explainer.changed)
        return explain(c, ev, about, at, found, patterns=patterns, changed=changed, what=about[0])

    def _whose(self, labels: Labels, of: Finding | None) -> Whose | None:
        return whose(self._watching.watches, labels, of.watch if of else None, of.labels if of else ())

    # ------------------------------------------------------------------ done again and again

    async def _keep_telling(self) -> None:
        """Send an alert again once two scrapes more are known of what it is about."""
        while True:
            await asyncio.sleep(self._interval)
            # in a thread: it waits for the diagnosis that is under way, which the alerts themselves must not
            due = await asyncio.to_thread(self.explainer.again, self._clock())
            firing = [labels for labels in due if self._relay.fires(labels)]
            await self._read_logs(await asyncio.to_thread(self._blamed, firing))
            for labels in firing:
                await self._relay.again(labels, self._clock())
            for told in await asyncio.to_thread(self.explainer.news):
                if await self._journal(EXPLAINED, kept.fact(told)):
                    self.explainer.noted(told)

    def _blamed(self, firing: Sequence[Labels]) -> set[str]:
        return {self.explainer.blamed(labels) for labels in firing}

    async def _read_logs(self, services: Iterable[str]) -> None:
        for service in sorted(one for one in services if one):
            now = self._clock()
            self.explainer.logs[service] = now, await self.logged(service, now)

    async def logged(self, service: str, at: Instant) -> tuple[str, ...]:
        """What its log said right before an instant and not in the hour before; nothing where no log can be read."""
        if self._loki is None or service.startswith(NODE):
            return ()
        try:
            begin = at - logs.NOW
            now = await self._loki.lines(service, begin, at)
            before = await self._loki.lines(service, begin - logs.BEFORE, begin)
        except PromantisError as error:
            log.warning("no logs: %s", error)
            return ()
        found = await asyncio.to_thread(logs.compare, before, now)
        return tuple(one.words for one in found)

    async def _keep_looking(self) -> None:
        """What runs where, incidents that are over and how they ended, and once a day what chance scores."""
        quiet = 0
        for minute in itertools.count():
            await self.topology.look(self._clock())
            if minute % REHEARSE == REHEARSE - 1:
                quiet += await asyncio.to_thread(self.explainer.rehearse, self._clock())
            if quiet >= QUIET and self.explainer.none is not None:
                quiet = 0
                await self._journal(CHANCE, {"none": self.explainer.none})
            for incident in await asyncio.to_thread(self.explainer.over, self._clock()):
                cases = [case for case in self._cases() if case.fingerprint in incident.fingerprints]
                done = [f"{case.policy} {case.stage}" for case in cases if case.acted_at is not None]
                words = ", ".join(done) or "nothing was done by Promantis"
                await self._journal(INCIDENT, self.explainer.remember(incident, words))
            await asyncio.sleep(MINUTE)

    async def _journal(self, kind: str, data: JsonObject) -> bool:
        with contextlib.suppress(PromantisError):  # it is said by whoever cannot write
            await self._note(kind, data)
            return True
        return False
