"""HTTP clients as Prometheus' `http_config` describes them."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import yarl

from sidecar import __version__
from sidecar.adapters.http_config import BasicAuth, HttpConfig, OAuth2, Proxy
from sidecar.adapters.secret import Tls, secret
from sidecar.adapters.sigv4 import Signer
from sidecar.types import ConfigError, Unavailable

LARGE = 1 << 20
"""Bytes from which on a body is handed over as a file, so that aiohttp sends it in pieces."""

EARLY = 10.0
"""Seconds before its end at which a token is asked for anew, as Go's client does."""


class Client:
    """One peer over HTTP: a session with its credentials, TLS and proxy; `close()` ends it.

    `url` may carry a path prefix and `user:password@`; the latter is never part of `self.url`, which is
    what messages and labels show.
    """

    def __init__(self, url: str, config: HttpConfig, timeout: float) -> None:
        parts = yarl.URL(url)
        self.url = str(parts.with_user(None) if parts.user is not None else parts).rstrip("/")
        if parts.user is not None and not (
            config.authorization or config.basic_auth or config.oauth2 or config.sigv4
        ):
            login = BasicAuth(username=parts.user, password=parts.password)
            config = msgspec.structs.replace(config, basic_auth=login)
        self._config = config
        self._tls = Tls(config.tls_config)
        self._tokens = _Tokens(config.oauth2, timeout) if config.oauth2 else None
        self._signer = Signer(config.sigv4) if config.sigv4 else None
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        data: bytes | dict[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask below the peer's url; Unavailable when a secret cannot be read or no token is given."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"User-Agent": f"Promantis/{__version__}"}
            )
        config, url = self._config, self.url + path
        try:
            credentials = await self._credentials()
        except ConfigError as error:
            raise Unavailable(str(error)) from None
        if self._signer is not None:
            if isinstance(data, dict):
                data = urllib.parse.urlencode(data).encode()
                headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
            signed = await self._signer.sign(method, yarl.URL(url), params or [], data or b"")
            credentials = {**credentials, **signed}
        async with self._session.request(
            method,
            url,
            params=params,
            data=io.BytesIO(data) if isinstance(data, bytes) and len(data) > LARGE else data,
            headers={**credentials, **(headers or {})},
            ssl=self._tls.context(),
            server_hostname=config.tls_config.server_name if config.tls_config else None,
            allow_redirects=config.follow_redirects,
            timeout=aiohttp.ClientTimeout(total=within) if within else self._timeout,
            **_through(config, url),
        ) as response:
            if response.status == 401 and self._tokens is not None:
                self._tokens.forget()
            yield response

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _credentials(self) -> dict[str, str]:
        config = self._config
        headers = {
            name: ", ".join((*one.values, *one.secrets, *(secret(None, file) for file in one.files)))
            for name, one in (config.http_headers or {}).items()
        }
        basic, token = config.basic_auth, config.authorization
        if basic:
            user, password = (
                secret(basic.username, basic.username_file),
                secret(basic.password, basic.password_file),
            )
            headers["Authorization"] = _basic(user, password)
        elif token:
            given = secret(token.credentials, token.credentials_file)
            headers["Authorization"] = f"{token.type.strip()} {given}"
        elif config.bearer_token or config.bearer_token_file:
            headers["Authorization"] = f"Bearer {secret(config.bearer_token, config.bearer_token_file)}"
        elif self._tokens is not None and self._session is not None:
            headers["Authorization"] = await self._tokens.header(self._session)
        return headers


class _Tokens:
    """Access tokens by the client credentials grant, each kept until shortly before its end."""

    def __init__(self, config: OAuth2, timeout: float) -> None:
        self._config = config
        self._tls = Tls(config.tls_config)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._header, self._until, self._asked_with = "", 0.0, ""

    def forget(self) -> None:
        """It was not taken."""
        self._until = 0.0

    async def header(self, session: aiohttp.ClientSession) -> str:
        """`Bearer ...`; asks for a token when there is none, it ends, or the client's secret changed."""
        given = secret(self._config.client_secret, self._config.client_secret_file)
        if time.monotonic() >= self._until or given != self._asked_with:
            self._header, left = await self._ask(session, given)
            self._until, self._asked_with = time.monotonic() + left, given
        return self._header

    async def _ask(self, session: aiohttp.ClientSession, given: str) -> tuple[str, float]:
        config, failure = self._config, ""
        form = {"grant_type": "client_credentials", **(config.endpoint_params or {})}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        # as Go does: the client in a header, then, where that is not taken, in the form
        for headers, fields in (
            ({"Authorization": _basic(config.client_id, given, quoted=True)}, form),
            ({}, {**form, "client_id": config.client_id, "client_secret": given}),
        ):
            async with session.post(
                config.token_url,
                data=fields,
                headers=headers,
                ssl=self._tls.context(),
                server_hostname=config.tls_config.server_name if config.tls_config else None,
                timeout=self._timeout,
                **_through(config, config.token_url),
            ) as answer:
                body = await answer.read()
            try:
                token = json.loads(body) if answer.status == 200 else {}
                if token.get("access_token"):
                    kind = str(token.get("token_type") or "Bearer")
                    left = float(token.get("expires_in") or 3600.0) - EARLY
                    return f"{'Bearer' if kind.lower() == 'bearer' else kind} {token['access_token']}", left
            except (ValueError, TypeError, AttributeError):
                pass
            failure = f"answered {answer.status} and no token"
        raise Unavailable(f"oauth2: {yarl.URL(config.token_url).with_user(None)} {failure}")


def _basic(user: str, password: str, quoted: bool = False) -> str:
    if quoted:  # RFC 6749 2.3.1
        user, password = urllib.parse.quote_plus(user), urllib.parse.quote_plus(password)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _through(config: Proxy, url: str) -> dict[str, Any]:
    """aiohttp's arguments for the proxy that a url is asked through, if any."""
    target = yarl.URL(url)
    if config.proxy_from_environment:
        known = urllib.request.getproxies()
        proxy, left_out = known.get(target.scheme), known.get("no", "")
    else:
        proxy, left_out = config.proxy_url, config.no_proxy or ""
    if not proxy or _direct(target.host or "", target.port or 0, left_out):
        return {}
    headers = {name: ", ".join(values) for name, values in (config.proxy_connect_header or {}).items()}
    return {"proxy": proxy, "proxy_headers": headers} if headers else {"proxy": proxy}


def _direct(host: str, port: int, left_out: str) -> bool:
    """Whether `no_proxy` names a host: by name, domain, `host:port`, address, network or `*`.

    >>> [_direct("am.example.org", 9093, of) for of in ("example.org", ".org", "am.example.org:80", "*")]
    [True, True, False, True]
    >>> _direct("10.1.2.3", 80, "10.0.0.0/8, x"), _direct("10.1.2.3", 80, "11.0.0.0/8")
    (True, False)
    """
    for entry in (entry.strip().lower() for entry in left_out.split(",")):
        if not entry:
            continue
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry):
                return True
            continue
        except ValueError:
            pass
        name, colon, number = entry.rpartition(":")
        if colon and number.isdecimal():
            if int(number) != port:
                continue
            entry = name
        bare = entry.removeprefix("*").removeprefix(".")
        if entry == "*" or host.lower() == bare or host.lower().endswith("." + bare):
            return True
    return False


def reason(error: aiohttp.ClientError) -> str:
    """Why a peer could not be asked, in the system's words; asyncio puts the address into its own."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return lowered(str(error) or type(error).__name__)
    failed = error.os_error
    number = failed.errno or 0
    return lowered(os.strerror(number) if number > 0 else failed.strerror or str(failed))


def lowered(words: str) -> str:
    """Words that go on after a colon.

    >>> lowered("Connection refused"), lowered("DNS fails")
    ('connection refused', 'DNS fails')
    """
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]
