"""Resident memory of a main process that has learned a day: a process of its own, so nothing else counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.bench.table import Row

SCRIPT = "from tests.bench.memory import child; child({series})"
LIVE = 60  # ticks at the live step, of history and then of answers


def rows(series: int, most: float) -> list[Row]:
    """RSS after a replayed day and live ticks, and its peak."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(series=series)], check=True, capture_output=True, text=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    what = f"RSS at {series // 1000}k series after a day"
    return [Row.below(what, said["VmRSS"], "MiB", most, f"(peak {said['VmHWM']:,.0f} MiB)")]


def child(series: int) -> None:
    """What `promantis run` imports and holds; learns a day as lessons do, then ticks on decoded answers."""
    import sidecar.commands.run  # noqa: F401  the whole main process
    from sidecar.adapters import decode
    from sidecar.signals.block import Block
    from sidecar.signals.engine import Engine, replay
    from sidecar.signals.expose import Exposition, ExpositionConfig, render
    from sidecar.signals.snapshot import Known
    from sidecar.signals.watcher import CLASS
    from sidecar.types import Instant
    from tests.bench import fleet

    keys, feed, watch = fleet.keys(series), fleet.values(series), fleet.WATCH
    engine, known, exposition = Engine(watch.step), Known(), Exposition(ExpositionConfig())
    engine.watch({watch.name: watch})
    now = fleet.START
    coarse, live = (
        now - LIVE * watch.step - 300.0 * np.arange(288, 0, -1),
        now - watch.step * np.arange(LIVE, 0, -1),
    )
    for lo in range(0, series, CLASS):
        part = keys[lo : lo + CLASS]
        nursery, past = Block(len(part), watch.step), fleet.values(len(part), lo)
        for at, step in ((coarse, 300.0), (live, watch.step)):
            replay(nursery, at, np.stack([next(past) for _ in at]), step)
        engine.adopt(Instant(now), watch.name, part, nursery, 0, series)
        del nursery, past
    for _ in range(8):
        answer = decode.vector(fleet.body(keys, next(feed), now))
        known.publish(engine.tick(Instant(now), {watch.name: answer}, 0))
        for _part in render(exposition.prepare(list(known.snapshots.values()), Instant(now))):
            pass
        now += watch.step
    assert np.isfinite(known.snapshots[watch.step].columns["score"]).all()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({name: int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")}))
