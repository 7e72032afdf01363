"""Alertmanager's webhook and the cases: what came in, what is proposed, who says yes or no."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec
from aiohttp import web

from sidecar.alerts.identity import fingerprint
from sidecar.remedy.case import Case, Fact, Notice
from sidecar.remedy.guard import Check, shown
from sidecar.remedy.past import Odds
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, JsonObject, labels_of
from sidecar.web.answers import Problem, json, read
from sidecar.web.auth import PERSON, Role, needs

log = logging.getLogger(__name__)


SEQ = "X-Promantis-Seq"


class Sent(msgspec.Struct, frozen=True):
    """One alert of the payload; what is not named here is of no interest."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    fingerprint: str
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    startsAt: datetime | None = None
    endsAt: datetime | None = None
    generatorURL: str = ""


class Payload(msgspec.Struct, frozen=True):
    """Payload version 4, as 0.28 to 0.34 send it."""

    version: str
    alerts: list[msgspec.Raw]
    truncatedAlerts: int = 0


class ApproveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an approval is bound to."""

    plan_hash: str


class KillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Off with everything, or on again."""

    on: bool
    reason: str = ""


class DenyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why not."""

    reason: str = ""


class Lines(Protocol):
    """The journal."""

    async def lines(self, since: int = 0, kind: str = "") -> tuple[list[bytes], int]:
        """Facts with a seq above `since`, of one kind where it is named, as lines of JSON; the seq of the last one."""
        ...


def routes(
    runner: Runner,
    journal: Lines,
    guards: Callable[[str], Awaitable[Sequence[Check]]],
    telemetry: Telemetry,
) -> list[web.RouteDef]:
    """The routes of remedies; `guards` tells how each guardrail of a case stands now."""

    @needs(Role.FEEDBACK, local=True)
    async def webhook(request: web.Request) -> web.Response:
        """Alertmanager's webhook: 200 when stored, 503 to be asked again."""
        telemetry.webhooks.inc()
        if request.content_type != "application/json":  # a page in somebody's browser cannot send this one
            raise Problem(415, f"not application/json: {request.content_type}", "Content-Type")
        payload = read(await request.read(), Payload)
        if payload.version != "4":
            raise Problem(400, f"payload version {payload.version!r} is not supported (only '4')", "version")
        if payload.truncatedAlerts:
            log.warning("webhook is truncated missing=%d: set max_alerts to 0", payload.truncatedAlerts)
        good, bad = _notices(payload.alerts)
        await runner.webhook(good)
        if bad:  # the good ones are stored; nobody shall believe that all was well
            raise bad[0]
        return json({"stored": len(good)})

    async def cases(_: web.Request) -> web.Response:
        """Every case: stage, plan, guardrails passed and failed."""
        found = runner.cases()
        kinds = {(case.policy, case.cause) for case in found}
        records = {one: _record(*one, runner) for one in kinds}
        return json([_case(case, records[case.policy, case.cause]) for case in found])

    async def case(request: web.Request) -> web.Response:
        """One case with its facts."""
        found, facts = runner.case(request.match_info["id"])
        return json(_case(found, _record(found.policy, found.cause, runner), facts))

    async def standing(request: web.Request) -> web.Response:
        """Each guardrail in front of a case as it stands now, a few seconds old at most; nothing is done."""
        return json({"guards": shown(await guards(request.match_info["id"]))})

    @needs(Role.APPROVE)
    async def plan(request: web.Request) -> web.Response:
        """Makes the plan of a case and its hash; nothing is sent."""
        done = await runner.plan(request.match_info["id"], request[PERSON].name)
        return json(_case(done, _record(done.policy, done.cause, runner)))

    @needs(Role.APPROVE)
    async def approve(request: web.Request) -> web.Response:
        """Approves the plan with this hash; 409 when it is not that of the plan."""
        body = read(await request.read(), ApproveBody)
        id = request.match_info["id"]
        done = await runner.approve(id, request[PERSON].name, body.plan_hash)
        return json(_case(done, _record(done.policy, done.cause, runner)))

    @needs(Role.APPROVE)
    async def deny(request: web.Request) -> web.Response:
        """No, for as long as the alert fires."""
        body = read(await request.read() or b"{}", DenyBody)
        done = await runner.deny(request.match_info["id"], request[PERSON].name, body.reason)
        return json(_case(done, _record(done.policy, done.cause, runner)))

    @needs(Role.VIEW)
    async def export(request: web.Request) -> web.Response:
        """The facts of the journal after the seq `since`, or those of one `kind`: a line of JSON each with its hash.
        The header says the seq of the last fact, to ask from."""
        since = request.query.get("since", "0")
        if not since.isdecimal():
            raise Problem(400, f"not a number: {since!r}", "since")
        lines, last = await journal.lines(int(since), request.query.get("kind", ""))
        body = b"".join(line + b"\n" for line in lines)
        return web.Response(body=body, content_type="application/x-ndjson", headers={SEQ: str(last)})

    async def switch(_: web.Request) -> web.Response:
        """Whether the kill switch is on, and whether there is a storm."""
        return json({"on": runner.killed, "storm": runner.stormy})

    @needs(Role.APPROVE)
    async def kill(request: web.Request) -> web.Response:
        """Stops every action at once, or allows them again; off needs admin."""
        body, person = read(await request.read(), KillBody), request[PERSON]
        if not body.on and person.role < Role.ADMIN:  # who may stop need not be who may start again
            raise Problem(403, f"{person.name} may switch it on; off needs admin", "Authorization")
        await runner.kill(body.on, person.name, body.reason)
        return json({"on": runner.killed, "storm": runner.stormy})

    return [
        web.get("/api/v1/journal", export),
        web.get("/api/v1/killswitch", switch),
        web.post("/api/v1/killswitch", kill),
        web.post("/api/v1/webhook", webhook),
        web.get("/api/v1/cases", cases),
        web.get("/api/v1/cases/{id}", case),
        web.get("/api/v1/cases/{id}/guards", standing),
        web.post("/api/v1/cases/{id}/plan", plan),
        web.post("/api/v1/cases/{id}/approve", approve),
        web.post("/api/v1/cases/{id}/deny", deny),
    ]


def _notices(alerts: Iterable[msgspec.Raw]) -> tuple[list[Notice], list[Problem]]:
    """Each alert by its own status, whatever the status of the group."""
    good: list[Notice] = []
    bad: list[Problem] = []
    for i, raw in enumerate(alerts):
        try:
            sent = read(raw, Sent, f"alerts[{i}]")
            labels = labels_of(sent.labels)
            if not labels:
                raise Problem(400, "an alert without labels", f"alerts[{i}].labels")
            if sent.fingerprint != fingerprint(labels):  # what is done once is counted by it
                words = f"{sent.fingerprint!r} is not the fingerprint of these labels"
                raise Problem(400, words, f"alerts[{i}].fingerprint")
        except Problem as problem:
            bad.append(problem)
            continue
        starts, ends = _seconds(sent.startsAt), _seconds(sent.endsAt)
        text = sent.startsAt.isoformat() if sent.startsAt else None
        alert = Alert(labels, sent.annotations, text, None, sent.generatorURL or None)
        good.append(Notice(sent.fingerprint, alert, sent.status == "firing", starts, ends))
    return good, bad


def _seconds(time: datetime | None) -> float:
    """Unix seconds; 0 for a time that is not set, which Go writes as the year 1."""
    if time is None or time.year == 1:
        return 0.0
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _record(policy: str, cause: str, runner: Runner) -> JsonObject:
    """What came of a policy so far, and for a cause; it looks at every case, so a list asks once for all alike."""
    effect = runner.effect(policy)
    trials = {
        "with": [effect.treated.good, effect.treated.good + effect.treated.bad],
        "without": [effect.control.good, effect.control.good + effect.control.bad],
        "difference": effect.difference,
        "interval": effect.interval,
    }
    record: JsonObject = {"odds": _odds(runner.odds(policy)), "trials": trials}
    return record | ({"odds_of_cause": _odds(runner.odds(policy, cause))} if cause else {})


def _odds(odds: Odds) -> JsonObject:
    rates = {"mean": round(odds.mean, 3), "lower": round(odds.lower, 3)}
    return {"helped": odds.good, "did_not": odds.bad, **rates}


def _case(case: Case, record: JsonObject, facts: Iterable[Fact] = ()) -> JsonObject:
    """A case as people and programs read it."""
    view: JsonObject = msgspec.to_builtins(case)
    for hidden in (
        "holding_since",
        "deadline",
        "to_undo",
        "harm_before",
        "saved",
        "policy_hash",
        "action_hash",
        "before",
    ):
        del view[hidden]
    view["labels"] = dict(case.labels)
    if case.compared:
        view["compared"] = {key: value for key, value in case.compared.items() if key != "rows"}
    view["expires_at"] = case.expires_at or None
    view |= record
    if facts:
        view["facts"] = [
            {"at": f.at, "kind": f.kind, "who": f.who, "words": f.data.get("words", "")} for f in facts
        ]
    return view
