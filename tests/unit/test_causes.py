"""The loops around a diagnosis: they outlive their own mistakes, and journal what is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar import causes
from sidecar.alerts import aside
from sidecar.alerts.explain import Changed
from sidecar.alerts.relay import AlertsConfig, Relay
from sidecar.causes import CHANCE, INCIDENT, Causes
from sidecar.config import Config, knowledge
from sidecar.remedy.case import Fact
from sidecar.signals.changes import Change, Workload
from sidecar.signals.happenings import Event
from sidecar.signals.snapshot import Known
from sidecar.signals.topology import CausesConfig
from sidecar.signals.watches import Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, JsonObject, labels_of

NOW = Instant(1_764_000_000.0)


class Nothing:
    """A Prometheus that has nothing, and nothing that is watched."""

    def __init__(self) -> None:
        self.watches: dict[str, Watch] = {}

    async def metric_names(self) -> frozenset[str]:
        return frozenset()


class World:
    """What causes are given."""

    def __init__(self) -> None:
        self.now, self.noted = NOW, list[tuple[str, JsonObject]]()
        telemetry = Telemetry()
        relay = Relay(AlertsConfig(), [], lambda alert, now: {}, telemetry)
        prometheus: Any = Nothing()
        self.causes = Causes(
            prometheus,
            Known(),
            prometheus,
            relay,
            self.note,
            lambda: [],
            lambda: self.now,
            telemetry,
        )
        self.causes.adopt(CausesConfig(), 15.0, knowledge(Config()))

    async def note(self, kind: str, data: JsonObject) -> None:
        self.noted.append((kind, data))


def fact(kind: str, data: JsonObject) -> Fact:
    return Fact(1, 1, NOW, kind, None, "system", data, "")


async def test_a_mistake_in_a_loop_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, tried = World(), list[int]()

    async def look(now: Instant) -> None:
        tried.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(aside, "RETRY", 0.01)
    monkeypatch.setattr(world.causes.topology, "look", look)
    task = asyncio.create_task(world.causes.run())
    await asyncio.sleep(0.2)
    assert not task.done()
    assert len(tried) > 1
    assert "what explains alerts failed" in caplog.text
    task.cancel()


async def test_an_incident_that_is_over_is_journalled_and_known_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    monkeypatch.setattr(causes, "MINUTE", 0.01)
    alert = Alert(labels_of({"alertname": "HighLatency", "job": "shop"}), {}, "2025-11-24T16:00:00Z")
    said = world.causes.explainer(alert, world.now)
    assert said is not None
    assert said.summary.startswith("No cause found")
    world.now = Instant(NOW + 3600)
    task = asyncio.create_task(world.causes.run())
    await asyncio.sleep(0.2)
    task.cancel()
    [(kind, data)] = world.noted
    assert (kind, data["id"], data["ended"]) == (INCIDENT, said.incident, "nothing was done by Promantis")
    later = World()
    later.causes.restore([fact(kind, data), fact("feedback", {}), fact(CHANCE, {"none": 3.5})])
    assert [one.id for one in later.causes.explainer.before] == [said.incident]
    assert later.causes.explainer.none == 3.5


async def test_deployments_and_other_changes_are_noted_for_an_hour() -> None:
    causes = World().causes
    await causes.deployed([Change(frozenset([Workload("prod", "shop")]))], NOW)
    causes.happened([Event("node/n1", "node/n1 was cordoned")], Instant(NOW + 60))
    deployed = Changed("shop", NOW, "shop was deployed", "deployed")
    cordoned = Changed("node/n1", Instant(NOW + 60), "node/n1 was cordoned")
    assert causes.explainer.changed == [deployed, cordoned]
    await causes.deployed([], Instant(NOW + 3630))
    assert causes.explainer.changed == [cordoned]
