"""What an action changed, against firings that were left alone: the return to the mean is no success."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from sidecar.remedy import compare, regress
from sidecar.remedy.case import Draft, Fact, fold
from sidecar.remedy.compare import Firing, Row
from sidecar.types import Instant, labels_of
from tests.unit.desk import FINE, POLICY, Desk
from tests.unit.test_odds import act

DB = labels_of({"alertname": "Pool", "pool": "db"})
WEB = labels_of({"alertname": "Pool", "pool": "web"})
HOUR = 3600.0


def test_firings_are_runs_and_a_pause_of_prometheus_ends_none() -> None:
    at = np.array([0, 60, 120, 240, 300, 3000, 3060.0])
    found = compare.firings({DB: at, WEB: np.array([2940.0, 3000, 3060])}, 60.0, 3100.0)
    assert found == [Firing(DB, 0, 360), Firing(WEB, 2940, math.inf), Firing(DB, 3000, math.inf)]


def test_only_what_lasted_as_long_is_over_and_was_left_alone_is_compared() -> None:
    at, within = Instant(100 * HOUR), HOUR
    mine = Firing(DB, at - HOUR, math.inf)
    found = [
        Firing(DB, 5 * HOUR, 9 * HOUR),
        Firing(WEB, 6 * HOUR, 9 * HOUR),
        Firing(DB, 20 * HOUR, 20.5 * HOUR),  # was over sooner
        Firing(DB, 30 * HOUR, 35 * HOUR),  # acted on
        Firing(DB, 40 * HOUR, 45 * HOUR),  # acted on, but long after
        Firing(DB, 0.5 * HOUR, 9 * HOUR),  # begins before what is known
        Firing(WEB, at - 1.5 * HOUR, math.inf),  # not over yet
        mine,
    ]
    more = labels_of({**dict(DB), "cluster": "eu"})  # added on the way to Alertmanager
    assert compare.own(found, more, at) == mine
    acted = [(more, Instant(31 * HOUR)), (more, Instant(44 * HOUR))]
    left = compare.comparable(found, mine, at, within, acted, HOUR)
    assert [(one.labels, one.began / HOUR) for one in left] == [(DB, 40), (DB, 5), (WEB, 6)]


def test_when_a_case_is_compared() -> None:
    desk = Desk()
    id = act(desk, "a", "", True)
    case, facts = desk.book.cases[id], [fact for fact in desk.journal if fact.case == id]
    assert case.intent_at is not None
    over = case.intent_at + POLICY.verify.within
    assert compare.due(case, facts, POLICY, Instant(over - 1)) is None, "its alert may still end in time"
    due = compare.due(case, facts, POLICY, Instant(over))
    assert due is not None
    assert (due.within, due.query, due.took) == (100.0, "used", None)
    assert compare.due(case, facts, POLICY, Instant(over + 3 * 86400)) is None, "too late"
    told = Draft("effect.compared", id, "system", {"words": case.words, "firings": 2, "policy": {}})
    done = fold(case, told, Instant(over))
    assert done is not None
    assert (done.compared, done.words) == ({"firings": 2, "policy": {}}, case.words)
    assert compare.due(done, facts, POLICY, Instant(over)) is None, "once"
    waiting = desk.book.cases[desk_waits(desk)]
    assert compare.due(waiting, [], POLICY, Instant(over)) is None


def desk_waits(desk: Desk) -> str:
    desk.now = Instant(desk.now + 10_000)
    return desk.approved("waits")


def test_the_effect_of_a_policy_is_kept_by_its_latest_comparison() -> None:
    desk = Desk()
    id = act(desk, "a", "", True)
    effect = {"cases": 3, "estimate": 0.5, "error": 0.1, "interval": [0.1, 0.9], "how": "HC3"}
    desk.append(Draft("effect.compared", id, "system", {"words": "", "policy": {"ended": effect}}))
    desk.append(Draft("effect.compared", id, "system", {"words": "", "policy": {}}))
    assert desk.book.compared == {POLICY.name: {"ended": effect}}, "one that says nothing takes nothing away"
    assert isinstance(desk.journal[0], Fact)
    assert FINE


def rows_of(seed: int, effect: float, cases: int = 8, shared: bool = False) -> list[Row]:
    """Firings of a made alert on values above 8 around a usual 5, acted on where they were worst.

    Left alone, a firing keeps three tenths of its distance from the usual; the action adds `effect`.
    """
    dice = np.random.default_rng(seed)

    def firing(case: int, began: float, treated: bool) -> Row:
        before = 8 + dice.exponential() + (1.5 if treated else 0.0)
        after = 5 + 0.3 * (before - 5) + dice.normal() + (effect if treated else 0.0)
        return Row(f"{case}", "a", began, treated, bool(after < 7), before, after)

    pool = [firing(0, float(n), False) for n in range(10)]
    rows = []
    for case in range(cases):
        alone = pool if shared else [firing(case, 100.0 * case + n, False) for n in range(10)]
        rows.append(firing(case, 10_000.0 + case, True))
        rows += [Row(f"{case}", r.alert, r.began, False, r.ended, r.before, r.after) for r in alone]
    return rows


def test_without_a_regression_the_return_to_the_mean_looks_like_a_success() -> None:
    told = [compare.paired(rows_of(seed, 0.0))["value"] for seed in range(40)]
    assert statistics.fmean(one["estimate"] for one in told) < -0.8
    assert compare.paired(rows_of(1, 0.0, cases=2)) == {}, "two cases tell nothing"
    plain = compare.plain([Row("c", "a", 0, False, n < 3, 9.0, 5.0 + n) for n in range(4)])
    assert (plain["firings"], plain["ended"], plain["expected"]) == (4, 3, -2.5)
    assert compare.plain([])["expected"] is None


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("effect", [0.0, -2.0])
def test_the_regression_tells_the_effect_from_the_return_to_the_mean(effect: float, shared: bool) -> None:
    pytest.importorskip("statsmodels", reason="extra effects is not installed")
    covered, estimates = 0, []
    for seed in range(60):
        rows = rows_of(seed, effect, shared=shared)
        told = regress.study([], rows)[1]["value"]
        assert told["how"] == ("clustered" if shared else "HC3")
        covered += told["interval"][0] <= effect <= told["interval"][1]
        estimates.append(told["estimate"])
    assert abs(statistics.fmean(estimates) - effect) < 0.2
    assert covered >= 53, "95 of 100 promised"
    ended = [regress.study([], rows_of(n, effect, 20, shared))[1]["ended"]["interval"][0] for n in range(30)]
    found = sum(low > 0 for low in ended)
    if effect == 0:
        assert found <= 4
    elif not shared:  # ten firings for all cases say less
        assert found >= 24


def test_what_one_firing_would_have_moved_left_alone() -> None:
    pytest.importorskip("statsmodels", reason="extra effects is not installed")
    hits = 0
    for seed in range(60):
        rows = [row for row in rows_of(seed, 0.0) if row.case == "0"]
        case, policy = regress.study(rows, rows)
        assert policy == {}, "one case tells nothing about its policy"
        assert case is not None
        assert case["how"] == "regression"
        assert rows[0].move is not None
        hits += abs(rows[0].move - case["expected"]) < 2.3 * case["error"]
    assert hits >= 53
    assert regress.study(rows[:5], rows)[0] is None, "four points make no line"


def test_only_series_of_the_alert_tell_how_bad_it_was() -> None:
    values = [(labels_of({"pool": "db", "zone": "a"}), 4.0), (labels_of({"pool": "db", "zone": "b"}), 6.0)]
    assert compare.level([*values, (labels_of({"pool": "web"}), 100.0)], DB) == 5.0
