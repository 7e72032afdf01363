"""The one place that knows everyone: build, start, reload, stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
from aiohttp.web import RouteDef

from sidecar.adapters.fleet import Fleet
from sidecar.adapters.journal import Held
from sidecar.adapters.kubernetes import Cluster, own_namespace
from sidecar.adapters.loki import Loki
from sidecar.adapters.peer import Peers
from sidecar.adapters.prometheus import Prometheus
from sidecar.adapters.state import StateFiles, first_free
from sidecar.adapters.targets import KillSwitch, Targets
from sidecar.alerts.aside import again_and_again
from sidecar.alerts.enrich import Enricher
from sidecar.alerts.knowledge import Pattern
from sidecar.alerts.noticed import Noticed
from sidecar.alerts.relay import Relay
from sidecar.causes import Causes
from sidecar.config import Config, calendar, freezes, knowledge
from sidecar.effects import Effects
from sidecar.following import Following
from sidecar.leading import Leading, Lease
from sidecar.looking import Looking
from sidecar.recalling import Recalling
from sidecar.remedy.actions.words import World
from sidecar.remedy.case import Draft
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import GuardConfig
from sidecar.remedy.policy import Policies
from sidecar.remedy.rights import needed, words
from sidecar.remedy.runner import Runner
from sidecar.signals.detect.groups import Joint
from sidecar.signals.ingest.changes import Change
from sidecar.signals.known.expose import Exposition
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.accounts import Accounts, Report, report
from sidecar.signals.learn.feedback import Feedback
from sidecar.signals.learn.outside import Outside
from sidecar.signals.learn.trainer import Trainer
from sidecar.signals.tick.inviting import Inviting
from sidecar.signals.tick.watcher import Watcher
from sidecar.signals.watch.calendar import Planned
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, ConfigError, Instant, JsonObject, PromantisError
from sidecar.web import alerts as web_alerts
from sidecar.web import auth, cases, deciding, incident, live, pages, server, validation, views
from sidecar.web import explain as web_explain
from sidecar.web import feedback as web_feedback
from sidecar.web import signals as web_signals
from sidecar.web.forward import forwarding
from sidecar.web.lately import Lately
from sidecar.web.session import Sessions

log = logging.getLogger(__name__)

FIXED = ("prometheus", "alertmanagers", "learning", "loki", "kubernetes", "storage", "web")
"""Sections that are read at start only."""


def clock() -> Instant:
    """Now."""
    return Instant(time.time())


def _guarding(config: Config) -> GuardConfig:
    """The guardrails; the namespace that Promantis itself lives in is protected too."""
    own = own_namespace() if config.kubernetes else ""
    spaces = (*config.guard.protected_namespaces, *([own] if own else []))
    return msgspec.structs.replace(config.guard, protected_namespaces=spaces)


PARTS = ("signals", "alerts", "remedies")
"""What one process may be for, so that the parts need not share one identity."""


class App:
    """One Promantis; several can live in one process. `run()` serves until `stop()` or cancelled."""

    def __init__(
        self,
        load: Callable[[], Config],
        lease: Lease | None = None,
        parts: Collection[str] = PARTS,
    ) -> None:
        """Build everything and touch nothing but the storage folder; ConfigError when that is impossible.

        `lease`: elects the one that acts, of several replicas that share the storage folder. `parts`: what of PARTS
        this process is for.
        """
        self._load = load
        self._parts = parts
        self.config = config = load()
        self._freezes = freezes(config)
        self._url = f"http://{config.web.listen}"
        self._stop = asyncio.Event()
        storage = Path(config.storage.path)
        self.telemetry = Telemetry()
        self.noticed = Noticed(self.telemetry, clock())
        self.known = Known(Joint())
        self.prometheus = Prometheus(config.prometheus, self.telemetry)
        self.alertmanagers = Fleet(config.alertmanagers)
        self.targets = Targets(lambda: self.config.guard.allow_private)
        self._slot = first_free(storage / "state") if lease else None  # replicas keep what they learn apart
        folder = self._slot.folder if self._slot else storage / "state"
        state, pasts = StateFiles(folder), StateFiles(folder / "groups")
        learning, telemetry = config.learning, self.telemetry
        self.watcher = Watcher(self.prometheus, state, self.known, learning, telemetry, clock)
        self.trainer = Trainer(self.known, float(learning.retrain), telemetry, clock, self._note, store=pasts)
        self.inviting = Inviting(self.watcher, self.prometheus, learning, telemetry, clock, self._note)
        self.accounts = Accounts(self.known, self.telemetry)
        self.watcher.follower = self._ticked
        self.following = Following(self.prometheus, self.watcher, self.telemetry, lambda: self.config)
        self.relay = Relay(config.alerts, self.alertmanagers, self._enrich, self.telemetry)
        self.journal = Held(storage / "journal.db")
        if lease is None:
            self.journal.take()
        switch = KillSwitch(storage)
        self.cluster = Cluster(config.kubernetes) if config.kubernetes and "remedies" in parts else None
        silences = self.alertmanagers if config.alertmanagers else None
        world = World(self.targets, self.cluster, silences, lambda: switch() or not self._acts())
        self.runner = Runner(
            self._policies(config),
            _guarding(config),
            journal=self.journal,
            eyes=Eyes(
                self.prometheus,
                self.alertmanagers,
                world,
                switch,
                lambda labels, now: self._freezes(labels, now),
                clock,
                self._acts,
                self._cause,
            ),
            world=world,
            kill=switch.set,
            confidence=self.known.confidence,
            probability=self.known.probability,
            telemetry=self.telemetry,
            clock=clock,
        )
        named = config.kubernetes.lease if config.kubernetes else None
        self._peers = Peers(named.peers) if named and named.peers else None
        work = self.runner.run if "remedies" in parts else asyncio.Event().wait
        self.leading = Leading(
            lease, self.journal, self.runner, lambda: self.recalling.recall(), work, self.telemetry
        )
        self.loki = Loki(config.loki) if config.loki.url else None
        self.causes = Causes(
            self.prometheus,
            self.known,
            self.watcher,
            self.relay,
            self._note,
            self.runner.cases,
            clock,
            self.telemetry,
            self.loki,
        )
        self.effects = Effects(self.prometheus, self.runner, clock)
        self.feedback = Feedback(self.watcher, self.known, self._record, self.telemetry)
        self.recalling = Recalling(self.journal, self.feedback, self.causes, clock)
        self.outside = Outside(
            self.prometheus,
            self.alertmanagers,
            self.watcher.trust,
            self._deployed,
            self.causes.happened,
            self.feedback.opinions.planned,
            clock,
        )
        self.looking = Looking(
            self.known,
            self.causes.recent,
            self.causes.explainer,
            self.relay,
            self.runner,
            self.feedback,
            self.prometheus,
            self._enrich,
            clock,
            lambda: self.watcher.trust.calendar,
            self.inviting.known_deployed,
        )
        self.live = live.Live(self.telemetry)
        self.journal.written = lambda: self.live.tell("fact")
        self._exposition = Exposition(config.exposition)
        self._adopt(config, calendar(config), knowledge(config))

    # ------------------------------------------------------------------ life

    async def run(self, started: Callable[[int], None] = lambda port: None) -> None:
        """Serve; `started` is told the port once requests are answered."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.give)
            closing = [self.prometheus.close, self.targets.close, self.alertmanagers.close]
            closing += [one.close for one in (self.loki, self._peers) if one]
            for close in closing:
                stack.push_async_callback(close)
            await self.alertmanagers.look()
            self.relay.adopt(self.alertmanagers)
            if self.cluster:
                stack.push_async_callback(self.cluster.close)
                await self._ask_rights(self.cluster)
            if self._slot is None:
                await self.leading.begin()
            else:
                stack.callback(self._slot.lock.close)
                await self.leading.look()
            web, storage = self.config.web, self.config.storage.path
            users, role = server.users(web), web.basic_auth_role
            doors = auth.load(web.tokens_file, storage, web.listen, web.proxy, users, role)
            inside = [forwarding(self._peers, lambda: self.leading.elsewhere, doors)] if self._peers else []
            app = server.build(self._routes(doors), doors, self.telemetry, self.missing, self.reload, inside)
            served, port = await server.serve(app, web)
            stack.push_async_callback(served.cleanup)
            stack.callback(self.live.close)  # before that, which would wait for open streams
            self._url = f"http://{web.listen.rpartition(':')[0]}:{port}"
            self._enricher = self._enriching(self.config)  # only now the port is known
            async with asyncio.TaskGroup() as group:
                work = [self.leading.run(), self.causes.run()]
                beside: list[Callable[[], Awaitable[None]]] = []
                if "signals" in self._parts:
                    work.append(self.watcher.run())
                    beside += [self.trainer.run, self.inviting.run, self.outside.run, self.following.run]
                if "remedies" in self._parts:
                    beside.append(self.effects.run)
                if self._peers:
                    token = partial(auth.least, web.tokens_file, storage)
                    every, leader = float(self.config.interval), lambda: self.leading.elsewhere
                    beside.append(partial(self.recalling.listen, self._peers, leader, token, every))
                adopt = partial(self.relay.adopt, self.alertmanagers)
                beside.append(partial(self.alertmanagers.run, adopt))
                work += [again_and_again("work beside alerts and remedies", one) for one in beside]
                tasks = [group.create_task(one) for one in work]
                relay = group.create_task(self.relay.run())  # without a route to it, nothing comes
                started(port)
                await self._stop.wait()
                self.relay.stop()
                await relay
                for task in tasks:
                    task.cancel()

    def stop(self) -> None:
        """Let `run()` send what waits, save and return."""
        self._stop.set()

    async def reload(self) -> None:
        """Read the config again; everything is checked before anything is swapped, else the old one stays."""
        try:
            fresh = self._load()
            events, frozen, patterns = calendar(fresh), freezes(fresh), knowledge(fresh)
            for section in FIXED:
                if getattr(fresh, section) != getattr(self.config, section):
                    raise ConfigError(section, "changed, but is read at start only: restart Promantis")
            if fresh.alerts.mode != self.config.alerts.mode:
                raise ConfigError("alerts.mode", "changed, but is read at start only: restart Promantis")
        except ConfigError as error:
            self.telemetry.reload_successful.set(0)
            log.error("config not reloaded: %s", error)
            raise
        self._freezes = frozen
        self.runner.reload(self._policies(fresh), _guarding(fresh))
        self._adopt(fresh, events, patterns)
        self.following.look_now()
        log.info("config reloaded")

    # ------------------------------------------------------------------ parts

    def _adopt(self, config: Config, events: tuple[Planned, ...], patterns: tuple[Pattern, ...]) -> None:
        """Swap what a reload may change."""
        self.outside.adopt(events, config.changes)
        self.causes.adopt(config.causes, float(config.interval), patterns)
        if config.exposition != self.config.exposition:  # a new one forgets what is to stay shown for an hour
            self._exposition = Exposition(config.exposition)
        self._enricher = self._enriching(config)
        self.config = config
        self.telemetry.reload_successful.set(1)
        self.telemetry.reload_timestamp.set(clock())

    def _enriching(self, config: Config) -> Enricher:
        url = config.alerts.external_url or self._url
        explain, noticed = self.causes.explainer, self.noticed
        return Enricher(self.known, self.runner.preview, config.alerts, url, explain, noticed)

    def _ticked(self, snapshot: Snapshot) -> None:
        self.accounts.ticked(snapshot)
        self.trainer.ticked(snapshot)
        self.inviting.ticked(snapshot)
        self.causes.recent.ticked(snapshot)
        self.live.tell("tick")

    def _acts(self) -> bool:
        return self.leading.acts()

    async def _note(self, kind: str, data: JsonObject) -> None:
        """A fact of no case."""
        await self.journal.append(clock(), [Draft(kind, None, "system", data)])

    async def _ask_rights(self, cluster: Cluster) -> None:
        """Say which rights are missing, each in words; what needs them will be refused, not tried."""
        missing = 0
        for right in needed(self.config.remedies):
            for verb in right.verbs:
                try:
                    if not await cluster.allowed(right, verb):
                        missing += 1
                        log.error(
                            "cluster: %s (promantis check --rbac prints what is needed)", words(right, verb)
                        )
                except PromantisError as error:
                    log.warning("cluster cannot say what is allowed reason=%s", error)
                    return
        self.telemetry.rights_missing.set(missing)

    async def _cause(self, alert: Alert) -> str:
        return await self.causes.pattern(alert)

    def _enrich(self, alert: Alert, now: Instant) -> Mapping[str, str]:
        return self._enricher(alert, now)

    def _report(self, now: Instant) -> Report:
        return report(self.known, self.feedback.opinions, now)

    def _routes(self, doors: auth.Auth) -> list[RouteDef]:
        sessions, turn = Sessions(doors, self.config.alerts.external_url), asyncio.Lock()
        guards = Lately(self.runner.standing)
        return [
            *web_signals.routes(
                self.known,
                lambda: self._exposition,
                self.watcher,
                lambda: self.following.skipped,
                self.telemetry,
                clock,
                lambda: bool(self.leading.elsewhere),
            ),
            *(
                web_alerts.routes(self.relay, self.alertmanagers, self.telemetry)
                if "alerts" in self._parts
                else ()
            ),
            *(
                cases.routes(self.runner, self.journal, guards, self.telemetry)
                if "remedies" in self._parts
                else ()
            ),
            *web_explain.routes(self.causes, clock),
            *web_feedback.routes(self.feedback, self.looking.about, clock),
            *pages.routes(self.known, self.looking, self.runner, sessions, turn),
            *incident.routes(self.looking, self.runner, sessions, turn),
            *deciding.routes(self.runner, self.looking, guards, sessions, turn),
            *live.routes(self.live, sessions),
            *views.routes(
                self.known,
                self.feedback,
                self.journal,
                self.looking,
                self._report,
                self.runner,
                sessions,
                clock,
            ),
            *validation.routes(self._report, clock),
        ]

    def missing(self) -> list[str]:
        """What still has to happen before this process is ready."""
        leader = "" if self._peers else self.leading.elsewhere  # who can pass it on may be asked anything
        return ([f"stands by, {leader} leads"] if leader else []) + (
            self.watcher.missing() if "signals" in self._parts else []
        )

    def _policies(self, config: Config) -> Policies:
        return Policies(config.remedies if "remedies" in self._parts else ())

    async def _deployed(self, changes: Sequence[Change], at: Instant) -> None:
        await self.causes.deployed(changes, at)
        await self.watcher.deployed(changes, at)
        self.inviting.deployed(changes, at)

    # ------------------------------------------------------------------ feedback

    async def _record(self, who: str, data: JsonObject) -> Instant:
        (fact,) = await self.journal.append(clock(), [Draft("feedback", None, who, data)])
        log.info("feedback who=%s: %s", who, data["verdict"])
        return self.recalling.said(fact)
