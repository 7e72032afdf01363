"""The ledger of the user's rules: what was announced, what was missed, what was false; and the record of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from sidecar.demo.binaries import Binaries
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known import record
from sidecar.signals.known.ledger import LASTING, ODDS, Decided, Ledger, Verdict
from sidecar.signals.known.record import Record
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.accounts import Accounts, report
from sidecar.signals.learn.opinions import Opinions
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit
from sidecar.telemetry import Telemetry
from sidecar.types import Duration, Instant
from tests.unit.made import START, State, dumped, engine, key, watch

RULES = Path(__file__).resolve().parents[2] / "rules" / "promantis.rules.yml"
HIGH = Limit(">", 9.0, alertname="High", severity="page")
STEP = 60.0


def played(odds: str, *limits: Limit, ledger: Ledger | None = None, since: int = 0) -> list[Verdict]:
    """What is decided of one series by odds in Prometheus' notation (`0.6x10 1x3`: each value so many minutes, `_` not
    known), of several limits one below the other with `|` between."""
    ledger = ledger or fresh(*limits)
    lines = [
        [
            float(value.replace("_", "nan"))
            for value, n in re.findall(r"(\S+?)x(\d+)", line)
            for _ in range(int(n))
        ]
        for line in odds.split("|")
    ]
    out, began = list[Verdict](), np.full(len(lines), np.nan)
    for i, p in enumerate(np.array(lines, np.float32).T, since):
        at, known = START + i * STEP, ~np.isnan(p)
        began = np.where(p >= 1, np.where(np.isnan(began), at, began), np.where(known, np.nan, began))
        out += ledger.tick(Instant(at), p, known, began).each()
    return out


def fresh(*limits: Limit) -> Ledger:
    ledger, limits = Ledger(STEP), limits or (HIGH,)
    ledger.follow(limits, np.zeros(len(limits), np.int64), np.full(len(limits), -1))
    return ledger


def told(found: list[Verdict]) -> list[tuple[str, float]]:
    return [(v.verdict, round((v.at - START) / 60)) for v in found]


def test_the_tiers_are_those_of_the_shipped_rules() -> None:
    rules = [
        rule
        for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
        if rule["alert"] == "PromantisPredictedBreach"
    ]
    found = {}
    for rule in rules:
        match = re.fullmatch(r"max without \(horizon, limit\) \((\w+)\) >= ([\d.]+) < ([\d.]+)", rule["expr"])
        assert match
        assert match[1] == "promantis_breach_probability"
        found[float(match[2])] = Duration.parse(rule["for"])
    assert found == dict(zip(ODDS.astype(float).round(6).tolist(), LASTING[1:].tolist(), strict=True))


@pytest.mark.parametrize(
    ("odds", "expected"),
    [
        ("0x5 0.95x10 1x3 0x60", [("announced", 15)]),
        ("0x5 1x3 0x61 1x1", [("missed", 5), ("missed", 69)]),
        ("0x5 1x3 0x55 1x1", [("missed", 5)]),  # the same trouble
        ("0x5 0.95x10 1x3 0x9 0.95x5 1x9", [("announced", 15)]),
        ("0x5 1x3 0x9 0.95x5 0x60", [("missed", 5)]),  # nor is it announced
        (
            "0x5 1x3 0x9 0.95x70 0x60",
            [("missed", 5), ("false", 130)],
        ),  # but after an hour, and then it has to come
        ("0x5 0.95x10 0x60", [("false", 67)]),  # announced at 6, for the hour that follows
        ("0x5 0.95x1 0x5 1x3", [("missed", 11)]),  # it has to last a minute
        ("0x5 0.6x5 1x1", [("missed", 10)]),  # or five
        ("0x5 0.6x6 1x1", [("announced", 11)]),
        ("0x5 0.6x3 0.75x3 1x1", [("missed", 11)]),  # another tier begins anew, as it is another alert
        ("0x5 0.6x3 0.75x4 1x1", [("announced", 12)]),
        ("1x5 0x5", []),  # what was beyond its limit when it was first seen
        ("1x5 0x5 1x2", []),
        ("1x5 0x61 1x2", [("missed", 66)]),
        ("_x5 0x5 1x2", [("missed", 10)]),
        ("0x5 1x2 _x2 1x2", [("missed", 5)]),
        (
            "0x5 0.95x130 1x1",
            [("false", 67), ("false", 129), ("announced", 135)],
        ),  # said again after its hour
    ],
)
def test_verdicts(odds: str, expected: list[tuple[str, float]]) -> None:
    assert told(played(odds)) == expected


def test_what_hardly_ever_comes_true_is_not_told_until_it_does() -> None:
    ledger = fresh()
    wrong, right = "0x5 0.95x5 0x70 ", "0x5 0.95x5 1x3 0x67 "
    found = told(played(wrong * 8, ledger=ledger))
    assert [verdict for verdict, _ in found] == ["false"] * 4, "four in a row are enough"
    assert ledger.silent.tolist() == [True]
    found = told(played(right * 3, ledger=ledger, since=8 * 80))
    assert [verdict for verdict, _ in found] == ["missed", "announced", "announced"], "it has proved itself"
    assert not ledger.standing.doubted(np.array([0]), ledger.least).any()


def test_all_are_told_where_that_is_asked_for() -> None:
    ledger = Ledger(STEP, least=0.0)
    ledger.follow([HIGH], np.zeros(1, np.int64), np.array([-1]))
    assert len(played("0x5 0.95x5 0x70 " * 8, ledger=ledger)) == 8


def test_what_is_not_told_is_said_to_be_less_likely_than_even() -> None:
    e, rise = engine(watch(step=STEP, limits=(HIGH,))), np.arange(0, 8, 0.1)
    x = [*np.tile([*np.arange(0, 10, 0.1), *np.zeros(80)], 6).tolist(), *rise.tolist()]

    def odds(i: int, value: float) -> float:
        said = e.tick(Instant(START + i * STEP), {"w": Vector([key()], np.array([value]))}, 9)
        return float(said.limits.probability[2, 0])

    coming = [odds(i, value) for i, value in enumerate(x)][-1]
    e.ledger.standing.made[:] = 200
    odds(len(x), 8.0)
    assert coming > 0.5
    assert 0 < odds(len(x) + 1, 8.1) < 0.5
    assert odds(len(x) + 2, 9.5) == 1


def test_an_announcement_is_when_prometheus_fires_the_shipped_rule(peers: Binaries, tmp_path: Path) -> None:
    """Odds that wander: promtool says from when on PromantisPredictedBreach fires, and so does the ledger."""
    tests = []
    for seed in range(12):
        walk = 0.55 + np.cumsum(np.random.default_rng(seed).normal(0, 0.06, 60))
        odds = np.clip(walk, 0.0, 0.999).round(3)
        ledger = fresh()
        for minute, p in enumerate(odds.tolist()):
            ledger.tick(Instant(START + minute * STEP), np.float32([p]), np.array([True]), np.array([np.nan]))
            if not np.isnan(ledger.standing.said[0]):
                break
        said = ledger.standing.said[0]
        first = 60 if np.isnan(said) else round((said - START) / 60)
        series = 'promantis_breach_probability{i="a",horizon="60m",limit=">9"}'
        firing = 'count(ALERTS{alertname="PromantisPredictedBreach",alertstate="firing"}) or vector(0)'
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": " ".join(map(str, odds))}],
                "promql_expr_test": [
                    {
                        "expr": firing,
                        "eval_time": f"{m}m",
                        "exp_samples": [{"labels": "{}", "value": int(m >= first)}],
                    }
                    for m in range(min(first + 1, 60))
                ],
            }
        )
    assert sum(len(test["promql_expr_test"]) < 60 for test in tests) >= 4
    file = tmp_path / "walks.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([peers.promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_how_long_before() -> None:
    (found,) = played("0x5 0.95x21 1x1")
    assert found == Verdict(("High", "page", ()), "announced", Instant(START + 26 * 60), 20 * 60)


def test_an_alert_begins_between_two_coarse_samples() -> None:
    ledger = Ledger(300.0)
    ledger.follow([HIGH], np.zeros(1, np.int64), np.array([-1]))
    found = list[Verdict]()
    for i, p in enumerate((0.0, 0.95, 1.0)):
        at = Instant(START + 300 * i)
        began = np.array([at if p == 1 else np.nan])
        found += ledger.tick(at, np.float32([p]), np.array([True]), began).each()
    assert [(v.verdict, v.ahead) for v in found] == [("announced", 240.0)]


def test_a_rule_fires_after_its_for() -> None:
    slow = Limit(">", 9.0, 300.0, "High")
    assert told(played("0x5 1x4 0x5 1x7", slow)) == [("missed", 19)]
    assert told(played("0x5 0.95x59 1x7", slow)) == [("announced", 69)]  # began within the hour
    assert told(played("0x5 0.95x3 0x57 1x7", slow)) == [("announced", 70)]
    assert told(played("0x5 0.95x3 0x59 1x7", slow)) == [("false", 67), ("missed", 72)]
    assert told(played("0x5 0.95x3 0x57 1x4 0x3", slow)) == [
        ("false", 69)
    ]  # it stood as long as there was hope


def test_verdicts_of_rules_of_one_name_are_counted_together() -> None:
    rules = [("High", "page", ()), ("Low", "", ()), ("High", "warning", ())]
    rule, verdict = np.array([0, 2, 2, 0, 0]), np.array([0, 1, 2, 0, 2])
    decided = Decided(START, rules, rule, verdict, np.array([60.0, np.nan, np.nan, 30.0, np.nan]))
    assert {name: counts.tolist() for name, counts in decided.counts().items()} == {"High": [2, 1, 2, 90]}
    assert decided.each()[1] == Verdict(rules[2], "missed", START, pytest.approx(np.nan, nan_ok=True))


def test_limits_of_one_rule_are_one_alert() -> None:
    low = Limit("<", 1.0, alertname="High", severity="page")
    other = Limit("<", 1.0, alertname="Low")
    assert told(played("0x5 0.95x3 0x3 | 0x5 0x3 1x3", HIGH, low)) == [("announced", 8)]
    assert told(played("0x5 0.95x3 1x3 | 0x5 1x6", HIGH, low)) == [("missed", 5)]
    found = played("0x5 0.95x3 0x3 | 0x5 0x3 1x3", HIGH, other)
    assert [(v.rule[0], v.verdict) for v in found] == [("Low", "missed")]


def test_of_a_time_of_which_nothing_is_known_nothing_is_counted() -> None:
    ledger = fresh()
    assert played("0x5 0.95x3", ledger=ledger) == []
    assert told(played("1x3 0x90 1x1", ledger=ledger, since=40)) == [("missed", 133)]
    ledger = fresh()
    assert played("0x5 0.95x3", ledger=ledger) == []
    assert told(played("1x3", ledger=ledger, since=12)) == [("announced", 12)]  # four minutes are no loss


def test_what_stands_outlives_a_new_table_and_a_restart() -> None:
    ledger = fresh()
    assert played("0x5 0.95x3", ledger=ledger) == []
    ledger.follow([Limit("<", 0.0, alertname="Low"), HIGH], np.zeros(2, np.int64), np.array([-1, 0]))
    again, saved = Ledger(STEP), {name: array.copy() for name, array in ledger.state().items()}
    with pytest.raises(ValueError, match="2 lines, where the limit table has 3"):
        again.restore(saved, 3)
    again.restore(saved, 2)
    again.follow([HIGH], np.zeros(1, np.int64), np.array([1]))
    assert told(played("0.95x1 1x1", ledger=again, since=8)) == [("announced", 9)]
    half = fresh()
    assert played("0x5 0.6x4", ledger=half) == []
    again.restore({name: array.copy() for name, array in half.state().items()}, 1)
    again.follow([HIGH], np.zeros(1, np.int64), np.array([0]))
    assert told(played("0.6x2 1x1", ledger=again, since=9)) == [("missed", 11)]  # its alert began anew
    again.follow([HIGH], np.zeros(1, np.int64), np.array([-1]))  # another series takes the row
    assert played("1x1", ledger=again, since=12) == []


# --------------------------------------------------------------------------- in the engine


COARSE = 300.0


def teeth(samples: int) -> list[float]:
    """A fill of 5 hours, again and again."""
    return [10 + 80 * (i % 60) / 60 for i in range(samples)]


def run(e: Engine, values: list[float], since: int = 0) -> tuple[list[Verdict], record.Kept]:
    found, kept = list[Verdict](), record.Kept()
    for i, value in enumerate(values, since):
        said = e.tick(Instant(START + i * COARSE), {"w": Vector([key(i="a")], np.array([value]))}, 10)
        found += said.decided.each()
        kept = said.record
        again = e.tick(Instant(START + i * COARSE), {}, 10)
        assert not again.decided.each()  # an instant that has passed is not counted twice
    return found, kept


@pytest.fixture(scope="module")
def filled() -> tuple[Engine, list[Verdict], record.Kept]:
    e = engine(watch(step=COARSE, limits=(Limit(">", 80.0, alertname="Full"),)))
    return e, *run(e, teeth(2 * 288))


def test_a_fill_is_announced(filled: tuple[Engine, list[Verdict], record.Kept]) -> None:
    _, found, kept = filled
    fills = [v for v in found if v.verdict != "false"]
    assert len(fills) == 9
    announced = [v for v in fills if v.verdict == "announced"]
    assert len(announced) >= 6
    assert np.median([v.ahead for v in announced]) > 900
    odds, rules = record.total([kept], Instant(0))
    counts = rules["Full"]
    assert counts[:3].tolist() == [len(announced), 9 - len(announced), len(found) - 9]
    assert counts[3] == pytest.approx(sum(v.ahead for v in announced))
    assert odds[:, :, record.COUNT].sum(1).tolist() == pytest.approx(
        [odds[0, :, record.COUNT].sum()] * 3, rel=0.1
    )
    assert odds[2, :, record.COUNT].sum() < 2 * 288  # each origin once
    assert odds[2, -1, record.CAME] > 0  # odds above .9 came true
    assert 0 < odds[2, :, record.CAME].sum() < odds[2, :, record.COUNT].sum()


def test_the_record_outlives_a_restart(filled: tuple[Engine, list[Verdict], record.Kept]) -> None:
    made, _, kept = filled
    again = Engine.load(*dumped(made), {"w": made.watches["w"]})
    np.testing.assert_array_equal(again.record.kept().rules["Full"], kept.rules["Full"])
    np.testing.assert_array_equal(again.record.kept().odds, kept.odds)
    for name, column in made.ledger.standing.state().items():
        if name != "tier":
            np.testing.assert_array_equal(again.ledger.standing.state()[name], column, err_msg=name)


def test_a_state_from_before_there_was_a_ledger_is_taken(
    filled: tuple[Engine, list[Verdict], record.Kept],
) -> None:
    made, _, _ = filled
    header, arrays = dumped(made)
    old: State = (
        {name: value for name, value in header.items() if name != "record"},
        {name: a for name, a in arrays.items() if not name.startswith(("ledger.", "record."))},
    )
    assert not Engine.load(*old, {"w": made.watches["w"]}).record.kept().rules


def test_days_are_forgotten_after_four_weeks() -> None:
    kept, rule = Record(), ("High", "", ())
    for day in (0, 5, 27, 29):
        kept.judge(
            Decided(Instant(START + day * 86400), [rule], np.array([0]), np.array([1]), np.array([np.nan]))
        )
    assert record.total([kept.kept()], Instant(0))[1]["High"].tolist() == [0, 3, 0, 0]
    assert record.total([kept.kept()], Instant(START + 28 * 86400))[1]["High"].tolist() == [0, 1, 0, 0]
    for day, count in ((0, 1.0), (28, 5.0)):  # these share a slot
        kept.odds(Instant(START + day * 86400), np.full((3, len(record.BINS), 4), count))
    assert record.total([kept.kept()], Instant(0))[0][0, 0].tolist() == [5.0] * 4
    with pytest.raises(ValueError, match="does not fit"):
        Record().restore([], {"days": np.zeros(3, np.int64)})


# --------------------------------------------------------------------------- told


def test_counters_begin_at_zero_and_end_with_their_rule() -> None:
    known, telemetry = Known(), Telemetry()
    accounts = Accounts(known, telemetry)

    def value(name: str, **labels: str) -> float | None:
        return telemetry.registry.get_sample_value(f"promantis_{name}", labels)

    def high(verdict: str) -> float | None:
        return value("rule_breaches_total", source_alertname="High", verdict=verdict)

    e = engine(watch(step=COARSE, limits=(Limit(">", 80.0, alertname="High"),)))
    for i, x in enumerate(teeth(62)):
        accounts.ticked(
            known.publish(e.tick(Instant(START + i * COARSE), {"w": Vector([b"{}"], np.array([x]))}, 9))
        )
        if i == 0:
            assert [high(v) for v in ("announced", "missed", "false")] == [0, 0, 0]
    assert [high(v) for v in ("announced", "missed")] in ([1, 0], [0, 1])
    ahead = value("breach_ahead_seconds_total", source_alertname="High")
    assert (ahead or 0) > 0 if high("announced") else ahead == 0
    e.watch({"w": watch(step=COARSE)})
    accounts.ticked(known.publish(e.tick(Instant(START + 62 * COARSE), {}, 9)))
    assert high("missed") is None


def test_a_report_of_the_week(filled: tuple[Engine, list[Verdict], record.Kept]) -> None:
    made, found, _ = filled
    known, said = Known(), Opinions()
    known.publish(made.snapshot(made.at))
    run_of = {
        "watch": "w",
        "kind": "other",
        "labels": {},
        "end": 2.0,
        "peak": 2.0,
        "confidence": 0.8,
        "prior": 0.8,
    }
    for n, verdict in enumerate(("real", "real", "real", "not_real")):
        said.add(made.at, "fay", {"verdict": verdict, "match": "{}", "runs": [{**run_of, "start": n / 4}]})
    said.add(Instant(made.at - 9 * 86400), "fay", {"verdict": "not_real", "match": "{}"})
    told = report(known, said, made.at)
    (rule,) = told.rules
    assert rule.announced + rule.missed == sum(v.verdict != "false" for v in found)
    assert 600 < rule.ahead_seconds < 3600
    assert told.feedback.precision == 0.75
    assert told.feedback.verdicts["not_real"] == 1  # the other one is nine days old
    hour = told.odds[-1]
    assert hour.count == sum(one.count for one in hour.bins)
    assert hour.rate == pytest.approx(sum(one.came * one.count for one in hour.bins) / hour.count)
    error = sum(abs(one.came - one.said) * one.count for one in hour.bins) / hour.count
    assert hour.calibration_error == pytest.approx(error)
    assert hour.brier_skill > 0.2
    assert told.watches[0].skill == pytest.approx(told.total.skill)
    assert report(Known(), Opinions(), made.at).odds[0].bins == ()
