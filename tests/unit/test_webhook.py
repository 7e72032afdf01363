"""What Alertmanager's webhook is answered, and the cases over HTTP and from the command line."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar import __main__ as command_line
from sidecar.adapters.journal import SqliteJournal
from sidecar.adapters.targets import KillSwitch, Targets
from sidecar.alerts.identity import fingerprint
from sidecar.commands import cases as cases_command
from sidecar.remedy.actions.words import World
from sidecar.remedy.case import Draft
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import GuardConfig
from sidecar.remedy.policy import Policies
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Labels, Unavailable, labels_of
from sidecar.web import auth, server
from sidecar.web.cases import routes
from tests.e2e.alerting import until
from tests.unit.desk import POLICY


class Down:
    """A Prometheus and an Alertmanager that do not answer."""

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        raise Unavailable("down")

    async def state(self, labels: Labels) -> Any:
        raise Unavailable("down")

    async def firing(self, matcher: str) -> Any:
        raise Unavailable("down")


class Site(NamedTuple):
    client: TestClient[Any, Any]
    journal: SqliteJournal
    runner: Runner
    telemetry: Telemetry

    async def post(self, body: object, kind: str = "application/json") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.client.post("/api/v1/webhook", data=data, headers={"Content-Type": kind}) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def served(folder: Path, doors: auth.Auth) -> AsyncIterator[Site]:
    """The routes of a runner whose peers are down."""
    journal, telemetry, targets = SqliteJournal(folder / "journal.db"), Telemetry(), Targets(list)
    down, switch = Down(), KillSwitch(folder)
    world = World(targets, stopped=switch)

    def clock() -> Instant:
        return Instant(1000.0)

    runner = Runner(
        Policies([POLICY]),
        GuardConfig(),
        journal=journal,
        eyes=Eyes(down, [down], world, switch, lambda labels, now: "", clock),
        world=world,
        kill=switch.set,
        confidence=lambda labels: None,
        telemetry=telemetry,
        clock=clock,
        tick=0.05,
    )
    await runner.start()

    async def reload() -> None: ...

    app = server.build(routes(runner, journal, runner.standing, telemetry), doors, telemetry, list, reload)
    async with TestClient(TestServer(app)) as client:
        yield Site(client, journal, runner, telemetry)
    await journal.close()
    await targets.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with served(tmp_path, auth.load(None, tmp_path, "127.0.0.1:1")) as site:
        yield site


def alert(**changes: object) -> dict[str, object]:
    """As 0.28 sends it."""
    return {
        "status": "firing",
        "labels": {"alertname": "PoolExhaustion", "pool": "db"},
        "annotations": {},
        "startsAt": "2026-11-24T22:36:53.632123456Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prom/graph",
        "fingerprint": fingerprint(labels_of({"alertname": "PoolExhaustion", "pool": "db"})),
        **changes,
    }


def payload(*alerts: object, **changes: object) -> dict[str, object]:
    return {"version": "4", "groupKey": "{}", "status": "firing", "alerts": list(alerts), **changes}


async def kinds(site: Site) -> list[str]:
    return [fact.kind for fact in await site.journal.facts()]


async def test_each_alert_has_its_own_status_and_is_stored_once(site: Site) -> None:
    new = {"notification_reason": "first notification", "routeLabels": {}, "truncatedAlerts": 0}  # 0.34
    assert await site.post(payload(alert(), **new)) == (200, {"stored": 1})
    assert await site.post(payload(alert(), alert(), status="resolved")) == (200, {"stored": 2})
    assert await kinds(site) == ["episode.started"]
    over = alert(status="resolved", endsAt="2026-11-24T22:40:00Z")
    assert await site.post(payload(over)) == (200, {"stored": 1})
    assert await kinds(site) == ["episode.started", "episode.ended"]


@pytest.mark.parametrize(
    ("body", "words", "where"),
    [
        (b"{", "not JSON: Input data was truncated", "body"),
        (b"\xff", "not JSON: JSON is malformed: invalid character (byte 0)", "body"),
        ([], "Expected `object`, got `array`", ""),
        ({"alerts": []}, "Object missing required field `version`", ""),
        (payload(version="3"), "payload version '3' is not supported (only '4')", "version"),
        (payload(1), "Expected `object`, got `int`", "alerts[0]"),
        (payload(alert(status="pending")), "Invalid enum value 'pending'", "alerts[0].status"),
        (payload(alert(labels={"a": 1})), "Expected `str`, got `int`", "alerts[0].labels[...]"),
        (payload(alert(labels={"a": ""})), "an alert without labels", "alerts[0].labels"),
        (payload(alert(startsAt="now")), "Invalid RFC3339 encoded datetime", "alerts[0].startsAt"),
        (
            payload(alert(fingerprint="0000000000000000")),
            "'0000000000000000' is not the fingerprint of these labels",
            "alerts[0].fingerprint",
        ),
    ],
)
async def test_what_can_never_be_right(site: Site, body: object, words: str, where: str) -> None:
    assert await site.post(body) == (400, {"error": words, "where": where or "/api/v1/webhook"})
    assert await kinds(site) == []


async def test_the_good_alerts_of_a_bad_batch_are_stored(site: Site) -> None:
    wrong = {"error": "Expected `object`, got `null`", "where": "alerts[0]"}
    assert await site.post(payload(None, alert())) == (400, wrong)
    assert await kinds(site) == ["episode.started"]


async def test_a_browser_cannot_post_it(site: Site) -> None:
    wrong = {"error": "not application/json: text/plain", "where": "Content-Type"}
    assert await site.post(payload(alert()), "text/plain") == (415, wrong)


async def test_what_cannot_be_stored_is_asked_for_again(site: Site, tmp_path: Path) -> None:
    await site.journal._run(site.journal._db.close)
    words = f"the journal {tmp_path}/journal.db cannot be used: Cannot operate on a closed database."
    assert await site.post(payload(alert())) == (503, {"error": words, "where": "/api/v1/webhook"})


async def test_a_case_over_http_and_from_the_command_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = asyncio.create_task(site.runner.run())

    async def run(*words: str) -> tuple[int, str, str]:
        flags = ["--url", str(site.client.make_url("")), "--storage.path", str(tmp_path)]
        code = await asyncio.to_thread(command_line.main, [*words, *flags])
        return code, *capsys.readouterr()

    assert await run("cases") == (0, "no cases yet\n", "")
    await site.post(payload(alert()))
    (case,) = await until(site.runner.cases)
    code, out, err = await run("cases")
    assert (code, err) == (0, "")
    assert out.splitlines()[
        0
    ] == "ID            STAGE     SINCE  POLICY       ALERT           TARGET".replace(
        "SINCE", "SINCE".ljust(len(cases_command.talk.since(1000.0)))
    )
    assert await run("cases", "x") == (
        1,
        "",
        "promantis: there is no such case: `promantis cases` lists them\n",
    )
    assert await run("deny", "x") == (
        1,
        "",
        "promantis: there is no such case: `promantis cases` lists them\n",
    )
    code, out, err = await run("approve", case.id)
    assert (code, err) == (0, "")
    plan, _, after = out.partition("in its way now: ")
    assert plan.endswith('        {"size": 20}\n')
    unknown = "in its way now: still wrong: Prometheus could not say whether used < 1\n"
    assert after.startswith(
        f"alert: Alertmanager did not answer\n{unknown}approved {case.id}; `promantis cases "
    )
    await asyncio.sleep(0.2)  # some rounds
    assert site.runner.cases()[0].stage == "approved", "a silent Alertmanager is waited for"
    assert (await run("deny", case.id, "--reason", "not today"))[0] == 0
    code, out, err = await run("cases", case.id)
    assert out.splitlines()[-1] == "1970-01-01 00:16:40Z  case.denied  admin  not today"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_kill_switch_waits_for_no_journal(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await site.journal._run(site.journal._db.close)
    await site.runner.kill(True, "ada", "")  # who is told that it failed would look for another way
    assert "kill switch is on by ada, and not in the journal: " in caplog.text
    assert (tmp_path / "killswitch").exists()
    assert site.runner.killed


async def test_a_case_says_what_came_of_its_policy(site: Site) -> None:
    about = {"fingerprint": "f", "episode": 1, "policy": POLICY.name, "labels": {"a": "b"}, "annotations": {}}
    for id, policy, good in [("a", POLICY.name, True), ("b", POLICY.name, True), ("c", "other", False)]:
        proposed = {**about, "policy": policy, "target": id, "why": [], "expires_at": 9e9}
        outcome = Draft("verify.passed" if good else "verify.failed", id, "system", {})
        facts = [
            Draft("case.proposed", id, "system", proposed),
            Draft("intent", id, "system", {"within": 60.0, "cause": "queue" if id == "a" else ""}),
        ]
        told = {"firings": 9, "ended": 7, "within": 600.0, "lasted": 1800.0, "in_time": True, "error": None}
        told |= {
            "moved": None,
            "expected": None,
            "policy": {},
            "rows": [["x", "y", 1.0, False, True, 1.0, 2.0]],
        }
        told |= {"words": ""}
        compared = [Draft("effect.compared", id, "system", told)] if id == "a" else []
        await site.journal.append(Instant(100.0), [*facts, outcome, *compared])
    await site.runner.start()
    async with site.client.get("/api/v1/cases") as answer:
        listed = {case["id"]: case for case in await answer.json()}
    assert listed["a"]["odds"] == {"helped": 2, "did_not": 0, "mean": 0.75, "lower": 0.425}
    assert listed["a"]["odds_of_cause"] == {"helped": 1, "did_not": 0, "mean": 0.75, "lower": 0.27}
    assert "odds_of_cause" not in listed["b"], "nothing was recognised"
    assert listed["c"]["odds"] | {"lower": 0} == {"helped": 0, "did_not": 1, "mean": 0.333, "lower": 0}
    assert listed["b"]["trials"] == {"with": [0, 2], "without": [0, 0], "difference": None, "interval": None}
    async with site.client.get("/api/v1/cases/a") as answer:
        one = await answer.json()
    lines = cases_command._details(one)
    assert "cause   queue: helped 1 of 1, expected 75%" in lines
    (left,) = [line for line in lines if line.startswith("without ")]
    assert left.endswith("were left alone 7 ended within 10m (all lasted 30m in the median); this one did.")
    assert one.pop("facts")
    assert one == listed["a"]
    assert "rows" not in one["compared"], "they are for the journal"


async def test_the_kill_switch_from_the_command_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(*words: str) -> str:
        flags = ["--url", str(site.client.make_url("")), "--storage.path", str(tmp_path)]
        assert await asyncio.to_thread(command_line.main, [*words, *flags]) == 0
        return capsys.readouterr().out

    assert await run("kill") == "the kill switch is off\n"
    assert await run("kill", "on", "--reason", "looks odd") == "the kill switch is on: nothing is done\n"
    assert (tmp_path / "killswitch").exists()
    assert await run("cases") == "the kill switch is on: nothing is done\nno cases yet\n"
    assert await run("kill", "off") == "the kill switch is off\n"
    facts = await site.journal.facts()
    assert [(f.kind, f.who, f.data) for f in facts] == [
        ("killswitch", "admin", {"on": True, "words": "looks odd"}),
        ("killswitch", "admin", {"on": False, "words": ""}),
    ]
    lines = await asyncio.to_thread(_export, site, tmp_path, capsys)
    assert len(lines) == 2


def _export(site: Site, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    flags = ["--url", str(site.client.make_url("")), "--storage.path", str(folder)]
    assert command_line.main(["journal", "verify", *flags]) == 0
    assert capsys.readouterr().out.startswith("2 facts, none changed, none missing; the last is ")
    assert command_line.main(["journal", "export", *flags]) == 0
    return capsys.readouterr().out.splitlines()


def test_wrong_use_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, err in [
        (["cases", "--url", "localhost"], 2, "--url: 'localhost' is not a url (write http://127.0.0.1:9909)"),
        (
            ["approve", "x", "--storage.path", str(tmp_path)],
            2,
            f"--storage.path: {tmp_path}/admin.token cannot be read: No such file or directory",
        ),
        (
            ["cases", "--token-file", "/nowhere"],
            2,
            "--token-file: /nowhere cannot be read: No such file or directory",
        ),
        (
            ["cases", "--url", "http://127.0.0.1:1"],
            1,
            "http://127.0.0.1:1 does not answer: Connection refused (is `promantis run` up? see --url)",
        ),
    ]:
        assert command_line.main(words) == code
        assert capsys.readouterr().err == f"promantis: {err}\n"


def test_names_from_elsewhere_cannot_move_the_cursor() -> None:
    parser = argparse.ArgumentParser()
    cases_command.add(parser)
    assert parser.parse_args([]).url == "http://127.0.0.1:9909"
    row = {
        "id": "a",
        "stage": "fixed",
        "since": 0,
        "policy": "p",
        "target": "t",
        "labels": {"alertname": "\x1b[2J"},
    }
    assert "\x1b" not in "".join(cases_command._table([row]))
