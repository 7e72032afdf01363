"""HTTP clients as Prometheus' `http_config` describes them; secrets in files are read anew on change."""

from __future__ import annotations

import base64
import io
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import yarl

from sidecar.types import ConfigError, Section


class BasicAuth(Section, frozen=True, kw_only=True):
    """User and password."""

    username: str
    password: str | None = None
    password_file: str | None = None


class Authorization(Section, frozen=True, kw_only=True):
    """`Authorization: <type> <credentials>`."""

    type: str = "Bearer"
    credentials: str | None = None
    credentials_file: str | None = None


class TlsConfig(Section, frozen=True, kw_only=True):
    """Which servers are trusted, and who we are to them."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


class HttpConfig(Section, frozen=True, kw_only=True):
    """Prometheus' `http_config`, as far as it is supported."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    bearer_token_file: str | None = None
    tls_config: TlsConfig | None = None
    proxy_url: str | None = None
    follow_redirects: bool = True

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.basic_auth and (self.authorization or self.bearer_token_file):
            yield "", "at most one of basic_auth, authorization and bearer_token_file"


LARGE = 1 << 20
"""Bytes from which on a body is handed over as a file, so that aiohttp sends it in pieces."""


def url_problem(url: str) -> str | None:
    """What is wrong with a peer's url, or None.

    >>> url_problem("localhost:9090")
    'must be a url such as http://localhost:9090'
    """
    try:
        parts = yarl.URL(url)
        right = parts.scheme in ("http", "https") and bool(parts.host) and not parts.query_string
    except ValueError:
        right = False
    return None if right else "must be a url such as http://localhost:9090"


class Client:
    """One peer over HTTP: a session with its credentials, TLS and proxy; `close()` ends it.

    `url` may carry a path prefix and `user:password@`; the latter is never part of `self.url`, which is
    what messages and labels show.
    """

    def __init__(self, url: str, config: HttpConfig, timeout: float) -> None:
        parts = yarl.URL(url)
        self.url = str(parts.with_user(None) if parts.user is not None else parts).rstrip("/")
        if parts.user is not None and not (config.authorization or config.basic_auth):
            login = BasicAuth(username=parts.user, password=parts.password)
            config = msgspec.structs.replace(config, basic_auth=login)
        self._config = config
        self._ssl = _ssl(config.tls_config) if config.tls_config else True
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        data: bytes | dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> aiohttp.client._RequestContextManager:
        """Start a request below the peer's url; use it with `async with`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, auto_decompress=True)
        tls = self._config.tls_config
        return self._session.request(
            method,
            self.url + path,
            params=params,
            data=io.BytesIO(data) if isinstance(data, bytes) and len(data) > LARGE else data,
            headers={**self._credentials(), **(headers or {})},
            ssl=self._ssl,
            server_hostname=tls.server_name if tls else None,
            proxy=self._config.proxy_url,
            allow_redirects=self._config.follow_redirects,
            timeout=aiohttp.ClientTimeout(total=timeout) if timeout else self._timeout,
        )

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _credentials(self) -> dict[str, str]:
        basic, token = self._config.basic_auth, self._config.authorization
        if basic:
            password = _secret(basic.password, basic.password_file)
            pair = base64.b64encode(f"{basic.username}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        if token:
            return {"Authorization": f"{token.type} {_secret(token.credentials, token.credentials_file)}"}
        if self._config.bearer_token_file:
            return {"Authorization": f"Bearer {_secret(None, self._config.bearer_token_file)}"}
        return {}


_read: dict[str, tuple[int, str]] = {}


def _secret(value: str | None, path: str | None) -> str:
    """A secret, from its file when it names one; read again only when the file changed."""
    if path is None:
        return value or ""
    try:
        changed = Path(path).stat().st_mtime_ns
        if _read.get(path, (0, ""))[0] != changed:
            _read[path] = (changed, Path(path).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ConfigError(path, f"secret cannot be read: {error.strerror}") from None
    return _read[path][1]


def _ssl(tls: TlsConfig) -> ssl.SSLContext | bool:
    files = ", ".join(file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file)
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:  # ssl's own errors are OSErrors too
        raise ConfigError("tls_config", f"cannot be used: {files}: {error.strerror}") from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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
