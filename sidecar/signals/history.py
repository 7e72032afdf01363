"""Which range queries teach a watch its past: how far back, at which step, in which chunks; pure."""

from __future__ import annotations

from sidecar.types import Duration, Section


class LearningConfig(Section, frozen=True, kw_only=True):
    """How much history is read."""

    history: Duration = Duration(30 * 86400)
