"""The way to one Alertmanager: one POST at a time, the newest message per alert, until it is taken or over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Labels, PromantisError, Rejected, Unavailable

log = logging.getLogger(__name__)

SLICE = 64
"""Alerts in one POST: what Prometheus up to 3.3 sends itself, so whatever stands before an Alertmanager
takes it; and small, because a newer message waits for the POST that is under way."""

LIMIT = 10_000
"""Alerts that wait in one lane: Prometheus' own queue capacity. Beyond it the oldest are dropped."""

SEND_WITHIN = 5.0
"""Seconds for one POST."""

CONFIRM_AFTER = 1.0
"""Seconds after which what was taken after a failed POST is said again. An Alertmanager that hung reads all that
piled up at once and in any order, so that what was given up as failed may have been stored after what is newer."""

BACKOFF = (0.25, 10.0)
"""Seconds to wait after the first failure, and at most."""

FAIR = 4
"""Of so many POSTs one is of what has waited longest; the others are of what somebody waits for, if anybody does."""

OUTCOMES = ("ok", "failed", "rejected", "expired", "dropped")
"""Of `promantis_alerts_forwarded_total`; `failed` is a POST that will be tried again."""


class Downstream(Protocol):
    """An Alertmanager."""

    @property
    def name(self) -> str:
        """For metrics and log lines."""

    async def send(self, alerts: Sequence[Alert]) -> None:
        """Post one batch; Unavailable when it may be tried again, Rejected when not."""

    async def shows(self, labels: Labels) -> bool:
        """Whether this alert fires there now; Unavailable when nobody can tell."""


class Ticket:
    """Somebody waits until one lane has taken a whole batch; `done` holds None, or why it has not."""

    def __init__(self, waiting: Iterable[Labels]) -> None:
        self.done: asyncio.Future[PromantisError | None] = asyncio.get_running_loop().create_future()
        self._waiting = set(waiting)

    def settle(self, labels: Labels, failure: PromantisError | None) -> None:
        """An alert of the batch, or a newer message about it, was taken (None) or not; a failure decides."""
        self._waiting.discard(labels)
        if not self.done.done() and (failure is not None or not self._waiting):
            self.done.set_result(failure)


class Message(msgspec.Struct, frozen=True, eq=False):
    """What is to be said about one alert; `expires` is the loop's time."""

    alert: Alert
    expires: float


class _Item(msgspec.Struct, frozen=True, eq=False):
    message: Message
    tickets: tuple[Ticket, ...]

    def settle(self, failure: PromantisError | None) -> None:
        for ticket in self.tickets:
            ticket.settle(self.message.alert.labels, failure)


class Lane:
    """A level-triggered queue: it knows the newest message per alert, not the history of messages."""

    def __init__(self, downstream: Downstream, telemetry: Telemetry) -> None:
        self.name = downstream.name
        self.failing = False
        """Whether the last POST failed."""
        self._downstream = downstream
        self._telemetry = telemetry
        self._items: dict[Labels, _Item] = {}
        self._turn = 0
        self._unsure = False
        self._to_confirm: dict[Labels, Message] = {}
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._size = telemetry.lane_alerts.labels(self.name)
        self._size.set(0)
        forwarded = telemetry.alerts_forwarded
        self._count = {outcome: forwarded.labels(self.name, outcome) for outcome in OUTCOMES}

    def put(self, messages: Sequence[Message], ticket: Ticket | None = None) -> None:
        """Say this next. A message replaces an older one about its alert and answers for that one too.

        With a ticket somebody waits, so it is tried at once even if the last try has just failed.
        """
        tickets = () if ticket is None else (ticket,)
        for message in messages:
            labels = message.alert.labels
            self._to_confirm.pop(labels, None)
            old = self._items.pop(labels, None)
            self._items[labels] = _Item(message, old.tickets + tickets if old else tickets)
        while len(self._items) > LIMIT:
            self._drop(next(iter(self._items)), "dropped", "too many alerts wait")
        self._changed()
        if ticket is not None:
            self._urgent.set()

    def forget(self, labels: Labels) -> None:
        """Something newer is known about this alert: what waits here must not be said any more."""
        self._to_confirm.pop(labels, None)
        item = self._items.pop(labels, None)
        if item is not None:
            item.settle(Unavailable("a newer message came"))
            self._changed()

    def close(self) -> None:
        """There is no such Alertmanager any more: what waits for it is void, and so are its metrics."""
        for labels in list(self._items):
            self._drop(labels, "dropped", "it is no Alertmanager of ours any more")
        self._to_confirm.clear()
        self._changed()
        self._telemetry.lane_alerts.remove(self.name)
        for outcome in OUTCOMES:
            self._telemetry.alerts_forwarded.remove(self.name, outcome)

    async def shows(self, labels: Labels) -> bool:
        """Whether this alert surely fires there now."""
        try:
            return await self._downstream.shows(labels)
        except (Unavailable, Rejected):
            return False

    async def idle(self) -> None:
        """Wait until nothing waits here."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send for ever; cancel to stop."""
        clock, delay = asyncio.get_running_loop().time, 0.0
        while True:
            await self._work.wait()
            self._expire(clock())
            batch = self._next()
            if not batch:
                continue
            self._urgent.clear()
            try:
                await self._send([item.message.alert for _, item in batch])
                self.failing = False
            except Unavailable as failed:
                if not delay:  # once an outage, not once a try
                    log.warning("alerts not taken alertmanager=%s error=%s", self.name, failed)
                self._count["failed"].inc(len(batch))
                self._unsure = self.failing = True
                for labels, item in batch:
                    item.settle(failed)
                    if self._items.get(labels) is item:
                        self._items[labels] = _Item(item.message, ())
                delay = min(max(BACKOFF[0], 2 * delay), BACKOFF[1])
                await self._pause(delay * random.uniform(0.5, 1.0))
            except Rejected as refused:
                self.failing = False
                if len(batch) > 1:
                    await self._one_by_one(batch)
                else:
                    self._settle(batch, refused)
                self._changed()
                delay = 0.0
            else:
                if self._unsure:
                    self._confirm_later(
                        [item.message for labels, item in batch if self._items.get(labels) is item]
                    )
                self._settle(batch, None)
                self._changed()
                self._unsure = self._unsure and bool(self._items)
                delay = 0.0

    def _next(self) -> list[tuple[Labels, _Item]]:
        """Prometheus waits for an answer, nobody waits for words that are said later."""
        self._turn = (self._turn + 1) % FAIR
        asked = (pair for pair in self._items.items() if pair[1].tickets) if self._turn else ()
        return list(islice(asked, SLICE)) or list(islice(self._items.items(), SLICE))

    async def _send(self, alerts: Sequence[Alert]) -> None:
        try:
            async with asyncio.timeout(SEND_WITHIN):  # wait_for loses cancellations before Python 3.12
                await self._downstream.send(alerts)
        except TimeoutError:
            raise Unavailable(f"no answer within {SEND_WITHIN:g} s") from None
        except (Unavailable, Rejected):
            raise
        except Exception as error:  # one lane must end neither the others nor Promantis
            log.exception("cannot send alertmanager=%s", self.name)
            raise Unavailable(f"cannot send: {type(error).__name__}") from error

    async def _one_by_one(self, batch: Sequence[tuple[Labels, _Item]]) -> None:
        """One alert must not take the others with it: Alertmanager refuses some batches as a whole."""
        for labels, item in batch:
            if self._items.get(labels) is not item:
                continue  # something newer is to be said
            try:
                await self._send([item.message.alert])
            except Rejected as refused:
                self._settle([(labels, item)], refused)
            except Unavailable:
                return  # the next round tells what is left
            else:
                self._settle([(labels, item)], None)

    def _confirm_later(self, messages: Sequence[Message]) -> None:
        """Say these again in a while, unless something newer is to be said by then."""
        self._to_confirm |= {message.alert.labels: message for message in messages}
        loop = asyncio.get_running_loop()

        def confirm() -> None:
            still = [
                m for m in messages if self._to_confirm.get(m.alert.labels) is m and m.expires > loop.time()
            ]
            self.put(still)

        loop.call_later(CONFIRM_AFTER, confirm)

    def _settle(self, batch: Sequence[tuple[Labels, _Item]], refused: Rejected | None) -> None:
        self._count["ok" if refused is None else "rejected"].inc(len(batch))
        for labels, item in batch:
            item.settle(refused)
            if refused is not None:
                words = dict(labels)
                log.warning("alert refused alertmanager=%s labels=%s error=%s", self.name, words, refused)
            if self._items.get(labels) is item:
                del self._items[labels]

    def _expire(self, now: float) -> None:
        for labels in [labels for labels, item in self._items.items() if item.message.expires <= now]:
            self._drop(labels, "expired", "it expired")
        self._changed()

    def _drop(self, labels: Labels, outcome: str, words: str) -> None:
        self._items.pop(labels).settle(Unavailable(words))
        self._count[outcome].inc()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._urgent.wait()

    def _changed(self) -> None:
        self._size.set(len(self._items))
        for event, wanted in ((self._work, bool(self._items)), (self._idle, not self._items)):
            if wanted:
                event.set()
            else:
                event.clear()
