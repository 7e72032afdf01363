"""The HTTP server: composes the routes, authenticates, counts, and gives every error one shape."""

from __future__ import annotations

import errno
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError, Rejected, Section, Unavailable
from sidecar.web.answers import Problem, error
from sidecar.web.auth import PERSON, ROLES, Auth, ProxyConfig, Role, need_of, needs, read_yaml

log = logging.getLogger(__name__)
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
MAX_BODY = 64 << 20
"""Bytes; Alertmanager itself knows no limit, and Prometheus sends batches of 256 alerts."""


AS_ALERTMANAGER: Mapping[str, Any] = {
    "auto_decompress": False,
    "max_line_size": 1 << 18,
    "max_field_size": 1 << 18,
}
"""Like Alertmanager we read bodies as they come, packed or not, and take long questions and headers (it: a MiB)."""


class WebConfig(Section, frozen=True, kw_only=True):
    """Where Promantis listens, and who may do what."""

    listen: str = "127.0.0.1:9909"
    """Address; beyond loopback, reading needs a token too."""
    config_file: str | None = None
    """TLS and `basic_auth_users`, in the format of the Prometheus exporters."""
    tokens_file: str | None = None
    """List of `{name, token, role, expires}`, the last may be left out; without one, `admin.token` is made
    under `storage.path`."""
    proxy: ProxyConfig | None = None
    basic_auth_role: str = "view"
    """What the users of `web.config_file` may."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for place, words in self.proxy.problems() if self.proxy else ():
            yield f"proxy.{place}", words
        try:
            _address(self.listen)
        except ConfigError as wrong:
            yield "listen", wrong.words
        if self.basic_auth_role not in ROLES:
            yield "basic_auth_role", f"unknown role {self.basic_auth_role!r} (one of {', '.join(ROLES)})"


class TlsServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tls_server_config` of the Prometheus exporters' web config."""

    cert_file: str
    key_file: str


class ExporterWeb(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Prometheus exporters' web config, as far as it is supported."""

    tls_server_config: TlsServer | None = None
    basic_auth_users: dict[str, str] | None = None


def build(
    routes: Iterable[web.AbstractRouteDef],
    auth: Auth,
    telemetry: Telemetry,
    ready: Callable[[], Sequence[str]],
    reload: Callable[[], Awaitable[None]],
    inside: Sequence[Middleware] = (),
) -> web.Application:
    """Compose the application. `ready` lists what is missing; `reload` raises ConfigError when it fails.

    `inside`: middlewares behind authentication.
    """

    @needs(None)
    async def healthy(_: web.Request) -> web.Response:
        """200 while the process serves."""
        return web.Response(text="Promantis is Healthy.\n")

    @needs(None)
    async def is_ready(_: web.Request) -> web.Response:
        """200 when scores are served, else 503 and what is missing."""
        missing = ready()
        if missing:
            raise Problem(503, "not ready: " + ", ".join(missing))
        return web.Response(text="Promantis is Ready.\n")

    @needs(Role.ADMIN)
    async def reloading(_: web.Request) -> web.Response:
        """Reads the config again; 500 with the place that is wrong, and the old one stays."""
        try:
            await reload()
        except ConfigError as wrong:  # 500 as Prometheus answers, and the old config stays
            raise Problem(500, f"failed to reload config: {wrong.words}", wrong.where) from None
        return web.Response(text="")

    app = web.Application(client_max_size=MAX_BODY, middlewares=[_boundary(auth, telemetry), *inside])
    app.add_routes([web.get("/-/healthy", healthy), web.get("/-/ready", is_ready)])
    app.add_routes([web.post("/-/reload", reloading)])
    app.add_routes(routes)
    return app


async def serve(app: web.Application, config: WebConfig) -> tuple[web.AppRunner, int]:
    """Start to listen; the runner (`cleanup()` ends it) and the port (chosen by the system for port 0)."""
    host, port = _address(config.listen)
    context = _tls(Path(config.config_file)) if config.config_file else None
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5, **AS_ALERTMANAGER)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as failed:
        await runner.cleanup()
        used = failed.errno == errno.EADDRINUSE
        words = (
            "the address is in use; another one by --web.listen-address"
            if used
            else f"cannot listen: {failed.strerror or failed}"
        )
        raise ConfigError("web.listen", f"{config.listen}: {words}") from None
    return runner, int(runner.addresses[0][1])


def _address(listen: str) -> tuple[str | None, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ConfigError("web.listen", f"{listen!r} is not an address (write 127.0.0.1:9909 or [::1]:9909)")
    return host.strip("[]") or None, int(port)


def users(config: WebConfig) -> Mapping[str, str]:
    """Users and their bcrypt hashes from the web config; ConfigError with the place of one that is none."""
    if config.config_file is None:
        return {}
    path = Path(config.config_file)
    found = read_yaml(path, ExporterWeb).basic_auth_users or {}
    for name, hash in found.items():
        if not _BCRYPT.fullmatch(hash) or not name or ":" in name:
            raise ConfigError(
                f"{path}: basic_auth_users.{name}", "needs a bcrypt hash: htpasswd -nBC 10 '' makes one"
            )
    return found


def _tls(path: Path) -> ssl.SSLContext | None:
    config = read_yaml(path, ExporterWeb)
    if config.tls_server_config is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert, key = (path.parent / f for f in msgspec.structs.astuple(config.tls_server_config))
    try:
        context.load_cert_chain(cert, key)
    except OSError as failed:  # ssl.SSLError among them: not PEM, or not a pair
        words = f"{cert}, {key}: cannot be used: {failed.strerror or failed}"
        raise ConfigError(f"{path}: tls_server_config", words) from None
    return context


def _boundary(auth: Auth, telemetry: Telemetry) -> Middleware:
    """Authenticate, run the handler, turn what it raises into an answer, count."""

    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.match_info.http_exception is None:
                request[PERSON] = await auth.check(request, need_of(handler, request.method))
            return await handler(request)
        except Problem as wrong:
            headers = {"WWW-Authenticate": auth.challenge} if wrong.status == 401 else None
            return error(wrong.status, wrong.words, wrong.where or request.path, headers)
        except Rejected as wrong:
            return error(wrong.status, str(wrong), request.path)
        except Unavailable as failed:
            answer = error(503, str(failed), request.path)
            answer.force_close()  # so that the next try may reach another replica
            return answer
        except web.HTTPException as raised:
            if raised.status < 400 or raised.content_type == "application/json":
                raise
            allow = {"Allow": raised.headers["Allow"]} if "Allow" in raised.headers else None
            return error(raised.status, raised.reason.lower(), request.path, allow)
        except Exception as failed:  # the boundary of one request: nothing in it may end the process
            if isinstance(failed, ConnectionError) and (
                not request.transport or request.transport.is_closing()
            ):
                return error(499, "who asked is gone", request.path)  # a scrape that timed out, say
            log.exception("request failed method=%s path=%s", request.method, request.path)
            return error(500, "internal error; the log has the details", request.path)

    @web.middleware
    async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        code = 499  # the client went away
        try:
            response = await handle(request, handler)
            code = response.status
            return response
        except web.HTTPException as raised:
            code = raised.status
            raise
        finally:
            telemetry.http_requests.labels(route, str(code)).inc()

    return boundary
