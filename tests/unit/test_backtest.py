"""Replaying recorded metrics: only the past is used, and whoever else is replayed does not matter."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.known import why
from sidecar.signals.replay.backtest import Page, Recording, count, pages, run
from sidecar.signals.watch.watches import Watch
from tests.unit.waves import DAY, START, STEP, wave


def test_a_row_knows_nothing_of_later_rows() -> None:
    whole = wave(4)
    half = Recording("a", whole.at[: 3 * DAY], whole.values[: 3 * DAY])
    one, two = (run([r], STEP, ["raw", "f60"])[0] for r in (whole, half))
    for name in one:
        np.testing.assert_array_equal(one[name][: 3 * DAY], two[name])


@pytest.mark.parametrize("apart", [5 * 604800.0, 86400.0 + 449.9, -100 * 86400.0 + 13])
def test_files_of_one_step_run_together_as_they_would_alone(apart: float) -> None:
    """Also when one begins within the other, a part of a step later, or has a gap where the other has none."""
    one, two = wave(3), wave(3, seed=2, start=START + apart)
    for recording in (one, two):
        recording.values[250:253] += 30
    here = np.r_[0:200, 240 : len(one.at)]
    one = Recording("a", one.at[here], one.values[here])
    together = run([one, two], STEP, ["raw", "confidence"])
    for alone, joined in zip((one, two), together, strict=True):
        by_itself = run([alone], STEP, ["raw", "confidence"])[0]
        assert np.isfinite(joined["raw"]).sum() > 2 * DAY
        for name, column in by_itself.items():
            np.testing.assert_array_equal(joined[name], column)


def test_a_clock_is_followed_without_looking_ahead() -> None:
    """One that jumps by 0.4 steps, and jitters: each sample is a tick, and the rows before do not know of it."""
    whole, rng = wave(5), np.random.default_rng(3)
    late = Recording("a", whole.at + rng.uniform(-200, 200, len(whole.at)), whole.values)
    late.at[3 * DAY :] += 0.4 * STEP
    said = run([late], STEP, ["raw", "observed"])[0]
    before = run([Recording("a", late.at[: 3 * DAY], late.values[: 3 * DAY])], STEP, ["raw"])[0]["raw"]
    np.testing.assert_array_equal(said["raw"][: 3 * DAY], before)
    np.testing.assert_array_equal(said["observed"][4 * DAY :], late.values[4 * DAY :])


def test_late_samples_and_a_gap_cost_no_row() -> None:
    """Around half a step off, each a few seconds early or late: every sample is a tick of its own."""
    true = wave(4)
    true.values[340:343] += 30
    rng = np.random.default_rng(3)
    late = Recording("a", true.at + 450 + rng.uniform(-50, 50, len(true.at)), true.values)
    here = np.r_[0 : 2 * DAY, 3 * DAY : 4 * DAY]
    gappy = Recording("a", late.at[here], late.values[here])
    assert late.step == STEP
    exact, said, holed = (run([r], STEP, ["raw"])[0]["raw"][:, 0] for r in (true, late, gappy))
    assert np.isfinite(said).sum() == np.isfinite(exact).sum()
    assert said[340] == pytest.approx(exact[340], abs=0.5)  # profiles are read half a step off
    np.testing.assert_array_equal(holed[: 2 * DAY], said[: 2 * DAY])
    assert np.nanmax(holed[2 * DAY : 2 * DAY + 40]) < 1  # coming back is no page


def test_settings_are_those_of_a_watch() -> None:
    recording = wave(4)
    recording.values[310:316] -= 60
    both, up = (
        run([recording], STEP, ["raw"], Watch("w", "", "config", STEP, direction=direction))[0]["raw"]
        for direction in ("both", "up")
    )
    assert np.nanmax(both[310:316]) > 2 > 1 > np.nanmax(up[310:316])


def test_a_series_that_vanishes_is_told_where_its_labels_are_known() -> None:
    one = wave(5)
    values = np.concatenate([one.values, wave(5, seed=2).values], axis=1)
    values[400:406, 0] = np.nan
    patient = Watch("w", "", "config", STEP, absent_for=3600)
    keys = [b'{"instance":"a"}', b'{"instance":"b"}']
    asked = run([Recording("", one.at, values, keys)], STEP, ["raw", "why"], patient)[0]
    assert np.nanmax(asked["raw"][401:406, 0]) > 1
    assert asked["why"][402, 0] == why.ABSENT
    recorded = run([Recording("", one.at, values)], STEP, ["raw"])[0]["raw"]
    assert np.isnan(recorded[400:406, 0]).all()


def test_a_jump_pages_once_with_its_reason() -> None:
    recording = wave(4)
    recording.values[310:316] += 60
    said = run([recording], STEP, ["raw", "why"])[0]
    raw = said["raw"][:, 0]
    found = pages(recording.at, raw, 1.0, STEP)
    assert [page.start for page in found] == [recording.at[310]]
    assert recording.at[315] <= found[0].end <= recording.at[318]  # falling back is odd as well
    assert why.words(int(said["why"][found[0].row, 0]), up=True).startswith(("far above", "rose"))


def test_runs_near_each_other_are_one_page() -> None:
    at = np.arange(10) * 60.0
    score = np.array([0, 2, 0, 0, 3, 0, 1, np.nan, 0, 5])
    assert pages(at, score, 1, 60.0) == [Page(1, 60, 120, 2), Page(4, 240, 420, 3), Page(9, 540, 600, 5)]
    assert count(at, score, 1, 60.0) == 3
    assert (pages(at, score, 6, 60.0), count(at, score, 6, 60.0)) == ([], 0)
