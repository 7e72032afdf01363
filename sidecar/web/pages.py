"""The page of what is now: what happens, what is out of its usual, what is coming, what waits; and the login."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from sidecar.remedy.case import Case
from sidecar.types import F64, Finding, Instant
from sidecar.web import shown, spark
from sidecar.web.answers import Problem
from sidecar.web.auth import needs
from sidecar.web.paint import WAITING, Switch, form_of, page, static_routes
from sidecar.web.session import Sessions, local_path

ROWS = 20
"""Lines of a table."""
NEAR = 5
"""Lines where nothing is out of its usual."""
DONE, DAY = 5, 86400.0
"""Cases that acted, of so many seconds."""
LIVE = 5
"""Seconds between which the page is read anew."""


class Signals(Protocol):
    """What the last tick says."""

    def top(self, limit: int) -> Sequence[Finding]:
        """The most anomalous of the series that have a score, the highest first."""

    def breaches(self, limit: int) -> Sequence[Finding]:
        """Series with a limit that is likely to be crossed and is not yet, the soonest first."""

    def watched(self) -> tuple[int, int, int]:
        """How many watches and series there are, and how many of the series have a score."""


class Happening(msgspec.Struct, frozen=True):
    """An incident, or an alert that belongs to none."""

    fingerprint: str
    """Of the first of its alerts that fires."""
    names: Sequence[str]
    firing: int
    began: Instant
    words: str
    pattern: str = ""
    cause: str = ""
    """The service or machine that is the likeliest cause."""


class Looks(Protocol):
    """What is known beside the last tick."""

    async def happening(self, limit: int, /) -> Sequence[Happening]:
        """The incidents that are open, and alerts that fire and belong to none, the newest first."""

    def past(self, finding: Finding, /) -> tuple[F64, F64] | None:
        """Times and values of the last hours of a series, as far as they are in memory; may wait: call it aside."""


class Cases(Switch, Protocol):
    """The cases."""

    def cases(self) -> Sequence[Case]:
        """All of them, the latest turn first."""


def routes(
    signals: Signals, looks: Looks, cases: Cases, sessions: Sessions, turn: asyncio.Lock
) -> list[web.RouteDef]:
    """The page, the login and the static files; pages that wait for their `turn` take one thread together."""
    pages = _Pages(signals, looks, cases, sessions, turn)
    return [
        web.get("/", pages.now),
        web.get("/login", pages.login),
        web.post("/login", pages.log_in),
        web.post("/logout", pages.log_out),
        *static_routes(),
    ]


class _Pages:
    def __init__(
        self, signals: Signals, looks: Looks, cases: Cases, sessions: Sessions, turn: asyncio.Lock
    ) -> None:
        self._signals, self._looks, self._cases, self._sessions = signals, looks, cases, sessions
        self._turn = turn

    @needs(None)
    async def now(self, request: web.Request) -> web.Response:
        """Page: incidents, what is out of its usual, what is coming, which cases wait."""
        person = self._sessions.reader(request)

        def drawn() -> web.Response:
            watches, series, scored = self._signals.watched()
            top = self._signals.top(ROWS)
            odd = [f for f in top if f.score >= 1]
            near = [f for f in top if f.score < 1][:NEAR] if not odd else []
            return page(
                "now.html",
                person,
                self._cases,
                live=LIVE,
                happening=happening,
                odd=odd,
                near=near,
                sparks=self._sparks([*odd, *near]),
                ahead=shown.ahead(self._signals.breaches(ROWS))[:ROWS],
                waiting=waiting,
                acted=acted,
                watches=watches,
                series=series,
                scored=scored,
            )

        async with self._turn:
            happening = await self._looks.happening(ROWS)
            cases, now = self._cases.cases(), time.time()
            waiting = [case for case in cases if case.stage in WAITING]
            acted = [c for c in cases if c.intent_at is not None and (c.open or now - c.since < DAY)]
            acted = [case for case in acted if case.stage not in WAITING][:DONE]
            return await asyncio.to_thread(drawn)

    def _sparks(self, findings: Sequence[Finding]) -> Mapping[tuple[str, bytes], spark.Spark]:
        """Lines of the last hours, by watch and key."""
        pasts = ((f, self._looks.past(f)) for f in findings)
        return {(f.watch, f.key): drawn for f, past in pasts if past and (drawn := spark.of(f, *past))}

    @needs(None)
    async def login(self, request: web.Request) -> web.Response:
        """Page: log in by token."""
        person, after = self._sessions.person(request), local_path(request.query.get("next", "/"))
        return page("login.html", person, self._cases, next=after)

    @needs(None)
    async def log_in(self, request: web.Request) -> web.Response:
        """Form: opens a session of 12 hours."""
        self._sessions.own_page(request)
        form = await form_of(request)
        after = local_path(form.get("next", "/"))
        done = web.HTTPSeeOther(after)
        try:
            self._sessions.login(request, done, form.get("token", ""))
        except Problem as wrong:
            return page("login.html", None, self._cases, status=wrong.status, wrong=wrong.words, next=after)
        raise done

    @needs(None)
    async def log_out(self, request: web.Request) -> web.Response:
        """Form: ends it."""
        self._sessions.own_page(request)
        done = web.HTTPSeeOther("/")
        self._sessions.logout(request, done)
        raise done
