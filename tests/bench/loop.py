"""The event loop's worst delay while the real watcher ticks 100k series and the real /metrics is scraped.

Three processes: this one's child is Promantis (restored state, watcher, web server, a 5 ms timer), `peer` is a fake
Prometheus that answers a prepared vector and scrapes, `idle` is a lone timer that shows what the machine itself adds.
"""

from __future__ import annotations

import asyncio
import contextlib
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
NEAR = 0.02  # seconds around a late tick of the idle timer
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
    # this machine has other work: what a process without any work saw as well is not ours
    ours = [
        (by, cause)
        for due, by, cause in said["late"]
        if not any(due < d + b + NEAR and d - NEAR < due + by for d, b, _ in machine["late"])
    ]
    assert said["ticks"] >= 4, said
    assert said["scrapes"] >= 4, said
    note = f"with the machine's own: {said['worst']:.1f}; an idle process: {machine['worst']:.1f} ms"
    what = f"loop delay at {series // 1000}k series"
    counted = f"{said['ticks']} ticks, {said['scrapes']} scrapes, {said['saves']} saves"
    print(f"loop: {counted}; worst:", file=sys.stderr)
    for by, cause in sorted(ours, reverse=True)[:8]:
        print(f"  {by * 1e3:.1f} ms during {cause}", file=sys.stderr)
    return [
        Row.below(f"{what}, worst", max((by for by, _ in ours), default=0.0) * 1e3, "ms", 25, note),
        Row(f"{what}, p99", f"{said['p99']:,.1f} ms", f"idle {machine['p99']:.1f} ms", "", "", None),
        Row("longest computation on the loop", f"{said['longest']:,.1f} ms", counted, "", "", None),
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
    print(json.dumps({**_summary(late), "late": [(one.due, one.by, "") for one in late if one.by > EVERY]}))


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
        self.longest = 0.0
        """Seconds of processor time of one callback of the loop."""

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

    def callbacks(self) -> None:
        """Record what the loop itself runs for more than 5 ms, and how much of that it computed rather than waited."""
        inner = asyncio.Handle._run

        def outer(handle: asyncio.Handle) -> None:
            began, worked = time.perf_counter(), time.thread_time()
            inner(handle)
            ended = time.perf_counter()
            self.longest = max(self.longest, time.thread_time() - worked)
            if ended - began > EVERY:
                share = (
                    f"{(time.thread_time() - worked) * 1e3:.0f} of {(ended - began) * 1e3:.0f} ms computed"
                )
                self.all.append((f"[loop: {_named(handle)}, {share}]", began, ended))

        asyncio.Handle._run = outer  # type: ignore[method-assign]  # to time each callback

    def during(self, late: Late) -> str:
        """Names of what overlapped the time in which the timer was late."""
        end = late.due + late.by
        return (
            ", ".join(sorted({name for name, a, b in self.all if a < end and b > late.due}))
            or "nothing of ours"
        )


def _named(handle: asyncio.Handle) -> str:
    """The coroutine or function that a handle runs."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # asyncio has no public name for it
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        frame = owner.get_stack(limit=1)
        return f"{frame[-1].f_code.co_qualname}:{frame[-1].f_lineno}" if frame else owner.get_name()
    return str(getattr(callback, "__qualname__", callback))


def child(series: int, port: int) -> None:
    """Promantis' own parts as `promantis run` starts them, on a state that knows its series."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_child(series, port, Path(folder)))


async def _child(series: int, port: int, folder: Path) -> None:
    from sidecar.adapters import decode
    from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
    from sidecar.adapters.state import StateFiles
    from sidecar.commands.run import let_the_loop_run
    from sidecar.signals.detect.block import Block
    from sidecar.signals.known.expose import Exposition, ExpositionConfig
    from sidecar.signals.known.snapshot import Known
    from sidecar.signals.learn.history import LearningConfig
    from sidecar.signals.tick import watcher as watching
    from sidecar.signals.tick.engine import Engine
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
    let_the_loop_run()
    async with _serving(known, exposition, watcher, telemetry, clock) as (own, count):
        watcher.watch([watch])
        run = asyncio.create_task(watcher.run())
        for _ in range(300):
            if not watcher.missing():
                break
            await asyncio.sleep(0.1)
        shift = border - SECONDS / 2 - time.time()
        print(own, flush=True)
        await asyncio.sleep(1)
        spans.all.clear()
        spans.callbacks()
        began = count()
        await _timer(time.perf_counter() + SECONDS, late)
        scrapes = count() - began
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
    await prometheus.close()
    names = [name for name, _, _ in spans.all]
    print(
        json.dumps(
            {
                **_summary(late),
                "ticks": names.count("frame"),
                "scrapes": scrapes,
                "saves": names.count("save"),
                "longest": spans.longest * 1e3,
                "late": [(one.due, one.by, spans.during(one)) for one in late if one.by > EVERY],
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

    async def reload() -> None: ...

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
