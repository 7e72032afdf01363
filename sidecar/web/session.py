"""Who looks at the pages: a login by token, kept as a random cookie; a form counts only from our own pages."""

from __future__ import annotations

import secrets
import time
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web
from yarl import URL

from sidecar.web.answers import Problem
from sidecar.web.auth import NOBODY, PERSON, Person, Role

COOKIE = "promantis_session"
LASTS = 12 * 3600
"""Seconds that a login lasts."""
MOST = 1000
"""Logins at a time; the oldest ends first."""


class People(Protocol):
    """Knows the tokens; `loopback`: only this machine can reach us, so reading needs no login."""

    loopback: bool

    def find(self, token: str) -> Person | None:
        """Whose token it is."""


class Sessions:
    """The logins of this process; the cookie is no token, and a restart ends them all."""

    def __init__(self, people: People, external_url: str | None = None) -> None:
        self.people = people
        self._origin = _origin(external_url) if external_url else None
        self._open: dict[str, tuple[Person, float]] = {}

    def person(self, request: web.Request) -> Person | None:
        """Who is logged in, or sends credentials; None when nobody is."""
        person, ends = self._open.get(request.cookies.get(COOKIE, ""), (None, 0.0))
        if ends > time.monotonic():
            return person
        by_itself = request.get(PERSON)  # by a password that the browser sends, or by a trusted proxy
        return by_itself if by_itself is not None and by_itself is not NOBODY else None

    def reader(self, request: web.Request) -> Person | None:
        """Who reads; sent to the login page when reading needs one."""
        person = self.person(request)
        if person is None and not self.people.loopback:
            raise web.HTTPSeeOther(URL("/login").with_query(next=request.path_qs))
        return person

    def actor(self, request: web.Request, token: str, role: Role = Role.APPROVE) -> Person:
        """Who acts: by the token of the form or else by the login; Problem 401, or 403 below the role."""
        person = self.people.find(token) if token else self.person(request)
        if person is None:
            raise Problem(401, "the token is not known" if token else "a token is needed", "token")
        if person.role < role:
            words = f"{person.name} may {person.role.name.lower()}; this needs {role.name.lower()}"
            raise Problem(403, words, "token")
        return person

    def login(self, request: web.Request, response: web.StreamResponse, token: str) -> None:
        """Open a session and set its cookie; Problem 401 for an unknown token."""
        person = self.people.find(token)
        if person is None:
            raise Problem(401, "the token is not known", "token")
        now = time.monotonic()
        self._open = {key: value for key, value in self._open.items() if value[1] > now}
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        key = secrets.token_urlsafe(32)
        self._open[key] = (person, now + LASTS)
        response.set_cookie(
            COOKIE, key, httponly=True, samesite="Strict", secure=request.secure, max_age=LASTS, path="/"
        )

    def logout(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session."""
        self._open.pop(request.cookies.get(COOKIE, ""), None)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")

    def own_page(self, request: web.Request) -> None:
        """Problem 403 unless the browser says that the form stood on one of our pages."""
        origin = request.headers.get("Origin", "")
        if not origin or origin == "null":
            raise Problem(403, "the form did not come from this page", "Origin")
        host = origin.partition("://")[2]
        if host != request.host and origin != self._origin:
            raise Problem(403, f"the form came from another site: {origin}", "Origin")


def local_path(path: str) -> str:
    """Where to go after the login: a path of ours, never another site.

    >>> [local_path(p) for p in ("/a/1f?x=1", "//evil.example", "https://evil.example", "/\\\\evil", "")]
    ['/a/1f?x=1', '/', '/', '/', '/']
    """
    odd = not path.startswith("/") or path.startswith("//") or "\\" in path or not path.isprintable()
    return "/" if odd else path


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
