"""Time to detect, time to recover, what remedies spared and what that was worth."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.alerts.noticed import Noticed
from sidecar.config import parse
from sidecar.remedy import numbers
from sidecar.remedy.case import Book, Draft
from sidecar.remedy.events import Apply, Observed
from sidecar.remedy.policy import Policies
from sidecar.remedy.worth import LEAST, Over, Worth
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, ConfigError, Finding, Instant, JsonObject
from tests.unit.desk import POLICY, Desk, answered
from tests.unit.test_enrich import ALERT, AT, OVER, POOL, SINCE

# --------------------------------------------------------------------------- time to detect


def detected(*takes: tuple[Alert, Finding | None], began: float = 0.0) -> tuple[float | None, float | None]:
    """Count and sum of the delays of these alerts."""
    telemetry = Telemetry()
    noticed = Noticed(telemetry, Instant(began))
    for alert, finding in takes:
        noticed(alert, finding, AT)
    read = telemetry.registry.get_sample_value
    return read("promantis_time_to_detect_seconds_count"), read("promantis_time_to_detect_seconds_sum")


def test_an_alert_counts_once_from_the_first_odd_sample_to_its_start() -> None:
    starts = AT - 65.0  # 14:08:00
    assert detected((ALERT, POOL), (ALERT, POOL)) == (1, starts - SINCE)
    again = msgspec.structs.replace(ALERT, starts_at="2025-11-25T14:08:30Z")
    assert detected((ALERT, POOL), (again, POOL))[0] == 2


def test_an_alert_that_was_first_took_no_time() -> None:
    late = msgspec.structs.replace(POOL, since=AT)
    assert detected((ALERT, late)) == (1, 0)


@pytest.mark.parametrize(
    ("alert", "finding"),
    [
        (ALERT, None),
        (ALERT, msgspec.structs.replace(POOL, since=None)),
        (OVER, POOL),
        (msgspec.structs.replace(ALERT, starts_at=None), POOL),
        (Alert((("alertname", "PromantisAnomaly"), ("promantis_kind", "anomaly")), {}, ALERT.starts_at), POOL),
    ],
)  # fmt: skip
def test_what_is_over_not_odd_or_of_our_own_does_not_count(alert: Alert, finding: Finding | None) -> None:
    assert detected((alert, finding)) == (0, 0)


def test_what_began_before_the_process_may_have_been_counted() -> None:
    assert detected((ALERT, POOL), began=AT - 10) == (0, 0)


# --------------------------------------------------------------------------- what remedies were worth


class Told(Desk):
    """A desk whose facts are weighed as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.worth, self.over = Worth(), list[Over]()

    def append(self, *drafts: Draft) -> None:
        for draft in drafts:
            super().append(draft)
            if over := self.worth.add(self.book, self.journal[-1]):
                self.over.append(over)

    def episode(self, key: str, lasted: float, **labels: str) -> Over:
        """An alert that fires for so long."""
        self.append(started(key, float(self.now), {"alertname": "PoolExhaustion", **labels}))
        return self.ends(key, lasted)

    def ends(self, key: str, lasted: float) -> Over:
        self.hear(key, firing=False, ends=self.book.episodes[key].starts + lasted)
        return self.over[-1]

    def fixed(self, key: str) -> str:
        """The life of a case that helped, for an alert that is told now."""
        id = self.approved(key)
        (call,) = self.step(id, self.look())
        assert isinstance(call, Apply)
        self.step(id, answered(200))
        self.step(id, Observed(True, False))
        self.now = Instant(self.now + 30)
        self.step(id, Observed(True, False))
        assert self.stage(id) == "fixed"
        return id


def started(key: str, starts: float, labels: JsonObject) -> Draft:
    data = {"fingerprint": key, "number": 1, "labels": labels, "annotations": {}, "starts": starts}
    return Draft("episode.started", None, "system", data)


def test_what_nothing_was_done_about_says_what_is_usual() -> None:
    told = Told()
    assert told.episode("a", 600) == Over(600, "none", "", 0.0, False)


def test_nothing_is_spared_while_it_is_not_known_what_is_usual() -> None:
    told = Told()
    for i in range(LEAST - 1):
        told.episode(f"before {i}", 600)
    told.hear("a", firing=True, starts=float(told.now))
    told.fixed("a")
    over = told.ends("a", 100)
    assert (over.remedy, over.policy, over.spared) == ("fixed", POLICY.name, 0.0)


def test_spared_is_the_median_without_a_remedy_less_what_it_lasted() -> None:
    told = Told()
    for i, lasted in enumerate((500, 600, 4000)):
        told.episode(f"before {i}", lasted)
    told.hear("a", firing=True, starts=float(told.now))
    told.fixed("a")
    assert told.ends("a", 100).spared == 500
    # it is no longer one of those without
    told.hear("b", firing=True, starts=float(told.now))
    told.now = Instant(told.now + 200)
    told.fixed("b")
    assert told.ends("b", 1000).spared == 0


def test_a_breach_that_was_averted_spares_what_it_usually_lasts_weighed_by_its_odds() -> None:
    told = Told()
    for i in range(LEAST):
        told.episode(f"before {i}", 600)
    labels = {"alertname": "PromantisPredictedBreach", "promantis_kind": "breach", "promantis_tier": "medium",
              "source_alertname": "PoolExhaustion", "pool": "db"}  # fmt: skip
    told.append(started("p", float(told.now), labels))
    told.fixed("p")
    over = told.ends("p", 300)
    assert (over.own, over.spared) == (True, pytest.approx(0.7 * 600))


def test_an_alert_that_ends_before_it_is_verified_waits_for_that() -> None:
    told = Told()
    told.hear("a", firing=True, starts=float(told.now))
    id = told.approved("a")
    told.step(id, told.look())
    told.step(id, answered(200))
    told.hear("a", firing=False, ends=float(told.now) + 10)
    assert told.over == []
    for _ in range(2):
        told.step(id, Observed(True, False))
        told.now = Instant(told.now + 30)
    assert [(over.lasted, over.remedy) for over in told.over] == [(10, "fixed")]


def test_an_end_that_nobody_told_is_not_counted() -> None:
    told = Told()
    told.append(started("a", float(told.now), {"alertname": "A"}))
    gone = {"fingerprint": "a", "number": 1, "words": "absent from Alertmanager"}
    told.append(Draft("episode.ended", None, "system", gone))
    assert told.over == []


def test_an_end_in_a_journal_of_an_earlier_release_is_when_it_was_told() -> None:
    told = Told()
    told.append(started("a", float(told.now), {"alertname": "A"}))
    told.now = Instant(told.now + 50)
    told.append(
        Draft("episode.ended", None, "system", {"fingerprint": "a", "number": 1, "words": "resolved"})
    )
    assert told.over[-1].lasted == 50


def test_what_is_spared_is_counted_and_costs_what_the_policy_says() -> None:
    telemetry = Telemetry()
    policies = Policies([msgspec.structs.replace(POLICY, cost_per_minute=12.0)])
    numbers.count_over(telemetry, policies, Over(100, "fixed", POLICY.name, 500.0, False))
    numbers.count_over(telemetry, policies, Over(300, "fixed", POLICY.name, 60.0, True))
    read = telemetry.registry.get_sample_value
    of = {"policy": POLICY.name}
    assert read("promantis_breach_avoided_seconds_total", of) == 560
    assert read("promantis_cost_saved_total", of) == pytest.approx(112)
    assert read("promantis_time_to_recover_seconds_sum", {"remedy": "fixed"}) == 100
    assert read("promantis_time_to_recover_seconds_count", {"remedy": "fixed"}) == 1


def test_what_came_of_an_action_is_counted_by_what_it_was() -> None:
    told, telemetry, policies = Told(), Telemetry(), Policies([POLICY])
    told.hear("a", firing=True)
    told.fixed("a")
    told.now = Instant(told.now + 1000)
    told.hear("b", firing=True)
    id = told.approved("b")
    told.step(id, told.look())
    told.step(id, answered(400))  # refused: nothing was done
    book = Book()
    for fact in told.journal:
        old = book.cases.get(fact.case or "")
        book.add(fact)
        numbers.count(telemetry, policies, fact, old, book.cases.get(fact.case or ""))

    def outcomes(outcome: str) -> float | None:
        labels = {"policy": POLICY.name, "action": "http", "outcome": outcome}
        return telemetry.registry.get_sample_value("promantis_outcomes_total", labels)

    assert (outcomes("fixed"), outcomes("failed")) == (1, 1)


@pytest.mark.parametrize("cost", ["-1", ".inf", ".nan"])
def test_a_cost_that_is_none_is_named(cost: str) -> None:
    text = f"""
remedies:
  - name: a
    match: [x="y"]
    action: {{type: http, url: "https://example.org/"}}
    verify: {{query: up}}
    cost_per_minute: {cost}
"""
    with pytest.raises(ConfigError, match=r"remedies\[0\]\.cost_per_minute: must be a number, at least 0"):
        parse(text)
