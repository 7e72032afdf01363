"""`promantis backtest --query` against the real Prometheus, on a past that promtool wrote."""

from __future__ import annotations

import asyncio
import csv
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from sidecar.__main__ import main
from sidecar.demo.binaries import Binaries
from sidecar.demo.peers import Stack

pytestmark = pytest.mark.e2e

DAYS, STEP = 3, 300


def past(folder: Path, peers: Binaries, end: float) -> None:
    """Two pods; one is four times as busy for half an hour, the other vanishes two hours before the end."""
    rng, lines = np.random.default_rng(1), list[str]()
    at = np.arange(end - DAYS * 86400, end + 1, STEP)
    for pod in ("a/1", "b"):
        busy = 100 + 30 * np.sin(at / 86400 * 2 * np.pi) + rng.normal(0, 2, len(at))
        if pod == "b":
            busy[at > end - 7200] = np.nan
        else:
            busy[(at >= end - 36000) & (at < end - 34200)] *= 4
        lines += [
            f'busy{{pod="{pod}"}} {value:.3f} {time:.0f}'
            for time, value in zip(at, busy, strict=True)
            if np.isfinite(value)
        ]
    text = folder.with_suffix(".om")
    text.write_text("\n".join([*lines, "# EOF"]) + "\n")
    command = [str(peers.promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text)]
    subprocess.run([*command, str(folder)], check=True, capture_output=True)


async def test_query(
    stack: Stack, peers: Binaries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = time.time() // STEP * STEP
    past(tmp_path / "data", peers, end)
    server = await stack.prometheus("{}", "", "--storage.tsdb.retention.time=30d", data=tmp_path / "data")
    out, config = tmp_path / "out", tmp_path / "promantis.yml"
    config.write_text(f"prometheus: {{url: 'http://127.0.0.1:1', history_url: {server.url}}}\n")
    asked = ["backtest", "--days", str(DAYS), "--step", "5m", "--out", str(out)]

    def backtest(*more: str) -> int:  # in a thread: the command runs a loop of its own
        return main([*asked, "--prometheus.url", server.url, *more])

    assert await asyncio.to_thread(backtest, "--query", "busy") == 0
    told = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "query.group.csv",
        "query.pod=a_1.csv",
        "query.pod=b.csv",
    ]
    started = time.strftime("%Y-%m-%d %H:%M", time.gmtime(end - 36000))
    assert f"query.pod=a_1  {started}" in told
    assert "gone, which is rare here" in told
    with (out / "query.pod=a_1.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == DAYS * 86400 // STEP
    assert max(rows, key=lambda row: float(row["score"] or 0))["timestamp"] >= str(int(end - 36000))

    assert await asyncio.to_thread(main, [*asked, "--config.file", str(config), "--query", "busy"]) == 1
    assert "http://127.0.0.1:1: query busy: cannot connect" in capsys.readouterr().err
    assert await asyncio.to_thread(backtest, "--query", "nothing_at_all") == 2
    assert f"--query: has no samples in the last 3 days at {server.url}" in capsys.readouterr().err
