"""What was promised and what came true, over HTTP: /api/v1/validation."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from sidecar.signals.learn.accounts import Report
from sidecar.types import Instant
from sidecar.web.answers import json
from sidecar.web.auth import Role, needs


def routes(report: Callable[[Instant], Report], clock: Callable[[], Instant]) -> list[web.RouteDef]:
    """The one route."""

    @needs(Role.VIEW, local=True)
    async def validation(_: web.Request) -> web.Response:
        """What was promised and what came true in the last week: announcements by rule, odds by size, skill and
        coverage of forecasts, precision by feedback."""
        return json(msgspec.to_builtins(report(clock())))

    return [web.get("/api/v1/validation", validation)]
