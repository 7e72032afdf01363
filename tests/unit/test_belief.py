"""What verdicts teach: as much as they say, of the watch that they speak of, and hardly anything of others."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.detect.belief import NONE, Verdict, learned, moved
from sidecar.signals.models import f4


def after(verdicts: list[Verdict], watch: str = "w", kind: str = "cpu", prior: float = 0.7) -> float:
    """The confidence of a run of a watch, whose prior is given, after these verdicts."""
    return float(moved(np.array([prior], f4), f4(learned(verdicts).of(watch, kind)))[0])


def said(real: bool, count: int, watch: str = "w", kind: str = "cpu", prior: float = 0.7) -> list[Verdict]:
    return [Verdict(watch, kind, prior, real)] * count


def test_nothing_said_changes_nothing() -> None:
    assert learned([]) is NONE
    assert after([]) == pytest.approx(0.7)


def test_ten_times_not_real_lowers_the_watch_and_hardly_others() -> None:
    verdicts = said(False, 10)
    assert 0.08 < after(verdicts) < 0.25  # none in ten, shrunk to the prior
    assert 0.62 < after(verdicts, "other", "cpu") < 0.68
    assert 0.67 < after(verdicts, "another", "disk") < 0.7


def test_ten_times_real_raises() -> None:
    verdicts = said(True, 10)
    assert 0.84 < after(verdicts) < 0.97
    assert after(verdicts, "other", "cpu") < 0.78


def test_the_score_that_a_run_had_is_reckoned_with() -> None:
    """That a sure one was not real says more than of a doubtful one; and what was to be expected says little."""
    assert after(said(False, 3, prior=0.9)) < after(said(False, 3, prior=0.3)) < 0.7


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_with_many_verdicts_confidence_is_the_share_that_was_real(share: float) -> None:
    n = 200
    verdicts = said(True, round(n * share)) + said(False, n - round(n * share))
    assert after(verdicts) == pytest.approx(share, abs=0.03)


def test_verdicts_that_follow_the_prior_in_no_order_leave_it() -> None:
    """Labels drawn from the prior and shuffled over the watches."""
    rng = np.random.default_rng(3)
    prior = rng.uniform(0.1, 0.95, 600)
    real = rng.random(600) < prior
    watches = rng.integers(0, 30, 600)
    made = [Verdict(f"w{w}", "cpu", p, bool(y)) for w, p, y in zip(watches, prior, real, strict=True)]
    found = learned(made)
    offsets = [found.of(f"w{w}", "cpu") for w in range(30)]
    assert abs(float(np.mean(offsets))) < 0.15
    assert float(np.std(offsets)) < 0.45
    assert abs(found.of("new", "cpu")) < 0.15


def test_of_many_watches_the_kind_and_all_learn() -> None:
    made = [v for i in range(12) for v in said(False, 3, f"w{i}")]
    assert after(made, "new", "cpu") < 0.5
    assert 0.5 < after(made, "new", "disk") < 0.67


def test_surest_priors_all_wrong_do_not_break_it() -> None:
    found = learned(said(False, 500, prior=1.0) + said(True, 500, "v", prior=0.0))
    assert np.isfinite([found.everywhere, *found.kinds.values(), *found.watches.values()]).all()
    assert after(said(False, 500, prior=1.0), prior=0.99) < 0.05


def test_weights_of_runs_told_in_one_breath() -> None:
    once = after([Verdict("w", "cpu", 0.7, False)])
    many = after([Verdict("w", "cpu", 0.7, False, 1 / 40)] * 40)
    assert many == pytest.approx(once, abs=1e-4)
