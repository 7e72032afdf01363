"""Resident memory of a main process that has learned days, and while it saves: a process of its own, so nothing else
counts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sidecar.demo.binaries import find
from sidecar.demo.peers import Stack, free_port
from tests.bench import pages
from tests.bench.table import Row

SCRIPT = "from tests.bench.memory import child; child({series}, {days})"
LIVE = 60  # ticks at the live step, of history and then of answers
LIVED = 420.0  # seconds that it runs beside Prometheus: it has saved its state by then


def measured(series: int, days: int = 1) -> dict[str, float]:
    """MiB of memory, its peak and that while it saves, seconds of CPU of a tick and of a whole /metrics, MiB of saved
    state."""
    script = SCRIPT.format(series=series, days=days)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def sizes(numbers: Iterable[int]) -> str:
    """The table of docs/operations.md: what a Promantis of so many series needs."""
    lines = [
        "| series | memory | peak | CPU of a tick | of one core at 15 s | CPU of `/metrics` | state on disk |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for series in numbers:
        said = measured(series)
        busy = (said["tick"] + said["metrics"]) / 15
        lines.append(
            f"| {series:,} | {said['VmRSS']:,.0f} MiB | {said['VmHWM']:,.0f} MiB | {said['tick'] * 1e3:,.1f} ms"
            f" | {busy:.1%} | {said['metrics'] * 1e3:,.1f} ms | {said['state']:,.0f} MiB |"
        )
    return "\n".join(lines)


def rows(series: int, most: float, days: int = 1) -> list[Row]:
    """RSS after replayed days and live ticks, its peak, and how much more there is while it saves."""
    said = measured(series, days)
    what = f"RSS at {series // 1000}k series after {'a week' if days == 7 else 'a day'}"
    more = 100 * (said["saving"] / said["VmRSS"] - 1)
    return [
        Row.below(what, said["VmRSS"], "MiB", most, f"(peak {said['VmHWM']:,.0f} MiB)"),
        Row.below("and more while it saves", more, "%", 10.0, f"({said['state']:,.0f} MiB written)"),
    ]


def beside(series: int, most: float) -> list[Row]:
    """RSS of `promantis run` beside a real Prometheus with two days of history, and its peak."""
    with tempfile.TemporaryDirectory() as folder, Stack(find(), Path(folder)) as stack:
        now, peak = asyncio.run(_run(stack, series))
    what = f"RSS of promantis run at {series // 1000}k series, after {LIVED / 60:.0f} minutes"
    return [Row.below(what, now, "MiB", most, f"(peak {peak:,.0f} MiB)")]


async def _run(stack: Stack, series: int) -> tuple[float, float]:
    fleet, prometheus = free_port(), free_port()
    data = await pages.recorded(stack, series, fleet, 2 * 86400)
    scraped = (
        f"  - {{job_name: fleet, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{fleet}']}}]}}\n"
    )
    config = (
        "global: {scrape_interval: 15s, evaluation_interval: 15s}\nrule_files: [rules.yml]\nscrape_configs:\n"
    )
    await stack.prometheus(config + scraped, pages.RULES, data=data, port=prometheus)
    side = await stack.promantis(f'prometheus: {{url: "http://127.0.0.1:{prometheus}"}}\n', within=300)
    await asyncio.sleep(LIVED)
    said = _resident(side.pid)
    return said["VmRSS"], said["VmHWM"]


def child(series: int, days: int) -> None:
    """What `promantis run` imports and holds; learns days as lessons do, ticks on decoded answers, then saves."""
    import sidecar.commands.run  # noqa: F401  the whole main process
    from sidecar.adapters import decode
    from sidecar.adapters.state import StateFiles
    from sidecar.signals.detect.block import Block
    from sidecar.signals.known.expose import Exposition, ExpositionConfig, render
    from sidecar.signals.known.snapshot import Known
    from sidecar.signals.tick.engine import Engine, replay
    from sidecar.signals.tick.watcher import CLASS
    from sidecar.types import Instant
    from tests.bench import fleet

    keys, feed, watch = fleet.keys(series), fleet.values(series), fleet.WATCH
    engine, known, exposition = Engine(watch.step), Known(), Exposition(ExpositionConfig())
    engine.watch({watch.name: watch})
    now = fleet.START
    coarse, live = (
        now - LIVE * watch.step - 300.0 * np.arange(288 * days, 0, -1),
        now - watch.step * np.arange(LIVE, 0, -1),
    )
    for lo in range(0, series, CLASS):
        part = keys[lo : lo + CLASS]
        nursery, past = Block(len(part), watch.step), fleet.values(len(part), lo)
        for at, step in ((coarse, 300.0), (live, watch.step)):
            replay(nursery, at, np.stack([next(past) for _ in at]), step)
        engine.adopt(Instant(now), watch.name, part, nursery, 0, series)
        del nursery, past
    spent: dict[str, list[float]] = {"tick": [], "metrics": []}
    for _ in range(8):
        body, began = fleet.body(keys, next(feed), now), time.process_time()
        known.publish(engine.tick(Instant(now), {watch.name: decode.vector(body)}, 0))
        spent["tick"].append(time.process_time() - began)
        for _part in render(exposition.prepare(list(known.snapshots.values()), Instant(now))):
            pass
        spent["metrics"].append(time.process_time() - began - spent["tick"][-1])
        del body  # as the adapter lets it go
        now += watch.step
    assert np.isfinite(known.snapshots[watch.step].columns["score"]).all()
    said = _resident()
    said |= {name: float(np.median(each)) for name, each in spent.items()}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with tempfile.TemporaryDirectory() as folder:
        StateFiles(Path(folder)).save(watch.step, engine.dump())
    said["saving"] = _resident()["VmHWM"]
    said["state"] = sum(len(part) if isinstance(part, bytes) else getattr(part, "nbytes", 0) for _, part in
                        engine.dump()) / 2**20  # fmt: skip
    print(json.dumps(said))


def _resident(process: int | str = "self") -> dict[str, float]:
    """MiB of memory now, and its peak."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {name: int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}
