"""The page of a case: its plan and why, what stood in its way, who decides, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from aiohttp import web

from sidecar.remedy.case import Case, Fact
from sidecar.remedy.effect import Effect
from sidecar.remedy.guard import Check, shown
from sidecar.remedy.past import Odds
from sidecar.types import F64, PromantisError, Rejected
from sidecar.web import chart
from sidecar.web.answers import Problem
from sidecar.web.auth import Person, Role, needs
from sidecar.web.paint import WAITING, Switch, form_of, fragment, in_parts, page
from sidecar.web.session import Sessions
from sidecar.web.ticket import Tickets

LIVE = 5
"""Seconds between which the page is read anew."""
MARKED = {
    "intent": "acted",
    "verify.passed": "it helped",
    "verify.failed": "it did not help",
    "undo.done": "taken back",
}
"""Facts that are marked on the chart."""


class Line(NamedTuple):
    """A series of what a verification compares, f64[points]; `ours`: it is the target's."""

    ours: bool
    values: F64


class Outcome(NamedTuple):
    """What a verification compares, before and after."""

    at: F64
    lines: Sequence[Line]
    query: str
    op: str
    limit: float


class Cases(Switch, Protocol):
    """The cases. Each raises Rejected with 404 or 409 when it does not fit."""

    def case(self, id: str, /) -> tuple[Case, Sequence[Fact]]:
        """One of them and its facts."""

    def odds(self, policy: str, cause: str | None = None, /) -> Odds:
        """How often a policy helped so far, for one cause where it is named."""

    def effect(self, policy: str, /) -> Effect:
        """How often alerts end in time with a policy, and without it."""

    async def plan(self, id: str, who: str, /) -> object:
        """Make the plan."""

    async def approve(self, id: str, who: str, plan_hash: str, /) -> object:
        """Approve the plan with this hash."""

    async def deny(self, id: str, who: str, reason: str, /) -> object:
        """Say no."""


Guards = Callable[[str], Awaitable[Sequence[Check]]]
"""How each guardrail of a case stands now."""


class Outcomes(Protocol):
    """Knows what was measured."""

    async def outcome(self, case: Case, /) -> Outcome | None:
        """What a case's verification compares, before and after its action."""


def routes(
    cases: Cases, outcomes: Outcomes, guards: Guards, sessions: Sessions, turn: asyncio.Lock
) -> list[web.RouteDef]:
    """The page and its forms, which are checked here: by token or login, and by their origin; `turn` as in pages."""
    tickets = Tickets()

    @needs(None)
    async def show(request: web.Request) -> web.StreamResponse:
        """Page: one case: plan, guardrails, history, and what the action changed."""
        person = sessions.reader(request)
        return await shown_as(request, person)

    @needs(None)
    async def act(request: web.Request) -> web.StreamResponse:
        """Forms of that page: `do` is plan, approve or deny; approve, own origin only."""
        sessions.own_page(request)
        id = request.match_info["id"]
        form = await form_of(request)
        reader = sessions.reader(request)
        try:
            person = sessions.actor(request, form.get("token", ""))
            if form.get("do") == "approve":
                name = reader.name if reader else ""
                tickets.redeem(form.get("ticket", ""), name, id, form.get("plan_hash", ""))
            await decide(id, person.name, form)
        except (Problem, Rejected) as wrong:
            return await shown_as(request, reader, wrong)
        raise web.HTTPSeeOther(f"/c/{id}")

    async def decide(id: str, who: str, form: Mapping[str, str]) -> None:
        match form.get("do", ""):
            case "plan":
                await cases.plan(id, who)
            case "approve":
                await cases.approve(id, who, form.get("plan_hash", ""))
            case "deny":
                await cases.deny(id, who, form.get("reason", ""))
            case other:
                raise Problem(400, f"do must be plan, approve or deny, not {other!r}", "do")

    async def shown_as(
        request: web.Request, person: Person | None, wrong: Problem | Rejected | None = None
    ) -> web.StreamResponse:
        id = request.match_info["id"]
        try:
            case, facts = cases.case(id)
        except Rejected as unknown:
            return page(
                "case.html", person, cases, status=unknown.status, wrong=str(wrong or ""), case=None, id=id
            )
        marks = [chart.Mark(fact.at, MARKED[fact.kind]) for fact in facts if fact.kind in MARKED]
        odds, effect = cases.odds(case.policy), cases.effect(case.policy)

        def drawn() -> web.Response:
            return page(
                "case.html",
                person,
                cases,
                status=wrong.status if wrong else 200,
                wrong=str(wrong or ""),
                live=LIVE,
                id=id,
                case=case,
                labels=dict(case.labels),
                facts=facts,
                odds=odds,
                of_cause=cases.odds(case.policy, case.cause) if case.cause else None,
                ticket=tickets.issue(person.name if person else "", id, case.plan_hash, case.expires_at),
                effect=effect,
                may=person is not None and person.role >= Role.APPROVE,
            )

        async def outcome() -> str:
            found = await outcomes.outcome(case)
            drawing = chart.compared(found.at, found.lines, found.limit, marks) if found else None
            return fragment("outcome.html", outcome=found, chart=drawing)

        async def standing() -> str:
            try:
                found = shown(await guards(id))
            except PromantisError as error:
                found = [{"name": "not known now", "ok": False, "words": str(error)}]
            when = "as it stands now; each is looked at again right before acting"
            return fragment("guards.html", checks=found, when=when)

        async with turn:
            whole = await asyncio.to_thread(drawn)
        if case.stage in WAITING:
            return await in_parts(request, whole, standing())
        return whole if case.intent_at is None else await in_parts(request, whole, outcome())

    path = "/c/{id:[0-9a-f]{1,32}}"
    return [web.get(path, show), web.post(path, act)]
