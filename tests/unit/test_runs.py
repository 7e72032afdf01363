"""Runs over the threshold as columns see them: they begin, rise, pause, end, and are remembered for a while."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from sidecar.signals.detect.belief import Beliefs, moved
from sidecar.signals.known.snapshot import COLUMNS, LimitLines, Snapshot
from sidecar.signals.learn.runs import LATELY, MOST, QUIET, Run, Runs
from sidecar.signals.models import f4
from sidecar.types import Instant
from tests.unit.made import START, key, watch

STEP = 60.0
A, B, C = key(i="a"), key(i="b"), key(i="c")
KEYS = (A, B, C)
WATCHES = {"w": watch(kind="cpu", step=STEP)}
NO_LINES = LimitLines(np.empty(0, np.int64), [], np.empty((3, 0), f4), *np.empty((3, 0), f4))


def snapshot(
    at: float, score: Sequence[float], keys: Sequence[bytes | None] = KEYS, confidence: float = 0.6
) -> Snapshot:
    n = len(keys)
    columns = {name: np.full(n, np.nan, kind) for name, kind in COLUMNS.items()}
    columns["score"][:], columns["confidence"][:] = score, confidence
    watch_of = ["w" if k else "" for k in keys]
    rows = {"w": [i for i, k in enumerate(keys) if k]}
    return Snapshot(Instant(at), STEP, keys, watch_of, rows, WATCHES, columns, NO_LINES, {})


def told(scores: Sequence[float], runs: Runs | None = None) -> Runs:
    """The runs of the first of three series, after these scores."""
    runs = runs or Runs()
    for i, score in enumerate(scores):
        runs.note(snapshot(START + i * STEP, (score, 0.0, math.nan)))
    return runs


def times(run: Run) -> tuple[float, float]:
    return (run.start - START) / STEP, (run.end - START) / STEP


def test_a_run_goes_on_until_it_is_quiet_for_long_enough() -> None:
    (run,) = told([0, 1.0, 3.0, 0.2, 1.5, 0]).recent(10)
    assert times(run) == (1, 4)
    assert run.going
    assert (run.watch, run.kind, run.labels, run.peak) == ("w", "cpu", (("i", "a"),), 3.0)
    runs = told([0, 1.0, 3.0, 0.2, 1.5] + [0.5] * int(QUIET / STEP + 1))
    assert [(times(run), run.going) for run in runs.recent(10)] == [((1, 4), False)]
    runs.note(snapshot(START + 900, (2.0, 0, 0)))
    assert [times(run) for run in runs.recent(10)] == [(15, 15), (1, 4)]


def test_nan_is_not_over() -> None:
    assert told([math.nan] * 3).recent(10) == []


def test_of_a_watch_that_only_explains_others_nothing_is_told() -> None:
    silent = msgspec.structs.replace(WATCHES["w"], source="regressor")
    runs = Runs()
    runs.note(snapshot(START, (2.0, 2.0, 2.0))._replace(watches={"w": silent}))
    assert runs.recent(10) == []


def test_since_is_the_start_where_it_is_known() -> None:
    """After a restart a run did not begin at the first tick."""
    first = snapshot(START, (2.0, 0, 0))
    first.columns["since"][0] = START - 600
    runs = Runs()
    runs.note(first)
    assert runs.recent(1)[0].start == START - 600


def test_a_series_that_is_gone_ends_its_run_and_its_row_is_another_s() -> None:
    runs = told([2.0, 2.0])
    runs.note(snapshot(START + 120, (0.0, 0.0), (B, C)))
    assert [(run.key, run.going) for run in runs.recent(10)] == [(A, False)]
    runs.note(snapshot(START + 180, (2.0, 0.0), (B, C)))
    assert [(run.key, run.going) for run in runs.recent(10)] == [(B, True), (A, False)]
    runs.note(snapshot(START + 240, (2.0, 0.0, 0, 1.0), (B, C, None, A)))
    assert [(run.key, run.going) for run in runs.recent(10)] == [(A, True), (B, True), (A, False)]


def test_confidence_before_and_after_feedback() -> None:
    beliefs = Beliefs(watches={"w": -1.0})
    runs = Runs()
    runs.note(snapshot(START, (2.0, 0, 0), confidence=0.5))
    prior = np.array([0.7], f4)
    runs.note(snapshot(START + 60, (2.0, 0, 0), confidence=float(moved(prior, f4(-1.0))[0])), beliefs)
    (run,) = runs.recent(10)
    assert run.confidence == pytest.approx(0.5)
    assert run.prior == pytest.approx(0.7, abs=1e-5)


def test_only_the_last_are_remembered() -> None:
    runs = Runs()
    keys = tuple(key(i=str(i)) for i in range(MOST + 10))
    runs.note(snapshot(START, [2.0] * len(keys), keys))
    runs.note(snapshot(START + 1000, [0.0] * len(keys), keys))
    assert len(runs.recent(10 * MOST)) == MOST


def test_an_engine_that_is_no_more_ends_its_runs() -> None:
    runs = told([2.0])
    runs.retire(STEP)
    runs.retire(STEP)
    assert [run.going for run in runs.recent(10)] == [False]


def test_which_run_is_spoken_of() -> None:
    runs = told([2.0] + [0.0] * 8 + [2.0] * 2 + [0.0] * 8 + [2.0])

    def found(
        start: float | None = None, end: float | None = None, i: str = "a"
    ) -> list[tuple[float, float]]:
        at = [None if t is None else Instant(START + t * STEP) for t in (start, end)]
        return [times(run) for run in runs.find(lambda labels: labels["i"] == i, now, *at)]

    now = Instant(START + 20 * STEP)

    assert found() == [(19, 19)]
    assert found(end=9) == [(9, 10), (0, 0)]
    assert found(start=10) == [(19, 19), (9, 10)]
    assert found(2, 8) == []
    assert found(i="b") == []
    told([0.0] * 30, runs)
    assert found() == [(19, 19)]  # nothing goes on: the last one
    now = Instant(now + LATELY)
    assert found() == []
