"""What only the leader can answer is asked of it: pages, cases, webhooks and feedback, for whoever came to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict
from yarl import URL

from sidecar.types import Unavailable
from sidecar.web.auth import Auth

OWN = (
    *("/metrics", "/-/", "/static/", "/api/v2/"),
    *("/api/v1/watches", "/api/v1/series", "/api/v1/groups", "/api/v1/explain"),
)
"""Paths of what every replica knows itself."""
KILL = "/api/v1/killswitch"
"""Where the leader hangs, the switch on the shared volume is still set by whoever is asked."""
MARK = "X-Promantis-Forwarded"
_HOPS = (
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
)


class Answer(Protocol):
    """What the leader said."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> CIMultiDict[str]: ...
    @property
    def body(self) -> bytes: ...


class Leader(Protocol):
    """Asks the leader."""

    async def ask(
        self, holder: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Unavailable when it does not answer."""
        ...


def forwarding(leader: Leader, elsewhere: Callable[[], str], auth: Auth) -> Middleware:
    """Pass on what is not ours while `elsewhere` names another replica."""

    @web.middleware
    async def forward(request: web.Request, handler: Handler) -> web.StreamResponse:
        holder = elsewhere()
        if not holder or request.path.startswith(OWN) or request.match_info.http_exception is not None:
            return await handler(request)
        if MARK in request.headers:  # it led when we were named, or nobody knows yet: never in a circle
            raise Unavailable(f"{holder} leads now")
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _HOPS)
        if (spoken := auth.proxy_header) and auth.vouched(request) is None:
            headers.popall(spoken, None)  # the leader may trust us, and this is the word of somebody else
        headers[MARK] = "1"
        path = (
            str(URL(request.raw_path, encoded=True).relative())
            if "://" in request.raw_path
            else request.raw_path
        )
        try:
            said = await leader.ask(holder, request.method, path, headers, await request.read())
        except Unavailable:
            if request.path != KILL:
                raise
            return await handler(request)
        back = CIMultiDict((k, v) for k, v in said.headers.items() if k.lower() not in _HOPS)
        return web.Response(status=said.status, headers=back, body=said.body)

    return forward
