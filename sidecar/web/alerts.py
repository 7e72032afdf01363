"""Alertmanager's API at Promantis: POST of alerts is ours, the rest is passed through."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson
from aiohttp import web

from sidecar.alerts import wire
from sidecar.alerts.relay import Outcome
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Unavailable
from sidecar.web.auth import Role, needs

log = logging.getLogger(__name__)

_DEPRECATED = {  # word for word what Alertmanager answers, for clients that look for it
    "status": "deprecated",
    "error": "The Alertmanager v1 API was deprecated in version 0.16.0 and is removed as of version 0.27.0"
    " - please use the equivalent route in the v2 API",
}


class Receiver(Protocol):
    """Where alerts go in: the relay."""

    async def receive(self, alerts: Sequence[Alert], now: Instant) -> Outcome:
        """Take a batch; not taken means that no Alertmanager has it."""


class Upstream(Protocol):
    """An Alertmanager that answers what is not ours."""

    @property
    def name(self) -> str:
        """For log lines."""

    async def passthrough(
        self, method: str, path_qs: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of its answer; Unavailable when there is none."""


def routes(relay: Receiver, upstreams: Sequence[Upstream], telemetry: Telemetry) -> list[web.RouteDef]:
    """Everything below /api/v2, and the farewell of /api/v1/alerts.

    What is not ours is asked of the first Alertmanager that answers; one that did not is asked last.
    """

    failed: set[str] = set()

    @needs(Role.FEEDBACK, local=True)
    async def post_alerts(request: web.Request) -> web.Response:
        """Takes alerts as Alertmanager does, from Prometheus."""
        body = await request.read()
        now = Instant(time.time())
        decoded = wire.decode(body, request.headers.get("Content-Type", ""), now)
        if decoded.answer.status != 200:
            words = decoded.answer.body.decode().strip()
            log.warning(
                "alerts refused status=%d refused=%d %s", decoded.answer.status, decoded.refused, words
            )
        telemetry.alerts_invalid.inc(decoded.refused)
        if decoded.alerts:
            outcome = await relay.receive(decoded.alerts, now)
            if not outcome.taken:
                return _json(outcome.status, outcome.words)
        return web.Response(
            status=decoded.answer.status,
            body=decoded.answer.body or None,
            content_type="application/json" if decoded.answer.body else None,
        )

    @needs(Role.VIEW, local=True)
    async def read(request: web.Request) -> web.Response:
        """Alertmanager's API, passed through to the first that answers: `amtool` works here."""
        return await passed(request)

    @needs(Role.APPROVE, local=True)
    async def write(request: web.Request) -> web.Response:
        """Silences and what else is written to Alertmanager, passed through."""
        return await passed(request)

    async def passed(request: web.Request) -> web.Response:
        if ".." in request.path.split("/"):  # below /api/v2 only: /api/v2/../../-/reload is not
            return _json(404, {"code": 404, "message": f"path {request.path} was not found"})
        body, failures = await request.read(), []
        for upstream in sorted(upstreams, key=lambda one: one.name in failed):
            try:
                status, headers, answer = await upstream.passthrough(
                    request.method, request.raw_path, request.headers, body
                )
            except Unavailable as failure:
                failed.add(upstream.name)
                failures.append(str(failure))
                continue
            failed.discard(upstream.name)
            if status >= 500 and request.method in ("GET", "HEAD"):
                failures.append(f"{upstream.name} answered {status}")
                continue
            return web.Response(status=status, headers=headers, body=answer)
        words = "; ".join(failures) or "no Alertmanager is configured"
        return _json(502, f"no Alertmanager answered: {words}")

    @needs(None)
    async def not_allowed(request: web.Request) -> web.Response:
        """405, as at Alertmanager."""
        message = f"method {request.method} is not allowed, but [GET,POST] are"
        return _json(405, {"code": 405, "message": message}, {"Allow": "GET,POST"})

    @needs(None)
    async def deprecated(_: web.Request) -> web.Response:
        """410: Alertmanager's old API, as at Alertmanager."""
        return _json(410, _DEPRECATED)

    return [
        web.post("/api/v2/alerts", post_alerts),
        web.get("/api/v2/alerts", read, allow_head=False),
        web.route("*", "/api/v2/alerts", not_allowed),
        web.get("/api/v2/{path:.*}", read),
        web.route("*", "/api/v2/{path:.*}", write),
        web.get("/api/v1/alerts", deprecated),
        web.post("/api/v1/alerts", deprecated),
    ]


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(value) + b"\n", headers=headers, content_type="application/json"
    )
