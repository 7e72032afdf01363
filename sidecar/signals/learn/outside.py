"""Looks at what is going on outside: alerts, silences, deployments and other changes; tells what follows from them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from sidecar.signals.ingest.changes import (
    KUBE_STATE,
    KUBERNETES,
    Change,
    ChangesConfig,
    State,
    deployed,
    state,
)
from sidecar.signals.ingest.happenings import LOOKS, Event, Look, Values, happened
from sidecar.signals.learn.opinions import Statement
from sidecar.signals.learn.trust import Incident, Silence, Trust
from sidecar.signals.watch.calendar import Planned
from sidecar.signals.watch.selectors import Matcher, parse, ways
from sidecar.types import Instant, Labels, PromantisError

log = logging.getLogger(__name__)

ALERTS = 15.0  # seconds between looks at alerts
OTHERS = 4  # a look at the rest comes every so many of them
GRID = 60.0  # seconds: two replicas look at the same instants, so that they say the same
OLD = 600.0  # seconds after which what was seen is no longer what came right before


class Metrics(Protocol):
    """Prometheus. Raises Unavailable or Rejected."""

    async def firing(self) -> list[Labels]: ...
    async def metric_names(self) -> frozenset[str]: ...
    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]: ...


class Silencer(Protocol):
    """An Alertmanager. Raises Unavailable or Rejected."""

    @property
    def name(self) -> str: ...
    async def silences(self) -> list[Silence]: ...


class Outside:
    """`run()` until cancelled; who does not answer is taken to say what it said last."""

    def __init__(
        self,
        metrics: Metrics,
        silencers: Sequence[Silencer],
        trust: Trust,
        deploy: Callable[[Sequence[Change], Instant], Awaitable[None]],
        tell: Callable[[Sequence[Event], Instant], None],
        planned: Callable[[Instant], Iterable[Statement]],
        clock: Callable[[], Instant],
    ) -> None:
        """`deploy` is told of deployments, `tell` of all else that changed; `planned` says what is on purpose."""
        self._metrics, self._silencers = metrics, silencers
        self._trust, self._deploy, self._planned, self._clock = trust, deploy, planned, clock
        self._tell = tell
        self._changes: tuple[ChangesConfig, ...] | None = None
        self._states: dict[str, State] = {}
        self._seen: dict[str, tuple[Instant, Values]] = {}
        """By metric, when and what was seen last."""
        self._silences: dict[str, list[Silence]] = {}
        self._failing: dict[str, str] = {}

    def adopt(self, calendar: tuple[Planned, ...], changes: tuple[ChangesConfig, ...] | None) -> None:
        """Take a new calendar, and queries for deployments (None: those of kube-state-metrics where it is there)."""
        self._trust.plan(calendar)
        self._changes = changes

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            for _ in range(OTHERS - 1):
                await asyncio.sleep(ALERTS)
                await self._look_often()
            await asyncio.sleep(ALERTS)

    async def look(self) -> None:
        """Look at everything."""
        await self._look_often()
        for silencer in self._silencers:
            await self._try(f"silences of {silencer.name}", self._look_at_silences(silencer))
        await self._try("deployments", self._look_at_changes())
        await self._try("other changes", self._look_at_others())

    async def _look_often(self) -> None:
        self._trust.distrust([said(one) for one in self._planned(self._clock())])
        await self._try("alerts", self._look_at_alerts())

    async def _look_at_alerts(self) -> None:
        self._trust.fire(await self._metrics.firing())

    async def _look_at_silences(self, silencer: Silencer) -> None:
        self._silences[silencer.name] = await silencer.silences()
        self._trust.silence([one for found in self._silences.values() for one in found])

    async def _look_at_changes(self) -> None:
        queries = self._changes
        if queries is None:
            queries = KUBERNETES if KUBE_STATE in await self._metrics.metric_names() else ()
        found: list[Change] = []
        for one in queries:
            now = state(await self._metrics.ask(one.query, self._clock()))
            before, self._states[one.query] = self._states.get(one.query, {}), now
            if workloads := deployed(before, now):
                log.info("deployed: %s", _listed(f"{w.namespace}/{w.name}".lstrip("/") for w in workloads))
                match = tuple(parse(text) for text in one.match)
                found.append(Change(frozenset() if match else workloads, match))
        if found:
            await self._deploy(found, self._clock())

    async def _look_at_others(self) -> None:
        names, at = await self._metrics.metric_names(), Instant(self._clock() // GRID * GRID)
        for one in LOOKS:
            if one.metric in names:
                await self._try(f"changes of {one.metric}", self._look_at(one, at))

    async def _look_at(self, one: Look, at: Instant) -> None:
        now = dict(await self._metrics.ask(one.query, at))
        seen, before = self._seen.get(one.metric, (at, {}))
        self._seen[one.metric] = at, now
        events = list(happened(one, before, now)) if at - seen <= OLD else []
        if events:
            log.info("changed: %s", _listed(event.words for event in events))
            self._tell(events, at)

    async def _try(self, what: str, look: Awaitable[None]) -> None:
        try:
            await look
        except PromantisError as error:
            if self._failing.get(what) != str(error):
                log.warning("%s are not known: %s", what, error)
            self._failing[what] = str(error)
        else:
            self._failing.pop(what, None)


def said(planned: Statement) -> Incident:
    """A statement of feedback as what it keeps from being learned."""
    by_alert = (
        tuple(Matcher(name, "=", value) for name, value in {**labels, "watch": watch}.items())
        for watch, labels in planned.series
    )
    match = ways(planned.match) if planned.match else tuple(by_alert)
    return Incident(match, planned.start or 0.0, planned.end or 0.0)


def _listed(names: Iterable[str], most: int = 5) -> str:
    """Some names, and how many more there are.

    >>> _listed(["b", "a", "c"], 2)
    'a, b and 1 more'
    """
    found = sorted(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
