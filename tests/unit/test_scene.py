"""What moved when and who calls whom around an alert; which incidents are open, and what is said of them."""

from __future__ import annotations

import math

import numpy as np

from sidecar.alerts.evidence import evidence
from sidecar.alerts.incidents import TOGETHER
from sidecar.alerts.scene import calls_around, moved
from sidecar.types import Candidates, Instant
from tests.unit.calling import candidates
from tests.unit.test_explain import FULL, NOW, POOL, World, alert, explainer


def test_what_moved_is_of_those_around_and_in_order_of_time() -> None:
    c = World(candidates(FULL, more=POOL)).c
    ev = evidence(c)
    found = moved(c, ev, frozenset({"front", "pay", "bank"}))
    assert [(one.entity, one.kind) for one in found if one.entity == "bank"] == [
        ("bank", "latency"),
        ("bank", "saturation"),
    ]
    assert "cart" not in {one.entity for one in found}
    full = next(one for one in found if one.kind == "saturation")
    assert (full.now, full.usual, full.watch, full.key) == ("95%", "45%", "saturation", b"bank")
    since = [one.since for one in found if one.since is not None]
    assert since == sorted(since)
    assert all(NOW - 600 <= at <= NOW for at in since)
    assert len(moved(c, ev, frozenset({"front", "pay", "bank"}), 1)) == 1
    assert moved(c, ev, frozenset()) == ()
    calm = World(candidates({}, more=POOL)).c
    assert moved(calm, evidence(calm), frozenset({"bank"})) == ()


def test_nothing_moved_where_nothing_is_kept() -> None:
    nothing = np.zeros(0)
    c = Candidates([], [], [], *[nothing] * 5, np.zeros((0, 0)))
    assert moved(c, evidence(c), frozenset({"shop"})) == ()
    assert calls_around(c, ["shop"]) == ()


def test_an_explanation_has_its_scene() -> None:
    found = explainer(World(candidates(FULL, more=POOL)))(alert(), NOW)
    assert found is not None
    assert {"front", "pay", "bank"} <= {one for pair in found.calls for one in pair}
    assert "bank" in {one.entity for one in found.moved}
    assert not [one for one in found.moved if one.since is not None and math.isnan(one.since)]


def test_incidents_that_are_open_and_what_was_said_of_them() -> None:
    made = explainer(World(candidates(FULL, more=POOL)))
    assert made.going() == []
    assert made.told(alert(), NOW) is None  # nothing is diagnosed for who only looks
    first = made(alert(), NOW)
    made(alert("pay", "Slow"), NOW)
    [one] = made.going()
    assert first is not None
    assert one.firing == (alert().labels, alert("pay", "Slow").labels)
    assert one.id == first.incident
    assert len(one.fingerprints) == 2
    assert one.said is not None
    assert one.said.pattern == first.pattern == "pool exhaustion"
    assert made.told(alert(), NOW) == first

    over = alert(ends="1970-01-01T02:03:59Z")
    made(over, NOW)
    [one] = made.going()
    assert one.firing == (alert("pay", "Slow").labels,)
    assert made.told(over, NOW) == first  # it is over, its incident is not

    before = made.incidents.open[0].last
    for i in range(5):
        made.told(over, Instant(NOW + 100 * i))
    assert made.incidents.open[0].last == before  # looking at it keeps nothing open
    made.over(Instant(NOW + 2 * TOGETHER))
    assert made.going() == []
    assert made.told(over, NOW) is None
