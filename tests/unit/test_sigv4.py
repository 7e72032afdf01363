"""`sigv4` over real connections: a server reckons each signature itself, as AWS describes it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, quote

import pytest
from aiohttp import web

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.types import Unavailable, labels_of
from tests.unit.relaying import alert
from tests.unit.test_http import ask, client, config, serving

KEYS = {"region": "eu-central-1", "access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG"}
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8}/([\w-]+)/(\w+)/aws4_request), "
    r"SignedHeaders=([\w;-]+), Signature=(\w{64})"
)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no question to a cloud that is not there."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def signed_by(request: web.BaseRequest, body: bytes, secret: str) -> tuple[str, str, str]:
    """Key, region and service of a request whose signature is right.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    found = _AUTHORIZATION.fullmatch(request.headers["Authorization"])
    assert found, request.headers["Authorization"]
    key, scope, region, service, named, signature = found.groups()
    pairs = parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True)
    query = "&".join(
        sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    )
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in named.split(";"))
    path = quote(request.raw_path.partition("?")[0], safe="/-_.~")
    canonical = "\n".join((request.method, path, query, headers, named, hashlib.sha256(body).hexdigest()))
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            request.headers["X-Amz-Date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    made = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        made = hmac.digest(made, part.encode(), "sha256")
    assert hmac.digest(made, text.encode(), "sha256").hex() == signature
    assert "host" in named.split(";")
    return key, region, service


@asynccontextmanager
async def reckoning(secret: str) -> AsyncIterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server's url, and who signed what it was asked."""
    found: list[tuple[str, str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        found.append(signed_by(request, await request.read(), secret))
        if "X-Amz-Security-Token" in request.headers:
            assert request.headers["X-Amz-Security-Token"] == "token"
        return web.json_response([])

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://localhost:{runner.addresses[0][1]}", found
    finally:
        await runner.cleanup()


async def test_what_is_asked_and_what_is_posted_is_signed() -> None:
    async with reckoning(KEYS["secret_key"]) as (url, seen):
        async with client(f"{url}/workspaces/ws-1", sigv4=KEYS) as it:
            tricky = [("query", 'up{job=~"a.+|ü b"} / 2'), ("time", "1"), ("empty", "")]
            async with it.request("GET", "/api/v1/query", params=tricky) as answer:
                assert answer.status == 200
            async with it.request("POST", "/api/v1/query", data={"query": "a & b", "time": "1"}) as answer:
                assert answer.status == 200
        one = Alertmanager(AlertmanagerConfig(url=url, http=config(sigv4=KEYS)))
        assert (await one.state(labels_of({"alertname": 'A "1"', "b": "x+y"}))).state == "absent"
        await one.send([alert()])
        await one.close()
    assert seen == [("AKIDEXAMPLE", "eu-central-1", "aps")] * 4


async def test_credentials_and_region_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile watch]\nregion = us-west-2\n")
    (tmp_path / "credentials").write_text("[watch]\naws_access_key_id = AK\naws_secret_access_key = s\n")
    async with (
        reckoning("s") as (url, seen),
        client(url, sigv4={"profile": "watch", "service_name": "es"}) as it,
    ):
        assert await ask(it) == 200
    assert seen == [("AK", "us-west-2", "es")]


async def test_a_role_is_taken_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a stand-in for AWS' STS, which answers as its API documents."""
    given = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
      <AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>theirs</SecretAccessKey><SessionToken>token</SessionToken>
      <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::1:x</Arn>
      <AssumedRoleId>x</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"""
    role = {"role_arn": "arn:aws:iam::123456789012:role/watch", "external_id": "outside"}
    async with serving(lambda _: web.Response(text=given, content_type="text/xml")) as (sts, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
        async with reckoning("theirs") as (url, seen), client(url, sigv4=KEYS | role) as it:
            assert [await ask(it) for _ in range(2)] == [200, 200]
    forms = [dict(await request.post()) for request in asked]
    assert len(forms) == 1
    wanted = {"RoleArn": role["role_arn"], "ExternalId": "outside", "RoleSessionName": "promantis"}
    assert wanted.items() <= forms[0].items()
    assert seen == [("ROLE", "eu-central-1", "aps")] * 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "sigv4: no region is given or found in AWS' own settings"),
        ({"region": "eu-west-1"}, "sigv4: AWS' own ways find no credentials"),
        (
            {"region": "eu-west-1", "profile": "gone"},
            r"sigv4: The config profile \(gone\) could not be found",
        ),
    ],
)
async def test_what_is_missing_is_said(keys: dict[str, str], words: str) -> None:
    async with client("http://localhost:1", sigv4=keys) as it:
        with pytest.raises(Unavailable, match=f"^{words}$"):
            await ask(it)


def test_without_the_library_the_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(config(sigv4=KEYS).problems()) == [("sigv4", "needs botocore: pip install 'promantis[aws]'")]
