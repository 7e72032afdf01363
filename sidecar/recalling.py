"""What the journal says beside the cases: taken over by who leads, and heard from the leader by who stands by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from sidecar.adapters.journal import Held, read
from sidecar.adapters.peer import Peers
from sidecar.causes import Causes
from sidecar.remedy.case import Fact
from sidecar.signals.learn.feedback import Feedback
from sidecar.types import Instant, JsonObject, PromantisError, Unavailable
from sidecar.web.cases import SEQ
from sidecar.web.forward import MARK

log = logging.getLogger(__name__)

FEEDBACK = "feedback"


class Recalling:
    """Keeps what people said of alerts and series, and incidents, as the journal has them."""

    def __init__(
        self, journal: Held, feedback: Feedback, causes: Causes, clock: Callable[[], Instant]
    ) -> None:
        self._journal, self._feedback, self._causes, self._clock = journal, feedback, causes, clock
        self._seq = 0
        """Of the last fact that was taken over, or looked at by the leader and of no interest."""

    async def recall(self) -> None:
        """Read the journal, which is ours now: all of it, or what others added while they led."""
        facts = await self._journal.facts()
        self._feedback.restore(self._new(facts))
        self._causes.restore(facts)
        self._seq = facts[-1].seq if facts else 0

    def said(self, fact: Fact) -> Instant:
        """A verdict was written here; when."""
        self._seq = fact.seq
        return fact.at

    async def listen(
        self, peers: Peers, leader: Callable[[], str], token: Callable[[], str], every: float
    ) -> None:
        """Until cancelled: while another leads, ask it every so many seconds what people have told it since."""
        failed = ""
        while True:
            if holder := leader():
                try:
                    facts, last = await self._told(peers, holder, token())
                    told = self._new(facts)
                    self._seq = (
                        last if last >= self._seq else 0
                    )  # another journal is heard from its beginning
                    if told:
                        await self._feedback.hear(told, self._clock())
                    failed = ""
                except PromantisError as error:
                    if str(error) != failed:
                        log.warning("what people told the leader is not known: %s", error)
                    failed = str(error)
            await asyncio.sleep(every)

    async def _told(self, peers: Peers, holder: str, token: str) -> tuple[list[Fact], int]:
        """What was not heard yet, and the seq of the last fact that the leader looked at for it."""
        headers = {"Authorization": f"Bearer {token}", MARK: "1"}
        path = f"/api/v1/journal?kind={FEEDBACK}&since={self._seq}"
        answer = await peers.ask(holder, "GET", path, headers, b"")
        if answer.status != 200:
            raise Unavailable(f"{holder} answered {answer.status}")
        return read(answer.body.splitlines()), int(answer.headers.get(SEQ, self._seq))

    def _new(self, facts: Sequence[Fact]) -> list[tuple[Instant, str, JsonObject]]:
        """What people said that was not taken over yet; it is from here on."""
        said = [fact for fact in facts if fact.kind == FEEDBACK and fact.seq > self._seq]
        self._seq = max((fact.seq for fact in said), default=self._seq)
        return [(fact.at, fact.who, fact.data) for fact in said]
