"""The range queries that teach a watch its past."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sidecar.signals.learn.history import (
    FEWEST,
    LIVE_TICKS,
    MOST,
    POINTS,
    SAMPLES,
    LearningConfig,
    Span,
    spans,
)
from sidecar.types import Duration, Instant

DAY = 86400.0
NOW = Instant(1_700_000_003.0)


def points(span: Span) -> int:
    return round((span.end - span.start) / span.step) + 1


def test_a_month_at_fifteen_seconds() -> None:
    found = spans(NOW, Instant(0), LearningConfig(), 15, 10)
    assert [span.step for span in found] == [300.0, 15.0]
    coarse, live = found
    assert (points(coarse), points(live)) == (8640 - LIVE_TICKS * 15 // 300, LIVE_TICKS)
    assert coarse.start - (NOW - 30 * DAY) < 300
    assert NOW - live.end < 15


def test_only_the_live_step_where_data_is_young() -> None:
    [span] = spans(NOW, Instant(NOW - 250), LearningConfig(), 15, 10)
    assert span == Span(Instant(1_699_999_755.0), Instant(1_699_999_995.0), 15)


def test_nothing_without_history() -> None:
    assert spans(NOW, NOW, LearningConfig(), 15, 10) == []


@given(
    st.sampled_from([1.0, 5.0, 15.0, 60.0, 300.0, 600.0]),
    st.integers(0, 200_000),
    st.floats(0, 60 * DAY),
    st.integers(0, 40 * 86400),
)
def test_spans_are_in_order_bounded_and_apart(step: float, series: int, age: float, history: int) -> None:
    earliest = Instant(NOW - age)
    found = spans(NOW, earliest, LearningConfig(history=Duration(history)), step, series)
    for span in found:
        assert span.start <= span.end <= NOW
        assert span.start >= max(earliest, NOW - history)
        assert span.start % span.step == 0
        assert points(span) <= POINTS
        most = SAMPLES if points(span) > FEWEST else MOST
        assert points(span) * series <= max(most, series)
    for before, after in pairwise(found):
        assert before.end < after.start
        assert before.step >= after.step
    live = [span for span in found if span.step == step and step < 300]
    assert sum(map(points, live)) <= LIVE_TICKS
