"""Whether a storm is on: how many alerts fire and targets are unhealthy, asked of the peers now and then."""

from __future__ import annotations

from sidecar.remedy import storm
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.storm import Storm, StormConfig
from sidecar.telemetry import Telemetry
from sidecar.types import Instant


class Weather:
    """`words`: why nothing acts alone now; empty: it is calm."""

    def __init__(self, eyes: Eyes, telemetry: Telemetry, every: float) -> None:
        """`every`: seconds between two questions, however often webhooks wake us: the budget of queries is for all."""
        self._eyes, self._telemetry, self._every = eyes, telemetry, every
        self._storm = Storm()
        self._unhealthy: float | None = None
        self._looked_at = float("-inf")
        self._stale = 0
        """Episodes whose end was never told: Alertmanager knows of so many fewer."""

    @property
    def words(self) -> str:
        return self._storm.words

    async def ask(self, firing: int, rules: StormConfig, now: Instant) -> bool:
        """Ask the peers where there is something to decide, `firing` episodes being open; whether it was done."""
        self._telemetry.killswitch.set(self._eyes.killed())
        if not (firing or self.words) or now - self._looked_at < self._every:
            return False
        self._looked_at = now
        self._unhealthy = await self._eyes.number(rules.unhealthy)
        active = await self._eyes.active() if firing >= rules.alerts / 2 else None
        self._stale = max(0, firing - active) if active is not None else 0
        return True

    def look(self, firing: int, rules: StormConfig, now: Instant) -> str:
        """`words`, with so many episodes open now."""
        self._storm = storm.after(self._storm, max(0, firing - self._stale), self._unhealthy, rules, now)
        self._telemetry.storm.set(bool(self.words))
        return self.words
