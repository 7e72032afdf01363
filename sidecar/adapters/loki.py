"""Asks Loki for lines of a service's log, by its query API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import aiohttp
import msgspec

from sidecar.adapters.http import Client, reason
from sidecar.adapters.http_config import HttpConfig, url_problem
from sidecar.alerts.logs import Lines, there
from sidecar.types import Section, Unavailable

MOST = 2000
"""Lines of one answer, the newest."""
WITHIN = 10.0
_SERVICE = "{{ service }}"


class LokiConfig(Section, frozen=True, kw_only=True):
    """Where the logs are; none are read without a url."""

    url: str | None = None
    """Loki, whose log of the likeliest cause is read at an alert: what is new in it, or surges, is named; needs
    `promantis[logs]`."""
    selector: str = '{service_name="{{ service }}"}'
    """Which log is a service's."""
    http: HttpConfig = HttpConfig()
    """Credentials and TLS, as Prometheus' `http_config`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """The url, the selector, and what http says."""
        if self.url is not None and (words := url_problem(self.url)):
            yield "url", words
        if self.url is not None and not there():
            yield "url", "logs need drain3: pip install 'promantis[logs]'"
        if _SERVICE not in self.selector:
            yield "selector", f'must hold {_SERVICE}, e.g. {{app="{_SERVICE}"}}'
        for where, words in self.http.problems():
            yield ("http." + where).rstrip("."), words


class _Stream(msgspec.Struct):
    values: list[tuple[str, str]]


class _Data(msgspec.Struct):
    result: list[_Stream]


class _Answer(msgspec.Struct):
    data: _Data


class Loki:
    """One Loki. Raises Unavailable."""

    def __init__(self, config: LokiConfig) -> None:
        self._client = Client(config.url or "", config.http, WITHIN)
        self._selector = config.selector

    async def close(self) -> None:
        """End the session."""
        await self._client.close()

    async def lines(self, service: str, start: float, end: float) -> Lines:
        """The newest lines between two instants, and how long they cover."""
        quoted = json.dumps(service, ensure_ascii=False)[1:-1]
        params = [
            ("query", self._selector.replace(_SERVICE, quoted)),
            ("start", str(int(start * 1e9))),
            ("end", str(int(end * 1e9))),
            ("limit", str(MOST)),
            ("direction", "backward"),
        ]
        what = f"{self._client.url}: log of {service}"
        try:
            async with self._client.request("GET", "/loki/api/v1/query_range", params=params) as response:
                body = await response.read()
        except TimeoutError:
            raise Unavailable(f"{what}: no answer within {WITHIN:g}s") from None
        except aiohttp.ClientError as error:
            raise Unavailable(f"{what}: {reason(error)}") from None
        if response.status != 200:
            raise Unavailable(f"{what}: {response.status} {body[:200].decode(errors='replace')}".rstrip())
        try:
            streams = msgspec.json.decode(body, type=_Answer).data.result
            found = sorted((int(at), line) for stream in streams for at, line in stream.values)
        except (msgspec.DecodeError, ValueError, UnicodeDecodeError) as error:
            raise Unavailable(f"{what}: not an answer of Loki: {error}") from None
        whole = end - start
        covers = min(whole, max(1.0, end - found[0][0] / 1e9)) if len(found) >= MOST else whole
        return Lines([line for _, line in found], covers)
