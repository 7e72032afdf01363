"""The page of an alert and its incident: what is known, why, what moved when, who calls whom, and what was done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from sidecar.alerts.diagnose import LOAD
from sidecar.alerts.enrich import EXPLAINED, PREFIX
from sidecar.alerts.explain import Explanation
from sidecar.remedy.case import Case
from sidecar.types import F64, Alert, Finding, JsonObject, Labels, Rejected
from sidecar.web import shown, spark
from sidecar.web.answers import Problem
from sidecar.web.auth import Person, Role, needs
from sidecar.web.map import mapped
from sidecar.web.paint import Switch, form_of, page
from sidecar.web.session import Sessions

FIRST = ("promantis_summary", "promantis_outlook")
"""Annotations that stand above all others."""
SAYS = ("real", "not_real")
"""What the form can say."""
BLAMED = 0.1
"""Least probability of a cause that is marked on the picture."""
LIVE = 5
"""Seconds between which the page is read anew."""


class Event(NamedTuple):
    """Something that happened; `kind` is firing, resolved, moved, change, said, or that of a case's fact."""

    at: float
    kind: str
    words: str
    who: str = ""
    href: str = ""
    more: str = ""


class Other(NamedTuple):
    """Another alert of the same incident that fires."""

    fingerprint: str
    name: str
    labels: Labels
    """By which it differs from this one."""


class Seen(msgspec.Struct, frozen=True):
    """What is known of one alert; its annotations are those that Promantis wrote, among others."""

    alert: Alert
    firing: bool
    findings: Sequence[Finding] = ()
    """Its series, the nearest first."""
    said: Sequence[JsonObject] = ()
    """What people said of it (at, who, verdict, comment), the newest first."""
    explained: Explanation | None = None
    """What explains it."""
    pasts: Mapping[tuple[str, bytes], tuple[F64, F64]] = {}
    """Times and values of the last hours, by watch and key, as far as they are in memory."""
    others: Sequence[Other] = ()
    more: int = 0
    """Others that are not named."""
    events: Sequence[Event] = ()
    """The oldest first."""


class Alerts(Protocol):
    """The alerts that were received."""

    async def alert(self, fingerprint: str, /) -> Seen | None:
        """One of them, None when it is not known."""

    async def judge(self, fingerprint: str, verdict: str, who: str, /) -> object:
        """Take in that an alert was real, or not; Rejected with 404 when it is not known."""


class Cases(Switch, Protocol):
    """The cases."""

    def cases(self) -> Sequence[Case]:
        """All of them, the latest turn first."""


def routes(alerts: Alerts, cases: Cases, sessions: Sessions, turn: asyncio.Lock) -> list[web.RouteDef]:
    """The page and its form, which is checked here: by token or login, and by its origin; `turn` as in pages."""

    @needs(None)
    async def show(request: web.Request) -> web.Response:
        """Page: one alert and its incident: why, what moved when, who calls whom, what was done; the link in
        annotations."""
        person = sessions.reader(request)
        return await shown_as(request.match_info["fingerprint"], person)

    @needs(None)
    async def act(request: web.Request) -> web.Response:
        """Form of that page: `do` is real or not_real; feedback, own origin only."""
        sessions.own_page(request)
        fingerprint = request.match_info["fingerprint"]
        form = await form_of(request)
        reader = sessions.reader(request)
        do = form.get("do", "")
        try:
            person = sessions.actor(request, form.get("token", ""), Role.FEEDBACK)
            if do not in SAYS:
                raise Problem(400, f"do must be {' or '.join(SAYS)}, not {do!r}", "do")
            await alerts.judge(fingerprint, do, person.name)
        except (Problem, Rejected) as wrong:
            return await shown_as(fingerprint, reader, wrong)
        raise web.HTTPSeeOther(f"/a/{fingerprint}")

    async def shown_as(
        fingerprint: str, person: Person | None, wrong: Problem | Rejected | None = None
    ) -> web.Response:
        async with turn:
            seen = await alerts.alert(fingerprint)
            mine = [case for case in cases.cases() if case.fingerprint == fingerprint]
            return await asyncio.to_thread(drawn, fingerprint, person, wrong, seen, mine)

    def drawn(
        fingerprint: str,
        person: Person | None,
        wrong: Problem | Rejected | None,
        seen: Seen | None,
        mine: Sequence[Case],
    ) -> web.Response:
        why = seen.explained if seen else None
        causes = why.causes if why else ()
        blamed = {
            one.entity.removeprefix(LOAD): one.likelihood for one in causes if one.probability >= BLAMED
        }
        return page(
            "incident.html",
            person,
            cases,
            status=wrong.status if wrong else 200 if seen or mine else 404,
            wrong=str(wrong or ""),
            live=LIVE,
            fingerprint=fingerprint,
            known=seen,
            labels=dict(seen.alert.labels if seen else mine[0].labels if mine else ()),
            why=why,
            words=_words(seen) if seen else {},
            cases=mine,
            breaches=shown.ahead(seen.findings) if seen else [],
            map=mapped(why.calls, blamed, {one.entity for one in why.moved}) if why else None,
            lanes=spark.lanes(why.moved, seen.pasts) if why and seen else None,
            first=FIRST,
            may_say=person is not None and person.role >= Role.FEEDBACK,
        )

    path = "/a/{fingerprint:[0-9a-f]{16}}"
    return [web.get(path, show), web.post(path, act)]


def _words(seen: Seen) -> dict[str, str]:
    """The annotations that the page does not say in another place."""
    said = {f"{PREFIX}url"} | ({PREFIX + name for name in EXPLAINED} - {*FIRST} if seen.explained else set())
    return {name: text for name, text in seen.alert.annotations.items() if name not in said}
