"""What `promantis backtest --rules` prints, and what it refuses; the real thing is in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.__main__ import main
from sidecar.commands.rehearsed import Asked, Told, lines
from sidecar.signals.replay.rehearsal import Tally
from sidecar.signals.watch.watches import Limit, Skipped, Watch
from tests.unit.made import watch

NOTHING = "is nothing for --rules, which reads your rules and writes no files"
PAGE, WARN, OTHER = ("Full", "page", ()), ("Full", "warning", ()), ("Slow", "", (("team", "shop"),))


def limit(rule: tuple[str, str, tuple[tuple[str, str], ...]], whole: bool = True) -> Limit:
    return Limit(">", 1.0, 0.0, *rule, whole)


def asked(*limits: Limit, skipped: tuple[Skipped, ...] = ()) -> Asked:
    watches: list[Watch] = [watch(limits=limits)] if limits else []
    return Asked(watches, skipped, 0.0, 21 * 86400.0, [1])


def test_the_table_has_a_line_for_each_rule_with_the_best_window_of_its_own() -> None:
    ours = {PAGE: Tally(3, 1, 1, (600.0, 1200.0, 60.0)), WARN: Tally(0, 1, 0)}
    linear = {
        "1h for 1m": {PAGE: Tally(1, 3, 9, (60.0,)), WARN: Tally(1, 0, 1, (3000.0,))},
        "4h for 5m": {PAGE: Tally(2, 2, 0, (60.0, 180.0)), WARN: Tally(0, 1, 7)},
    }
    told = lines(asked(limit(PAGE), limit(WARN), limit(OTHER)), Told(ours, linear, 17.0), 14, 20)
    assert told[0] == "Your alerting rules over the last 14 days, after 3 days to learn from:"
    table = [" ".join(line.split()) for line in told[1:7]]
    assert table == [
        "Promantis | predict_linear",
        "rule fired announced ahead false | announced ahead false window",
        "Full (page) 4 3 10 min 1 | 2 2 min 0 4h for 5m",
        "Full (warning) 1 0 - 0 | 1 50 min 1 1h for 1m",
        "Slow 0 0 - 0 | 0 - 0 -",
        "all 3 5 3 10 min 1 | 3 3 min 1",
    ]
    assert told[-1].endswith("F1 of all: 0.67, predict_linear 0.67.")  # 2*3/(2*3+2+1), 2*3/(2*3+2+1)
    assert len({line.index("|") for line in told[1:7]}) == 1
    assert len(lines(asked(limit(PAGE), limit(WARN)), Told(ours, linear, 17.0), 14, 1)) == len(told) - 2


def test_where_nothing_fired_nothing_is_judged() -> None:
    told = lines(asked(limit(PAGE)), Told({PAGE: Tally(false=2)}, {"1h for 1m": {}}, 3.0), 1, 20)
    assert told[0] == "Your alerting rules over the last 1 day, after 2 days to learn from:"
    assert told[-1].endswith(
        "None of them fired, so nothing can be said of how many would have been announced."
    )


def test_rules_that_are_not_among_them_are_told_by_reason() -> None:
    left = tuple(Skipped(f"Gone{i}", "absent(x)", "absent() has no value") for i in range(5))
    told = lines(
        asked(skipped=(*left, Skipped("Odd", "x", "it compares nothing"))), Told({}, {}, 0.0), 14, 20
    )
    assert told == [
        "No alerting rule compares with a number: there is no limit to foresee.",
        "",
        "not among them: Gone0, Gone1, Gone2 and 2 others: absent() has no value",
        "not among them: Odd: it compares nothing",
    ]


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (("--rules", "--out", "x"), f"--out: {NOTHING}", 2),
        (("--rules", "--limit", "5"), f"--limit: {NOTHING}", 2),
        (("--rules", "--days", "0"), "--days: must be greater than 0", 2),
        (
            ("--rules", "--prometheus.url", "http://127.0.0.1:1"),
            "http://127.0.0.1:1: rules: cannot connect",
            1,
        ),
        (("--query", "up"), "--out: is needed: the folder that is written to", 2),
    ],
)
def test_what_cannot_be_done_is_said(
    flags: tuple[str, ...], words: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", *flags]) == code
    assert capsys.readouterr().err.startswith(f"promantis: {words}")
