"""`http_config` over real connections: credentials, tokens, headers, proxies, certificates that change."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from sidecar.adapters.http import Client
from sidecar.adapters.http_config import HttpConfig
from sidecar.types import ConfigError, Unavailable

Seen = list[web.BaseRequest]


def config(**keys: Any) -> HttpConfig:
    return msgspec.convert(keys, HttpConfig)


@asynccontextmanager
async def serving(
    answer: Callable[[web.BaseRequest], web.Response] = lambda _: web.Response(),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[str, Seen]]:
    seen: Seen = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.post()
        seen.append(request)
        return answer(request)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def ask(client: Client, path: str = "/") -> int:
    async with client.request("GET", path) as response:
        await response.read()
        return response.status


@asynccontextmanager
async def client(url: str, **keys: Any) -> AsyncIterator[Client]:
    it = Client(url, config(**keys), 5.0)
    try:
        yield it
    finally:
        await it.close()


def rewritten(path: Path, text: str) -> None:
    """As Kubernetes and Vault do it: another file under the same name."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


async def test_credentials_and_headers_come_from_files_as_they_are_now(tmp_path: Path) -> None:
    user, word, token, tenant = (tmp_path / name for name in ("user", "word", "token", "tenant"))
    for path in (user, word, token, tenant):
        path.write_text(f"{path.name}-1\n")
    async with serving() as (url, seen):
        async with client(url, basic_auth={"username_file": str(user), "password_file": str(word)}) as it:
            await ask(it)
            rewritten(word, "word-2")
            await ask(it)
            word.unlink()
            with pytest.raises(Unavailable, match=r"word: secret cannot be read: No such file or directory$"):
                await ask(it)
        headers = {"X-Scope-OrgID": {"values": ["a"], "secrets": ["b"], "files": [str(tenant)]}}
        async with client(url, bearer_token_file=str(token), http_headers=headers) as it:
            await ask(it)
            rewritten(token, "token-2")
            await ask(it)
        async with client(url, authorization={"type": "Api-Key", "credentials": "x"}) as it:
            await ask(it)
    pairs = [base64.b64encode(f"user-1:{word}".encode()).decode() for word in ("word-1", "word-2")]
    assert [request.headers.get("Authorization") for request in seen] == [
        *(f"Basic {pair}" for pair in pairs),
        "Bearer token-1",
        "Bearer token-2",
        "Api-Key x",
    ]
    assert seen[2].headers["X-Scope-OrgID"] == "a, b, tenant-1"
    assert seen[2].headers["User-Agent"].startswith("Promantis/")


async def test_oauth2(tmp_path: Path) -> None:
    """A token is kept until its end, a 401 or another secret; the client is named in a header, then in the form."""
    secret, form_only, expires = tmp_path / "secret", False, 3600
    secret.write_text("s 1")
    forms: list[dict[str, Any]] = []

    def idp(request: web.BaseRequest) -> web.Response:
        form = dict(request._post or {})  # type: ignore[call-overload]
        if form_only and "client_id" not in form:
            return web.json_response({"error": "invalid_client"}, status=401)
        forms.append({**form, "authorization": request.headers.get("Authorization")})
        return web.json_response(
            {"access_token": f"t{len(forms)}", "token_type": "bearer", "expires_in": expires}
        )

    refused: list[int] = []
    async with (
        serving(idp) as (token_url, _),
        serving(lambda r: web.Response(status=refused.pop() if refused else 200)) as (url, seen),
    ):
        oauth2 = {
            "client_id": "me",
            "client_secret_file": str(secret),
            "token_url": f"{token_url}/token",
            "scopes": ["a", "b"],
            "endpoint_params": {"audience": "am"},
        }
        async with client(url, oauth2=oauth2) as it:
            for _ in range(2):
                assert await ask(it) == 200
            refused.append(401)
            assert await ask(it) == 401
            assert await ask(it) == 200  # with a new one
            rewritten(secret, "s2")
            form_only = True
            await ask(it)
        expires = 5
        async with client(url, oauth2={**oauth2, "endpoint_params": None}) as it:
            await ask(it)
            await ask(it)
        given = [request.headers["Authorization"] for request in seen]
        assert given == [f"Bearer t{i}" for i in (1, 1, 1, 2, 3, 4, 5)]
        pair = base64.b64encode(b"me:s+1").decode()
        assert forms[0] == {
            "grant_type": "client_credentials",
            "scope": "a b",
            "audience": "am",
            "authorization": f"Basic {pair}",
        }
        assert (forms[2]["client_secret"], forms[2]["authorization"]) == ("s2", None)
    async with serving(lambda _: web.Response(status=403)) as (token_url, _), serving() as (url, seen):
        async with client(url, oauth2={"client_id": "a", "token_url": token_url}) as it:
            with pytest.raises(
                Unavailable, match=r"^oauth2: http://localhost:\d+ answered 403 and no token$"
            ):
                await ask(it)
        assert seen == []


async def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: web.Response(status=299)) as (proxy, through), serving() as (url, direct):
        async with client(url, proxy_url=proxy) as it:
            assert await ask(it, "/x") == 299
        async with client(url, proxy_url=proxy, no_proxy="example.org,localhost") as it:
            assert await ask(it) == 200
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "10.0.0.0/8")
        async with client(url, proxy_from_environment=True) as it:
            assert await ask(it) == 299
        async with client(url) as it:
            assert await ask(it) == 200
    assert (len(through), len(direct)) == (2, 2)


async def test_connect_through_a_proxy(pki: Path) -> None:
    """HTTPS goes through a tunnel, which is asked for with `proxy_connect_header`."""
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        host, _, port = head.split()[1].decode().rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with serving(tls=server_tls(pki, "server")) as (url, seen):
        keys = {"proxy_url": f"http://127.0.0.1:{port}", "proxy_connect_header": {"X-Who": ["me"]}}
        async with client(url, tls_config={"ca_file": str(pki / "ca.pem")}, **keys) as it:
            assert await ask(it) == 200
    server.close()
    assert len(seen) == 1
    assert asked[0].startswith(b"CONNECT localhost:")
    assert b"X-Who: me" in asked[0]


# --------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, and of it: server (localhost), client, renewed; and stranger, of nobody."""
    folder = tmp_path_factory.mktemp("pki")
    make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"]
    openssl(*make, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem", *usage)
    for name in ("server", "client", "renewed"):
        signed = (
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-addext",
            "subjectAltName=DNS:localhost,DNS:am.internal",
        )
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        openssl(
            *make, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *signed, *leaf
        )
    openssl(*make, "-subj", "/CN=stranger", "-keyout", "stranger.key", "-out", "stranger.pem")
    return folder


def server_tls(pki: Path, name: str, wanted: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.pem"))
    context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    context.verify_mode = ssl.CERT_REQUIRED if wanted else ssl.CERT_NONE
    return context


def who(request: web.BaseRequest) -> web.Response:
    assert request.transport is not None
    peer = request.transport.get_extra_info("peercert")
    return web.Response(text=dict(pair[0] for pair in peer["subject"])["commonName"])


async def test_certificates_and_names(pki: Path) -> None:
    ca = str(pki / "ca.pem")
    async with serving(tls=server_tls(pki, "server")) as (url, seen):
        for tls in (
            {"ca_file": ca},
            {"ca": (pki / "ca.pem").read_text()},
            {"ca_file": ca, "server_name": "am.internal"},
            {"insecure_skip_verify": True},
            {"ca_file": ca, "min_version": "TLS13"},
        ):
            async with client(url, tls_config=tls) as it:
                assert await ask(it) == 200, tls
        for tls in ({"ca_file": ca, "server_name": "other"}, {"ca_file": str(pki / "stranger.pem")}, {}):
            async with client(url, tls_config=tls) as it:
                with pytest.raises(aiohttp.ClientError):
                    await ask(it)
        assert len(seen) == 5
    old = server_tls(pki, "server")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        serving(tls=old) as (url, _),
        client(url, tls_config={"ca_file": ca, "min_version": "TLS13"}) as it,
    ):
        with pytest.raises(aiohttp.ClientError):
            await ask(it)


async def test_client_certificates_that_are_renewed(pki: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    of = {
        name: [(pki / f"{name}.{end}").read_text() for end in ("pem", "key")]
        for name in ("client", "renewed")
    }
    cert.write_text(of["client"][0])
    key.write_text(of["client"][1])
    ca = str(pki / "ca.pem")
    async with serving(who, server_tls(pki, "server", wanted=True)) as (url, _):

        async def name(it: Client) -> str:
            async with it.request("GET", "/") as response:
                return await response.text()

        tls = {"ca_file": ca, "cert_file": str(cert), "key_file": str(key)}
        async with client(url, tls_config=tls) as it:
            assert await name(it) == "client"
            rewritten(cert, of["renewed"][0])  # the key is not there yet: the pair that works stays
            assert await name(it) == "client"
            rewritten(key, of["renewed"][1])
            assert await name(it) == "renewed"
        tls = {"ca_file": ca, "cert": of["client"][0], "key": of["client"][1]}
        async with client(url, tls_config=tls) as it:
            assert await name(it) == "client"
        async with client(url, tls_config={"ca_file": ca}) as it:
            with pytest.raises(aiohttp.ClientError):
                await name(it)
    with pytest.raises(
        ConfigError, match=r"^tls_config: cannot be used: .*gone\.pem: No such file or directory$"
    ):
        Client("https://localhost", config(tls_config={"ca_file": str(tmp_path / "gone.pem")}), 1.0)
