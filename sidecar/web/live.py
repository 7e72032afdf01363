"""Server-sent events: that something is new, and nothing else, so that a page that is looked at reads itself anew.

A listener holds no queue: what it has not been told yet is one word. One that does not read, or is gone, is dropped
after a while, and there are so many at a time and no more; a page without events reads itself every half minute.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from sidecar.telemetry import Telemetry
from sidecar.web.answers import Problem
from sidecar.web.auth import needs
from sidecar.web.paint import HEADERS
from sidecar.web.session import Sessions

MOST = 64
"""Listeners at a time."""
BEAT = 15.0
"""Seconds without news after which a listener is told that we are there, which finds those who are not."""
PATIENCE = 5.0
"""Seconds that a listener may take to read a few bytes."""
LASTS = 600.0
"""Seconds after which a listener must come again, and be let in again."""


class Live:
    """Who listens. Call `tell` from the event loop; it returns at once."""

    def __init__(self, telemetry: Telemetry, beat: float = BEAT, lasts: float = LASTS) -> None:
        self._gauge = telemetry.listeners
        self._beat, self._lasts = beat, lasts
        self._open: set[_Listener] = set()
        self._closed = False

    def tell(self, what: str) -> None:
        """Say that a `tick` was scored, or a `fact` was written; a fact is the greater news."""
        for one in self._open:
            one.news = what if one.news != "fact" else one.news
            one.woken.set()

    def close(self) -> None:
        """End every stream, and begin no more."""
        self._closed = True
        self.tell("")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Tell one listener of news until it goes, or has to come again; Problem 503 when there are too many."""
        if self._closed or len(self._open) >= MOST:
            raise Problem(503, f"{MOST} listen already" if not self._closed else "Promantis is stopping")
        headers = HEADERS | {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        one = _Listener()
        self._open.add(one)
        self._gauge.set(len(self._open))
        try:
            await response.prepare(request)
            with contextlib.suppress(TimeoutError, ConnectionError):
                await self._serve(response, one)
        finally:
            self._open.discard(one)
            self._gauge.set(len(self._open))
        return response

    async def _serve(self, response: web.StreamResponse, one: _Listener) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._lasts
        text = "retry: 5000\n\n"
        while not self._closed and loop.time() < until:
            async with asyncio.timeout(PATIENCE):
                await response.write(text.encode())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat):
                    await one.woken.wait()
            one.woken.clear()
            text, one.news = f"data: {one.news}\n\n" if one.news else ":\n\n", ""


class _Listener:
    """One stream, and what it has not been told yet."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.news = ""


def routes(live: Live, sessions: Sessions) -> list[web.RouteDef]:
    """The one route; whoever may read pages may listen."""

    @needs(None)
    async def events(request: web.Request) -> web.StreamResponse:
        """Server-sent events: that a `tick` was scored or a `fact` written; 64 listeners at most, login as for
        pages."""
        if sessions.person(request) is None and not sessions.people.loopback:
            raise Problem(403, "log in to listen", "Cookie")  # 401 would make browsers ask for a password
        return await live.stream(request)

    return [web.get("/events", events, allow_head=False)]
