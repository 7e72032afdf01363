"""Looks at the world for the guard: Alertmanager, Prometheus, the target, the switches. What fails is None."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sidecar.remedy.actions.words import SHAPELESS, UNFORESEEN, TooMany, World
from sidecar.remedy.guard import AlertState, GuardConfig, Look, Planned
from sidecar.remedy.measure import MOST, Values, measured
from sidecar.remedy.policy import Refusal, RemedyConfig, plan_hash, unfit
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Instant, Labels, Rejected, Unavailable

log = logging.getLogger(__name__)
AT_ONCE = 4
"""Questions to Alertmanager at a time: it refuses more than eight from all who ask."""


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

    async def firing(self, matcher: str) -> Sequence[str]:
        """Names of the alerts that fit, fire, and are not kept quiet."""
        ...


async def nobody_knows(alert: Alert) -> str:
    """Where there is no diagnosis."""
    return ""


class Eyes:
    """Asks everybody at once; an answer that does not come forbids what it was asked for."""

    def __init__(
        self,
        evidence: Evidence,
        alertmanagers: Sequence[AlertStates],
        world: World,
        killed: Callable[[], bool],
        frozen: Callable[[Labels, Instant], str],
        clock: Callable[[], Instant],
        leads: Callable[[], bool] = lambda: True,
        cause: Callable[[Alert], Awaitable[str]] = nobody_knows,
    ) -> None:
        """`frozen` names the freeze that is on for an alert with these labels, `cause` the pattern of failure behind
        it; both may be empty."""
        self.leads = leads
        self.cause = cause
        self._evidence = evidence
        self._alertmanagers = alertmanagers
        self._world = world
        self.killed = killed
        self._frozen = frozen
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def look(
        self, alert: Alert, policy: RemedyConfig | None, rules: GuardConfig, *, closely: bool
    ) -> Look:
        """The world around an alert; `closely`: the target and the conditions of the verification too."""
        if policy is None:
            return Look(alert=None, killed=self.killed())
        verify = policy.verify

        async def nothing() -> None:
            return None

        cause = await self.cause(alert)
        # The plan takes the longest, and what is asked after it is the newer: nothing is done on an old answer.
        plan = await self.planned(policy, alert) if closely else None
        state, condition, blocking, fine, harm, values = await asyncio.gather(
            self.state(alert.labels),
            self.true(policy.when) if policy.when else nothing(),
            self._blocking(rules.block_while),
            self.true(verify.query) if closely else nothing(),
            self.true(verify.harm) if closely and verify.harm else nothing(),
            self.values(verify.query) if closely else nothing(),
        )
        now = self._clock()
        return Look(
            at=now,
            alert=state,
            killed=self.killed(),
            condition=condition,
            plan=plan,
            frozen=self._frozen(alert.labels, now),
            blocking=blocking,
            fine=fine,
            harm=harm,
            values=values,
            cause=cause,
        )

    async def planned(self, policy: RemedyConfig, alert: Alert) -> Planned | Refusal | None:
        """The plan as it is made now; None when the target does not answer."""
        try:
            plan = await policy.action.plan(alert, self._world)
        except Unfit as error:
            return unfit(error)
        except TooMany as error:
            log.warning("target is busy policy=%s reason=%s", policy.name, error)
            return None
        except UNFORESEEN:
            log.exception("no plan can be made policy=%s", policy.name)
            return Refusal("target", SHAPELESS)
        except Rejected as error:
            if error.status == 409:  # somebody writes it just now
                return None
            if error.status in (401, 403):
                return Refusal("not_allowed", str(error))
            return Refusal("target", str(error))
        except Unavailable as error:
            log.warning("target does not answer policy=%s reason=%s", policy.name, error)
            return None
        return Planned(plan, plan_hash(policy, plan))

    async def true(self, query: str) -> bool | None:
        """Whether the query has a result, as an alert rule would see it; None when nobody can say."""
        found = await self._asked(query)
        return None if found is None else bool(found)

    async def number(self, query: str) -> float | None:
        """The first value of a query, 0 when it has no result; None when nobody can say."""
        found = await self._asked(query)
        return None if found is None else found[0][1] if found else 0.0

    async def values(self, query: str) -> Values | None:
        """What a query compares with a number; None when nobody can say, or it is too much to keep."""
        compared = measured(query)
        found = await self._asked(compared) if compared else None
        return found if found is not None and len(found) <= MOST else None

    async def state(self, labels: Labels) -> AlertState | None:
        """What the Alertmanagers say together; one that is silent leaves "absent" open."""
        answers = await asyncio.gather(*(self._state_at(one, labels) for one in self._alertmanagers))
        order: tuple[AlertState | None, ...] = ("suppressed", "active", None, "absent")
        return next((state for state in order if state in answers), None)

    async def active(self) -> int | None:
        """How many alerts fire at the Alertmanager that knows of most; None when one cannot say."""
        found = await self._firing('alertname=~".+"')
        return max(map(len, found), default=None) if found is not None else None

    async def _asked(self, query: str) -> list[tuple[Labels, float]] | None:
        try:
            return await self._evidence.ask(query, self._clock())
        except (Unavailable, Rejected) as error:
            log.warning("query failed query=%r reason=%s", query, error)
            return None

    async def _state_at(self, alertmanager: AlertStates, labels: Labels) -> AlertState | None:
        try:
            async with self._turns:
                return (await alertmanager.state(labels)).state
        except (Unavailable, Rejected) as error:
            log.warning("Alertmanager cannot say how an alert stands reason=%s", error)
            return None

    async def _blocking(self, block_while: Sequence[str]) -> str | None:
        """The first alert that blocks; one Alertmanager that cannot say leaves it open."""
        for matcher in block_while:
            found = await self._firing(matcher)
            if found is None:
                return None
            if names := next(filter(None, found), None):
                return names[0]
        return ""

    async def _firing(self, matcher: str) -> list[Sequence[str]] | None:
        """What fires, by Alertmanager; None when one of them cannot say."""

        async def at(alertmanager: AlertStates) -> Sequence[str]:
            async with self._turns:
                return await alertmanager.firing(matcher)

        try:
            return await asyncio.gather(*map(at, self._alertmanagers))
        except (Unavailable, Rejected) as error:
            log.warning("Alertmanager cannot say what fires reason=%s", error)
            return None
