"""The runner at its own pace: a case is driven by one task at a time, and only by the replica that leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from aiohttp import web

from sidecar.adapters.journal import SqliteJournal
from sidecar.adapters.targets import KillSwitch, Targets
from sidecar.remedy import hands
from sidecar.remedy.actions.http import HttpAction, HttpCall
from sidecar.remedy.actions.words import Job, Outcome, World
from sidecar.remedy.case import Case, Notice
from sidecar.remedy.events import Answered, Apply, TakeBack
from sidecar.remedy.eyes import AT_ONCE, Eyes
from sidecar.remedy.guard import AlertState, GuardConfig
from sidecar.remedy.policy import Policies
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Labels, Rejected, Unavailable
from sidecar.web.lately import Lately
from tests.e2e.alerting import serving, until
from tests.unit.desk import ALERT, AUTO

TICK = 0.02
NOTICE = Notice("f", ALERT, True, 0.0, 0.0)


class Standing(NamedTuple):
    state: AlertState = "active"


class Shop:
    """A target that takes its time, and the Prometheus and Alertmanager that see what it did."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.calls = 0
        self.asked = 0
        self.most = 0
        self.leads = True
        self.wrong: Exception | None = None
        self.app = web.Application()
        self.app.router.add_post("/pool", self._called)

    async def _called(self, _: web.Request) -> web.Response:
        self.calls += 1
        await asyncio.sleep(self.takes)
        return web.Response()

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        return [((), 0.5)] if self.calls and query == AUTO.verify.query else []

    async def state(self, labels: Labels) -> Standing:
        if self.wrong is not None:
            raise self.wrong
        async with self._counted():
            return Standing()

    async def firing(self, matcher: str) -> Sequence[str]:
        async with self._counted():
            return ()

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.asked += 1
        self.most = max(self.most, self.asked)
        await asyncio.sleep(0.01)
        self.asked -= 1
        yield


@asynccontextmanager
async def running(folder: Path, shop: Shop) -> AsyncIterator[Runner]:
    """A runner of a policy that acts alone, for an alert that fires."""
    loop = asyncio.get_running_loop()
    journal, targets, switch = (
        SqliteJournal(folder / "journal.db"),
        Targets(lambda: ["127.0.0.1"]),
        KillSwitch(folder),
    )
    world = World(targets, stopped=switch)

    def clock() -> Instant:
        return Instant(loop.time() + 1e6)

    async with serving(shop.app) as url:
        policy = msgspec.structs.replace(AUTO, action=HttpAction(url=f"{url}/pool"))
        runner = Runner(
            Policies([policy]),
            GuardConfig(),
            journal=journal,
            eyes=Eyes(shop, [shop], world, switch, lambda labels, now: "", clock, lambda: shop.leads),
            world=world,
            kill=switch.set,
            confidence=lambda labels: None,
            telemetry=Telemetry(),
            clock=clock,
            tick=TICK,
        )
        await runner.start()
        task = asyncio.create_task(runner.run())
        if shop.leads:
            await runner.webhook([NOTICE])
        yield runner
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await journal.close()
    await targets.close()


def only(runner: Runner) -> Case:
    (case,) = runner.cases()
    return case


async def test_a_slow_target_is_called_once_and_heard_out(tmp_path: Path) -> None:
    shop = Shop(takes=20 * TICK)
    async with running(tmp_path, shop) as runner:
        await until(lambda: runner.cases() and only(runner).stage == "verifying")
        assert not only(runner).unclear, "rounds that pass while it is called do not look for its end"
        _, facts = runner.case(only(runner).id)
    assert [fact.kind for fact in facts] == [
        *("case.proposed", "plan.made", "case.approved", "intent", "action.done")
    ]
    assert shop.calls == 1


async def test_who_does_not_lead_does_nothing(tmp_path: Path) -> None:
    shop = Shop()
    shop.leads = False
    async with running(tmp_path, shop) as runner:
        with pytest.raises(Unavailable, match="another replica leads now"):
            await runner.webhook([NOTICE])
        await asyncio.sleep(20 * TICK)
        assert (runner.cases(), shop.calls) == ([], 0)
        shop.leads = True
        await runner.webhook([NOTICE])
        await until(lambda: shop.calls)


async def test_who_leads_no_more_decides_nothing(tmp_path: Path) -> None:
    shop = Shop()
    async with running(tmp_path, shop) as runner:
        await until(lambda: runner.cases() and only(runner).stage == "verifying")
        shop.leads = False
        with pytest.raises(Unavailable, match="another replica leads now"):
            await runner.deny(only(runner).id, "ada", "")
    assert shop.calls == 1


async def test_how_the_guardrails_stand_can_be_asked_and_changes_nothing(tmp_path: Path) -> None:
    shop = Shop()
    async with running(tmp_path, shop) as runner:
        await until(lambda: runner.cases() and only(runner).stage == "verifying")
        id, before = only(runner).id, shop.calls
        lately = Lately(runner.standing)
        one, other = await asyncio.gather(lately(id), lately(id))
        assert one is other, "those who look share an answer"
        refused = {check.name: check.refusal.reason for check in one if check.refusal}
        assert refused["targets"] == "busy"
        assert refused["still wrong"] == "already_fine"
        _, facts = runner.case(id)
        assert {fact.kind for fact in facts[5:]} <= {"verify.passed"}
        with pytest.raises(Rejected, match="there is no such case"):
            await lately("abad1dea")
    assert shop.calls == before == 1


@pytest.mark.parametrize("undo", [False, True])
async def test_what_is_stopped_between_intent_and_action_is_not_done(undo: bool) -> None:
    shop = Shop()
    async with serving(shop.app) as url:
        action = HttpAction(url=f"{url}/pool", undo=HttpCall(url=f"{url}/pool"))
        world = World(Targets(lambda: ["127.0.0.1"]), stopped=lambda: True)
        job = Job("c0ffee", ALERT, {})
        answer = await hands.act(TakeBack(action, job) if undo else Apply(action, job), world)
    assert answer == Answered(Outcome("failed", "stopped before anything was sent"), undo)
    assert shop.calls == 0


async def test_an_error_that_nobody_foresaw_ends_neither_its_case_nor_the_others(tmp_path: Path) -> None:
    shop = Shop()
    shop.wrong = LookupError("a bug")
    async with running(tmp_path, shop) as runner:
        await asyncio.sleep(10 * TICK)
        assert runner.cases() == []
        shop.wrong = None
        runner._judged.clear()
        await until(lambda: runner.cases() and only(runner).stage == "verifying")
    assert shop.calls == 1


@pytest.mark.parametrize("blocks", [False, True])
async def test_alertmanager_is_asked_a_few_things_at_a_time(tmp_path: Path, blocks: bool) -> None:
    shop = Shop()
    eyes = Eyes(shop, [shop], World(Targets(list)), bool, lambda labels, now: "", lambda: Instant(0))
    rules = GuardConfig(block_while=("alertname=Deploy",) if blocks else ())
    looks = await asyncio.gather(*(eyes.look(ALERT, AUTO, rules, closely=False) for _ in range(3 * AT_ONCE)))
    assert {(look.alert, look.blocking) for look in looks} == {("active", "")}
    assert shop.most <= AT_ONCE
