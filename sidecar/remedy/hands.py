"""Does what the flow decided, through the eyes and the actions; whatever goes wrong is an outcome."""

from __future__ import annotations

import logging
from collections.abc import Coroutine

from sidecar.remedy.actions.words import SHAPELESS, UNFORESEEN, Outcome, World
from sidecar.remedy.events import (
    Answered,
    Apply,
    Ask,
    Effect,
    Event,
    LookAround,
    Looked,
    Made,
    MakePlan,
    Measure,
    Measured,
    Observed,
    ReadBack,
    TakeBack,
)
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import GuardConfig
from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, PromantisError, Rejected, Unavailable

log = logging.getLogger(__name__)


async def perform(effect: Effect, alert: Alert, eyes: Eyes, world: World, rules: GuardConfig) -> Event | None:
    """What the flow wants for the case of an alert; what came of it, None where nothing can be told yet."""
    match effect:
        case MakePlan(policy, who):
            made = await eyes.planned(policy, alert)
            return Made(who, made) if made is not None else None
        case LookAround(policy):
            return Looked(await eyes.look(alert, policy, rules, closely=True))
        case Apply() | TakeBack() | ReadBack():
            return await act(effect, world)
        case Measure(query):
            return Measured(await eyes.values(query))
        case Ask(query, harm):
            ok = await eyes.true(query)
            return Observed(ok, await eyes.true(harm) if harm else None)
        case _:
            return None


async def act(effect: Apply | TakeBack | ReadBack, world: World) -> Answered | None:
    """What came of it; None: the target does not tell yet how it stands, ask again in the next round."""
    if world.stopped() and not isinstance(effect, ReadBack):  # while the intent was written
        return Answered(Outcome("failed", "stopped before anything was sent"), isinstance(effect, TakeBack))
    match effect:
        case Apply(action, job):
            return Answered(await _done(action.apply(job, world)), False)
        case TakeBack(action, job):
            return Answered(await _done(action.take_back(job, world)), True)
        case ReadBack(action, job, undo):
            try:
                return Answered(await action.look(job, world, undo), undo)
            except Unavailable as error:
                log.warning("target does not answer case=%s reason=%s", job.case, error)
                return None
            except (PromantisError, *UNFORESEEN) as error:
                return Answered(Outcome("unclear", str(error)), undo)


async def _done(work: Coroutine[None, None, Outcome]) -> Outcome:
    """What came of it; an error that an action did not foresee leaves it open."""
    try:
        return await work
    except (Rejected, Unfit) as error:
        return Outcome("failed", str(error))
    except PromantisError as error:
        return Outcome("unclear", str(error))
    except UNFORESEEN:
        log.exception("an action failed")
        return Outcome("unclear", SHAPELESS)
