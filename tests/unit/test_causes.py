"""The loops around a diagnosis: they outlive their own mistakes, and journal what is over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from sidecar import causes
from sidecar.alerts import aside
from sidecar.alerts.explain import Changed, Said
from sidecar.alerts.relay import AlertsConfig, Relay
from sidecar.causes import CHANCE, EXPLAINED, INCIDENT, Causes
from sidecar.config import Config, knowledge
from sidecar.remedy.case import Fact
from sidecar.signals.ingest.changes import Change, Workload
from sidecar.signals.ingest.happenings import Event
from sidecar.signals.ingest.topology import CausesConfig
from sidecar.signals.known.snapshot import Known
from sidecar.signals.watch.watches import Watch
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


def explained(world: World, alert: Alert) -> str:
    """Have an alert explained by what a diagnosis found, as far as nothing is known of its series."""
    said = world.causes.explainer(alert, world.now)
    assert said is not None
    incident = world.causes.explainer.incidents.of(alert.labels)
    assert incident is not None
    cause = Said("bank", "latency", "latency 400 ms, usually 100 ms", "very likely", 0.95)
    found = msgspec.structs.replace(
        said, causes=(cause,), none_likelihood=0.05, summary="bank is slow.", pattern="downstream latency"
    )
    incident.cause, incident.pattern = "bank", found.pattern
    [about] = [about for _, about in world.causes.explainer._best]
    world.causes.explainer._best[incident.id, about] = 0.95, found
    return incident.id


async def test_what_was_said_of_an_incident_is_said_again_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alert = Alert(
        labels_of({"alertname": "HighLatency", "job": "shop"}),
        {},
        "2025-11-24T16:00:00Z",
        "2025-11-24T19:00:00Z",
    )
    world = World()
    world.causes._interval = 0.01
    id = explained(world, alert)
    task = asyncio.create_task(world.causes.run())
    await asyncio.sleep(0.2)
    task.cancel()
    [(kind, data)] = world.noted  # once, however often it is looked for
    assert (kind, data["id"], data["cause"]) == (EXPLAINED, id, "bank")
    stored = json.loads(json.dumps(data))

    later = World()
    later.now = Instant(NOW + 60)
    later.causes.restore([fact(kind, stored)])
    assert await later.causes.pattern(alert) == "downstream latency", "what comes first may be a webhook"
    again = later.causes.explainer(alert, later.now)
    assert again is not None
    assert (again.incident, again.summary, again.blamed) == (id, "bank is slow.", "bank")
    assert later.causes.explainer.news() == []
    monkeypatch.setattr(later.causes.explainer, "_whose", lambda labels, finding: None)
    told = later.causes.explainer(alert, later.now)
    assert told is not None
    assert told.summary == "bank is slow.", "before its series are known too"

    anew = msgspec.structs.replace(alert, starts_at="2025-11-24T17:00:00Z")
    other = World()
    other.now = Instant(NOW + 7200)
    other.causes.restore([fact(kind, stored)])
    fresh = other.causes.explainer(anew, other.now)
    assert fresh is not None
    assert fresh.summary.startswith("No cause found"), "it was over, and fires anew"
    over = World()
    over.causes.restore([fact(kind, stored), fact(INCIDENT, stored | {"ended": "nothing was done"})])
    assert not over.causes.explainer.incidents.open


async def test_what_another_version_said_is_left_out() -> None:
    world = World()
    world.causes.restore([fact(EXPLAINED, {"id": "x"}), fact(EXPLAINED, {"id": "y", "said": {"what": 1}})])
    assert not world.causes.explainer.incidents.open


async def test_deployments_and_other_changes_are_noted_for_an_hour() -> None:
    causes = World().causes
    await causes.deployed([Change(frozenset([Workload("prod", "shop")]))], NOW)
    causes.happened([Event("node/n1", "node/n1 was cordoned")], Instant(NOW + 60))
    deployed = Changed("shop", NOW, "shop was deployed", "deployed")
    cordoned = Changed("node/n1", Instant(NOW + 60), "node/n1 was cordoned")
    assert causes.explainer.changed == [deployed, cordoned]
    await causes.deployed([], Instant(NOW + 3630))
    assert causes.explainer.changed == [cordoned]
