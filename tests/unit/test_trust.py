"""What is not learned: rows under an alert, a silence, an event or a word of a user; and for how long."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from sidecar.signals.ingest.series import Table
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.learn.trust import REASONS, Doubt, Incident, Silence, Trust, none
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.calendar import EventConfig, When, planned
from sidecar.signals.watch.selectors import Matcher, parse, ways
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import Bools, Instant, labels_of
from tests.unit.made import START, dumped, engine, key, learned, vector, watch

A, B, C = key(pod="a", job="j"), key(pod="b", job="j"), key(pod="c", job="k")
PAGE = Limit(">", 50.0, alertname="High", severity="page", labels=(("team", "t"),))
HIGH = watch("high", limits=(PAGE,), alertnames=("High",))
OTHER = watch("other", "y")
PATIENCE = 3600.0


def asked(trust: Trust, e: Engine, at: float = START) -> tuple[list[int], list[int]]:
    """Rows that are suspect, and rows that are planned."""
    found = trust.doubt(e.step, at, e.table.view(), e.watches, e.capacity)
    assert len(found.suspect) == len(found.planned) == e.capacity
    return np.flatnonzero(found.suspect).tolist(), np.flatnonzero(found.planned).tolist()


@pytest.fixture
def three() -> Engine:
    """Rows 0 to 2 are A, B, C of `high`, 3 is A of `other`."""
    e = engine(HIGH, OTHER)
    e.tick(START, {"high": vector({A: 1.0, B: 1.0, C: 1.0}), "other": vector({A: 1.0})}, 10)
    return e


def alert(**labels: str) -> tuple[tuple[str, str], ...]:
    return labels_of({"alertname": "High", "severity": "page", "team": "t", **labels})


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (alert(pod="a", job="j"), [0]),
        (alert(pod="a", job="k"), []),
        (alert(pod="a", job="j", more="is fine"), [0]),
        (alert(pod="a"), []),
        (alert(alertname="Another", pod="a", job="j"), []),
        (alert(pod="a", job="j", promantis_kind="anomaly"), []),
    ],
)
def test_a_firing_alert_is_about_the_series_of_its_rule(
    three: Engine, labels: tuple[tuple[str, str], ...], rows: list[int]
) -> None:
    trust = Trust(PATIENCE)
    trust.fire([labels])
    assert asked(trust, three) == (rows, [])
    trust.fire([])
    assert asked(trust, three) == ([], [])


def test_a_label_that_the_rule_overwrites_does_not_count() -> None:
    e = engine(HIGH)
    e.tick(START, {"high": vector({key(team="of the series", pod="a"): 1.0})}, 10)
    trust = Trust(PATIENCE)
    trust.fire([alert(pod="a")])
    assert asked(trust, e) == ([0], [])


@pytest.mark.parametrize(
    ("matchers", "rows"),
    [
        ([("pod", "=", "a")], [0, 3]),
        ([("pod", "=", "a"), ("alertname", "=", "High")], [0]),
        ([("alertname", "=~", "Hi.*"), ("severity", "!=", "ticket")], [0, 1, 2]),
        ([("team", "=", "t"), ("job", "!~", "j|l")], [2]),
        ([("watch", "=", "other")], [3]),
        ([("alertname", "=", "Another")], []),
        ([("pod", "=~", "(?P<a)")], []),  # not an expression here: it silences nothing
    ],
)
def test_a_silence_is_about_the_alerts_that_a_series_could_raise(
    three: Engine, matchers: list[tuple[str, str, str]], rows: list[int]
) -> None:
    trust = Trust(PATIENCE)
    trust.silence([Silence(tuple(Matcher(*m) for m in matchers), START, START + 60)])
    assert asked(trust, three) == (rows, [])
    assert asked(trust, three, START - 1) == ([], [])
    assert asked(trust, three, START + 60) == ([], [])


def test_values_that_json_may_write_in_two_ways_are_read(three: Engine) -> None:
    odd = b'{"path":"\\u003ca\\u003e"}'  # as VictoriaMetrics writes it
    three.tick(Instant(START + 15), {"other": vector({odd: 1.0})}, 10)
    trust = Trust(PATIENCE)
    trust.distrust([Incident((parse('{path="<a>"}'),), START, START + 60)])
    assert asked(trust, three) == ([], [4])


def test_rows_that_come_and_go_are_followed(three: Engine) -> None:
    trust = Trust(PATIENCE)
    trust.distrust([Incident(ways('{job="k" or pod="b"}'), START, START + 60)])
    assert asked(trust, three) == ([], [1, 2])
    three.tick(Instant(START + 15), {"other": vector({C: 1.0})}, 10)
    assert asked(trust, three) == ([], [1, 2, 4])
    three.table.drop([2])
    assert asked(trust, three) == ([], [1, 4])
    three.tick(
        Instant(START + 30), {"other": vector({A: 1.0, B: 1.0, C: 1.0})}, 10
    )  # B takes the row that was free
    assert asked(trust, three) == ([], [1, 2, 4])
    assert trust.counts() == {"alert": 0, "silence": 0, "event": 0, "feedback": 3}
    trust.retire(three.step)
    assert sum(trust.counts().values()) == 0


def test_only_what_changed_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key(i=str(i)) for i in range(500)]
    table, seen = Table(), list[int]()
    table.place("other", keys, 1000)
    trust, watches = Trust(PATIENCE), {"other": OTHER}
    trust.distrust([Incident((parse('{i=~"1.*"}'),), START, START + 60)])
    fits = Incident.among

    def among(self: Incident, watch: Watch, keys: list[bytes]) -> object:
        seen.append(len(keys))
        return fits(self, watch, keys)

    monkeypatch.setattr(Incident, "among", among)
    for _ in range(2):
        trust.doubt(15, START, table.view(), watches, 1000)
    table.place("other", [*keys, key(i="1000")], 1000)
    found = trust.doubt(15, START, table.view(), watches, 1000)
    assert seen == [500, 1]
    assert found.planned.sum() == 112


# --------------------------------------------------------------------------- events


def at_noon() -> tuple[EventConfig, ...]:
    text = (When("2023-11-15T12:00:00"), When("2023-11-15T13:00:00"))
    return (EventConfig(name="sale", match=('{job="j"}',), start=text[0], end=text[1]),)


def test_an_event_is_on_from_its_start_to_its_end(three: Engine) -> None:
    trust, noon = Trust(PATIENCE), When("2023-11-15T12:00:00Z").at("UTC")
    trust.plan(planned(at_noon(), "Europe/Berlin", {}))
    for at, rows in ((-3601, []), (-3600, [0, 1, 3]), (-1, [0, 1, 3]), (0, []), (3 * 86400, [])):
        assert asked(trust, three, noon + at) == ([], rows)
    trust.plan(())
    assert asked(trust, three, noon - 1) == ([], [])


def test_history_in_an_event_is_not_taught() -> None:
    trust, noon = Trust(PATIENCE), When("2023-11-15T12:00:00Z").at("UTC")
    trust.plan(planned(at_noon(), "UTC", {}))
    at = noon + np.arange(-2, 5) * 1800.0
    past = trust.past(at, [HIGH, OTHER], [[A, C], [B]])
    assert past[:, 1].all()
    assert past[:, 0].tolist() == past[:, 2].tolist() == [True, True, False, False, True, True, True]
    assert trust.past(np.array([]), [HIGH], [[A]]).shape == (0, 1)


# --------------------------------------------------------------------------- what comes of it


def rows(*marked: int, of: int = 64) -> Bools:
    out = np.zeros(of, bool)
    out[list(marked)] = True
    return out


@pytest.fixture(scope="module")
def state() -> tuple[Mapping[str, object], dict[str, np.ndarray]]:
    e = engine(watch())
    rng = np.random.default_rng(1)
    e.adopt(START, "w", [A, B], learned(15.0, 2, lambda _: 10 + rng.normal(0, 1, 2), 0.2), 0, 100)
    e.tick(START, {"w": vector({A: 10.0, B: 10.0})}, 10)
    return dumped(e)


def ticked(e: Engine, doubt: Doubt | None, ticks: int, value: float = 14.0) -> Snapshot:
    said = None
    for _ in range(ticks):
        at = Instant(e.at + e.step)
        said = e.advance(e.frame(at, {"w": vector({A: value, B: value})}, 10), doubt)
    assert said is not None
    return said


def test_what_is_in_doubt_is_scored_but_not_learned(state) -> None:
    e = Engine.load(*state, {"w": watch()})
    levels = e.blocks[0].level.level.copy()
    said = ticked(e, Doubt(rows(0), rows(), PATIENCE), 60, 30.0)
    moved = e.blocks[0].level.level - levels
    assert moved[0] == 0
    assert moved[1] > 1
    assert said.columns["score"][0] > said.columns["score"][1]


def test_a_new_normal_is_accepted_at_last_also_over_a_restart(state) -> None:
    doubt = Doubt(rows(0), rows(), 600.0)
    e = Engine.load(*state, {"w": watch()})
    level = e.blocks[0].level.level[0]
    ticked(e, doubt, 30)
    e = Engine.load(*dumped(e), {"w": watch()})
    ticked(e, doubt, 10)
    assert e.blocks[0].level.level[0] == level
    ticked(e, doubt, 2)
    assert e.blocks[0].level.level[0] > level
    # a break begins the time anew
    ticked(e, none(64), 1)
    level = e.blocks[0].level.level[0]
    ticked(e, doubt, 30)
    assert e.blocks[0].level.level[0] == level


def test_nothing_in_an_event_is_worth_a_look_and_nothing_of_it_is_learned(state) -> None:
    e = Engine.load(*state, {"w": watch(group_by=("job",))})
    level = e.blocks[0].level.level[0]
    loud = ticked(e, Doubt(rows(), rows(0), 15.0), 10, 40.0)
    assert loud.columns["score"][1] > 1.5
    assert loud.columns["score"][0] == np.float32(0.99)
    assert np.isnan(loud.columns["since"][0])
    assert loud.columns["confidence"][0] == 0
    assert e.blocks[0].level.level[0] == level  # no patience ends an event: it has an end of its own
    quiet = ticked(e, Doubt(rows(), rows(0, 1), 15.0), 1, 40.0)
    assert quiet.groups.score.tolist() == [0]
    after = ticked(e, none(64), 1, 40.0)
    assert after.columns["score"][0] > 1
    assert after.columns["since"][0] == after.at


def test_every_reason_is_counted() -> None:
    assert tuple(Trust(PATIENCE).counts()) == REASONS
