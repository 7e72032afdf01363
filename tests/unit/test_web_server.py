"""Who may do what, and the one shape of every error."""

import asyncio
import io
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError, Rejected, Unavailable
from sidecar.web import auth, server
from sidecar.web.auth import PERSON, Role, needs

TOKENS = """
- {name: ada, token: aaaaaaaaaaaaaaaa, role: approve}
- {name: vic, token: vvvvvvvvvvvvvvvv, role: view}
"""


async def who(request: web.Request) -> web.Response:
    return web.Response(text=request[PERSON].name)


@needs(Role.APPROVE)
async def approve(request: web.Request) -> web.Response:
    return web.Response(text=request[PERSON].name)


@needs(Role.FEEDBACK, local=True)
async def webhook(request: web.Request) -> web.Response:
    return web.Response(text=(await request.read()).decode())


async def broken(_: web.Request) -> web.Response:
    raise KeyError("secret")


async def gone(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    raise ConnectionResetError("Cannot write to closing transport")


async def rejected(_: web.Request) -> web.Response:
    raise Rejected("never", 422)


async def unavailable(_: web.Request) -> web.Response:
    raise Unavailable("later")


ROUTES = [
    web.get("/api/who", who),
    web.post("/api/approve", approve),
    web.post("/api/webhook", webhook),
    web.post("/api/undeclared", who),
    web.get("/api/broken/{id}", broken),
    web.get("/api/gone", gone),
    web.get("/api/rejected", rejected),
    web.get("/api/unavailable", unavailable),
]


@pytest.fixture(params=["127.0.0.1:0", "0.0.0.0:0"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    (tmp_path / "tokens.yml").write_text(TOKENS)
    state = SimpleNamespace(missing=["history"], reloads=0, telemetry=Telemetry())

    async def reload() -> None:
        state.reloads += 1
        raise ConfigError("promantis.yml: interval", "not a duration")

    checks = auth.load(str(tmp_path / "tokens.yml"), tmp_path, request.param)
    app = server.build(ROUTES, checks, state.telemetry, lambda: state.missing, reload)
    async with TestClient(TestServer(app)) as client:

        async def ask(method: str, path: str, token: str = "", body: bytes = b"") -> tuple[int, object]:
            headers = {"Authorization": f"Bearer {token * 16}"} if token else {}
            async with client.request(method, path, headers=headers, data=io.BytesIO(body)) as answer:
                is_json = answer.content_type == "application/json"
                return answer.status, await (answer.json() if is_json else answer.text())

        state.ask, state.local = ask, request.param.startswith("127")
        yield state


async def test_roles(site: SimpleNamespace) -> None:
    needed = {"error": "a token is needed", "where": "Authorization"}
    local = site.local
    assert await site.ask("GET", "/api/who") == ((200, "anonymous") if local else (401, needed))
    assert await site.ask("GET", "/api/who", "v") == (200, "vic")
    assert await site.ask("POST", "/api/webhook") == ((200, "") if local else (401, needed))
    low = {"error": "vic may view; this needs feedback", "where": "Authorization"}
    assert await site.ask("POST", "/api/webhook", "v") == ((200, "") if local else (403, low))
    assert await site.ask("POST", "/api/approve") == (401, needed)
    unknown = {"error": "the token is not known", "where": "Authorization"}
    assert await site.ask("POST", "/api/approve", "x") == (401, unknown)
    assert (await site.ask("POST", "/api/approve", "v"))[0] == 403
    assert await site.ask("POST", "/api/approve", "a") == (200, "ada")
    assert (await site.ask("POST", "/api/undeclared", "a"))[0] == 403


async def test_a_body_as_large_as_a_batch_of_alerts_may_be_is_read_whole(site: SimpleNamespace) -> None:
    large = b"x" * (5 << 20)
    assert await site.ask("POST", "/api/webhook", "a", large) == (200, large.decode())


async def test_errors_have_one_shape_and_tell_no_secret(site: SimpleNamespace) -> None:
    for path, status, words in [
        ("/api/broken/7", 500, "internal error; the log has the details"),
        ("/api/rejected", 422, "never"),
        ("/api/unavailable", 503, "later"),
        ("/api/nothing", 404, "not found"),
        ("/api/approve", 405, "method not allowed"),
    ]:
        assert await site.ask("GET", path, "a") == (status, {"error": words, "where": path})
    count = site.telemetry.registry.get_sample_value
    assert count("promantis_http_requests_total", {"route": "/api/broken/{id}", "code": "500"}) == 1
    assert count("promantis_http_requests_total", {"route": "none", "code": "404"}) == 1


async def test_who_goes_before_the_answer_is_no_fault(
    site: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await site.ask("GET", "/api/gone", "a")
    assert "request failed" not in caplog.text
    count = site.telemetry.registry.get_sample_value
    assert count("promantis_http_requests_total", {"route": "/api/gone", "code": "499"}) == 1


async def test_health_readiness_and_reload(site: SimpleNamespace) -> None:
    assert await site.ask("GET", "/-/healthy") == (200, "Promantis is Healthy.\n")
    assert await site.ask("GET", "/-/ready") == (503, {"error": "not ready: history", "where": "/-/ready"})
    site.missing.clear()
    assert await site.ask("GET", "/-/ready") == (200, "Promantis is Ready.\n")
    assert (await site.ask("POST", "/-/reload"))[0] == 401
    assert site.reloads == 0


async def test_admin_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ConfigError("promantis.yml: interval", "not a duration")

    storage = tmp_path / "data"
    app = server.build([], auth.load(None, storage, "127.0.0.1:1"), Telemetry(), list, fail)
    token = (storage / "admin.token").read_text().strip()
    assert (storage / "admin.token").stat().st_mode & 0o777 == 0o600
    auth.load(None, storage, "127.0.0.1:1")
    assert (storage / "admin.token").read_text().strip() == token
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/-/reload", headers={"Authorization": f"Bearer {token}"})
        wrong = {"error": "failed to reload config: not a duration", "where": "promantis.yml: interval"}
        assert (answer.status, await answer.json()) == (500, wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {name: a, token: short, role: view}", ": [0].token: too short: use at least 16 characters"),
        (
            "- {name: a, token: aaaaaaaaaaaaaaaa, role: root}",
            ": [0].role: unknown role 'root' (one of view, feedback, approve, admin)",
        ),
        (
            TOKENS + "- {name: b, token: vvvvvvvvvvvvvvvv, role: admin}",
            ": [2].token: the same token as another's",
        ),
        ("- {name: a, role: view}", ": [0]: Object missing required field `token`"),
        ("", ": no token in it: nobody could approve anything"),
        ("a: [", ": not valid YAML"),
    ],
)
def test_bad_tokens_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "tokens.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        auth.load(str(path), tmp_path, "127.0.0.1:1")
    assert str(caught.value) == f"{path}{words}"


@pytest.mark.parametrize("listen", ["9909", "localhost:http", "::1:9909", "127.0.0.1:99999"])
async def test_bad_address(listen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await server.serve(web.Application(), server.WebConfig(listen=listen))
    words = f"web.listen: {listen!r} is not an address (write 127.0.0.1:9909 or [::1]:9909)"
    assert str(caught.value) == words


async def test_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught:
            await server.serve(web.Application(), server.WebConfig(listen=listen))
    assert (
        str(caught.value)
        == f"web.listen: {listen}: the address is in use; another one by --web.listen-address"
    )


async def test_tls_by_the_exporters_web_config(tmp_path: Path) -> None:
    key, cert, config = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "web.yml"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    await asyncio.to_thread(
        subprocess.run, [*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    config.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")

    async def reload() -> None: ...

    app = server.build([], auth.Auth((), True), Telemetry(), list, reload)
    runner, port = await server.serve(app, server.WebConfig(listen="127.0.0.1:0", config_file=str(config)))
    try:
        context = ssl.create_default_context(cafile=str(cert))
        context.check_hostname = False
        url = f"https://127.0.0.1:{port}/-/healthy"
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
            assert answer.status == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "tls_server_config: {cert_file: a}",
            ": tls_server_config: Object missing required field `key_file`",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b}",
            ": tls_server_config: {dir}/a, {dir}/b: cannot be used: No such file or directory",
        ),
    ],
)
async def test_bad_web_config(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        await server.serve(web.Application(), server.WebConfig(listen="127.0.0.1:0", config_file=str(path)))
    assert str(caught.value) == f"{path}{words.replace('{dir}', str(tmp_path))}"
