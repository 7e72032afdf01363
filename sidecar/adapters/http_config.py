"""Prometheus' `http_config`: the keys, and what is wrong with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import yarl

from sidecar.types import Section

TLS_VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")

_OUR_HEADERS = frozenset(
    {
        *("authorization", "host", "user-agent", "date", "www-authenticate", "te", "trailer"),
        *("content-encoding", "content-length", "content-type", "accept-encoding", "transfer-encoding"),
        *("connection", "keep-alive", "upgrade", "proxy-authenticate", "proxy-authorization"),
    }
)
"""Headers that have keys of their own, or none at all."""


class BasicAuth(Section, frozen=True, kw_only=True):
    """User and password."""

    username: str | None = None
    username_file: str | None = None
    password: str | None = None
    password_file: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _one_of(self, "username")
        yield from _one_of(self, "password")
        if self.username is None and self.username_file is None:
            yield "", "needs a username or a username_file"


class Authorization(Section, frozen=True, kw_only=True):
    """`Authorization: <type> <credentials>`."""

    type: str = "Bearer"
    credentials: str | None = None
    credentials_file: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _one_of(self, "credentials")
        if self.type.strip().lower() == "basic":
            yield "type", "is Basic: use basic_auth"


class TlsConfig(Section, frozen=True, kw_only=True):
    """Which servers are trusted, and who we are to them; PEM in files or in place."""

    ca: str | None = None
    ca_file: str | None = None
    cert: str | None = None
    cert_file: str | None = None
    key: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False
    min_version: str | None = None
    max_version: str | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("ca", "cert", "key"):
            yield from _one_of(self, name)
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            yield "", "a client certificate needs both cert and key"
        for name in ("min_version", "max_version"):
            version = getattr(self, name)
            if version is not None and version not in TLS_VERSIONS:
                yield name, f"unknown version {version!r} (one of {', '.join(TLS_VERSIONS)})"


class Proxy(Section, frozen=True, kw_only=True):
    """Which proxy is used for what."""

    proxy_url: str | None = None
    no_proxy: str | None = None
    proxy_from_environment: bool = False
    proxy_connect_header: dict[str, list[str]] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.proxy_url is not None:
            if yarl.URL(self.proxy_url).scheme not in ("http", "https"):
                yield "proxy_url", "must be a url such as http://proxy:3128"
            if self.proxy_from_environment:
                yield "proxy_from_environment", "cannot be used beside proxy_url"
        elif self.no_proxy is not None:
            yield "no_proxy", "is only used beside proxy_url"
        if self.proxy_connect_header and self.proxy_url is None and not self.proxy_from_environment:
            yield "proxy_connect_header", "is only used beside proxy_url or proxy_from_environment"


class OAuth2(Proxy, frozen=True, kw_only=True):
    """A token by the client credentials grant."""

    client_id: str
    client_secret: str | None = None
    client_secret_file: str | None = None
    scopes: tuple[str, ...] = ()
    token_url: str
    endpoint_params: dict[str, str] | None = None
    tls_config: TlsConfig | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _one_of(self, "client_secret")
        if words := url_problem(self.token_url, query=True):
            yield "token_url", words
        yield from super().problems()
        yield from _below(self, "tls_config")


class SigV4(Section, frozen=True, kw_only=True):
    """Requests signed for AWS (Amazon Managed Service for Prometheus), as Prometheus' `sigv4` says it; without keys,
    profile or role: with the credentials that AWS' SDKs find. Needs `promantis[aws]`."""

    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    use_fips_sts_endpoint: bool = False
    service_name: str = "aps"

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.access_key is None) != (self.secret_key is None):
            yield "", "needs both access_key and secret_key, or neither"
        if self.external_id is not None and self.role_arn is None:
            yield "external_id", "is only used beside role_arn"
        if importlib.util.find_spec("botocore") is None:
            yield "", "needs botocore: pip install 'promantis[aws]'"


class Header(Section, frozen=True, kw_only=True):
    """Values of one header; `secrets` are values that nobody sees, `files` hold some."""

    values: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class HttpConfig(Proxy, frozen=True, kw_only=True):
    """Prometheus' `http_config`, all of it, and `sigv4`, which Prometheus has beside it."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    sigv4: SigV4 | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    tls_config: TlsConfig | None = None
    follow_redirects: bool = True
    enable_http2: bool = True
    http_headers: dict[str, Header] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _one_of(self, "bearer_token")
        given = [
            name
            for name in (
                "basic_auth",
                "authorization",
                "oauth2",
                "sigv4",
                "bearer_token",
                "bearer_token_file",
            )
            if getattr(self, name) is not None
        ]
        if len(given) > 1 and given != ["bearer_token", "bearer_token_file"]:
            yield "", f"at most one of {' and '.join(given)}"
        yield from super().problems()
        for name in ("basic_auth", "authorization", "oauth2", "sigv4", "tls_config"):
            yield from _below(self, name)
        for header in self.http_headers or {}:
            if header.lower() in _OUR_HEADERS:
                yield f"http_headers.{header}", "is not for http_headers to set"


def url_problem(url: str, query: bool = False) -> str | None:
    """What is wrong with a peer's url, or None.

    >>> url_problem("localhost:9090")
    'must be a url such as http://localhost:9090'
    """
    try:
        parts = yarl.URL(url)
        right = parts.scheme in ("http", "https") and bool(parts.host) and (query or not parts.query_string)
    except ValueError:
        right = False
    return None if right else "must be a url such as http://localhost:9090"


def _one_of(section: Section, name: str) -> Iterator[tuple[str, str]]:
    if getattr(section, name) is not None and getattr(section, f"{name}_file") is not None:
        yield "", f"at most one of {name} and {name}_file"


def _below(section: Section, name: str) -> Iterator[tuple[str, str]]:
    inner = getattr(section, name)
    for where, words in () if inner is None else inner.problems():
        yield f"{name}.{where}".rstrip("."), words
