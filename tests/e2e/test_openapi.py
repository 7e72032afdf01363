"""Each route of the API's document, asked of the real server with good and bad credentials: it answers as it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from docs import routes
from sidecar.alerts.identity import fingerprint
from sidecar.app import App
from sidecar.config import load
from sidecar.demo.peers import Stack
from sidecar.types import labels_of
from sidecar.web import auth
from tests.e2e.alerting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DOCUMENT: dict[str, Any] = routes.openapi()
SCRAPE = (
    "scrape_configs: [{job_name: self, scrape_interval: 1s, static_configs: [{targets: ['localhost:1']}]}]"
)
ROLES = ("view", "feedback", "approve", "admin")
BODIES: dict[str, Any] = {
    "/api/v2/alerts": [],
    "/api/v1/webhook": {"version": "4", "alerts": []},
    "/api/v1/feedback": {"match": '{watch="up"}', "verdict": "real"},
    "/api/v1/killswitch": {"on": True},
    "/api/v1/cases/{id}/approve": {"plan_hash": "0"},
    "/api/v1/cases/{id}/deny": {},
}
QUERIES = {"/api/v1/explain": {"match": '{watch="up"}'}, "/api/v1/series": {"match": '{watch="up"}'}}
ALL = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture
async def url(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The whole Promantis, as if it listened beyond loopback."""
    monkeypatch.setattr(auth, "is_loopback", lambda listen: False)
    prometheus, alertmanager = await stack.prometheus(SCRAPE), await stack.alertmanager()
    tokens, config = tmp_path / "tokens.yml", tmp_path / "promantis.yml"
    tokens.write_text("".join(f"- {{name: {role}, token: {token(role)}, role: {role}}}\n" for role in ROLES))
    config.write_text(
        f"prometheus: {{url: '{prometheus.url}'}}\nalertmanagers: [{{url: '{alertmanager.url}'}}]\n"
        "interval: 1s\npresets: none\nwatches: [{name: up, query: up, kind: latency}]\nalerts: {mode: inline}\n"
        "remedies: [{name: more, match: [alertname=Full], action: {type: http, url: 'http://shop.example/pool'},"
        " verify: {query: up == 1}}]\n"
        f"web: {{listen: '127.0.0.1:0', tokens_file: '{tokens}'}}\nstorage: {{path: '{tmp_path / 'state'}'}}\n"
    )
    app, started = App(lambda: load(config)), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.run(started.set_result))
    yield f"http://127.0.0.1:{await asyncio.wait_for(started, 20)}"
    app.stop()
    await task


def token(role: str) -> str:
    return f"{role}-token-of-the-test"


async def test_every_route_answers_as_documented(url: str) -> None:
    """Without a token, with a wrong one, and with one of each role."""
    wrong, done = list[str](), set[str]()
    async with aiohttp.ClientSession(url) as session:
        case = await proposed(session)
        for method, path in sorted(ALL, key=lambda one: ("kill" in one[1], "deny" in one[1], one)):
            said = DOCUMENT["paths"][path][method]
            needed = said["x-needs"].partition(" ")[0]
            for who in (None, "nobody", *ROLES):
                headers = {"Authorization": f"Bearer {token(who)}"} if who else {}
                asked: dict[str, Any] = {"params": QUERIES.get(path), "headers": headers}
                if method == "post":
                    asked["json"] = BODIES.get(path)
                async with session.request(method, path.replace("{id}", case), **asked) as answer:
                    status, kind, text = answer.status, answer.content_type, await answer.text()
                if status == 200:
                    done.add(path)
                wrong += [
                    f"{method} {path} as {who}: {words} ({status} {kind} {text[:100]!r})"
                    for words in problems(said, needed, who, status, kind, text)
                ]
    assert not wrong, "\n".join(wrong)
    # an approval of another plan, an API that is gone, and a service of which nothing is known yet
    assert {path for _, path in ALL} - done == {
        "/api/v1/cases/{id}/approve", "/api/v1/alerts", "/api/v1/explain"
    }  # fmt: skip


def problems(said: Any, needed: str, who: str | None, status: int, kind: str, text: str) -> list[str]:
    """How an answer is other than what is documented."""
    found = []
    if needed != "nothing":
        wanted = 401 if who not in ROLES else 403 if ROLES.index(who) < ROLES.index(needed) else 0
        if (status if status in (401, 403) else 0) != wanted:
            found.append(f"expected {wanted or 'to be let in'}")
    responses = said["responses"]
    if status in (401, 403) and str(status) not in responses:
        found.append("this status is not documented")
    documented = responses.get(str(status), responses.get("default"))
    if documented is None:
        return [*found, "this status is not documented"]
    content = documented.get("content")
    if content is None:
        return found
    if kind not in content:
        return [*found, f"expected {', '.join(content)}"]
    if schema := content[kind].get("schema"):
        try:
            jsonschema.validate(json.loads(text), schema | {"components": DOCUMENT["components"]})
        except jsonschema.ValidationError as error:
            found.append(error.message)
    return found


async def proposed(session: aiohttp.ClientSession) -> str:
    """The id of a case that waits."""
    labels = {"alertname": "Full"}
    alert = {"status": "firing", "labels": labels, "fingerprint": fingerprint(labels_of(labels))}
    headers = {"Authorization": f"Bearer {token('admin')}"}
    hook = {"version": "4", "alerts": [alert]}
    message = [{"labels": labels, "endsAt": "2999-01-01T00:00:00Z"}]
    async with session.post("/api/v2/alerts", json=message, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    async with session.post("/api/v1/webhook", json=hook, headers=headers) as answer:
        assert answer.status == 200, await answer.text()

    async def one() -> Any:
        async with session.get("/api/v1/cases", headers=headers) as answer:
            return await answer.json()

    cases = await until(one)
    async with session.get("/-/ready") as answer:
        assert answer.status == 200, await answer.text()
    return str(cases[0]["id"])
