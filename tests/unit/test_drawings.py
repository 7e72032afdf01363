"""Small drawings: lines of the last hours, several on one time, and who calls whom."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from sidecar.alerts.scene import Moved
from sidecar.types import Breach, Instant
from sidecar.web import spark
from sidecar.web.map import BOX, TALL, mapped

END = 1_764_000_000.0
AT = END - 60.0 * np.arange(120)[::-1]


def moved(watch: str, since: float | None) -> Moved:
    return Moved(
        "shop", "latency", watch, "2 s", "1 s", None if since is None else Instant(since), watch, b"{}"
    )


def test_a_line_has_gaps_and_its_odd_part() -> None:
    values = np.linspace(0, 1, 120)
    values[50:60] = math.nan
    drawn = spark.spark(AT, values, END - 7140, END, 0.0, 0.5, END - 600)
    assert drawn is not None
    assert drawn.line.count("M") == 2
    assert drawn.odd.startswith("M90")
    assert drawn.line.endswith("L100 3")
    assert drawn.top == pytest.approx(spark.HEIGHT / 2, abs=0.1)
    assert "nan" not in str(drawn)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e12])
def test_a_constant_lies_in_the_middle(value: float) -> None:
    drawn = spark.spark(AT, np.full(120, value), END - 7200, END)
    assert drawn is not None
    assert set(re.findall(r" ([\d.]+)", drawn.line)) == {"14"}
    assert drawn.band == 0


def test_less_than_two_values_are_no_line() -> None:
    values = np.full(120, math.nan)
    values[-1] = 1.0
    assert spark.spark(AT, values, END - 7200, END) is None
    assert spark.spark(AT, np.ones(120), END + 1, END + 2) is None


def test_what_moved_stands_on_one_time() -> None:
    pasts = {("a", b"{}"): (AT, np.ones(120))}
    found = spark.lanes([moved("a", END - 1200), moved("b", None)], pasts)
    assert found is not None
    assert [lane.onset for lane in found.rows] == [33.3, None]  # of half an hour
    assert found.rows[1].spark is None
    assert all(0 <= tick.place <= 100 for tick in found.ticks)
    assert spark.lanes([], pasts) is None
    assert spark.lanes([moved("a", END)], {}) is None
    long_ago = spark.lanes([moved("a", END - 1e6)], pasts)
    assert long_ago is not None
    assert long_ago.rows[0].onset == 0


def test_a_breach_beyond_the_hour_has_no_dot() -> None:
    assert spark.track(Breach("A", "", ">", 1.0, 0.0, {}, None)) == ([], None)
    assert spark.track(Breach("A", "", ">", 1.0, 0.0, {"60m": 0.5}, 4000.0)).eta is None


def test_nobody_calls_is_no_picture() -> None:
    assert mapped([], {"shop": "likely"}) is None


def test_who_calls_in_a_ring_or_itself_is_drawn_nevertheless() -> None:
    drawn = mapped([("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")], {}, {"a->b"})
    assert drawn is not None
    assert len(drawn.nodes) == 3
    assert len(drawn.edges) == 3
    assert {n.name for n in drawn.nodes if n.moved} == {"b"}
    places = [(n.x, n.y) for n in drawn.nodes]
    assert len(set(places)) == 3
    assert all(x + BOX <= drawn.width and y + TALL <= drawn.height for x, y in places)


def test_boxes_do_not_overlap_and_long_names_are_cut() -> None:
    calls = [("front", f"service-with-a-long-name-{i}") for i in range(6)]
    drawn = mapped(calls, {})
    assert drawn is not None
    column = sorted(n.y for n in drawn.nodes if n.x > BOX)
    assert all(b - a >= TALL for a, b in itertools.pairwise(column))
    assert max(len(n.short) for n in drawn.nodes) == 16
