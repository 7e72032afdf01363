"""What the actions that edit fields have in common: applied, taken back and looked at in one way."""

from __future__ import annotations

from sidecar.remedy.actions import edits
from sidecar.remedy.actions.objects import Named, word
from sidecar.remedy.actions.words import Job, Outcome, World
from sidecar.types import Alert


class Editing(Named, frozen=True, kw_only=True):
    """An action on one object whose plan holds edits of fields."""

    @property
    def no_undo(self) -> str:
        """Fields can be put back."""
        return ""

    async def apply(self, job: Job, world: World) -> Outcome:
        """Make the edits."""
        return await edits.apply(job, world, "Remedied")

    async def take_back(self, job: Job, world: World) -> Outcome:
        """Put the fields back, unless that takes nothing back."""
        if self.no_undo:
            return Outcome("failed", self.no_undo)
        return await edits.take_back(job, world)

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """Read the fields."""
        return await edits.look(job, world, undo)

    def about(self, alert: Alert, kind: str) -> str:
        """The object in words; Unfit when the alert cannot fill its name."""
        return word(self.ref_of(alert, kind))
