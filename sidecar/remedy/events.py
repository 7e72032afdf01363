"""What happens to a case, and what is to be done about it: the words between flow and runner."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.remedy.actions import Action
from sidecar.remedy.actions.words import Job, Outcome
from sidecar.remedy.case import Draft
from sidecar.remedy.guard import Look, Planned
from sidecar.remedy.measure import Values
from sidecar.remedy.policy import Proposal, Refusal, RemedyConfig
from sidecar.types import Alert

# --------------------------------------------------------------------------- events


class Judged(NamedTuple):
    """A policy was held against an episode."""

    case: str
    fingerprint: str
    episode: int
    alert: Alert
    policy: str
    verdict: Proposal | Refusal
    look: Look


class PlanWanted(NamedTuple):
    """Somebody wants to see what exactly would be done."""

    who: str


class Approve(NamedTuple):
    """Somebody agrees to the plan with this hash."""

    who: str
    plan_hash: str


class Deny(NamedTuple):
    """Somebody says no."""

    who: str
    reason: str


class Tick(NamedTuple):
    """Time has passed."""


class Restarted(NamedTuple):
    """The case was just read back from the journal."""


class Looked(NamedTuple):
    """The world just before acting."""

    look: Look


class Made(NamedTuple):
    """A plan was made for somebody, or cannot be."""

    who: str
    plan: Planned | Refusal


class Answered(NamedTuple):
    """The action or its undo came back, or what was read says how it stands."""

    outcome: Outcome
    undo: bool


class Measured(NamedTuple):
    """What the verification compares, after the action; None: nobody could say."""

    values: Values | None


class Observed(NamedTuple):
    """What Prometheus says of the verification; None: it could not say."""

    ok: bool | None
    harm: bool | None


Event = (
    Judged | PlanWanted | Made | Approve | Deny | Tick | Restarted | Looked | Answered | Observed | Measured
)

# --------------------------------------------------------------------------- effects


class Record(NamedTuple):
    """Journal this."""

    draft: Draft


class MakePlan(NamedTuple):
    """Plan the action by a dry run; answer with Made."""

    policy: RemedyConfig
    who: str


class LookAround(NamedTuple):
    """Ask everything that the guard asks; answer with Looked. Without a policy only the kill switch."""

    policy: RemedyConfig | None


class Apply(NamedTuple):
    """Do it; answer with Answered."""

    action: Action
    job: Job


class TakeBack(NamedTuple):
    """Undo it; answer with Answered."""

    action: Action
    job: Job


class ReadBack(NamedTuple):
    """See whether it was done (or undone); answer with Answered."""

    action: Action
    job: Job
    undo: bool


class Measure(NamedTuple):
    """Ask what the verification compares; answer with Measured."""

    query: str


class Ask(NamedTuple):
    """Ask Prometheus; answer with Observed."""

    query: str
    harm: str | None


Effect = Record | MakePlan | LookAround | Apply | TakeBack | ReadBack | Ask | Measure
