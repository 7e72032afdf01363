"""A case that is over, compared with earlier firings that the real Prometheus remembers; statsmodels in a worker."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sidecar import effects
from sidecar.adapters.journal import SqliteJournal
from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.adapters.targets import Targets
from sidecar.alerts.identity import fingerprint
from sidecar.demo.peers import Stack
from sidecar.effects import Effects
from sidecar.remedy.actions.words import World
from sidecar.remedy.case import Draft, case_id
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import GuardConfig
from sidecar.remedy.policy import Policies, VerifyConfig
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import Duration, Instant, JsonObject, Labels, labels_of
from sidecar.web.shown import compared
from tests.unit.desk import POLICY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
ALERT = labels_of({"alertname": "PoolExhaustion", "pool": "db", "cluster": "eu"})
"""As it reaches Alertmanager, with an external label."""
HOUR, DAY = 3600.0, 86400.0
WITHIN = 1800.0
AGO = 3 * HOUR
POLICY_HERE = msgspec.structs.replace(POLICY, verify=VerifyConfig(query="used < 1", within=Duration(WITHIN)))


def past(now: float) -> Iterator[str]:
    """A firing a day, at a worse value each; left alone it falls by half of its distance from 2 in ten minutes.

    Of ten, those of days 2, 4 and 6 last two hours, the others half an hour; there is a short one too.
    """
    spans = [(now - day * DAY - AGO, 2 * HOUR if day in (2, 4, 6) else 30 * 60.0) for day in range(1, 11)]
    spans += [(now - 11 * DAY, 5 * 60.0), (now - AGO - 600, 1200.0)]
    spans = sorted((began // 60 * 60, lasted) for began, lasted in spans)
    labels = 'alertname="PoolExhaustion",alertstate="firing",pool="db"'
    for began, lasted in spans:
        for n in range(int(lasted / 60) + 1):
            yield f"ALERTS{{{labels}}} 1 {began + 60 * n}"
    for i, (began, _) in enumerate(spans):
        worst = 6.0 + i % 5
        for n in range(60):
            late = max(0.0, n - 10) / 10  # from when the action comes
            yield f'used{{pool="db"}} {2 + (worst - 2) * 0.5**late + 0.01 * (i % 3)} {began + 60 * n}'
    yield "# EOF"


def written(stack: Stack, now: float) -> Path:
    path, folder = stack.folder / "past.om", stack.folder / "tsdb"
    path.write_text("\n".join(past(now)) + "\n")
    command = [
        str(stack.binaries.promtool),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(path),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


async def a_case(journal: SqliteJournal, labels: Labels, began: float, policy: str, over: bool = True) -> str:
    """Acted on ten minutes after it began, measured ten minutes later: it fell from 9 to 1."""
    key = fingerprint(labels)
    id, at = case_id(key, 1, policy), Instant(began + 600)
    about: JsonObject = {"fingerprint": key, "episode": 1, "policy": policy, "labels": dict(labels)}
    started = {"number": 1, "starts": began, **about, "annotations": {}}
    proposed = {**about, "annotations": {}, "target": "t", "why": [], "expires_at": at + 60}
    intent = {"within": WITHIN, "before": [[{"pool": "db"}, 9.0]]}
    effect = {"target": -8.0, "siblings": None, "untouched": 0, "difference": None, "error": None}
    await journal.append(at, [Draft("episode.started", None, "system", started)])
    await journal.append(
        at, [Draft("case.proposed", id, "system", proposed), Draft("intent", id, "system", intent)]
    )
    if over:
        await journal.append(at, [Draft("action.done", id, "system", {"deadline": at + 600})])
        told = {"words": "", "after": [[{"pool": "db"}, 1.0]], "effect": effect}
        later = Instant(at + 600)
        await journal.append(later, [Draft("effect.measured", id, "system", told)])
        await journal.append(later, [Draft("verify.passed", id, "system", {"words": "used < 1 holds"})])
    return id


@pytest.mark.parametrize("most", [effects.SERIES, 0], ids=["all of the rule", "its own"])
async def test_a_case_is_compared_with_firings_that_were_left_alone(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(effects, "SERIES", most)
    now = time.time()
    folder = await asyncio.to_thread(written, stack, now)
    peer = await stack.prometheus("global: {}\n", "", "--storage.tsdb.retention.time=60d", data=folder)
    telemetry, journal, targets = Telemetry(), SqliteJournal(tmp_path / "journal.db"), Targets(list)
    prometheus = Prometheus(PrometheusConfig(url=peer.url, max_queries_per_second=100), telemetry)
    id = await a_case(journal, ALERT, now - AGO - 600, POLICY.name)
    other = labels_of({**dict(ALERT), "cluster": "us"})  # its labels in Prometheus are the same
    await a_case(journal, other, now - 2 * DAY - AGO, "another")
    world = World(targets)
    runner = Runner(
        Policies([POLICY_HERE]),
        GuardConfig(),
        journal=journal,
        eyes=Eyes(prometheus, [], world, bool, lambda labels, at: "", lambda: Instant(now)),
        world=world,
        kill=lambda on: None,
        confidence=lambda labels: None,
        telemetry=telemetry,
        clock=lambda: Instant(now),
    )
    await runner.start()
    before = set(sys.modules)
    comparing = Effects(prometheus, runner, lambda: Instant(now))
    await comparing.look()
    case, facts = runner.case(id)
    found = case.compared
    assert found is not None
    assert facts[-1].kind == "effect.compared"
    assert case.words == "used < 1 holds"
    assert found["firings"] == 9, "not the short one, nor the one that was acted on"
    assert found["ended"] == 7, "the two long ones went on"
    assert found["in_time"], "this one ended"
    assert found["moved"] == -8.0
    if importlib.util.find_spec("statsmodels") is None:
        assert (found["how"], -5 < found["expected"] < -2) == ("mean", True)
    else:
        assert found["how"] == "regression"
        assert found["expected"] == pytest.approx(-0.5 * (9 - 2), abs=0.3), "half of its own distance"
        assert found["error"] < 0.5
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert not new & {"statsmodels", "pandas", "scipy"}
    assert compared(found).startswith(
        "Of 9 earlier firings that lasted as long and were left alone 7 ended within 30m"
    )
    again = len(facts)
    await comparing.look()
    assert len(runner.case(id)[1]) == again, "once"
    await prometheus.close()
    await journal.close()
    await targets.close()
