"""Takes alerts in, has them enriched aside, and gives each Alertmanager the newest message; fails open."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from sidecar.alerts.aside import Aside, Enrich
from sidecar.alerts.identity import Generations, Latest
from sidecar.alerts.lane import LIMIT, SLICE, Downstream, Lane, Message, Ticket
from sidecar.alerts.narrate import ANNOTATIONS
from sidecar.alerts.times import ends
from sidecar.alerts.wire import RESOLVE_TIMEOUT
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Labels, PromantisError, Rejected, Section, Unavailable

log = logging.getLogger(__name__)

TEE_DELAY = 0.25
"""Seconds that a copy waits, so that the one which Prometheus sends itself has arrived before it."""

STOOD_STILL = 1.0
"""Seconds by which a copy comes late only where the process stood still (a container that was paused, a machine
that moved): what Prometheus said meanwhile is newer and waits unread, so the copy waits again."""

ANSWER_WITHIN = 5.0
"""Seconds until Prometheus gets its answer in `inline` mode; Prometheus itself gives up after 10."""

ANSWER_FAILING_WITHIN = 0.2
"""The same while no Alertmanager works: what is told is kept anyway, and each batch that waits keeps Prometheus
from sending the newer ones, so that afterwards it would play back all that had happened meanwhile."""

RETRY_AFTER, TRIES = 1.0, 3
"""Seconds after which words that were not found in time are looked for again, and how often in all."""

WORDS_FOR = 5.0
"""Seconds for which words are said again as they are, however often the alert comes: what is known is renewed at a
tick, and a storm of re-sends must not become one of diagnoses."""

RESOLVED_FOR = 900.0
"""Seconds that a resolved alert is worth sending: as long as Prometheus itself sends it again."""

DRAIN_WITHIN = 2.0
"""Seconds that a stop waits for what is still to be sent."""


class AlertsConfig(Section, frozen=True, kw_only=True):
    """How alerts travel and which annotations they are given."""

    mode: str = "tee"
    """`tee`: Prometheus sends to the Alertmanagers too; `inline`: only through Promantis."""
    annotations: tuple[str, ...] = ("summary", "causes", "outlook", "next_steps", "incident", "url")
    """Which annotations are written."""
    max_bytes: int = 300
    """The most for each."""
    external_url: str | None = None
    """How people reach Promantis, for the links."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.mode not in ("tee", "inline"):
            yield "mode", f"unknown mode {self.mode!r} (tee or inline)"
        for i, name in enumerate(self.annotations):
            if name not in ANNOTATIONS:
                known = ", ".join(ANNOTATIONS)
                yield f"annotations[{i}]", f"unknown annotation {name!r} (one of {known})"
        if self.max_bytes < 50:
            yield "max_bytes", f"{self.max_bytes} bytes hold no sentence (at least 50)"
        if self.external_url is not None:
            if not _is_url(self.external_url):
                yield (
                    "external_url",
                    f"{self.external_url!r} is not a url such as https://promantis.example.org",
                )
            elif len(self.external_url.rstrip("/").encode()) + len("/a/0123456789abcdef") > self.max_bytes:
                yield "external_url", f"is too long for links of at most {self.max_bytes} bytes (max_bytes)"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return right and not parts.query and not parts.fragment


LOOKED = 1000
"""Messages among which the alerts that fire are looked for."""


class Outcome(NamedTuple):
    """Whether a batch is safe with an Alertmanager (or, in `tee` mode, need not be), and why not."""

    taken: bool
    words: str = ""
    status: int = 503
    """To answer where it is not taken: theirs where all Alertmanagers refused it."""


class Received(NamedTuple):
    """An alert as it came last, whether it fires, and what was last said of it."""

    alert: Alert
    firing: bool
    words: Mapping[str, str] = {}


class _Pending(msgspec.Struct, frozen=True):
    """A message that waits to be enriched. Times are the loop's, `now` is the wall clock at `arrived`."""

    latest: Latest
    now: Instant
    arrived: float
    due: float
    tries: int = 0
    """How often no words were found in time, or finding them failed."""


class Relay:
    """`receive()` batches while `run()` runs. In `tee` mode nothing is sent but enriched copies."""

    def __init__(
        self, config: AlertsConfig, downstreams: Sequence[Downstream], enrich: Enrich, telemetry: Telemetry
    ) -> None:
        self._inline = config.mode == "inline"
        self._enrich = enrich
        self._telemetry = telemetry
        self._lanes: tuple[Lane, ...] = ()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._waiting = 0
        """Batches that Prometheus waits for now."""
        self._generations = Generations(2 * LIMIT)
        self._pending: dict[Labels, _Pending] = {}
        self._work = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stop = asyncio.Event()
        self.adopt(downstreams)

    def adopt(self, downstreams: Sequence[Downstream]) -> None:
        """Send to these from now on: who stays keeps what waits for it."""
        known = {lane.name: lane for lane in self._lanes}
        names = {downstream.name: downstream for downstream in downstreams}
        self._lanes = tuple(known.get(name) or Lane(one, self._telemetry) for name, one in names.items())
        for name, lane in known.items():
            if name not in names:
                if name in self._tasks:
                    self._tasks.pop(name).cancel()
                lane.close()
        self._start()

    def _start(self) -> None:
        if self._group is not None:
            for lane in self._lanes:
                if lane.name not in self._tasks:
                    self._tasks[lane.name] = self._group.create_task(lane.run())

    async def receive(self, alerts: Sequence[Alert], now: Instant) -> Outcome:
        """Take a batch; in `inline` mode return when an Alertmanager has it, or none took it in time."""
        if self._stop.is_set():
            return Outcome(False, "Promantis is stopping")
        self._telemetry.alerts_received.inc(len(alerts))
        arrived = asyncio.get_running_loop().time()
        self._generations.forget(arrived)
        batch = [self._arrived(alert, now, arrived) for alert in alerts]
        self._wait_for_words(batch, now, arrived)
        if not self._inline:
            return Outcome(True)
        self._waiting += 1
        try:
            return await self._forward(batch)
        finally:
            self._waiting -= 1

    def _wait_for_words(self, batch: Sequence[Latest], now: Instant, arrived: float) -> None:
        """In line for enrichment, but for those that carry words which are still good."""
        due, since, said = arrived if self._inline else arrived + TEE_DELAY, arrived - WORDS_FOR, 0
        for latest in batch:
            labels = latest.alert.labels
            self._pending.pop(labels, None)  # to the end: the dict is in order of `due`
            if self._inline and latest.enriched_at > since:
                said += bool(latest.enrichment)
            else:
                self._pending[labels] = _Pending(latest, now, arrived, due)
        self._telemetry.alerts_enriched.inc(said)
        while len(self._pending) > LIMIT:
            del self._pending[next(iter(self._pending))]
            self._telemetry.enrich_failures.inc()
        if self._pending:
            self._work.set()
            self._quiet.clear()

    def fires(self, labels: Labels) -> bool:
        """Whether the newest message about this alert says so."""
        latest = self._generations.get(labels)
        return latest is not None and _fires(latest)

    async def again(self, labels: Labels, now: Instant) -> None:
        """Find words anew for an alert that fires, and say them if they are others; no message came.

        In `tee` mode Prometheus may have told only the Alertmanagers that it is over: they are asked first.
        """
        if not self._inline and not all(await asyncio.gather(*(lane.shows(labels) for lane in self._lanes))):
            return
        latest, at = self._generations.get(labels), asyncio.get_running_loop().time()
        if latest is None or not _fires(latest) or labels in self._pending:
            return
        latest.enriched_at = -math.inf
        due = at if self._inline else at + TEE_DELAY
        self._pending[labels] = _Pending(latest, now, at, due)
        self._work.set()
        self._quiet.clear()

    def alert(self, fingerprint: str) -> Received | None:
        """The newest message about an alert, as it came; None when none came or it is long over."""
        latest = self._generations.find(fingerprint)
        if latest is None:
            return None
        return Received(latest.alert, _fires(latest), latest.enrichment)

    def received(self, labels: Labels) -> Received | None:
        """The same by its labels."""
        latest = self._generations.get(labels)
        return Received(latest.alert, _fires(latest), latest.enrichment) if latest else None

    def firing(self, limit: int) -> list[Received]:
        """Alerts that fire, of those that were heard of last."""
        newest = self._generations.newest_first(LOOKED)
        return [Received(one.alert, True, one.enrichment) for one in newest if _fires(one)][:limit]

    def stop(self) -> None:
        """Take no more, send what waits, and let `run()` return."""
        self._stop.set()

    async def run(self) -> None:
        """Enrich and send until `stop()` or cancelled."""
        with Aside(self._enrich, self._telemetry, lambda: self._waiting > 0) as aside:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._start()
                enriching = group.create_task(self._enrich_forever(aside))
                await self._stop.wait()
                try:
                    async with asyncio.timeout(DRAIN_WITHIN):
                        await self._drained()
                except TimeoutError:
                    log.warning("stopped before every Alertmanager had everything")
                self._group = None
                for task in (enriching, *self._tasks.values()):
                    task.cancel()

    # ------------------------------------------------------------------- in

    def _arrived(self, alert: Alert, now: Instant, arrived: float) -> Latest:
        end = ends(alert)
        over = end is not None and end <= now
        left = RESOLVED_FOR if over else RESOLVE_TIMEOUT if end is None else end - now
        latest = self._generations.arrived(alert, over, arrived, arrived + left)
        if not self._inline:  # what waits in a lane is older than what Prometheus has just sent itself
            for lane in self._lanes:
                lane.forget(alert.labels)
        return latest

    async def _forward(self, batch: Sequence[Latest]) -> Outcome:
        """Give the batch to every lane at once; the first that has it decides, the others go on alone.

        What was said before is said again, so that annotations do not come and go with each re-send.
        """
        if not self._lanes:
            return Outcome(False, "no Alertmanager is configured")
        messages = [Message(_annotated(one.alert, one.enrichment), one.expires) for one in batch]
        waits = {}
        for lane in self._lanes:
            ticket = Ticket(one.alert.labels for one in batch)
            lane.put(messages, ticket)
            waits[lane.name] = ticket.done
        within = ANSWER_FAILING_WITHIN if all(lane.failing for lane in self._lanes) else ANSWER_WITHIN
        late, left = Unavailable(f"no answer within {within:g} s"), set(waits.values())
        failures: dict[str, PromantisError] = dict.fromkeys(waits, late)
        until = asyncio.get_running_loop().time() + within
        while left:
            timeout = until - asyncio.get_running_loop().time()
            done, left = await asyncio.wait(left, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for name, ticket_done in waits.items():
                if ticket_done in done:
                    failure = ticket_done.result()
                    if failure is None:
                        return Outcome(True)
                    failures[name] = failure
        refused = [failure.status for failure in failures.values() if isinstance(failure, Rejected)]
        words = "; ".join(_named(name, str(failure)) for name, failure in failures.items())
        return Outcome(False, words, refused[0] if len(refused) == len(failures) else 503)

    # ------------------------------------------------------------------- aside

    async def _enrich_forever(self, aside: Aside) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._work.wait()
            first = next(iter(self._pending.values()), None)
            if first is None:
                self._work.clear()
                self._quiet.set()
                continue
            if not self._stop.is_set():
                until = max(first.due, clock())
                await asyncio.sleep(until - clock())
                if not self._inline and clock() > until + STOOD_STILL:
                    await asyncio.sleep(TEE_DELAY)
            now, stopping = clock(), self._stop.is_set()
            due = list(islice((p for p in self._pending.values() if p.due <= now or stopping), SLICE))
            for pending in due:
                del self._pending[pending.latest.alert.labels]
            if due:
                since = clock() - WORDS_FOR
                wanted = [p for p in due if p.latest.newest and p.latest.enriched_at <= since]
                work = [(p.latest.alert, Instant(p.now + clock() - p.arrived)) for p in wanted]
                found = await aside.enrich(work) if work else {}
                self._send(due, found, clock())
                missed = [p for p in wanted if p.latest.alert.labels not in found and p.tries + 1 < TRIES]
                if missed:
                    self._try_again(missed)
                if not work:
                    await asyncio.sleep(0)

    def _try_again(self, missed: Sequence[_Pending]) -> None:
        """The next re-send of Prometheus is far: by then somebody has been told without words."""
        loop = asyncio.get_running_loop()

        def again() -> None:
            for old in missed:
                labels = old.latest.alert.labels
                if labels not in self._pending and old.latest.newest:
                    self._pending[labels] = _Pending(
                        old.latest, old.now, old.arrived, loop.time(), old.tries + 1
                    )
            self._work.set()

        loop.call_later(RETRY_AFTER, again)

    def _send(self, batch: Sequence[_Pending], found: Mapping[Labels, Mapping[str, str]], now: float) -> None:
        """Hand over what is still the newest and not over. An alert that got no words goes on as it is."""
        messages, enriched = [], 0
        for latest in (pending.latest for pending in batch):
            labels, known = latest.alert.labels, latest.enrichment
            words = found.get(labels, known)
            if latest.expires <= now or not latest.newest:
                continue
            if words:
                if labels in found:
                    latest.enrichment, latest.enriched_at = words, now
                enriched += 1
                if self._inline and words == known:
                    continue  # it was said with the message itself
            elif self._inline or not latest.resolved:
                continue  # Alertmanager has it already
            # a resolved copy is sent without words too: it ends what an earlier copy may have kept alive
            messages.append(Message(_annotated(latest.alert, words), latest.expires))
        self._telemetry.alerts_enriched.inc(enriched)
        if messages:
            for lane in self._lanes:
                lane.put(messages)

    async def _drained(self) -> None:
        await self._quiet.wait()
        for lane in self._lanes:
            await lane.idle()


def _fires(latest: Latest) -> bool:
    return not latest.resolved and latest.expires > asyncio.get_running_loop().time()


def _named(name: str, words: str) -> str:
    return words if words.startswith(name) else f"{name}: {words}"


def _annotated(alert: Alert, words: Mapping[str, str]) -> Alert:
    """Add annotations; what the user has written under the same name stays."""
    if not words:
        return alert
    annotations = {**words, **alert.annotations}
    return Alert(alert.labels, annotations, alert.starts_at, alert.ends_at, alert.generator_url)
