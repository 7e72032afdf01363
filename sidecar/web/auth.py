"""Who asks, and may they? Roles view < feedback < approve < admin, by tokens; reading is free on loopback."""

from __future__ import annotations

import asyncio
import base64
import enum
import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import bcrypt
import msgspec
import yaml
from aiohttp import web

from sidecar.types import ConfigError, Section
from sidecar.web.answers import Problem

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])


class Role(enum.IntEnum):
    """Each may do what those below it may."""

    VIEW = 1
    FEEDBACK = 2
    APPROVE = 3
    ADMIN = 4


ROLES = tuple(role.name.lower() for role in Role)


class Person(NamedTuple):
    """Who made a request; `name` goes into the journal."""

    name: str
    role: Role


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of tokens_file: `{name, token, role, expires}`."""

    name: str
    token: str
    role: str
    expires: datetime | None = None


class ProxyConfig(Section, frozen=True, kw_only=True):
    """An authenticating proxy before us: who it says that somebody is, with which role."""

    header: str = "X-Forwarded-User"
    """Who somebody is, as an authenticating proxy says."""
    trusted: tuple[str, ...]
    """Networks that the proxy speaks from, e.g. `[10.0.0.7/32]`; the header of anybody else is nothing."""
    role: str = "view"
    """What they may."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.trusted:
            yield "trusted", "needs the addresses of the proxy, such as 10.0.0.7/32"
        for i, text in enumerate(self.trusted):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield f"trusted[{i}]", f"{text!r} is not a network such as 10.0.0.0/8"
        if self.role not in ROLES:
            yield "role", f"unknown role {self.role!r} (one of {', '.join(ROLES)})"
        if not self.header.replace("-", "").isalnum():
            yield "header", "is not the name of a header"


class Need(NamedTuple):
    """What a route asks of its caller; `role` None: nothing, anywhere."""

    role: Role | None
    local: bool
    """No token is asked for while Promantis listens on loopback only."""


PERSON = web.RequestKey("person", Person)
"""Set on every request before its handler runs."""
NOBODY = Person("anonymous", Role.VIEW)
_NO_USER = b"$2b$10$A.5prxMCjac/GeT0Rmv8Mu6GhNoN8CTzyY9jqTUgw88giCHrgJuJe"
"""A hash that nobody has the password of, as dear to look at as a real one."""


def needs(role: Role | None, *, local: bool = False) -> Callable[[H], H]:
    """Declare what a handler asks for. Undeclared: reading is VIEW and local, all else is ADMIN."""

    def mark(handler: H) -> H:
        handler.__dict__["needs"] = Need(role, local)
        return handler

    return mark


class Auth:
    """Checks the caller of each request against the tokens; only their digests stay in memory."""

    def __init__(
        self,
        tokens: tuple[Token, ...],
        loopback: bool,
        proxy: ProxyConfig | None = None,
        clock: Callable[[], float] = time.time,
        users: Mapping[str, str] | None = None,
        users_role: str = "view",
    ) -> None:
        self._people = tuple(
            (
                _digest(t.token),
                Person(t.name, Role[t.role.upper()]),
                t.expires.timestamp() if t.expires else None,
            )
            for t in tokens
        )
        self.loopback = loopback
        self._proxy = proxy
        self._trusted = tuple(ipaddress.ip_network(one) for one in (proxy.trusted if proxy else ()))
        self._clock = clock
        self._users = {name: hash.encode() for name, hash in (users or {}).items()}
        self._users_role = Role[users_role.upper()]
        self._known: dict[bytes, None] = {}
        """Digests of name and password that were right: the hash takes long on purpose."""

    @property
    def challenge(self) -> str:
        """What a 401 asks for."""
        return 'Bearer, Basic realm="promantis"' if self._users else "Bearer"

    @property
    def proxy_header(self) -> str:
        """The header by which a trusted proxy says who somebody is; empty without one."""
        return self._proxy.header if self._proxy else ""

    async def check(self, request: web.BaseRequest, need: Need) -> Person:
        """Who it is; Problem 401 without a good token where one is needed, 403 when the role is too low."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        person = self.find(token.strip()) if scheme.lower() == "bearer" else None
        if scheme.lower() == "basic" and self._users:
            person = await self._by_password(token.strip())
        vouched = None if scheme else self.vouched(request)
        if need.role is None or (need.local and self.loopback):
            if need.local and not (person or vouched) and _of_another_site(request):
                raise Problem(403, "a page of another site may not write here without a token", "Origin")
            return person or vouched or NOBODY
        sendable = request.content_type != "application/json"  # by a form of another site, unasked
        unasked = vouched or (person if scheme.lower() == "basic" else None)  # by who asks: a browser adds it
        if unasked is not None and request.method not in ("GET", "HEAD") and sendable:
            raise Problem(403, "only application/json may act", "Content-Type")
        person = person or vouched
        if person is None:
            raise Problem(401, "the token is not known" if scheme else "a token is needed", "Authorization")
        if person.role < need.role:
            words = f"{person.name} may {person.role.name.lower()}; this needs {need.role.name.lower()}"
            raise Problem(403, words, "Authorization")
        return person

    def find(self, token: str) -> Person | None:
        """Whose token it is, unless it expired; looks at every one, so that time tells nothing."""
        found, digest = None, _digest(token)
        for known, person, expires in self._people:
            if hmac.compare_digest(known, digest) and (expires is None or self._clock() < expires):
                found = person
        return found

    async def _by_password(self, encoded: str) -> Person | None:
        """The user of the web config; the hash is made in a thread, and for unknown names too."""
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        known = _digest(f"{name}:{password}")
        if known not in self._known:
            wanted = self._users.get(name, _NO_USER)
            try:
                right = await asyncio.to_thread(bcrypt.checkpw, password.encode()[:72], wanted)
            except ValueError:  # the password holds a NUL
                return None
            if not right or name not in self._users:
                return None
            self._known[known] = None
        return Person(name, self._users_role)

    def vouched(self, request: web.BaseRequest) -> Person | None:
        """Whom a trusted proxy names; the header of anybody else is nothing."""
        if self._proxy is None or request.remote is None:
            return None
        names = request.headers.getall(self._proxy.header, [])
        try:
            at = ipaddress.ip_address(request.remote.partition("%")[0])
        except ValueError:
            return None
        at = getattr(at, "ipv4_mapped", None) or at
        if len(names) != 1 or not names[0].strip() or not names[0].isprintable():
            return None
        if not any(at in network for network in self._trusted):
            return None
        return Person(names[0].strip()[:100], Role[self._proxy.role.upper()])


def need_of(handler: object, method: str) -> Need:
    """What a handler declared, or the default for its method."""
    declared = getattr(handler, "needs", None)
    if isinstance(declared, Need):
        return declared
    return Need(Role.VIEW, True) if method in ("GET", "HEAD") else Need(Role.ADMIN, False)


def load(
    tokens_file: str | None,
    storage: str | Path,
    listen: str,
    proxy: ProxyConfig | None = None,
    users: Mapping[str, str] | None = None,
    users_role: str = "view",
) -> Auth:
    """Read the tokens, or make the admin token once as `<storage>/admin.token` (0600)."""
    tokens = _tokens(Path(tokens_file)) if tokens_file else (_admin(Path(storage)),)
    return Auth(tokens, is_loopback(listen), proxy, users=users, users_role=users_role)


def least(tokens_file: str | None, storage: str | Path) -> str:
    """The token that may least, of those that all replicas have: for what they ask one another."""
    tokens = _tokens(Path(tokens_file)) if tokens_file else (_admin(Path(storage)),)
    good = [one for one in tokens if one.expires is None or one.expires.timestamp() > time.time()]
    return min(good, key=lambda one: Role[one.role.upper()], default=Token("", "", "view")).token


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach the address.

    >>> [is_loopback(a) for a in ("127.0.0.1:9909", "[::1]:9909", "localhost:1", ":9909", "0.0.0.0:9909")]
    [True, True, True, False, False]
    """
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _of_another_site(request: web.BaseRequest) -> bool:
    """Whether a browser writes for a page that is not on this machine, though its name may point to us."""
    origin = request.headers.get("Origin")
    if origin is None or request.method in ("GET", "HEAD"):
        return False
    try:
        return not is_loopback(f"{urlsplit(origin).hostname}:0")
    except ValueError:
        return True


def read_yaml(path: Path, kind: type[T]) -> T:
    """A small YAML file as a type; ConfigError with file and place."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return kind() if raw is None else msgspec.convert(raw, kind)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):  # the parser's own words would quote a secret
        raise ConfigError(str(path), "not valid YAML") from None
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        raise ConfigError(f"{path}: {place.rstrip('`').lstrip('.')}".rstrip(": "), words) from None


def _tokens(path: Path) -> tuple[Token, ...]:
    tokens = read_yaml(path, tuple[Token, ...])
    if not tokens:
        raise ConfigError(str(path), "no token in it: nobody could approve anything")
    for i, token in enumerate(tokens):
        if token.role not in ROLES:
            raise ConfigError(
                f"{path}: [{i}].role", f"unknown role {token.role!r} (one of {', '.join(ROLES)})"
            )
        if token.expires is not None and token.expires.tzinfo is None:
            raise ConfigError(f"{path}: [{i}].expires", "needs its offset from UTC: 2026-12-31T00:00:00Z")
        if len(token.token) < 16:
            raise ConfigError(f"{path}: [{i}].token", "too short: use at least 16 characters")
        if any(token.token == other.token for other in tokens[:i]):
            raise ConfigError(f"{path}: [{i}].token", "the same token as another's")
    return tokens


def _admin(storage: Path) -> Token:
    path = storage / "admin.token"
    try:
        storage.mkdir(parents=True, exist_ok=True)
        if not path.exists() or not path.read_text(encoding="utf-8").strip():
            path.unlink(missing_ok=True)
            with open(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        return Token("admin", path.read_text(encoding="utf-8").strip(), "admin")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written or read: {error.strerror}") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
