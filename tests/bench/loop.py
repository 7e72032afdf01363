"""The event loop's worst delay while the real watcher ticks 100k series and the real /metrics is scraped.

Three processes: this one's child is Promantis (restored state, watcher, web server, a 5 ms timer), `peer` is a fake
Prometheus that answers a prepared vector and scrapes, `idle` is a lone timer that shows what the machine itself adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tests.bench.table import Row

STEP = 3.0
SECONDS = 25.0
EVERY = 0.005
SCRIPT = "from tests.bench import loop; loop.{name}({args})"


class Late(NamedTuple):
    """When the timer was due, and how late it was."""

    due: float
    by: float


def rows(series: int) -> list[Row]:
    """Worst and 99th percentile of the timer's lateness, with what ran while it was late."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(_process("peer", str(series)))
        assert peer.stdout is not None
        port = int(peer.stdout.readline())
        child = stack.enter_context(_process("child", f"{series}, {port}"))
        assert child.stdout is not None
        own = int(child.stdout.readline())
        idle = stack.enter_context(_process("idle", ""))
        assert peer.stdin is not None
        peer.stdin.write(f"{own}\n")
        peer.stdin.flush()
        said = json.loads(child.stdout.readline())
        assert idle.stdout is not None
        machine = json.loads(idle.stdout.readline())
    assert said["ticks"] >= 4, said
    assert said["scrapes"] >= 4, said
    note = f"an idle process beside: {machine['worst']:.1f} ms, p99 {machine['p99']:.1f}"
    what = f"loop delay at {series // 1000}k series"
    counted = f"{said['ticks']} ticks, {said['scrapes']} scrapes, {said['saves']} saves"
    print(f"loop: {counted}; worst:", file=sys.stderr)
    for line in said["causes"]:
        print(f"  {line}", file=sys.stderr)
    return [
        Row.below(f"{what}, worst", said["worst"], "ms", 25, note),
        Row(f"{what}, p99", f"{said['p99']:,.1f} ms", counted, "", "", None),
    ]


@contextlib.contextmanager
def _process(name: str, args: str) -> Any:
    command = [sys.executable, "-c", SCRIPT.format(name=name, args=args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def _timer(until: float, out: list[Late]) -> None:
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(EVERY)
        out.append(Late(now + EVERY, time.perf_counter() - now - EVERY))


def _summary(late: list[Late]) -> dict[str, float]:
    by = np.array([one.by for one in late]) * 1e3
    return {"worst": float(by.max()), "p99": float(np.quantile(by, 0.99))}


# --------------------------------------------------------------------------- a timer alone


def idle() -> None:
    """The same timer with nothing else on its loop."""
    late: list[Late] = []
    asyncio.run(_timer(time.perf_counter() + SECONDS, late))
    print(json.dumps(_summary(late)))


# --------------------------------------------------------------------------- the fake Prometheus


def peer(series: int) -> None:
    """Answer every instant query with the same series, and scrape who asks."""
    asyncio.run(_peer(series))


async def _peer(series: int) -> None:
    import aiohttp
    from aiohttp import web

    from tests.bench import fleet

    keys, feed = fleet.keys(series), fleet.values(series)
    bodies = [fleet.body(keys, next(feed), fleet.START) for _ in range(4)]
    served = 0

    async def query(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        return web.Response(body=bodies[served % len(bodies)], content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/api/v1/query", query)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    port = int(await asyncio.to_thread(sys.stdin.readline))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        while True:
            async with session.get(
                f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"}
            ) as response:
                async for _part in response.content.iter_any():
                    pass
            await asyncio.sleep(2)


# --------------------------------------------------------------------------- Promantis


class Spans:
    """What ran when: names and times of the steps that may hold the interpreter lock."""

    def __init__(self) -> None:
        self.all: list[tuple[str, float, float]] = []

    def watch(self, owner: Any, name: str) -> None:
        """Record every call of `owner.name`."""
        inner: Callable[..., Any] = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.all.append((name, began, time.perf_counter()))

        setattr(owner, name, outer)

    def during(self, late: Late) -> str:
        """Names of what overlapped the time in which the timer was late."""
        end = late.due + late.by
        return (
            ", ".join(sorted({name for name, a, b in self.all if a < end and b > late.due}))
            or "nothing of ours"
        )


def child(series: int, port: int) -> None:
    """Promantis' own parts as `promantis run` starts them, on a state that knows its series."""
    sys.setswitchinterval(0.0005)  # as in commands/run.py
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_child(series, port, Path(folder)))


async def _child(series: int, port: int, folder: Path) -> None:
    import sidecar.commands.run  # noqa: F401  what the main process imports
    from sidecar.adapters import decode
    from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
    from sidecar.adapters.state import StateFiles
    from sidecar.signals import watcher as watching
    from sidecar.signals.block import Block
    from sidecar.signals.engine import Engine
    from sidecar.signals.expose import Exposition, ExpositionConfig
    from sidecar.signals.history import LearningConfig
    from sidecar.signals.snapshot import Known
    from sidecar.telemetry import Telemetry
    from sidecar.types import Instant
    from tests.bench import fleet

    watch = msgspec.structs.replace(fleet.WATCH, step=STEP)
    store = StateFiles(folder)
    # the clock is set so that a five-minute block ends, and is learned, in the middle
    border = fleet.START + 300.0
    engine, _ = fleet.taught(fleet.keys(series), watch, fleet.START)
    engine.at = Instant(border)  # nothing was missed: no lesson
    store.save(STEP, engine.dump())
    del engine
    shift = border - SECONDS / 2 - time.time()

    def clock() -> Instant:
        return Instant(time.time() + shift)

    telemetry, known = Telemetry(), Known()
    prometheus = Prometheus(PrometheusConfig(url=f"http://127.0.0.1:{port}"), telemetry)
    watcher = watching.Watcher(prometheus, store, known, LearningConfig(), telemetry, clock)
    watching.SAVE_EVERY = 10.0
    exposition = Exposition(ExpositionConfig(max_series=4 * series))
    spans, late = Spans(), list[Late]()
    for owner, name in (
        (decode, "vector"),
        (Engine, "frame"),
        (Block, "tick"),
        (Engine, "snapshot"),
        (Exposition, "prepare"),
        (StateFiles, "save"),
    ):
        spans.watch(owner, name)
    scrapes = 0
    async with _serving(known, exposition, watcher, telemetry, clock) as (own, count):
        watcher.watch([watch])
        run = asyncio.create_task(watcher.run())
        for _ in range(300):
            if not watcher.missing():
                break
            await asyncio.sleep(0.1)
        gc.collect()
        gc.freeze()  # as in commands/run.py
        shift = border - SECONDS / 2 - time.time()
        print(own, flush=True)
        await asyncio.sleep(1)
        spans.all.clear()
        spans.watch(gc, "collect")
        began = count()
        await _timer(time.perf_counter() + SECONDS, late)
        scrapes = count() - began
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
    await prometheus.close()
    worst = sorted(late, key=lambda one: -one.by)[:8]
    names = [name for name, _, _ in spans.all]
    print(
        json.dumps(
            {
                **_summary(late),
                "ticks": names.count("frame"),
                "scrapes": scrapes,
                "saves": names.count("save"),
                "causes": [f"{one.by * 1e3:.1f} ms during {spans.during(one)}" for one in worst],
            }
        ),
        flush=True,
    )


@contextlib.asynccontextmanager
async def _serving(
    known: Any, exposition: Any, watcher: Any, telemetry: Any, clock: Any
) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """The real server; its port, and how often /metrics was scraped."""
    from sidecar.web import auth, server, signals

    async def reload() -> None:
        raise NotImplementedError

    routes = signals.routes(known, lambda: exposition, watcher, lambda: (), telemetry, clock)
    app = server.build(routes, auth.Auth((), True), telemetry, watcher.missing, reload)
    runner, port = await server.serve(app, server.WebConfig(listen="127.0.0.1:0"))

    def count() -> int:
        served = telemetry.http_requests.labels("/metrics", "200")
        return int(next(iter(served.collect())).samples[0].value)

    try:
        yield port, count
    finally:
        await runner.cleanup()
