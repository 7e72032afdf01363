"""A made past for `promantis backtest --rules`: what fills, what leaks, what follows the day, and what comes suddenly.

`.venv/bin/python -m tests.e2e.rules_past` starts a Prometheus that has it, and runs the command that the README shows.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sidecar.__main__ import main
from sidecar.demo.binaries import Binaries, find
from sidecar.demo.peers import Stack
from sidecar.types import F64

STEP = 60.0
RULES = """
groups:
  - name: shop
    rules:
      - {alert: DiskFull, expr: disk_used_ratio > 0.9, for: 5m, labels: {severity: page}}
      - {alert: MemoryNearLimit, expr: memory_used_bytes / memory_limit_bytes > 0.9, for: 2m, labels: {severity: page}}
      - {alert: PoolBusy, expr: pool_used > 80, for: 5m, labels: {severity: warning}}
      - {alert: HighErrorRate, expr: error_ratio > 0.05, for: 1m, labels: {severity: page}}
      - {alert: QueueBehind, expr: queue_length > 100, labels: {severity: warning}}
      - {alert: QueueStuck, expr: queue_length > 50 and pool_used > 60}
      - {alert: QueueAlone, expr: queue_length > 50 unless pool_used > 60}
      - {alert: JoinedBadly, expr: disk_used_ratio * on () memory_limit_bytes > 5}
      - {alert: ShopGone, expr: absent(pool_used)}
"""


def series(days: float, end: float) -> dict[str, F64]:
    """Times, and by series a sample a minute up to the end."""
    rng, n = np.random.default_rng(7), int(days * 1440)
    at = end - np.arange(n)[::-1] * STEP
    hour, out = at % 86400 / 3600, {"": at}
    day = np.maximum(0, np.sin((hour - 8) / 12 * np.pi))  # from eight to eight
    for i, (rate, until) in enumerate([(0.05, 0.95), (0.11, 0.93), (0.02, 0.97)]):  # in an hour
        fill, value = np.empty(n), 0.3 + 0.1 * i
        for j in range(n):
            value += rate / 60 * (0.5 + day[j])
            if value > until:  # somebody cleans up
                value = 0.3
            fill[j] = value
        out[f'disk_used_ratio{{host="disk-{i}"}}'] = fill + rng.normal(0, 0.002, n)
    for i, hours in enumerate((14, 31)):
        grown = (np.arange(n) / 60 + 5 * i) % hours / hours  # killed at the limit, it starts again
        out[f'memory_used_bytes{{pod="shop-{i}"}}'] = 2e9 * (0.35 + 0.63 * grown) + rng.normal(0, 1e7, n)
        out[f'memory_limit_bytes{{pod="shop-{i}"}}'] = np.full(n, 2e9)
    busy = np.repeat(rng.uniform(45, 85, int(days) + 2), 1440)[:n]  # some days are too much
    out["pool_used"] = np.round(15 + busy * day + rng.normal(0, 2, n)).clip(0)
    errors = np.full(n, 0.003) * rng.uniform(0.5, 1.5, n)
    for start in rng.choice(n - 60, int(days), replace=False).tolist():
        errors[start : start + rng.integers(5, 40)] += rng.uniform(0.1, 0.4)
    out["error_ratio"] = errors
    queue = 20 + 15 * day + rng.normal(0, 5, n)
    for start in rng.choice(n - 200, int(days), replace=False).tolist():  # a consumer died: it runs up
        length = int(rng.integers(30, 120))
        queue[start : start + length] += np.arange(length) * rng.uniform(0.5, 3)
    out["queue_length"] = queue.clip(0)
    return out


def write(folder: Path, promtool: Path, days: float, end: float) -> None:
    """Blocks of that past."""
    made = series(days, end)
    at = made.pop("").tolist()
    text = folder.with_suffix(".om")
    with text.open("w", encoding="utf-8") as file:
        for name, values in made.items():
            file.writelines(
                f"{name} {value:.6g} {t:.0f}\n" for t, value in zip(at, values.tolist(), strict=True)
            )
        file.write("# EOF\n")
    command = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(folder)]
    subprocess.run(command, check=True, capture_output=True)


async def shown(stack: Stack, peers: Binaries, days: float, *flags: str) -> int:
    """Start a Prometheus with that past and run the command on it."""
    end = time.time() // STEP * STEP
    write(stack.folder / "data", peers.promtool, days, end)
    server = await stack.prometheus(
        "global: {}", RULES, "--storage.tsdb.retention.time=60d", data=stack.folder / "data"
    )
    command = ["backtest", "--rules", "--prometheus.url", server.url, *flags]
    return await asyncio.to_thread(main, command)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Stack(find(), Path(folder)) as stack:
        sys.exit(asyncio.run(shown(stack, stack.binaries, 21.0, *sys.argv[1:])))
