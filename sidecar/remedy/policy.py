"""Alert + policies -> Proposal or Refusal(reason); pure."""

from __future__ import annotations

from typing import Any

from sidecar.types import Duration, Section


class VerifyConfig(Section, frozen=True, kw_only=True):
    """How success is recognised."""

    query: str
    within: Duration = Duration(600)
    hold: Duration = Duration(0)
    harm: str | None = None


class RemedyConfig(Section, frozen=True, kw_only=True):
    """One policy."""

    name: str
    match: tuple[str, ...]
    when: str | None = None
    min_confidence: float = 0.0
    action: dict[str, Any]
    approval: str = "manual"
    verify: VerifyConfig
    cooldown: Duration = Duration(1800)
    expires: Duration = Duration(3600)
