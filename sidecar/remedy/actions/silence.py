"""`silence`: "being remedied", for exactly this alert, visible in Alertmanager, over by itself."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.remedy.actions.words import Job, Outcome, Plan, Right, World, digest
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Duration, Section


class Silence(Section, frozen=True, kw_only=True, tag_field="type", tag="silence"):
    """A silence in Alertmanager for exactly this alert, over by itself."""

    lasts: Duration = Duration(900)
    """How long."""
    comment: str = "being remedied"
    """What it says."""

    @property
    def no_undo(self) -> str:
        """It can be ended."""
        return ""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 0 < self.lasts <= 86400:
            yield "lasts", "must be longer than 0s and at most 1d"

    def target(self, alert: Alert) -> str:
        """The action and the alert."""
        return f"silence alert {digest(dict(alert.labels))}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Equal labels only: nothing else is kept quiet."""
        if world.silences is None:
            raise Unfit("no Alertmanager is configured")
        labels = ", ".join(f"{name}={value!r}" for name, value in alert.labels)
        return Plan(
            target=self.target(alert),
            object=self.target(alert),
            do={"words": f"silence {{{labels}}} for {self.lasts}"},
            undo={"words": "ends the silence"},
        )

    async def apply(self, job: Job, world: World) -> Outcome:
        """Make it, unless it is there."""
        if world.silences is None:
            return Outcome("failed", "no Alertmanager is configured")
        comment = self._comment(job)
        if (there := await world.silences.silenced(comment)) is None:
            there = await world.silences.silence(dict(job.alert.labels), float(self.lasts), comment)
        return Outcome("done", f"silence {there}")

    async def take_back(self, job: Job, world: World) -> Outcome:
        """End it, if it is there still."""
        if world.silences is None:
            return Outcome("failed", "no Alertmanager is configured")
        there = await world.silences.silenced(self._comment(job))
        if there is not None:
            await world.silences.unsilence(there)
        return Outcome("done", "the silence is over")

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """Whether it is there."""
        if world.silences is None:
            return Outcome("unclear", "no Alertmanager is configured")
        there = await world.silences.silenced(self._comment(job)) is not None
        return Outcome("done", "found done") if there != undo else Outcome("failed", "it was not done")

    def rights(self) -> tuple[Right, ...]:
        """None in the cluster."""
        return ()

    def _comment(self, job: Job) -> str:
        return f"{self.comment} (promantis case {job.case})"
