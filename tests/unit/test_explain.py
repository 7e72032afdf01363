"""What is said of an alert: who, why, what comes, what to do, what was alike; and which alerts are one incident."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest

from sidecar.alerts.enrich import Enricher
from sidecar.alerts.explain import Changed, Explanation
from sidecar.alerts.explainer import NAMED, QUIET, Before, Explainer, recalled
from sidecar.alerts.incidents import TOGETHER
from sidecar.alerts.relay import AlertsConfig
from sidecar.config import Config, knowledge
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Candidates, Finding, Forecast, Instant, Labels, labels_of
from tests.quality.fleet import fleet
from tests.unit.calling import SLOW_BANK, Change, candidates

NOW = Instant(7440.0)  # the last sample of `candidates`
NAN = float("nan")
POOL = {("bank", "saturation"): 0.45}
FULL: Change = {**SLOW_BANK, ("bank", "saturation"): 0.5}


class World:
    """What an explainer reads."""

    def __init__(self, c: Candidates) -> None:
        names = ["db_pool_in_use / db_pool_max" if kind == "saturation" else kind for kind in c.kinds]
        ids = [(kind, entity.encode()) for kind, entity in zip(c.kinds, c.entities, strict=True)]
        units = [{"latency": "s", "errors": "share", "saturation": "share"}.get(kind, "") for kind in c.kinds]
        self.c = msgspec.structs.replace(c, names=names, ids=ids, units=units)
        self.asked = 0
        self.forecasts = (Forecast("15m", 1.0, 0.9, 1.0), Forecast("30m", 1.0, 0.9, 1.0))

    def candidates(self, since: float) -> Candidates:
        self.asked += 1
        return self.c

    def near(self, labels: Labels, limit: int) -> list[Finding]:
        return []

    def one(self, watch: str, key: bytes) -> Finding | None:
        if watch != "saturation":
            return None
        value = float(self.c.values[-1, self.c.kinds.index("saturation")])
        return Finding(
            "pool", "q", watch, (), NOW, value, 0.45, 0.4, 0.5, 3.0, 0.9, None, self.forecasts, unit="share"
        )


def about(labels: dict[str, str]) -> tuple[str, str]:
    return labels["service"], "errors" if labels["alertname"] == "HighErrors" else "latency"


def explainer(world: World, telemetry: Telemetry | None = None) -> Explainer:
    made = Explainer(world, world, lambda labels, _: about(dict(labels)), telemetry or Telemetry())
    made.patterns = knowledge(Config())
    return made


def alert(service: str = "front", name: str = "HighLatency", ends: str = "1970-01-03T00:00:00Z") -> Alert:
    return Alert(labels_of({"alertname": name, "service": service}), {}, "1970-01-01T02:03:00Z", ends)


def said(change: Change, name: str = "HighLatency") -> Explanation:
    found = explainer(World(candidates(change, more=POOL)))(alert("front", name), NOW)
    assert found is not None
    return found


def test_the_four_parts_of_a_pool_that_runs_out() -> None:
    found = said(FULL)
    assert found.pattern == "pool exhaustion"
    assert found.summary.startswith(
        "bank runs out of pooled connections; what waits for one is slow or fails (very likely): "
        "db_pool_in_use / db_pool_max 9"
    )
    assert "usually 45%" in found.summary
    assert "since 02:02 UTC" in found.summary
    assert "latency 5" in found.summary.partition("since")[2]
    assert found.summary.endswith("follows.")
    assert found.outlook.startswith("If nobody acts: db_pool_in_use / db_pool_max is at 9")
    assert found.outlook.endswith("it is used up in about 10 min.")
    assert found.next_steps.now[0].startswith("enlarge the pool of bank")
    assert any("timeouts" in step for step in found.next_steps.later)
    assert found.causes[0].likelihood == "very likely"


def test_what_rises_fast_is_used_up_before_its_forecast_says() -> None:
    """A forecast cannot pass the whole, so that its line to it is flat."""
    world = World(candidates(FULL, more=POOL))
    pool = world.c.kinds.index("saturation")
    world.c.values[:, pool] = 0.7 + 0.05 * np.arange(5)  # five percent a minute
    found = explainer(world)(alert(), NOW)
    assert found is not None
    assert found.outlook.endswith("it is used up in about 2 min.")


@pytest.mark.parametrize(("more", "pattern"), [(0.15, "slow"), (0.19, "pool exhaustion")])
def test_what_is_used_up_says_more_than_how_slow_it_makes(more: float, pattern: str) -> None:
    """A pool that is never far from full is little out when it is full; who waits for it may be slow by far more."""
    change: Change = {("bank", "latency"): 1.0, ("bank", "saturation"): more}
    found = explainer(World(candidates(change, more={("bank", "saturation"): 0.8})))(alert("bank"), NOW)
    assert found is not None
    assert found.causes[0].entity == "bank"
    assert found.pattern == pattern
    if pattern == "slow":
        assert "which explains the alert" in found.summary


def test_nobody_is_blamed_when_nothing_is_out() -> None:
    found = said({})
    assert found.summary == (
        "No cause found among 4 services and machines: "
        "nothing is further out of its usual than chance explains."
    )
    assert (found.causes, found.pattern, found.next_steps.now) == ((), "", ())
    assert found.none_likelihood > 0.9


@pytest.mark.parametrize(
    ("change", "pattern", "cause"),
    [
        (SLOW_BANK, "downstream latency", "bank"),
        ({("front", "latency"): 0.5}, "slow", "front"),
        ({("pay", "errors"): 0.2, ("front", "errors"): 0.1}, "downstream errors", "pay"),
        ({("bank", "cpu"): 0.5, **SLOW_BANK}, "processor", "bank"),
        ({("front", "traffic"): 150.0}, "saturation by traffic", "requests to front"),
    ],
)
def test_patterns(change: Change, pattern: str, cause: str) -> None:
    found = said(change, "HighErrors" if ("pay", "errors") in change else "HighLatency")
    assert (found.pattern, found.causes[0].entity) == (pattern, cause)
    assert found.next_steps.now
    assert found.next_steps.later
    assert "{{" not in str(found)


def test_a_deployment_is_named_and_changes_the_advice() -> None:
    made = explainer(World(candidates(SLOW_BANK)))
    made.changed = [
        Changed(name, Instant(NOW - 600), f"{name} was deployed", "deployed") for name in ("bank", "cart")
    ]
    found = made(alert(), NOW)
    assert found is not None
    assert found.pattern == "slow after a deployment"
    assert found.next_steps.now == ("roll bank back",)
    assert found.changes == ("bank was deployed at 01:54 UTC (10 min ago)",)


def test_other_changes_of_who_is_involved_are_named_and_are_no_deployment() -> None:
    """Of the likeliest causes, the machines that they run on and what is named for them; the newest first, once."""
    c = msgspec.structs.replace(candidates(SLOW_BANK), hosts=[("bank", "node/n1"), ("cart", "node/n2")])
    made = explainer(World(c))
    made.changed = [
        Changed("bank", Instant(NOW - 30), "bank was scaled from 2 to 3"),
        Changed("bank", Instant(NOW - 120), "bank was scaled from 5 to 2", "fewer"),
        Changed("node/n1", Instant(NOW - 600), "node/n1 runs out of memory", "machine"),
        Changed("node/n1", Instant(NOW - 60), "node/n1 runs out of memory", "machine"),
        Changed("node/n2", Instant(NOW - 60), "node/n2 was cordoned"),
        Changed("config/bank-limits", Instant(NOW - 300), "config map bank-limits was changed", "configured"),
        Changed("config/banking", Instant(NOW - 300), "config map banking was changed"),
        Changed("bank", Instant(NOW - 3700), "bank was scaled from 2 to 5"),
        Changed("bank", Instant(NOW + 60), "bank was scaled from 3 to 9"),
    ]
    found = made(alert(), NOW)
    assert found is not None
    assert found.changes == (
        "node/n1 runs out of memory at 02:03 UTC (1 min ago)",
        "bank was scaled from 5 to 2 at 02:02 UTC (2 min ago)",
        "config map bank-limits was changed at 01:59 UTC (5 min ago)",
        "bank was scaled from 2 to 3 at 02:03 UTC (less than a minute ago)",
    )
    assert found.pattern == "slow after a change of configuration"


@pytest.mark.parametrize(
    ("entity", "kind", "pattern", "now"),
    [
        (
            "config/bank-limits",
            "configured",
            "slow after a change of configuration",
            "put the configuration of bank",
        ),
        ("bank", "fewer", "too few instances", "scale bank back"),
        ("node/n1", "machine", "trouble of a machine", "drain that machine"),
        ("node/n1", "", "downstream latency", "look at bank first"),
        ("pay", "fewer", "downstream latency", "look at bank first"),
    ],
)
def test_what_happened_to_the_cause_changes_the_advice(
    entity: str, kind: str, pattern: str, now: str
) -> None:
    c = msgspec.structs.replace(candidates(SLOW_BANK), hosts=[("bank", "node/n1")])
    made = explainer(World(c))
    made.changed = [Changed(entity, Instant(NOW - 600), "it changed", kind)]
    found = made(alert(), NOW)
    assert found is not None
    assert found.pattern == pattern
    assert found.next_steps.now[0].startswith(now)


def test_the_onset_is_told_though_it_lies_before_the_window() -> None:
    world = World(candidates(FULL, more=POOL))
    n = len(world.c.entities)
    pool = world.c.kinds.index("saturation")
    before = np.tile(world.c.level, (30, 1))
    before[20:, pool] = 0.9
    values = world.c.values.copy()
    values[:, pool] = 0.95
    at = world.c.at[0] - 60.0 * np.arange(30, 0, -1)
    world.c = msgspec.structs.replace(world.c, values=values, before=lambda row: (at, before[:, row]))
    found = explainer(world)(alert(), NOW)
    assert found is not None
    assert n == before.shape[1]
    assert "usually 45% since 01:50 UTC" in found.summary


# --------------------------------------------------------------------------- incidents


def test_alerts_of_one_outage_are_one_incident_and_one_diagnosis() -> None:
    world, telemetry = World(candidates(SLOW_BANK)), Telemetry()
    made = explainer(world, telemetry)
    ids = {made(alert(service, name), NOW).incident for service in ("front", "pay") for name in ("A", "B")}
    assert len(ids) == 1
    assert world.asked == 1
    said = telemetry.registry.get_sample_value
    assert said("promantis_incidents") == 1
    assert said("promantis_diagnoses_total", {"outcome": "cause"}) == 2  # of two services, not of four alerts
    assert said("promantis_diagnosis_duration_seconds_count") == 2
    assert made(alert("cart", "C"), NOW).incident in ids  # front calls it


def test_what_was_surest_stays_when_a_fault_begins_to_look_like_the_usual() -> None:
    world = World(candidates(FULL, more=POOL))
    made = explainer(world)
    first = made(alert(), NOW)
    world.c = World(candidates({}, more=POOL)).c
    later = made(alert(), Instant(NOW + 1800))
    assert first is not None
    assert later is not None
    assert (later.summary, later.incident) == (first.summary, first.incident)
    assert made.suspects() == {one: 7380.0 for one in ("front", "bank", "cart", "pay")}


def test_a_surer_cause_takes_the_place_of_one_that_was_only_possible() -> None:
    world = World(candidates({("cart", "cpu"): 0.14}))
    made = explainer(world)
    first = made(alert(), NOW)
    world.c = World(candidates(SLOW_BANK)).c
    later = made(alert(), Instant(NOW + 60))
    assert first is not None
    assert later is not None
    assert later.causes[0].entity == "bank"


def test_alerts_that_have_nothing_to_do_with_one_another_are_not() -> None:
    made = explainer(World(candidates({}, calls=(("front", "cart"),))))
    assert made(alert("front"), NOW).incident != made(alert("bank"), NOW).incident


def test_replicas_give_an_incident_the_same_id() -> None:
    worlds = [explainer(World(candidates(SLOW_BANK))) for _ in range(2)]
    assert len({made(alert(), Instant(NOW + i)).incident for i, made in enumerate(worlds)}) == 1


def named(telemetry: Telemetry) -> list[dict[str, str]]:
    """The incidents that the metrics name."""
    (family,) = (f for f in telemetry.registry.collect() if f.name == "promantis_incident_info")
    return [sample.labels for sample in family.samples]


def test_an_incident_is_named_with_its_cause_while_it_lasts() -> None:
    telemetry, world = Telemetry(), World(candidates({}))
    made = explainer(world, telemetry)
    made(alert(), NOW)
    (before,) = named(telemetry)
    world.c = World(candidates(SLOW_BANK)).c
    made(alert(), Instant(NOW + 60))
    (after,) = named(telemetry)
    assert before["cause"] == ""
    assert after == before | {"cause": "bank"}
    made(alert(ends="1970-01-01T02:03:59Z"), Instant(NOW + 61))
    made.over(Instant(NOW + 61 + TOGETHER))
    assert named(telemetry) == []


def test_a_storm_names_only_its_newest_incidents() -> None:
    telemetry = Telemetry()
    made = explainer(World(candidates({}, calls=())), telemetry)
    for i in range(NAMED + 7):
        made(alert(f"service-{i}", f"Alert{i}"), NOW)
    assert telemetry.registry.get_sample_value("promantis_incidents") == NAMED + 7
    assert {one["alertname"] for one in named(telemetry)} == {f"Alert{i}" for i in range(7, NAMED + 7)}


def test_an_incident_ends_and_is_remembered() -> None:
    made = explainer(World(candidates(FULL, more=POOL)))
    first = made(alert(), NOW)
    over = alert(ends="1970-01-01T02:03:59Z")
    assert made(over, NOW) is None
    assert made.over(NOW) == []
    [ended] = made.over(Instant(NOW + TOGETHER))
    fact = made.remember(ended, "bigger-pool fixed")
    assert recalled([fact]) == [
        Before(first.incident, ended.began, "HighLatency", "pool exhaustion", "bank", "bigger-pool fixed")
    ]
    again = made(alert(), Instant(NOW + 2 * TOGETHER))
    assert again.incident == first.incident  # the same alert of the same episode
    other = msgspec.structs.replace(alert(), starts_at="1970-01-01T02:20:00Z")
    made.over(Instant(NOW + 4 * TOGETHER))
    later = made(other, Instant(NOW + 5 * TOGETHER))
    assert later.similar == ("1970-01-01 02:03 UTC HighLatency: pool exhaustion of bank; bigger-pool fixed",)


def test_a_thousand_alerts_at_once_are_explained_within_ten_seconds() -> None:
    c = fleet(500)
    world = World(c)
    made = explainer(world)
    enricher = Enricher(world, lambda alert: "", AlertsConfig(), "http://p:9909", made)
    began = time.process_time()
    for i in range(1000):
        words = enricher(alert(f"s{i % 500:03}", f"A{i}"), NOW)
        assert words["promantis_incident"]
    assert time.process_time() - began < 10


def test_an_alert_is_looked_at_again_once_after_two_scrapes() -> None:
    made = explainer(World(candidates(SLOW_BANK)))
    made(alert(), NOW)
    assert made.again(Instant(NOW + 29)) == []
    assert made.again(Instant(NOW + 30)) == [alert().labels]
    made(alert(), Instant(NOW + 31))
    assert made.again(Instant(NOW + 90)) == []
    made(alert(ends="1970-01-01T02:03:59Z"), Instant(NOW + 91))
    made(alert(), Instant(NOW + 120))
    assert made.again(Instant(NOW + 150)) == [alert().labels]  # another episode


def test_an_alert_without_a_cause_is_looked_at_for_some_minutes() -> None:
    made = explainer(World(candidates({})))
    made(alert(), NOW)
    looks = [i for i in range(3600) if made.again(Instant(NOW + i))]
    assert looks == [30, 60, 120, 240, 480]


def test_what_chance_scores_here_is_learned_while_nothing_fires() -> None:
    world = World(candidates({("cart", "cpu"): 0.4}))  # always odd, and nobody is alerted
    made = explainer(world)
    for i in range(QUIET):
        assert made.none is None
        assert made.rehearse(Instant(NOW + 600 * i))
    assert made.none is not None
    assert made.none > 2.5
    later = Instant(NOW + 600 * QUIET)
    found = made(alert("cart"), later)
    assert found is not None
    assert found.summary.startswith("No cause found")
    assert not made.rehearse(later)  # something fires
