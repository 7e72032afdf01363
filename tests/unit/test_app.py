"""The whole process, as far as it goes without peers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from sidecar import leading
from sidecar.adapters.journal import SqliteJournal
from sidecar.adapters.peer import Answer, Peers
from sidecar.alerts import aside
from sidecar.app import App
from sidecar.config import Config
from sidecar.remedy.case import Draft
from sidecar.types import Instant, Unavailable
from tests.e2e.alerting import serving, until


def made(folder: Path, lease: leading.Lease | None = None, **more: object) -> App:
    """A process that has no Prometheus."""
    config = msgspec.convert(
        {
            "prometheus": {"url": "http://127.0.0.1:9"},
            "storage": {"path": str(folder)},
            "web": {"listen": "127.0.0.1:0"},
            **more,
        },
        Config,
    )
    return App(lambda: config, lease)


class Asking(Peers):
    """Remembers from which fact on it was asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.since = [""]

    async def ask(
        self, holder: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        self.since.append(path.rpartition("=")[2])
        return await super().ask(holder, method, path, headers, body)


@pytest.mark.parametrize("harm", ["page", "fact"])
async def test_alerts_go_on_though_the_journal_is_damaged_and_remedies_wait_for_it(
    tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing acts that does not know what was done before; nobody who is woken waits for that."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    fill = {"on": False, "words": "x" * 5000}
    await journal.append(Instant(1.0), [Draft("killswitch", None, "ada", fill) for _ in range(20)])
    await journal.close()
    good = path.read_bytes()
    if harm == "page":
        path.write_bytes(good[: 4096 * 3] + bytes(4096 * 3) + good[4096 * 6 :])
    else:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript("DROP TRIGGER facts_stay; UPDATE facts SET fact = '{' WHERE seq = 5;")
    monkeypatch.setattr(leading, "AGAIN", 0.05)
    got: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response()

    peer = web.Application()
    peer.router.add_post("/api/v2/alerts", take)
    async with serving(peer) as url, aiohttp.ClientSession() as session:
        app = made(tmp_path, alertmanagers=[{"url": url}], alerts={"mode": "inline"})
        listens = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(app.run(listens.set_result))
        port = await asyncio.wait_for(listens, 10)
        alert = {"labels": {"alertname": "A"}, "endsAt": "2126-01-01T00:00:00Z"}
        async with session.post(f"http://127.0.0.1:{port}/api/v2/alerts", json=[alert]) as answer:
            assert answer.status == 200
        assert got
        notice = {"version": "4", "alerts": []}
        at = f"http://127.0.0.1:{port}/api/v1/webhook"
        async with session.post(at, json=notice) as answer:
            assert answer.status == 503, "Alertmanager shall ask again"
        assert sum("remedies wait for the journal" in words for words in caplog.messages) == 1
        path.rename(tmp_path / "aside.db")  # a person decided
        await until(app.leading.acts)
        async with session.post(at, json=notice) as answer:
            assert answer.status == 200
        app.stop()
        await asyncio.wait_for(running, 10)


async def test_nothing_is_taken_in_before_the_journal_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored before the past is known would begin an episode that the journal knows already."""
    app, opened = made(tmp_path), threading.Event()
    take = app.journal.take

    def slow() -> None:
        opened.wait(5)
        take()

    monkeypatch.setattr(app.journal, "take", slow)
    beginning = asyncio.create_task(app.leading.begin())
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable):
        await app.runner.webhook([])
    opened.set()
    assert await beginning
    await app.runner.webhook([])
    await app.journal.give()


async def test_who_stands_by_asks_for_what_came_since_it_asked_last(tmp_path: Path) -> None:
    """And not, each time, for all that came since somebody last said something."""
    leader = made(tmp_path)
    listens = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(leader.run(listens.set_result))
    url = f"http://127.0.0.1:{await asyncio.wait_for(listens, 10)}"
    token = (tmp_path / "admin.token").read_text().strip()
    stands_by, peers = made(tmp_path / "other"), Asking(url)
    task = asyncio.create_task(stands_by.recalling.listen(peers, lambda: "leader-1", lambda: token, 0.02))
    verdict = {"verdict": "planned", "start": 1e9, "end": 2e9, "match": '{job="x"}'}
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/v1/feedback", json=verdict, headers=headers) as answer,
    ):
        assert answer.status == 200
    for on in (True, False):
        await leader.runner.kill(on, "ada", "")
    await until(lambda: peers.since[-1] == "3")
    assert len(stands_by.feedback.opinions.last) == 1
    for app in (leader, stands_by):
        app.stop()
    task.cancel()
    await asyncio.wait_for(running, 10)
    await peers.close()
    await stands_by.journal.give()


class Elected:
    """A lease that the test gives and takes."""

    elsewhere = ""

    def __init__(self) -> None:
        self.ours, self.taken, self.lost = False, asyncio.Event(), asyncio.Event()

    def held(self) -> bool:
        return self.ours

    async def attempt(self) -> bool:
        return self.ours

    async def acquire(self) -> None:
        await self.taken.wait()
        self.taken.clear()

    async def keep(self) -> None:
        await self.lost.wait()
        self.lost.clear()

    async def release(self) -> None:
        self.ours = False


async def test_who_lost_the_lease_acts_again_only_after_reading_what_others_did(tmp_path: Path) -> None:
    lease = Elected()
    app = made(tmp_path, lease)
    task = asyncio.create_task(app.leading.run())
    assert not app.leading.acts()
    lease.ours = True
    lease.taken.set()
    await until(app.leading.acts)
    lease.ours = False
    assert not app.leading.acts(), "by the clock, before anybody says so"
    lease.lost.set()
    await until(lambda: not app.leading._began)
    lease.ours = True
    assert not app.leading.acts(), "held again, but the journal was not read"
    with pytest.raises(Unavailable):
        await app.journal.facts()
    lease.taken.set()
    await until(app.leading.acts)
    assert await app.journal.facts() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert app._slot is not None
    app._slot.lock.close()


async def test_what_fails_beside_alerts_and_remedies_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, tried = made(tmp_path), list[str]()

    def broken(name: str) -> object:
        async def run(*_: object) -> None:
            tried.append(name)
            raise LookupError(name)

        return run

    monkeypatch.setattr(aside, "RETRY", 0.01)
    beside = {"trainer", "outside", "following", "effects", "alertmanagers"}
    for name in beside:
        monkeypatch.setattr(getattr(app, name), "run", broken(name))
    started = asyncio.Event()
    running = asyncio.create_task(app.run(lambda port: started.set()))
    await asyncio.wait_for(started.wait(), 10)
    while set(tried) != beside or len(tried) < 2 * len(beside):
        await asyncio.sleep(0.01)
        assert not running.done()
    app.stop()
    await asyncio.wait_for(running, 10)
    assert "failed, it begins again" in caplog.text


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    """A shell's limit of 64 would keep Prometheus out as soon as some pages are open."""
    code = (
        "import resource as r; from sidecar.commands.run import open_enough;"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 900)); open_enough(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(900, 900)\n"
