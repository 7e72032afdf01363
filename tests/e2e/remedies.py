"""Promantis' remedies on a port, with the real ports behind them; run as a program it can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from sidecar import config
from sidecar.adapters.alertmanager import Alertmanager
from sidecar.adapters.journal import SqliteJournal
from sidecar.adapters.kubernetes import Cluster
from sidecar.adapters.prometheus import Prometheus
from sidecar.adapters.targets import KillSwitch, Targets
from sidecar.remedy.actions.words import World
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.policy import Policies
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from sidecar.web import auth, server
from sidecar.web.cases import routes


class Site(NamedTuple):
    """What listens, and its metrics."""

    runner: Runner
    telemetry: Telemetry


def clock() -> Instant:
    """Now."""
    return Instant(time.time())


@asynccontextmanager
async def site(path: Path) -> AsyncIterator[Site]:
    """Runner and routes of a config file, until the block ends."""
    cfg = config.load(path)
    telemetry = Telemetry()
    journal = SqliteJournal(Path(cfg.storage.path) / "journal.db")
    prometheus = Prometheus(cfg.prometheus, telemetry)
    alertmanagers = [Alertmanager(one) for one in cfg.alertmanagers]
    targets = Targets(lambda: cfg.guard.allow_private)
    switch = KillSwitch(Path(cfg.storage.path))
    cluster = Cluster(cfg.kubernetes) if cfg.kubernetes else None
    world = World(targets, cluster, next(iter(alertmanagers), None), switch, pause=0.1, patience=40.0)
    runner = Runner(
        Policies(cfg.remedies),
        cfg.guard,
        journal=journal,
        eyes=Eyes(prometheus, alertmanagers, world, switch, config.freezes(cfg), clock),
        world=world,
        kill=switch.set,
        confidence=lambda labels: 0.9,
        telemetry=telemetry,
        clock=clock,
        tick=0.3,
    )
    await runner.start()
    checks = auth.load(cfg.web.tokens_file, cfg.storage.path, cfg.web.listen)

    async def reload() -> None: ...

    app = server.build(routes(runner, journal, runner.standing, telemetry), checks, telemetry, list, reload)
    listening, _ = await server.serve(app, cfg.web)
    task = asyncio.create_task(runner.run())
    try:
        yield Site(runner, telemetry)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await listening.cleanup()
        for peer in (prometheus, *alertmanagers, targets, journal, *([cluster] if cluster else [])):
            await peer.close()


async def _main() -> None:
    async with site(Path(sys.argv[1])):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
