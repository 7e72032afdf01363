"""The pages: what is out of its usual, what is coming, what waits; and one alert with its case. A GET never acts."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Protocol

import jinja2
import msgspec
from aiohttp import web

from sidecar.alerts.enrich import EXPLAINED, PREFIX
from sidecar.alerts.explain import Explanation
from sidecar.types import Alert, Finding, JsonObject, Rejected
from sidecar.web import shown
from sidecar.web.answers import Problem
from sidecar.web.auth import Person, Role, needs
from sidecar.web.session import Sessions, local_path
from sidecar.web.ticket import Tickets

ROWS = 20
"""Lines of a table."""
FIRST = ("promantis_summary", "promantis_outlook")
"""Annotations that stand above all others."""
MAX_FORM = 64 << 10
"""Bytes; nobody has logged in yet when a form is read."""
SAYS = ("real", "not_real")
"""What the form of an alert can say of it."""
WAITING = ("proposed", "planned")
"""Stages in which a person is asked."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # no-referrer would make the Origin of our own forms "null"
    "Cache-Control": "no-store",
}


class Known(msgspec.Struct, frozen=True):
    """What is known of one alert; its annotations are those that Promantis wrote, among others."""

    alert: Alert
    firing: bool
    findings: Sequence[Finding] = ()
    """Its series, the nearest first."""
    said: Sequence[JsonObject] = ()
    """What people said of it (at, who, verdict, comment), the newest first."""
    explained: Explanation | None = None
    """What explains it."""


class Signals(Protocol):
    """What the last tick says."""

    def top(self, limit: int) -> Sequence[Finding]:
        """The most anomalous series, the highest score first."""

    def breaches(self, limit: int) -> Sequence[Finding]:
        """Series with a limit that is likely to be crossed and is not yet, the soonest first."""

    def watched(self) -> tuple[int, int]:
        """How many watches and series there are."""


class Alerts(Protocol):
    """The alerts that were received."""

    def alert(self, fingerprint: str) -> Known | None:
        """One of them, None when it is not known."""

    async def judge(self, fingerprint: str, verdict: str, who: str, /) -> object:
        """Take in that an alert was real, or not; Rejected with 404 when it is not known."""


class Odds(Protocol):
    """How often something helped."""

    @property
    def good(self) -> int:
        """Times that it helped."""

    @property
    def bad(self) -> int:
        """Times that it did not."""

    @property
    def lower(self) -> float:
        """What its success rate is above, 19 times of 20."""


class Switch(Protocol):
    """Whether anything may be done now, which every page says."""

    @property
    def killed(self) -> bool:
        """Whether the kill switch is on."""

    @property
    def stormy(self) -> str:
        """Why nothing acts alone now."""


class Cases(Switch, Protocol):
    """The cases. Each act raises Rejected with 404 or 409 when it does not fit."""

    def odds(self, policy: str, cause: str | None = None, /) -> Odds:
        """How often a policy helped so far, for one cause where it is named."""

    def cases(self) -> Sequence[object]:
        """All of them: what `GET /api/v1/cases` gives, or the structs behind it."""

    async def plan(self, id: str, who: str, /) -> object:
        """Make the plan."""

    async def approve(self, id: str, who: str, plan_hash: str, /) -> object:
        """Approve the plan with this hash."""

    async def deny(self, id: str, who: str, reason: str, /) -> object:
        """Say no."""


def routes(signals: Signals, alerts: Alerts, cases: Cases, sessions: Sessions) -> list[web.RouteDef]:
    """Every route of the pages; the forms are checked here, by token or login and by their origin."""
    pages = _Pages(signals, alerts, cases, sessions)
    return [
        web.get("/", pages.now),
        web.get("/a/{fingerprint:[0-9a-f]{16}}", pages.alert),
        web.post("/a/{fingerprint:[0-9a-f]{16}}", pages.act),
        web.get("/login", pages.login),
        web.post("/login", pages.log_in),
        web.post("/logout", pages.log_out),
        web.get("/static/style.css", pages.style),
        web.get("/static/icon.svg", pages.icon),
        web.get("/static/page.js", pages.script),
    ]


class _Pages:
    def __init__(self, signals: Signals, alerts: Alerts, cases: Cases, sessions: Sessions) -> None:
        self._signals = signals
        self._alerts = alerts
        self._cases = cases
        self._sessions = sessions
        self._tickets = Tickets()
        self._style = _asset("static/style.css")
        self._icon = _asset("static/icon.svg")
        self._script = _asset("static/page.js")

    @needs(None)
    async def now(self, request: web.Request) -> web.Response:
        """Page: what is out of its usual, what is coming, which cases wait."""
        person = self._sessions.reader(request)
        watches, series = self._signals.watched()
        top = self._signals.top(ROWS)
        return page(
            "now.html",
            person,
            self._cases,
            odd=[f for f in top if f.score >= 1],
            near=[f for f in top if f.score < 1][:5],
            ahead=shown.ahead(self._signals.breaches(ROWS))[:ROWS],
            waiting=[case for case in self._listed() if case["stage"] in WAITING],
            watches=watches,
            series=series,
        )

    @needs(None)
    async def alert(self, request: web.Request) -> web.Response:
        """Page: one alert and its case; the link in annotations."""
        person = self._sessions.reader(request)
        return self._alert(request.match_info["fingerprint"], person)

    @needs(None)
    async def act(self, request: web.Request) -> web.Response:
        """Forms of that page: `do` is real or not_real, or for its case plan, approve or deny; own origin only."""
        self._sessions.own_page(request)
        fingerprint = request.match_info["fingerprint"]
        form = await form_of(request)
        reader = self._sessions.reader(request)
        do, token = form.get("do", ""), form.get("token", "")
        try:
            if do in SAYS:
                person = self._sessions.actor(request, token, Role.FEEDBACK)
                await self._alerts.judge(fingerprint, do, person.name)
            else:
                person = self._sessions.actor(request, token)
                case = self._case_of(fingerprint, form.get("case", ""))
                if do == "approve":
                    name = reader.name if reader else ""
                    self._tickets.redeem(form.get("ticket", ""), name, case, form.get("plan_hash", ""))
                await self._decide(case, person.name, do, form)
        except (Problem, Rejected) as wrong:
            return self._alert(fingerprint, reader, wrong)
        raise web.HTTPSeeOther(f"/a/{fingerprint}")

    async def _decide(self, case: str, who: str, do: str, form: Mapping[str, str]) -> None:
        match do:
            case "plan":
                await self._cases.plan(case, who)
            case "approve":
                await self._cases.approve(case, who, form.get("plan_hash", ""))
            case "deny":
                await self._cases.deny(case, who, form.get("reason", ""))
            case other:
                raise Problem(
                    400, f"do must be {', '.join(SAYS)}, plan, approve or deny, not {other!r}", "do"
                )

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

    @needs(None)
    async def style(self, _: web.Request) -> web.Response:
        """The one stylesheet."""
        return _static(self._style, "text/css")

    @needs(None)
    async def icon(self, _: web.Request) -> web.Response:
        """The icon."""
        return _static(self._icon, "image/svg+xml")

    @needs(None)
    async def script(self, _: web.Request) -> web.Response:
        """The one script: times in the zone of whoever looks."""
        return _static(self._script, "text/javascript")

    def _alert(
        self, fingerprint: str, person: Person | None, wrong: Problem | Rejected | None = None
    ) -> web.Response:
        known = self._alerts.alert(fingerprint)
        cases = [case for case in self._listed() if case["fingerprint"] == fingerprint]
        there = known is not None or cases
        for case in cases:
            case["ticket"] = self._tickets.issue(
                person.name if person else "", case["id"], case["plan_hash"], case["expires_at"]
            )
        return page(
            "alert.html",
            person,
            self._cases,
            status=wrong.status if wrong else 200 if there else 404,
            wrong=str(wrong or ""),
            fingerprint=fingerprint,
            known=known,
            words=_words(known) if known else {},
            cases=cases,
            breaches=shown.ahead(known.findings) if known else [],
            first=FIRST,
            may=person is not None and person.role >= Role.APPROVE,
            may_say=person is not None and person.role >= Role.FEEDBACK,
        )

    def _listed(self) -> list[JsonObject]:
        """The newest first, labels as a mapping."""
        cases = [msgspec.to_builtins(case) for case in self._cases.cases()]
        cases.sort(key=lambda case: -case["since"])
        odds = functools.cache(self._cases.odds)  # it looks at every case
        return [
            case
            | {"labels": dict(case["labels"]), "odds": odds(case["policy"])}
            | {"of_cause": odds(case["policy"], case["cause"]) if case.get("cause") else None}
            for case in cases
        ]

    def _case_of(self, fingerprint: str, case: str) -> str:
        if any((c["id"], c["fingerprint"]) == (case, fingerprint) for c in self._listed()):
            return case
        raise Problem(404, "this alert has no such case", "case")


def _words(known: Known) -> dict[str, str]:
    """The annotations that the page does not say in another place."""
    said = {f"{PREFIX}url"} | ({PREFIX + name for name in EXPLAINED} - {*FIRST} if known.explained else set())
    return {name: text for name, text in known.alert.annotations.items() if name not in said}


def _static(text: str, kind: str) -> web.Response:
    headers = HEADERS | {"Cache-Control": "max-age=3600"}
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=headers)


def _asset(path: str) -> str:
    return resources.files("sidecar.web").joinpath(path).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _asset(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= shown.FILTERS
    return environment


_templates = _environment()


def page(
    name: str, person: Person | None, switch: Switch, *, status: int = 200, **values: Any
) -> web.Response:
    """A template as an answer."""
    values = {"wrong": "", "killed": switch.killed, "stormy": switch.stormy} | values
    text = _templates.get_template(name).render(
        person=person, at=time.time(), waiting_stages=WAITING, **values
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


async def form_of(request: web.Request) -> dict[str, str]:
    """The texts of a form; Problem 413 or 415 for what is none of ours."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "a form is expected", "Content-Type")
    if request.content_length is None or request.content_length > MAX_FORM:
        raise Problem(413, "the form is too large", "Content-Length")
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
