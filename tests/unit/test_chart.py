"""What a chart draws, and where it comes from."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.known.picture import Picture, pictured
from sidecar.types import Instant, Unavailable
from sidecar.web.chart import Mark, drawn
from tests.unit.paging import UNKNOWN, finding
from tests.unit.test_views import NOW, picture


def test_gaps_are_gaps_and_the_future_has_room() -> None:
    chart = drawn(picture(), finding(), [Mark(NOW - 60, "a deed"), Mark(NOW - 1e6, "long ago")])
    assert chart is not None
    assert chart.value.count("M") == 2
    assert chart.band.count("Z") == 2
    assert [m.text for m in chart.marks] == ["a deed"]
    (odd,) = chart.odd
    assert odd.x < chart.now
    assert odd.x + odd.width <= chart.now + 0.1  # nothing that is to come is odd yet
    assert chart.now < chart.ahead[0].x <= 712
    assert chart.rows[0].text == "0"  # what is near 0 is drawn from there
    assert "NaN" not in str(chart)
    assert "nan" not in str(chart)


def test_the_usual_of_now_reaches_ahead_and_so_do_the_near_limits() -> None:
    one = finding(service="shop")
    chart = drawn(picture(), one)
    assert chart is not None
    right = max(float(point.split()[0]) for point in chart.band.strip("MZ").replace("ZM", "L").split("L"))
    assert right == max(a.x for a in chart.ahead)
    assert len(chart.limits) == 1
    far = msgspec.structs.replace(one.breaches[0], value=90.0)
    away = drawn(picture(), msgspec.structs.replace(one, breaches=(far,)))
    assert away is not None
    assert away.limits == ()
    blank = np.full(40, math.nan)
    young = drawn(picture()._replace(lower=blank, upper=blank), one)  # Prometheus has not scraped a band yet
    assert young is not None
    assert young.band.count("Z") == 1


def test_nothing_to_draw() -> None:
    blank = np.full(3, math.nan)
    empty = Picture(np.array([0.0, 15.0, 30.0]), blank, blank, blank, blank, blank, blank)
    assert drawn(empty, UNKNOWN) is None


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e12, 1e-9])
def test_a_constant_is_drawn(value: float) -> None:
    same = np.full(3, value)
    chart = drawn(Picture(np.array([0.0, 15.0, 30.0]), same, same, same, same, same * 0, same), UNKNOWN)
    assert chart is not None
    assert 2 <= len(chart.rows) <= 8


def test_what_is_odd_only_now_is_wide_enough_to_be_seen() -> None:
    score = np.zeros(40)
    score[-1] = 1
    chart = drawn(picture()._replace(score=score), finding())
    assert chart is not None
    assert chart.odd == ((chart.now, 2.0),)


# --------------------------------------------------------------------------- where it comes from


class Source:
    """Answers by what the query begins with."""

    def __init__(self, *down: str) -> None:
        self.down, self.asked = down, list[str]()

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        self.asked.append(query)
        if query.startswith(self.down or "\0"):
            raise Unavailable("down")
        at = np.arange(start, end + 1, step)
        keys = (
            [b'{"__name__":"promantis_upper"}', b'{"__name__":"promantis_lower"}']
            if "__name__=~" in query
            else [b"{}"]
        )
        return Matrix(keys, at, np.arange(len(keys)) + np.zeros((len(at), 1)))


async def test_a_picture_is_on_one_grid_and_takes_what_it_can_get() -> None:
    source: Any = Source("q{")
    made = await pictured(source, finding(service="shop"), NOW, 21600.0)
    assert len(made.at) == len(made.value) == len(made.upper) == 241
    assert made.at[-1] <= NOW
    assert np.isnan(made.value).all()
    assert (made.upper == 0).all()
    assert (made.lower == 1).all()
    assert (made.said == 0).all()
    assert '{watch="latency",service="shop",__name__=~"' in source.asked[0]
    series = '{watch="latency",service="shop"'
    assert source.asked[1:] == [
        f'promantis_forecast{series},horizon="60m"}} offset 3600s',
        'q{service="shop"}',
    ]


async def test_a_query_that_cannot_be_narrowed_is_joined_with_the_score() -> None:
    source: Any = Source()
    await pictured(source, msgspec.structs.replace(finding(service="shop"), query="topk(3, q)"), NOW, 21600.0)
    score = 'promantis_anomaly_score{watch="latency",service="shop"}'
    assert source.asked[2] == f"(topk(3, q)) and ignoring (watch) last_over_time({score}[1h] @ end())"
