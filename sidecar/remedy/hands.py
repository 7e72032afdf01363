"""Does what the flow decided, through the actions; whatever goes wrong is an outcome."""

from __future__ import annotations

import logging
from collections.abc import Coroutine

from sidecar.remedy.actions.words import SHAPELESS, UNFORESEEN, Outcome, World
from sidecar.remedy.events import Answered, Apply, ReadBack, TakeBack
from sidecar.remedy.templates import Unfit
from sidecar.types import PromantisError, Rejected, Unavailable

log = logging.getLogger(__name__)


async def act(effect: Apply | TakeBack | ReadBack, world: World) -> Answered | None:
    """What came of it; None: the target does not tell yet how it stands, ask again in the next round."""
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
