"""What users say of runs, over HTTP: /api/v1/feedback, and /api/v1/runs, which it speaks of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from aiohttp import web

from sidecar.signals.learn.feedback import About, Feedback, Misplaced, listed
from sidecar.signals.learn.runs import Run
from sidecar.types import Instant
from sidecar.web.answers import Problem, json, read
from sidecar.web.auth import PERSON, Role, needs
from sidecar.web.signals import selector

MOST = 1000
LATEST = 253402300799
"""The last second of the year 9999: milliseconds are beyond it."""
LONGEST = 1000
"""Characters of a comment."""


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`match` or `fingerprint`; times as unix seconds or RFC 3339."""

    verdict: Literal["real", "not_real", "expected_from_now", "planned"]
    match: str = ""
    fingerprint: str = ""
    start: float | datetime | None = None
    end: float | datetime | None = None
    comment: str = ""


def routes(
    feedback: Feedback, alert: Callable[[str], About | None], clock: Callable[[], Instant]
) -> list[web.RouteDef]:
    """`alert` knows what an alert is about, None when it is not known."""

    @needs(Role.FEEDBACK)
    async def say(request: web.Request) -> web.Response:
        """What somebody says of runs: of series (`match`) or of an alert (`fingerprint`)."""
        body = read(await request.read(), Body)
        if bool(body.match) == bool(body.fingerprint):
            raise Problem(400, "name either match or fingerprint", "match")
        if len(body.comment) > LONGEST:
            raise Problem(400, f"longer than {LONGEST} characters", "comment")
        if body.match:
            about: About | None = About(selector(body.match), match=body.match)
        else:
            about = alert(body.fingerprint)
        if about is None:
            raise Problem(404, "this alert is not known", "fingerprint")
        who, start, end = request[PERSON].name, _seconds(body.start, "start"), _seconds(body.end, "end")
        try:
            opinion = await feedback.say(who, clock(), about, body.verdict, start, end, body.comment)
        except Misplaced as wrong:
            raise Problem(wrong.status, str(wrong), wrong.where) from None
        return json(listed(opinion))

    async def said(request: web.Request) -> web.Response:
        """What was said, the newest first, at most `limit`."""
        newest = list(feedback.opinions.last)[::-1]
        return json([listed(opinion) for opinion in newest[: _limit(request)]])

    async def runs(request: web.Request) -> web.Response:
        """What has been odd lately: series, start, end, peak, confidence, verdict; at most `limit`."""
        return json([_run(run, verdict) for run, verdict in feedback.runs(_limit(request))])

    return [
        web.post("/api/v1/feedback", say),
        web.get("/api/v1/feedback", said),
        web.get("/api/v1/runs", runs),
    ]


def _seconds(time: float | datetime | None, place: str) -> Instant | None:
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if time is not None and not 0 <= time <= LATEST:
        raise Problem(400, f"{time:g} is not a time in unix seconds", place)
    return None if time is None else Instant(float(time))


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise Problem(400, f"{text!r} is not a number from 1 to {MOST}", "limit")
    return int(text)


def _run(run: Run, verdict: str | None) -> dict[str, Any]:
    return {
        "watch": run.watch,
        "labels": dict(run.labels),
        "start": run.start,
        "end": None if run.going else run.end,
        "peak": run.peak,
        "confidence": run.confidence,
        "verdict": verdict,
    }
