"""Templates as answers, with the headers of every page, and the forms that come back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import Awaitable
from importlib import resources
from typing import Any, Protocol

import jinja2
import markupsafe
from aiohttp import web

from sidecar.web import shown, spark
from sidecar.web.answers import Problem
from sidecar.web.auth import Person, needs

MAX_FORM = 64 << 10
"""Bytes; nobody has logged in yet when a form is read."""
WAITING = ("proposed", "planned")
"""Stages in which a person is asked."""


def asset(path: str) -> str:
    """The text of a template or of a static file."""
    return resources.files("sidecar.web").joinpath(path).read_text(encoding="utf-8")


STYLE = asset("static/style.css")
"""The one stylesheet, written into each page: a page that waits for a second answer is seen later."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # no-referrer would make the Origin of our own forms "null"
    "Cache-Control": "no-store",
}
LATER = "<!-- what others are asked for -->"
"""Where it stands in a page; no value can be mistaken for it, since they are escaped."""
PROMPT = 0.03
"""Seconds in which an answer comes soon enough for the page to be sent in one piece."""
STATIC = {
    "icon.svg": ("image/svg+xml", "The icon."),
    "page.js": (
        "text/javascript",
        "The one script: times in the zone of whoever looks, pages read anew when there is news.",
    ),
}
"""Files that are served as they are: type, and words."""


class Switch(Protocol):
    """Whether anything may be done now, which every page says."""

    @property
    def killed(self) -> bool:
        """Whether the kill switch is on."""

    @property
    def stormy(self) -> str:
        """Why nothing acts alone now."""


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: asset(f"templates/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = markupsafe.Markup(STYLE)
    environment.filters |= {**shown.FILTERS, "track": spark.track}
    return environment


_templates = _environment()


def page(
    name: str, person: Person | None, switch: Switch, *, status: int = 200, **values: Any
) -> web.Response:
    """A template as an answer; `live` among the values: seconds between which it is read anew while it changes."""
    values = {
        "wrong": "",
        "live": 0,
        "later": markupsafe.Markup(LATER),
        "killed": switch.killed,
        "stormy": switch.stormy,
    } | values
    values["live"] = 0 if values["wrong"] else values["live"]  # what went wrong stays to be read
    text = _templates.get_template(name).render(
        person=person, at=time.time(), template=name, waiting_stages=WAITING, **values
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def fragment(name: str, **values: Any) -> str:
    """A template as a part of a page."""
    return _templates.get_template(name).render(**values)


async def in_parts(request: web.Request, whole: web.Response, part: Awaitable[str]) -> web.StreamResponse:
    """A page whose part at LATER is asked of somebody else: what is before it is seen while that takes its time."""
    before, after = (whole.text or "").split(LATER)
    task = asyncio.ensure_future(part)
    try:
        if (await asyncio.wait({task}, timeout=PROMPT))[0]:
            whole.text = before + task.result() + after
            return whole
        response = web.StreamResponse(status=whole.status, headers=HEADERS)
        response.content_type, response.charset = "text/html", "utf-8"
        with contextlib.suppress(ConnectionError):  # who looked has gone on to another page
            await response.prepare(request)
            await response.write(before.encode())
            await response.write((await task + after).encode())
            await response.write_eof()
        return response
    finally:
        task.cancel()


async def form_of(request: web.Request) -> dict[str, str]:
    """The texts of a form; Problem 413 or 415 for what is none of ours."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "a form is expected", "Content-Type")
    if request.content_length is None or request.content_length > MAX_FORM:
        raise Problem(413, "the form is too large", "Content-Length")
    return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}


def static_routes() -> list[web.RouteDef]:
    """The static files."""
    return [
        web.get(f"/static/{name}", _serving(asset(f"static/{name}"), kind, words))
        for name, (kind, words) in STATIC.items()
    ]


def _serving(text: str, kind: str, words: str) -> Any:
    headers = HEADERS | {"Cache-Control": "max-age=3600"}

    @needs(None)
    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=kind, charset="utf-8", headers=headers)

    serve.__doc__ = words
    return serve
