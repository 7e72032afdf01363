"""Each route with no, wrong, expired and lesser credentials; a proxy's word; secrets stay where they are."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import orjson
import prometheus_client as prom
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError
from sidecar.web import auth, server
from sidecar.web.auth import Auth, ProxyConfig, Token, least
from sidecar.web.cases import routes
from tests.e2e.alerting import until
from tests.unit.desk import POLICY
from tests.unit.test_webhook import Site as Served
from tests.unit.test_webhook import alert, payload, served

PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
TOKENS = (
    Token("ada", "admin-admin-admin", "admin", FUTURE),
    Token("abe", "approve-approve-1", "approve"),
    Token("fay", "feedback-feedback", "feedback"),
    Token("vic", "view-view-view-vi", "view"),
    Token("old", "expired-expired-1", "admin", PAST),
)
ROLES = ("view", "feedback", "approve", "admin")
BY_ROLE = {token.role: token.token for token in TOKENS[:4]}
MUTATING = [
    ("/api/v1/webhook", "feedback"),
    ("/api/v1/killswitch", "approve"),
    ("/api/v1/cases/x/plan", "approve"),
    ("/api/v1/cases/x/approve", "approve"),
    ("/api/v1/cases/x/deny", "approve"),
    ("/-/reload", "admin"),
]
READING = [
    "/api/v1/cases",
    "/api/v1/cases/x",
    "/api/v1/cases/x/guards",
    "/api/v1/killswitch",
    "/api/v1/journal",
]


class Site(Served):
    async def ask(self, method: str, path: str, token: str = "", body: object = None, **headers: str) -> Any:
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers.setdefault("Content-Type", "application/json")
        data = None if method == "GET" else orjson.dumps(body)
        async with self.client.request(method, path, data=data, headers=headers) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """As if it listened beyond loopback, behind a proxy at 127.0.0.1."""
    doors = Auth(TOKENS, False, ProxyConfig(header="X-User", trusted=("127.0.0.0/8",), role="approve"))
    async with served(tmp_path, doors) as site:
        yield Site(*site)


@pytest.mark.parametrize(("path", "role"), MUTATING)
async def test_who_may_not_change_anything(site: Site, path: str, role: str) -> None:
    for token in ("", "wrong-wrong-wrong-wrong", "expired-expired-1", "ADMIN-ADMIN-ADMIN"):
        assert (await site.ask("POST", path, token))[0] == 401, token
    lesser = ROLES[: ROLES.index(role)]
    for other in ROLES:
        status = (await site.ask("POST", path, BY_ROLE[other]))[0]
        assert (status == 403) == (other in lesser), (other, status)
        assert status != 401
    assert await site.journal.facts() == []


@pytest.mark.parametrize("path", READING)
async def test_who_may_not_read(site: Site, path: str) -> None:
    for token in ("", "wrong-wrong-wrong-wrong", "expired-expired-1"):
        assert (await site.ask("GET", path, token))[0] == 401
    assert (await site.ask("GET", path, BY_ROLE["view"]))[0] in (200, 404)


async def test_every_route_is_in_these_lists(site: Site) -> None:
    app = site.client.app
    assert app is not None
    there = {(r.method, r.resource.canonical.replace("{id}", "x")) for r in app.router.routes() if r.resource}
    tested = {("POST", path) for path, _ in MUTATING} | {("GET", path) for path in READING}
    open_to_all = {("GET", "/-/healthy"), ("GET", "/-/ready")}
    assert {one for one in there if one[0] != "HEAD"} == tested | open_to_all


async def test_who_may_stop_need_not_be_who_may_start_again(site: Site) -> None:
    assert (await site.ask("POST", "/api/v1/killswitch", BY_ROLE["approve"], {"on": True}))[0] == 200
    assert site.runner.killed
    assert (await site.ask("POST", "/api/v1/killswitch", BY_ROLE["approve"], {"on": False}))[0] == 403
    assert site.runner.killed
    assert (await site.ask("POST", "/api/v1/killswitch", BY_ROLE["admin"], {"on": False}))[0] == 200
    assert not site.runner.killed
    facts = await site.journal.facts()
    assert [(f.kind, f.who, f.data["on"]) for f in facts] == [
        ("killswitch", "abe", True),
        ("killswitch", "ada", False),
    ]


async def test_the_word_of_a_proxy(site: Site) -> None:
    assert (await site.ask("GET", "/api/v1/cases", **{"X-User": "eve@example.org"}))[0] == 200
    assert (await site.ask("POST", "/api/v1/killswitch", body={"on": True}, **{"X-User": "eve"}))[0] == 200
    assert (await site.journal.facts())[0].who == "eve"
    form = {"X-User": "eve", "Content-Type": "text/plain"}
    status, text = await site.ask("POST", "/api/v1/killswitch", body={"on": True}, **form)
    assert (status, "only application/json may act" in text) == (403, True), "a form of another site"
    assert (await site.ask("POST", "/-/reload", **{"X-User": "eve"}))[0] == 403, "it has a role like anybody"
    assert (await site.ask("GET", "/api/v1/cases", "wrong-wrong-wrong", **{"X-User": "eve"}))[0] == 401
    assert (await site.ask("GET", "/api/v1/cases", **{"X-User": "  "}))[0] == 401


def behind(doors: Auth, site: Site) -> web.Application:
    """The routes of a site's cases, with other doors than its own."""

    async def reload() -> None: ...

    return server.build(
        routes(site.runner, site.journal, site.runner.standing, site.telemetry),
        doors,
        Telemetry(),
        list,
        reload,
    )


async def test_the_word_of_anybody_else_is_nothing(site: Site) -> None:
    doors = Auth(TOKENS, False, ProxyConfig(header="X-User", trusted=("10.0.0.7/32",), role="admin"))
    async with (
        TestClient(TestServer(behind(doors, site))) as client,
        client.get("/api/v1/cases", headers={"X-User": "eve"}) as answer,
    ):
        assert answer.status == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("", 200),
        ("http://localhost:9909", 200),
        ("http://[::1]:9909", 200),
        ("http://evil.example:9909", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
    ],
)
async def test_a_page_of_another_site_writes_nothing_on_loopback(
    site: Site, origin: str, status: int
) -> None:
    """Its name may point to us (DNS rebinding): then a browser sends JSON too, without a token."""
    headers = {"Origin": origin, "Host": origin.partition("://")[2]} if origin else {}
    async with TestClient(TestServer(behind(Auth(TOKENS, True), site))) as client:
        async with client.post("/api/v1/webhook", json=payload(alert()), headers=headers) as answer:
            assert answer.status == status
        headers["Authorization"] = f"Bearer {BY_ROLE['feedback']}"
        async with client.post("/api/v1/webhook", json=payload(alert()), headers=headers) as answer:
            assert answer.status == 200, "a token says more than where a page stood"


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_users_of_the_web_config(site: Site, tmp_path: Path) -> None:
    hash = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{grafana: {hash}}}")
    users = server.users(server.WebConfig(config_file=str(path)))
    doors = Auth(TOKENS, False, users=users, users_role="approve")
    async with TestClient(TestServer(behind(doors, site))) as client:
        for name, password, status in (
            ("grafana", "correct horse", 200),
            ("grafana", "correct horse", 200),
            ("grafana", "wrong", 401),
            ("nobody", "correct horse", 401),
            ("grafana", "a\0b", 401),
            ("", "", 401),
        ):
            given = basic(name, password)
            async with client.get("/api/v1/cases", headers=given) as answer:
                assert answer.status == status, (name, password)
        async with client.get("/api/v1/cases") as answer:
            assert answer.headers["WWW-Authenticate"] == 'Bearer, Basic realm="promantis"'
        async with client.get("/api/v1/cases", headers={"Authorization": "Basic %%"}) as answer:
            assert answer.status == 401
        given = basic("grafana", "correct horse")
        async with client.post("/api/v1/killswitch", json={"on": True}, headers=given) as answer:
            assert answer.status == 200
        async with client.post("/api/v1/killswitch", data=b'{"on": true}', headers=given) as answer:
            assert answer.status == 403, "a form of another site, to which a browser adds the password"
    path.write_text("basic_auth_users: {ada: secret}")
    with pytest.raises(ConfigError, match=r"basic_auth_users.ada: needs a bcrypt hash"):
        server.users(server.WebConfig(config_file=str(path)))


def test_a_wrong_token_file_or_proxy_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yml"
    path.write_text("- {name: a, token: aaaaaaaaaaaaaaaa, role: view, expires: 2026-12-31T00:00:00}")
    with pytest.raises(ConfigError, match=r"\[0\].expires: needs its offset from UTC"):
        auth.load(str(path), tmp_path, "127.0.0.1:1")
    wrong = ProxyConfig(header="a b", trusted=("x",), role="root")
    assert [place for place, _ in wrong.problems()] == ["trusted[0]", "role", "header"]
    assert [place for place, _ in ProxyConfig(trusted=()).problems()] == ["trusted"]


async def test_a_link_is_not_enough_and_an_approval_counts_once(site: Site) -> None:
    """A GET never acts, a hash that was seen must be named, and the same approval is not taken twice."""
    assert (await site.ask("POST", "/api/v1/webhook", BY_ROLE["feedback"], payload(alert())))[0] == 200
    task = asyncio.create_task(site.runner.run())
    (case,) = await until(site.runner.cases)
    path = f"/api/v1/cases/{case.id}"
    for verb in ("plan", "approve", "deny"):
        assert (await site.ask("GET", f"{path}/{verb}", BY_ROLE["admin"]))[0] == 405
    assert (await site.ask("POST", f"{path}/approve", BY_ROLE["approve"], {"plan_hash": ""}))[0] == 409
    hash = orjson.loads((await site.ask("POST", f"{path}/plan", BY_ROLE["approve"]))[1])["plan_hash"]
    forged = {"plan_hash": hash[:-1] + ("0" if hash[-1] != "0" else "1")}
    assert (await site.ask("POST", f"{path}/approve", BY_ROLE["approve"], forged))[0] == 409
    assert (await site.ask("POST", f"{path}/approve", BY_ROLE["approve"], {"plan_hash": hash}))[0] == 200
    assert (await site.ask("POST", f"{path}/approve", BY_ROLE["approve"], {"plan_hash": hash}))[0] == 409
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_secrets_stay_where_they_are(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """POLICY's header holds one, tokens are others: in no answer, log line, metric, or fact."""
    caplog.set_level(logging.DEBUG)
    task = asyncio.create_task(site.runner.run())
    await site.ask("POST", "/api/v1/webhook", BY_ROLE["feedback"], payload(alert()))
    (case,) = await until(site.runner.cases)
    path = f"/api/v1/cases/{case.id}"
    said = [(await site.ask("POST", f"{path}/plan", BY_ROLE["approve"]))[1]]
    hash = orjson.loads(said[0])["plan_hash"]
    said.append((await site.ask("POST", f"{path}/approve", BY_ROLE["approve"], {"plan_hash": hash}))[1])
    await asyncio.sleep(0.2)
    said.append((await site.ask("POST", f"{path}/approve", "leaked-" + BY_ROLE["admin"]))[1])
    for get in (path, "/api/v1/cases", "/api/v1/journal"):
        said.append((await site.ask("GET", get, BY_ROLE["view"]))[1])
    said += [record.getMessage() for record in caplog.records]
    said.append(prom.generate_latest(site.telemetry.registry).decode())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert POLICY.action.headers["Authorization"] == "Bearer secret"  # type: ignore[union-attr]
    everything = "\n".join(said)
    assert "bigger-pool" in everything
    for secret in ("Bearer secret", "secret", *BY_ROLE.values(), "expired-expired-1"):
        assert secret not in everything, secret


def test_replicas_ask_one_another_with_the_token_that_may_least(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yml"
    tokens.write_text(
        "- {name: ada, token: admin-admin-admin-1, role: admin}\n"
        "- {name: old, token: expired-expired-1, role: view, expires: 2020-01-01T00:00:00Z}\n"
        "- {name: fay, token: feedback-feedback, role: feedback}\n"
    )
    assert least(str(tokens), tmp_path) == "feedback-feedback"
    assert least(None, tmp_path) == (tmp_path / "admin.token").read_text().strip()
