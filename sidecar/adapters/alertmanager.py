"""Talks to one Alertmanager: posts alerts, asks for an alert's state, passes requests through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

import aiohttp
import msgspec
import yarl

from sidecar.adapters.found import DnsSd, FileSd
from sidecar.adapters.http import Client, reason
from sidecar.adapters.http_config import HttpConfig, url_problem
from sidecar.alerts import wire
from sidecar.alerts.identity import fingerprint
from sidecar.signals.learn.trust import Silence
from sidecar.signals.watch.selectors import Matcher
from sidecar.types import Alert, Labels, Rejected, Section, Unavailable

T = TypeVar("T")
_OPS = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
"""By isEqual and isRegex."""

TIMEOUT = 5.0
"""Seconds for one request."""

_ABOUT_THE_BATCH = (400, 413, 422)
"""Answers that sending the same again cannot change; all others say something about the peer."""

_PROXY = ("proxy-authenticate", "proxy-authorization", "proxy-connection")
_HOP = ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", *_PROXY)
_REMADE = ("content-length", "content-encoding", "accept-encoding")  # the client unpacks what comes back
_OURS = ("authorization", "cookie", "set-cookie")
"""Credentials for Promantis are none of Alertmanager's business, nor the other way round."""

_FILTERABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FILTERS = 8
"""Matchers in a question for one alert: they only shorten the answer, the fingerprint decides."""


class AlertmanagerConfig(Section, frozen=True, kw_only=True):
    """One Alertmanager by its url, or all that are found in files or in DNS."""

    url: str | None = None
    """An Alertmanager that alerts go to."""
    file_sd: FileSd | None = None
    dns: DnsSd | None = None
    scheme: str = "http"
    """Of those that are found."""
    path_prefix: str = ""
    """Of those that are found."""
    http: HttpConfig = HttpConfig()
    """Credentials and TLS, as Prometheus' `http_config`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """The url or where to look, and what http says."""
        if sum(way is not None for way in (self.url, self.file_sd, self.dns)) != 1:
            yield "", "needs one of url, file_sd and dns"
        if self.url is not None and (words := url_problem(self.url)):
            yield "url", words
        if self.scheme not in ("http", "https"):
            yield "scheme", f"unknown scheme {self.scheme!r} (http or https)"
        for name, way in (("file_sd", self.file_sd), ("dns", self.dns)):
            for where, words in () if way is None else way.problems():
                yield f"{name}.{where}", words
        for where, words in self.http.problems():
            yield ("http." + where).rstrip("."), words


class AlertState(NamedTuple):
    """What Alertmanager says of one alert now; absent means resolved, or never heard of."""

    state: Literal["active", "suppressed", "absent"]
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()


class _Status(msgspec.Struct):
    state: str
    silenced_by: tuple[str, ...] = msgspec.field(name="silencedBy", default=())
    inhibited_by: tuple[str, ...] = msgspec.field(name="inhibitedBy", default=())


class _Alert(msgspec.Struct):
    fingerprint: str
    status: _Status
    labels: dict[str, str] = {}


class _SilenceMatcher(msgspec.Struct):
    name: str
    value: str
    regex: bool = msgspec.field(name="isRegex", default=False)
    equal: bool = msgspec.field(name="isEqual", default=True)


class _SilenceStatus(msgspec.Struct):
    state: str


class _Silence(msgspec.Struct):
    matchers: tuple[_SilenceMatcher, ...]
    starts_at: datetime = msgspec.field(name="startsAt")
    ends_at: datetime = msgspec.field(name="endsAt")
    status: _SilenceStatus


class _Said(msgspec.Struct):
    id: str
    comment: str
    status: _SilenceStatus


class Alertmanager:
    """One Alertmanager. Raises Unavailable when it may be asked again, Rejected when not."""

    def __init__(self, config: AlertmanagerConfig) -> None:
        self._client = Client(config.url or "", config.http, TIMEOUT)

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self._client.url

    @property
    def name(self) -> str:
        """Its url without scheme and credentials: a short label that tells it from the others.

        >>> Alertmanager(AlertmanagerConfig(url="http://user:secret@am-0:9093/prefix/")).name
        'am-0:9093/prefix'
        """
        return self._client.url.partition("://")[2]

    async def close(self) -> None:
        """End the session."""
        await self._client.close()

    async def send(self, alerts: Sequence[Alert]) -> None:
        """Post one batch, as Prometheus would."""
        headers = {"Content-Type": "application/json"}
        status, _, body = await self._ask("POST", "/api/v2/alerts", headers, wire.encode(alerts))
        if status in _ABOUT_THE_BATCH:
            raise Rejected(f"{status}: {_words(body)}", status)
        if status // 100 != 2:
            raise Unavailable(f"{self.name} answered {status}: {_words(body)}")

    async def state(self, labels: Labels) -> AlertState:
        """Whether the alert with exactly these labels fires now, and what keeps it quiet."""
        matchers = [f"{name}={_quoted(value)}" for name, value in labels if _FILTERABLE.fullmatch(name)]
        query = yarl.URL.build(query=[("filter", matcher) for matcher in matchers[:_FILTERS]])
        body = await self._got(f"/api/v2/alerts?{query.raw_query_string}")
        found = self._decoded(body, list[_Alert])
        wanted = fingerprint(labels)
        for alert in found:
            if alert.fingerprint == wanted:
                quiet = alert.status.state == "suppressed"
                return AlertState(
                    "suppressed" if quiet else "active", alert.status.silenced_by, alert.status.inhibited_by
                )
        return AlertState("absent")

    async def firing(self, matcher: str) -> list[str]:
        """Names of the alerts that fit the matcher, fire, and are neither silenced nor inhibited."""
        quiet = [("silenced", "false"), ("inhibited", "false"), ("active", "true")]
        query = yarl.URL.build(query=[("filter", matcher), *quiet])
        body = await self._got(f"/api/v2/alerts?{query.raw_query_string}")
        found = self._decoded(body, list[_Alert])
        return sorted(a.labels.get("alertname", "an alert") for a in found if a.status.state == "active")

    async def silence(self, matchers: Mapping[str, str], seconds: float, comment: str) -> str:
        """Silence alerts with exactly these labels for a while; the silence's id."""
        now = datetime.now(UTC)
        body = {
            "matchers": [
                {"name": n, "value": v, "isRegex": False, "isEqual": True} for n, v in matchers.items()
            ],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
            "createdBy": "promantis",
            "comment": comment,
        }
        return str((await self._wrote("POST", "/api/v2/silences", body))["silenceID"])

    async def silenced(self, comment: str) -> str | None:
        """The id of a silence with this comment that is not over."""
        found = self._decoded(await self._got("/api/v2/silences"), list[_Said])
        return next(
            (one.id for one in found if one.comment == comment and one.status.state != "expired"), None
        )

    async def unsilence(self, id: str) -> None:
        """End a silence."""
        await self._wrote("DELETE", f"/api/v2/silence/{id}", None)

    async def _wrote(self, method: str, path: str, body: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        data = msgspec.json.encode(body) if body is not None else b""
        status, _, content = await self._ask(method, path, headers, data)
        if status // 100 == 4:
            raise Rejected(f"{self.name} answered {status}: {_words(content)}", status)
        if status != 200:
            raise Unavailable(f"{self.name} answered {status}: {_words(content)}")
        return self._decoded(content, dict[str, Any]) if content else {}

    async def shows(self, labels: Labels) -> bool:
        """Whether it fires here now, silenced or not."""
        return (await self.state(labels)).state != "absent"

    async def silences(self) -> list[Silence]:
        """The silences that are on, or will be."""
        body = await self._got("/api/v2/silences")
        return [
            Silence(
                tuple(Matcher(m.name, _OPS[m.equal, m.regex], m.value) for m in found.matchers),
                found.starts_at.timestamp(),
                found.ends_at.timestamp(),
            )
            for found in self._decoded(body, list[_Silence])
            if found.status.state != "expired"
        ]

    async def passthrough(
        self, method: str, path_qs: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask what somebody asks, with our credentials instead of theirs; any answer is an answer."""
        status, answer, content = await self._ask(method, path_qs, _end_to_end(headers), body)
        return status, _end_to_end(answer), content

    async def _got(self, path_qs: str) -> bytes:
        status, _, body = await self._ask("GET", path_qs, {}, b"")
        if status != 200:
            raise Unavailable(f"{self.name} answered {status}: {_words(body)}")
        return body

    def _decoded(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{self.name} answered what cannot be read: {error}") from None

    async def _ask(
        self, method: str, path_qs: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._client.request(method, path_qs, data=body or None, headers=headers) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {TIMEOUT:g} s") from None
        except aiohttp.ClientError as error:
            raise Unavailable(f"{self.name} cannot be asked: {reason(error)}") from None
        except Unavailable as error:  # a secret's file cannot be read now, or no token is given
            raise Unavailable(f"{self.name} cannot be asked: {error}") from None


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    gone = {*_HOP, *_REMADE, *_OURS, *named}
    return {name: value for name, value in headers.items() if name.lower() not in gone}


def _words(body: bytes) -> str:
    return " ".join(body[:200].decode("utf-8", "replace").split())


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
