"""A Prometheus behind TLS and a password, and an Alertmanager that wants a client certificate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.adapters.http_config import HttpConfig, TlsConfig
from sidecar.demo.peers import Peer, Stack
from sidecar.types import Unavailable
from tests.e2e.alerting import get, message, post, until
from tests.unit.test_http import pki  # noqa: F401

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SECRET = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
"""Prometheus' own example: bcrypt of `fakepassword`."""


async def secured(peer: Peer, folder: Path, web: str) -> str:
    """Start it again behind this web config; its url."""
    peer.terminate()
    (folder / "web.yml").write_text(web, encoding="utf-8")
    peer.command.append(f"--web.config.file={folder}/web.yml")
    peer.spawn()
    port = int(peer.listen.rpartition(":")[2])

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await until(listens)
    return f"https://localhost:{port}"


async def test_secured_peers(stack: Stack, pki: Path) -> None:  # noqa: F811
    tls = f"tls_server_config: {{cert_file: {pki}/server.pem, key_file: {pki}/server.key"
    prom, am = await stack.prometheus("global: {evaluation_interval: 1s}"), await stack.alertmanager()
    prom_url = await secured(prom, prom.folder, f"{tls}}}\nbasic_auth_users: {{ada: '{SECRET}'}}\n")
    wanted = f", client_ca_file: {pki}/ca.pem, client_auth_type: RequireAndVerifyClientCert"
    am_url = await secured(am, am.folder, f"{tls}{wanted}}}\n")
    (prom.folder / "word").write_text("fakepassword\n")
    tls = f"tls_config: {{ca_file: {pki}/ca.pem"
    config = f"""
prometheus: {{url: "{prom_url}", http: {{basic_auth: {{username: ada, password_file: {prom.folder}/word}}, {tls}}}}}}}
alertmanagers:
  - {{url: "{am_url}", http: {{{tls}, cert_file: {pki}/client.pem, key_file: {pki}/client.key}}}}}}
alerts: {{mode: inline}}
interval: 1s
"""
    side = await stack.promantis(config)  # ready: Prometheus has answered
    assert await post(side.url, [message("A")]) == 200
    assert [alert["labels"]["alertname"] for alert in await get(side.url)] == ["A"]
    stranger = Alertmanager(AlertmanagerConfig(url=am_url, http=trusting(pki)))
    with pytest.raises(Unavailable, match="cannot be asked: "):
        await stranger.silences()
    await stranger.close()


def trusting(pki: Path) -> HttpConfig:  # noqa: F811
    return HttpConfig(tls_config=TlsConfig(ca_file=f"{pki}/ca.pem"))
