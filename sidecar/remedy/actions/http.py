"""`http`: a request to a host of the config, and optionally a second that takes it back."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from sidecar.remedy import templates
from sidecar.remedy.actions.edits import SECRET
from sidecar.remedy.actions.words import Job, Outcome, Plan, Right, World
from sidecar.types import Alert, Rejected, Section, Unavailable

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SEPARATORS = re.compile(r"[/\\;]")
"""Of a path, as one server or another reads it."""
_FIELD = re.compile(r"([^&=]*=)([^&]*)")
_MEMBER = re.compile(r'("(?:[^"\\]|\\.)*"\s*:\s*)("(?:[^"\\]|\\.)*")')
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Request(msgspec.Struct, frozen=True):
    """One rendered HTTP request."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None

    def shown(self) -> dict[str, Any]:
        """For eyes and journal: no values of headers, nor of what is called like a secret."""
        shown = {k: v if k.lower() == "content-type" else "***" for k, v in self.headers.items()}
        body = None if self.body is None else _masked(self.body, _kind(self.headers))
        return {"method": self.method, "url": self.place, "headers": shown, "body": body}

    @property
    def place(self) -> str:
        """The url as it is shown."""
        before, mark, query = self.url.partition("?")
        return before + mark + _masked(query, "urlencoded")


class HttpCall(Section, frozen=True, kw_only=True):
    """A request as a template; `body` that starts as JSON must be JSON."""

    method: str = "POST"
    """GET, POST, PUT, PATCH or DELETE."""
    url: str
    """Templates stand after the host only."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """They are never shown."""
    body: str | None = None
    """JSON where it starts like it, with templates inside of strings only; they also stand in forms, XML and plain
    text, by the content type. What is called like a secret is sent and not shown."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.method not in METHODS:
            yield "method", f"unknown method {self.method!r} (one of {', '.join(METHODS)})"
        for place, text in [("url", self.url), ("body", self.body or "")]:
            if words := templates.check(text):
                yield place, words
        yield from self._url_problems()
        for name, value in self.headers.items():
            words = None if _HEADER.fullmatch(name) else "not a header name"
            words = words or templates.check(value)
            if words or "\n" in value or "\r" in value:
                yield f"headers.{name}", words or "a header has one line"
        if self.body and "{{" in self.body and self._escape() is None:
            words = f"nobody knows how to escape a label in {_kind(self.headers)}"
            yield "body", f"{words} (templates stand in JSON, forms, XML and plain text)"
        if self._is_json() and self.body is not None:
            try:
                json.loads(templates.without_holes(self.body))
            except ValueError as error:
                yield "body", f"not valid JSON (templates stand inside strings only): {error}"

    def _url_problems(self) -> Iterator[tuple[str, str]]:
        try:
            parts = urlsplit(self.url)
        except ValueError as error:
            yield "url", f"not a url: {error}"
            return
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield "url", f"not a url: {self.url!r} (write http://host/path)"
        elif "{{" in parts.netloc:
            yield "url", "templates stand after the host only: an alert must not choose who is called"
        elif "@" in parts.netloc:
            yield "url", "credentials belong into headers"

    def render(self, alert: Alert) -> Request:
        """The request for one alert; templates.Missing when the alert cannot fill it."""
        url = templates.render(self.url, alert, templates.as_url)
        for written, part in zip(*(urlsplit(one).path.split("/") for one in (self.url, url)), strict=True):
            if "{{" in written and not part:
                raise templates.Missing("an empty value would change the path of the url")
            if {".", ".."} & set(_SEPARATORS.split(unquote(part))):
                raise templates.Missing("a value would change the path of the url")
        headers = {k: templates.render(v, alert, templates.as_header) for k, v in self.headers.items()}
        body = None if self.body is None else templates.render(self.body, alert, self._escape() or str)
        if body is not None and not _kind(self.headers):
            headers["Content-Type"] = "application/json" if self._is_json() else "text/plain; charset=utf-8"
        return Request(self.method, url, headers, body)

    def _escape(self) -> Callable[[str], str] | None:
        """What makes a value fit into the body; None where nobody knows."""
        kind = _kind(self.headers)
        if self._is_json():
            return templates.as_json
        if "urlencoded" in kind:
            return templates.as_url
        if "xml" in kind or "html" in kind:
            return html.escape
        return str if not kind or kind.startswith("text/plain") else None

    def _is_json(self) -> bool:
        kind = _kind(self.headers)
        return "json" in kind or (not kind and (self.body or "").lstrip()[:1] in ("{", "["))


class HttpAction(HttpCall, frozen=True, kw_only=True, tag_field="type", tag="http"):
    """One request, and optionally a second that takes it back."""

    undo: HttpCall | None = None
    """Of a second call, which takes the first back if it did not help."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for place, words in self.undo.problems() if self.undo else ():
            yield f"undo.{place}", words

    @property
    def no_undo(self) -> str:
        """Why it cannot be taken back; empty: it can."""
        return "" if self.undo else "the action has no `undo`"

    def target(self, alert: Alert) -> str:
        """What is acted on; Missing when the alert cannot fill it."""
        request = self.render(alert)
        if self.undo:
            self.undo.render(alert)
        return f"{request.method} {request.place}"

    async def plan(self, alert: Alert, world: World) -> Plan:
        """Render both requests; Missing when the alert cannot fill them."""
        target, undo = self.target(alert), self.undo.render(alert).shown() if self.undo else None
        do = self.render(alert).shown()
        return Plan(target=target, object=target, do=do, undo=undo, no_undo=self.no_undo)

    async def apply(self, job: Job, world: World) -> Outcome:
        """Send it, once."""
        return await _send(self.render(job.alert), world)

    async def take_back(self, job: Job, world: World) -> Outcome:
        """Send the undo, once."""
        if self.undo is None:
            return Outcome("failed", self.no_undo)
        return await _send(self.undo.render(job.alert), world)

    async def look(self, job: Job, world: World, undo: bool) -> Outcome:
        """A request leaves no trace that could be read."""
        return Outcome("unclear", "Promantis stopped before the answer came")

    def rights(self) -> tuple[Right, ...]:
        """None in the cluster."""
        return ()


def _kind(headers: Mapping[str, str]) -> str:
    return next((v.lower() for k, v in headers.items() if k.lower() == "content-type"), "")


def _masked(text: str, kind: str) -> str:
    """The text without the values of what is called like a secret.

    >>> _masked("api_key=a&size=4", "urlencoded"), _masked('{"size": 4, "token": "a"}', "json")
    ('api_key=***&size=4', '{"size": 4, "token": "***"}')
    """
    pattern, hidden = (_FIELD, "***") if "urlencoded" in kind else (_MEMBER, '"***"')
    return pattern.sub(lambda m: m[1] + (hidden if SECRET.search(unquote(m[1])) else m[2]), text)


async def _send(request: Request, world: World) -> Outcome:
    """2xx is done; no answer or 5xx may have been done; anything else was not."""
    try:
        status = await world.http.call(request.method, request.url, request.headers, request.body)
    except Rejected as error:
        return Outcome("failed", str(error))
    except Unavailable as error:
        return Outcome("unclear", str(error))
    state: Literal["done", "failed", "unclear"] = (
        "done" if status // 100 == 2 else "unclear" if status >= 500 else "failed"
    )
    return Outcome(state, f"the target answered {status}")
