"""What explains an alert, or what is wrong with a service, now or then: /api/v1/explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from aiohttp import web

from sidecar.alerts.explain import Explanation
from sidecar.types import Instant, PromantisError
from sidecar.web.answers import Problem, json
from sidecar.web.auth import Role, needs
from sidecar.web.signals import selector


class Explains(Protocol):
    """Each gives None when nothing is known of what is asked."""

    async def explained(self, fingerprint: str, at: Instant | None) -> Explanation | None: ...
    async def explained_series(
        self, wanted: Callable[[Mapping[str, str]], bool], at: Instant | None
    ) -> Explanation | None: ...


def routes(explains: Explains, clock: Callable[[], Instant]) -> list[web.RouteDef]:
    """One route; `match` or `fingerprint`, and `at`."""

    @needs(Role.VIEW, local=True)
    async def explain(request: web.Request) -> web.Response:
        """What explains an alert (`fingerprint`), or is wrong with the service of series (`match`), now or
        `at`: causes, outlook, next steps, changes, logs, similar incidents, what moved when, who calls
        whom, and which metrics of it belong to it."""
        match, fingerprint = request.query.get("match", ""), request.query.get("fingerprint", "")
        if bool(match) == bool(fingerprint):
            raise Problem(400, "name either match or fingerprint", "match")
        at = _at(request.query.get("at", ""), clock())
        try:
            if match:
                said = await explains.explained_series(selector(match), at)
            else:
                said = await explains.explained(fingerprint, at)
        except PromantisError as error:
            raise Problem(503, str(error), "at") from None
        if said is None:
            words = (
                "no such series with a known service: the page Series lists them, `{}` for all"
                if match
                else "this alert is not known"
            )
            raise Problem(404, words, "match" if match else "fingerprint")
        view = msgspec.to_builtins(said)
        for moved, one in zip(view["moved"], said.moved, strict=True):
            del moved["key"]
            moved["labels"] = msgspec.json.decode(one.key)
        return json(view)

    return [web.get("/api/v1/explain", explain)]


def _at(text: str, now: Instant) -> Instant | None:
    """Unix seconds or RFC 3339; None: now."""
    if not text:
        return None
    try:
        at = float(text)
    except ValueError:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise Problem(400, f"{text!r} is not a time (RFC 3339 or unix seconds)", "at") from None
        at = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if not 0 <= at <= now:
        raise Problem(400, "must be in the past", "at")
    return Instant(at)
