"""Pages about a series, about how far to trust what is said, and about the journal. A GET never acts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from aiohttp import web
from yarl import URL

from sidecar.signals.known.picture import Picture
from sidecar.signals.known.picture import selector as exactly
from sidecar.signals.learn.accounts import Report
from sidecar.signals.learn.feedback import About, Misplaced
from sidecar.signals.learn.opinions import PLANNED, VERDICTS, Opinion
from sidecar.types import HORIZONS, Finding, Instant, JsonObject
from sidecar.web.answers import Problem
from sidecar.web.auth import Person, Role, needs
from sidecar.web.chart import REACH, Mark, drawn, reliability
from sidecar.web.paint import Switch, form_of, fragment, in_parts, page
from sidecar.web.session import Sessions
from sidecar.web.signals import selector

ROWS = 50
FACTS, MARKS = 50, 100
"""Of the journal: that are listed, and among which those to mark are looked for."""
HOURS = ("1", "6", "24", "168")
"""What may stand for `hours`."""
LONGEST = 30 * 24
"""Hours that something may be planned for."""
LIVE = 60
"""Seconds between which a series, which asks Prometheus, and what was promised are read anew."""
NEWS = 5
"""Seconds between which the newest facts are."""
MARKED = ("action.done", "undo.done", "feedback", "incident.ended")
"""Facts that are marked on a chart."""


class Known(Protocol):
    """What the last tick says."""

    def matching(self, wanted: Callable[[Mapping[str, str]], bool], limit: int) -> Sequence[Finding]:
        """The series whose labels pass a test."""

    def top(self, limit: int) -> Sequence[Finding]:
        """The most anomalous of the series that have a score, the highest first."""


class Opinions(Protocol):
    """What people said."""

    @property
    def last(self) -> Sequence[Opinion]: ...


class Feedback(Protocol):
    """Takes in what people say."""

    @property
    def opinions(self) -> Opinions: ...
    async def say(
        self, who: str, now: Instant, about: About, verdict: str, start: Instant | None, end: Instant | None
    ) -> object:
        """A verdict; Misplaced when it cannot be meant."""


class Fact(Protocol):
    """A line of the journal."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> Instant: ...
    @property
    def kind(self) -> str: ...
    @property
    def case(self) -> str | None: ...
    @property
    def who(self) -> str: ...
    @property
    def data(self) -> JsonObject: ...


class Journal(Protocol):
    """The facts."""

    async def newest(self, limit: int, before: int = 0) -> Sequence[Fact]:
        """The last ones below a seq (0: of all), the newest first."""


class Looks(Protocol):
    """What is known beside the last tick."""

    async def pictured(self, finding: Finding, span: float, /) -> Picture:
        """What the chart of a series shows of the last seconds."""

    def marked(self, finding: Finding, start: Instant, end: Instant, /) -> Sequence[Mark]:
        """Deployments and planned events that concern a series, of a time."""


def routes(
    known: Known,
    feedback: Feedback,
    journal: Journal,
    looks: Looks,
    report: Callable[[Instant], Report],
    switch: Switch,
    sessions: Sessions,
    clock: Callable[[], Instant],
) -> list[web.RouteDef]:
    """Every route."""
    views = _Views(known, feedback, journal, looks, report, switch, sessions, clock)
    return [
        web.get("/series", views.show_series),
        web.post("/series", views.say),
        web.get("/trust", views.show_trust),
        web.get("/journal", views.show_journal),
    ]


@dataclass(frozen=True)
class _Views:
    known: Known
    feedback: Feedback
    journal: Journal
    looks: Looks
    report: Callable[[Instant], Report]
    switch: Switch
    sessions: Sessions
    clock: Callable[[], Instant]

    @needs(None)
    async def show_series(self, request: web.Request) -> web.StreamResponse:
        """Page: the series that `match` selects; one with its chart over `hours` (1, 6, 24 or 168), forecasts
        and why it scores."""
        person = self.sessions.reader(request)
        return await self._series(
            request, person, request.query.get("match", ""), request.query.get("hours", "6")
        )

    async def _series(
        self,
        request: web.Request,
        person: Person | None,
        match: str,
        hours: str,
        wrong: Problem | Misplaced | None = None,
    ) -> web.StreamResponse:
        hours = hours if hours in HOURS else "6"
        try:
            found = await asyncio.to_thread(self._found, match)  # reads every series' labels
        except Problem as bad:
            wrong, found = bad, []
        meant = [f for f in found if exactly(f) == match] or found  # others may have these labels and more
        one = meant[0] if len(meant) == 1 else None
        marks = await self._marks(one, int(hours) * 3600) if one is not None else []
        whole = await asyncio.to_thread(
            page,
            "series.html",
            person,
            self.switch,
            live=LIVE,
            status=wrong.status if wrong else 200,
            wrong=str(wrong or ""),
            match=match,
            hours=hours,
            spans=HOURS,
            found=sorted(found, key=lambda f: -f.score if f.score == f.score else 1.0),
            most=ROWS,
            one=one,
            marks=marks,
            may_say=person is not None and person.role >= Role.FEEDBACK,
        )
        return whole if one is None else await in_parts(request, whole, self._chart(one, hours, marks))

    async def _chart(self, one: Finding, hours: str, marks: Sequence[Mark]) -> str:
        picture = await self.looks.pictured(one, int(hours) * 3600.0)
        return fragment("chart.html", f=one, hours=hours, chart=drawn(picture, one, marks))

    def _found(self, match: str) -> list[Finding]:
        """The series that fit; of all, the oddest first."""
        found = self.known.matching(selector(match), ROWS)
        odd = self.known.top(ROWS) if match.strip() in ("", "{}") else ()
        return list({(f.watch, f.labels): f for f in (*odd, *found)}.values())[:ROWS]

    async def _marks(self, one: Finding, span: float) -> list[Mark]:
        """What was done and said, deployed and planned, up to the end of the chart; the latest first."""
        start, end = Instant(self.clock() - span), Instant(self.clock() + max(REACH.values()))
        facts = await self.journal.newest(MARKS)
        told = [Mark(f.at, _words(f)) for f in facts if f.kind in MARKED and f.at >= start]
        there = await asyncio.to_thread(self.looks.marked, one, start, end)
        return sorted([*told, *there], key=lambda mark: -mark.at)

    @needs(None)
    async def say(self, request: web.Request) -> web.StreamResponse:
        """Form of that page: a verdict on what it shows, or that it is planned for so many hours; own origin only."""
        self.sessions.own_page(request)
        form = await form_of(request)
        reader = self.sessions.reader(request)
        match, verdict, hours = form.get("match", ""), form.get("do", ""), form.get("hours", "6")
        try:
            person = self.sessions.actor(request, form.get("token", ""), Role.FEEDBACK)
            if verdict not in VERDICTS:
                raise Problem(400, f"do must be {', '.join(VERDICTS)}, not {verdict!r}", "do")
            if match.strip() in ("", "{}"):
                raise Problem(400, "names no series", "match")
            now = self.clock()
            end = Instant(now + 3600 * _planned(form.get("for", ""))) if verdict == PLANNED else None
            about = About(selector(match), match=match)
            await self.feedback.say(person.name, now, about, verdict, None, end)
        except (Problem, Misplaced) as wrong:
            return await self._series(request, reader, match, hours, wrong)
        raise web.HTTPSeeOther(request.url.with_query(match=match, hours=hours).raw_path_qs)

    @needs(None)
    async def show_trust(self, request: web.Request) -> web.Response:
        """Page: what was promised and what came true: announcements of your alerts, odds, confidence, forecasts; what
        people said."""
        person = self.sessions.reader(request)
        report = self.report(self.clock())
        return page(
            "trust.html",
            person,
            self.switch,
            live=LIVE,
            report=report,
            diagram=reliability(report.odds),
            horizons=[name for name, _ in HORIZONS],
            said=list(self.feedback.opinions.last)[::-1][:ROWS],
        )

    @needs(None)
    async def show_journal(self, request: web.Request) -> web.Response:
        """Page: the facts, the newest first, below the seq `before`; a login always."""
        person = self.sessions.person(request)
        if person is None:  # as /api/v1/journal, it needs somebody on loopback too
            raise web.HTTPSeeOther(URL("/login").with_query(next=request.path_qs))
        before = request.query.get("before", "0")
        if not before.isdecimal():
            raise Problem(400, f"{before!r} is not a number", "before")
        facts = await self.journal.newest(FACTS, int(before))
        rows: list[dict[str, Any]] = [
            {"seq": f.seq, "at": f.at, "kind": f.kind, "who": f.who, "case": f.case, "words": _words(f),
             "data": msgspec.json.format(msgspec.json.encode(f.data), indent=1).decode()}
            for f in facts
        ]  # fmt: skip
        return await asyncio.to_thread(
            page,
            "journal.html",
            person,
            self.switch,
            live=None if int(before) else NEWS,
            facts=rows,
            older=facts[-1].seq if len(facts) == FACTS else None,
        )


def _planned(text: str) -> float:
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST:
        raise Problem(400, f"{text!r} is not a number of hours from 1 to {LONGEST}", "for")
    return float(text)


def _words(fact: Fact) -> str:
    """What a fact says, in a line."""
    data = fact.data
    name = dict(data.get("labels") or {}).get("alertname", "") or data.get("alertname", "")
    told = [name] if name else []
    told += [
        str(data[key])
        for key in ("verdict", "policy", "cause", "pattern", "words", "reason")
        if data.get(key)
    ]
    return " ".join([fact.kind, *told])[:200]
