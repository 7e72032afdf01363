"""`promantis backtest --rules` against the real Prometheus, on a past that promtool wrote."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.demo.binaries import Binaries
from sidecar.demo.peers import Stack
from sidecar.signals.replay.rehearsal import predict_linear
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Instant
from tests.e2e import rules_past

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
DAYS, COUNTED = 1.25, 0.75


def firings(values: F64, limit: float, held: int, counted: int) -> int:
    """How often, among the last samples, values stay beyond a limit for so many minutes, after an hour of calm."""
    over = np.concatenate([[0], (values > limit).astype(int), [0]])
    begins, ends = (np.flatnonzero(np.diff(over) == change).tolist() for change in (1, -1))
    fired, calm, last = 0, True, 0
    for begin, end in zip(begins, ends, strict=True):
        calm = calm or begin - last > 60
        if calm and end - begin > held:
            fired += begin + held >= len(values) - counted
            calm = False
        last = end
    return fired


async def test_rules_are_replayed(stack: Stack, peers: Binaries, capsys: pytest.CaptureFixture[str]) -> None:
    assert await rules_past.shown(stack, peers, DAYS, f"--days={COUNTED}") == 0
    told = capsys.readouterr().out
    assert told.startswith("Your alerting rules over the last 0.75 days, after 0.5 days to learn from:\n")
    lines = {line.split()[0]: line.replace("|", " ").split() for line in told.splitlines()[3:10]}
    made = rules_past.series(DAYS, time.time() // 60 * 60)
    counted = int(COUNTED * 1440) + 1
    disks = [values for name, values in made.items() if name.startswith("disk")]
    fired, announced = int(lines["DiskFull"][1]), int(lines["DiskFull"][2])
    assert fired == sum(firings(values, 0.9, 5, counted) for values in disks) > 0
    assert 0 < announced <= fired
    assert lines["DiskFull"][4] == "min"
    assert int(lines["HighErrorRate"][1]) == firings(made["error_ratio"], 0.05, 1, counted)
    both = np.minimum(made["queue_length"] - 50, made["pool_used"] - 60)
    assert int(lines["QueueStuck"][1]) == firings(both, 0.0, 0, counted)
    assert "all 6" in told
    assert "not among them: ShopGone: absent() has no value that could be forecast" in told
    assert re.search(r"not among them: JoinedBadly: http.*many-to-many matching not allowed", told)
    assert "not among them: QueueAlone: it asks for more than comparisons" in told


async def test_predict_linear_is_that_of_prometheus(stack: Stack, peers: Binaries) -> None:
    end = time.time() // 60 * 60
    rules_past.write(stack.folder / "data", peers.promtool, 0.5, end)
    server = await stack.prometheus("global: {}", data=stack.folder / "data")
    client = Prometheus(PrometheusConfig(url=server.url), Telemetry())
    start = Instant(end - 5 * 3600)
    try:
        past = await client.range("disk_used_ratio", Instant(start - 7200), Instant(end), 60.0)
        for asked, window in (
            ("14m59s", 900.0),
            ("59m59s", 3600.0),
        ):  # the end of a window is in it or not, by version
            theirs = await client.range(
                f"predict_linear(disk_used_ratio[{asked}], 3600)", start, Instant(end), 60.0
            )
            ours = predict_linear(past.at, past.values, window)[-len(theirs.at) :]
            place = [
                [k.replace(b'"__name__":"disk_used_ratio",', b"") for k in past.keys].index(k)
                for k in theirs.keys
            ]
            np.testing.assert_allclose(ours[:, place], theirs.values, rtol=1e-6)
    finally:
        await client.close()
