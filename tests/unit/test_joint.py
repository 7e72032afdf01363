"""Rules that ask for several things at once: announced when all will hold, matched as PromQL matches, kept, saved."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import LimitLines
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.wanted import RulesConfig
from sidecar.signals.watch.watches import Rule, RuleGroup, Watch, from_rules
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, key

STEP = 60.0
A, B = [key(i="1", z="x"), key(i="2", z="x")], [key(i="1", z="x"), key(i="2", z="x")]


def watches(expr: str, hold: float = 0.0) -> dict[str, Watch]:
    group = RuleGroup("g", "f", STEP, (Rule("Both", expr, hold),))
    return {watch.query: watch for watch in from_rules([group], RulesConfig(), STEP)[0]}


def engine(expr: str, hold: float = 0.0) -> Engine:
    e = Engine(STEP)
    e.watch({watch.name: watch for watch in watches(expr, hold).values()})
    return e


def tick(e: Engine, i: int, a: list[float], b: list[float], b_keys: list[bytes] = B) -> LimitLines:
    names = {watch.query: name for name, watch in e.watches.items()}
    answers = {
        names["a"]: Vector(A[: len(a)], np.array(a)),
        names["b"]: Vector(b_keys[: len(b)], np.array(b)),
    }
    return e.tick(Instant(START + i * STEP), answers, 100).limits


def ramp(top: float, ticks: int = 3 * 60, rise: float = 0.5, seed: int = 0) -> F64:
    """Rises to a top and stays there."""
    noise = np.random.default_rng(seed).normal(0, 0.2, ticks)
    return np.minimum(20 + rise * np.arange(ticks), top) + noise


def test_true_is_what_promql_says() -> None:
    e = engine("a > 1 and b < 2")
    for i, (a, b, true) in enumerate([(2, 1, 1), (2, 3, 0), (0, 1, 0), (0, 3, 0), (2, 1, 1)]):
        said = tick(e, i, [a], [b])
        assert [limit.alertname for limit in said.limit] == ["Both"], "one line, on the left side's series"
        assert (said.probability[-1, 0] == 1) == true
    assert said.eta[0] == 0


def test_a_breach_is_announced_when_both_will_hold() -> None:
    odds = {}
    for name, top in (("comes", 95.0), ("stays", 40.0)):
        e, b = engine("a > 80 and b > 70"), ramp(top, seed=1)
        for i, a in enumerate(ramp(95.0)):
            said = tick(e, i, [a], [b[i]])
            if i == 105:  # a passes 80 after two hours, b 70 a little before, if it does
                odds[name] = said.probability[:, 0].tolist(), float(said.eta[0])
                assert said.soonest[0] <= said.eta[0] <= said.latest[0] or name == "stays"
    (_, half_hour, hour), eta = odds["comes"]
    assert half_hour > 0.5
    assert hour > 0.8
    assert eta == pytest.approx(900, rel=0.35)
    assert max(odds["stays"][0]) < 0.2


def test_an_equality_stays_as_it_is() -> None:
    odds = []
    for up in (1.0, 0.0):
        e = engine("a > 80 and b == 1")
        for i, a in enumerate(ramp(95.0)[:110]):
            said = tick(e, i, [a], [up])
        odds.append(float(said.probability[2, 0]))
    assert odds[0] > 0.5
    assert odds[1] < 0.1


def test_both_limits_of_one_value_are_one_condition() -> None:
    e = Engine(STEP)
    [watch] = watches("10 < a < 20").values()
    e.watch({"w": watch})
    for i, (x, true) in enumerate([(5, False), (15, True), (25, False)]):
        said = e.tick(Instant(START + i * STEP), {"w": Vector(A[:1], np.array([float(x)]))}, 100).limits
        assert len(said.limit) == 1
        assert (said.probability[-1, 0] == 1) == true


@pytest.mark.parametrize(
    ("how", "others", "true"),
    [
        ("", [key(i="1", z="x"), key(i="2", z="x")], [True, False]),
        ("on (z)", [key(z="x", k="1"), key(z="x", k="2")], [True, True]),  # one that holds is enough
        ("on (i)", [key(i="2"), key(i="1")], [False, True]),
        ("ignoring (z)", [key(i="1"), key(i="2")], [True, False]),
        ("on ()", [key(q="1")], [True, True]),
    ],
)
def test_series_are_matched_as_promql_matches_them(how: str, others: list[bytes], true: list[bool]) -> None:
    e = engine(f"a > 1 and {how} b > 5")
    said = tick(e, 0, [2.0, 2.0], [6.0, 4.0][: len(others)], others)
    assert (said.probability[-1] == 1).tolist() == true


def test_what_nothing_matches_has_no_line() -> None:
    e = engine("a > 1 and on (i) b > 5")
    assert len(tick(e, 0, [2.0, 2.0], [6.0], [key(i="2")]).limit) == 1
    assert len(tick(e, 1, [2.0, 2.0], [6.0, 6.0], [key(i="2"), key(i="1")]).limit) == 2


def test_a_query_that_fails_once_resets_nothing() -> None:
    e = engine("a > 1 and b > 5")
    for i in range(3):
        said = tick(e, i, [2.0], [6.0])
    name = next(name for name, watch in e.watches.items() if watch.query == "a")
    said = e.tick(Instant(START + 3 * STEP), {name: Vector(A[:1], np.array([2.0]))}, 100).limits
    assert said.probability[-1].tolist() == [1], "b was not answered"


def test_the_ledger_counts_what_the_rule_did() -> None:
    e, b = engine("a > 80 and b > 70", 120.0), ramp(95.0, seed=1)
    verdicts = []
    for i, a in enumerate(ramp(95.0)):
        tick(e, i, [a], [b[i]])
        verdicts += e.snapshot(e.at).decided.each()
    assert [(v.rule[0], v.verdict) for v in verdicts] == [("Both", "announced")]
    assert 300 < verdicts[0].ahead < 3700


def test_what_was_learned_outlives_a_restart() -> None:
    e, b = engine("a > 80 and b > 70"), ramp(95.0, seed=1)
    for i, a in enumerate(ramp(95.0)[:100]):
        tick(e, i, [a], [b[i]])
    again = Engine.load(*dumped(e), e.watches)
    for i in (100, 101):
        kept, loaded = tick(e, i, [70.0], [70.0]), tick(again, i, [70.0], [70.0])
        np.testing.assert_allclose(loaded.probability, kept.probability, atol=0.02)
    np.testing.assert_array_equal(again.crossings.marks.quiet, e.crossings.marks.quiet)
