"""The user's rules over a recorded past: what would have been announced, by Promantis and by predict_linear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.known.ledger import Verdict
from sidecar.signals.replay.rehearsal import Rehearsal, Tally, predict_linear, tally
from sidecar.signals.watch.watches import Limit
from sidecar.types import F64, Instant
from tests.unit.made import START, key, watch

STEP, DAY = 150.0, 576
FULL, SLOW = (
    watch("disk", "disk", STEP, limits=(Limit(">", 90.0, alertname="Full"),)),
    watch("calm", "calm", STEP),
)


def past(days: float = 1.0) -> tuple[F64, Mapping[str, Matrix]]:
    """Two disks that fill in three hours and four; a series without a limit, that comes late."""
    n = int(days * DAY)
    at, i, rng = START + np.arange(n) * STEP, np.arange(n), np.random.default_rng(1)
    disks = np.stack([10 + 85 * (i % length) / length for length in (72, 96)], axis=1) + rng.normal(
        0, 0.2, (n, 2)
    )
    calm = rng.normal(5, 1, (n, 1))
    calm[: n // 2] = np.nan
    return at, {
        "disk": Matrix([key(host="a"), key(host="b")], at, disks),
        "calm": Matrix([key(job="c")], at, calm),
    }


def played(since: float = START, pieces: int = 1) -> Rehearsal:
    at, answers = past()
    made = Rehearsal([FULL, SLOW], STEP, Instant(since))
    for part in np.array_split(np.arange(len(at)), pieces):
        made.play(at[part], {name: Matrix(m.keys, at[part], m.values[part]) for name, m in answers.items()})
    return made


@pytest.fixture(scope="module")
def whole() -> Rehearsal:
    return played()


def test_fills_are_announced_by_both(whole: Rehearsal) -> None:
    ours = tally(whole.ours)["Full", "", ()]
    assert ours.fired == DAY // 72 + DAY // 96
    assert ours.announced >= 8
    assert ours.false <= 3
    assert 900 < np.median(ours.ahead) < 3600
    best = max((tally(verdicts)["Full", "", ()] for verdicts in whole.linear.values()), key=lambda t: t.f1)
    assert best.fired == ours.fired
    assert best.announced >= 11
    assert len({tuple(map(tuple, verdicts)) for verdicts in whole.linear.values()}) == len(whole.linear)


def test_how_the_past_is_cut_does_not_matter(whole: Rehearsal) -> None:
    cut = played(pieces=7)
    np.testing.assert_equal(cut.ours, whole.ours)  # NaN equals NaN
    np.testing.assert_equal(cut.linear, whole.linear)


def test_only_what_is_decided_late_counts(whole: Rehearsal) -> None:
    since = START + DAY * STEP / 2
    late = played(since)
    np.testing.assert_equal(late.ours, [verdict for verdict in whole.ours if verdict.at >= since])
    assert 0 < len(late.ours) < len(whole.ours)


def test_while_prometheus_was_away_nothing_was_seen() -> None:
    """A fill is announced, but half a day is missing: that it came is not known, nor is it false."""
    at, answers = past()
    values = answers["disk"].values[:, :1].copy()
    values[56:280] = np.nan
    made = Rehearsal([FULL], STEP, Instant(START))
    made.play(at, {"disk": Matrix([key(host="a")], at, values)})
    assert [v for v in made.ours if at[50] < v.at < at[284]] == []
    assert [v.verdict for v in made.ours if v.at > at[284] and v.verdict != "false"]


def test_a_tally() -> None:
    rule, other = ("High", "page", ()), ("Low", "", ())
    verdicts = [
        Verdict(rule, "announced", Instant(5), 60.0), Verdict(rule, "missed", Instant(6), np.nan),
        Verdict(rule, "false", Instant(7), np.nan), Verdict(other, "missed", Instant(8), np.nan),
    ]  # fmt: skip
    told = tally(verdicts)
    assert told == {rule: Tally(1, 1, 1, (60.0,)), other: Tally(0, 1, 0)}
    assert (told[rule].f1, told[other].f1, Tally().f1, told[rule].fired) == (0.5, 0, 0, 2)


def test_predict_linear_of_large_values_and_gaps() -> None:
    at = START + np.arange(10_000) * 60.0
    line = 1e12 + 3.0 * (at - START)
    values = np.stack(
        [line, np.where(np.arange(len(at)) % 7, line, np.nan), np.full(len(at), np.nan)], axis=1
    )
    said = predict_linear(at, values, 900.0)
    np.testing.assert_allclose(said[1:, 0] - line[1:], 3 * 3600, rtol=1e-4)
    np.testing.assert_allclose(said[20:, 1] - line[20:], 3 * 3600, rtol=1e-4)
    assert np.isnan(said[:, 2]).all()
    assert np.isnan(said[0, 0])
