"""Rules, presets and configured queries become watches."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sidecar.signals.watch.promql import normalise
from sidecar.signals.watch.wanted import LimitConfig, RulesConfig, WatchConfig
from sidecar.signals.watch.watches import (
    Limit,
    Rule,
    RuleGroup,
    Skipped,
    Watch,
    from_config,
    from_rules,
    plan,
)
from sidecar.types import Duration, labels_of

RULES = Path(__file__).parent / "fixtures" / "rules.yml"


def popular() -> list[RuleGroup]:
    """The fixture as Prometheus would tell it."""
    return [
        RuleGroup(
            group["name"],
            RULES.name,
            Duration.parse(group["interval"]),
            tuple(
                Rule(r["alert"], r["expr"], Duration.parse(r.get("for", "0")), labels_of(r.get("labels", {})))
                for r in group["rules"]
            ),
        )
        for group in yaml.safe_load(RULES.read_text())["groups"]
    ]


def group(*rules: Rule, interval: float = 15) -> RuleGroup:
    return RuleGroup("g", "f", interval, rules)


def turned(*rules: Rule, interval: float = 15) -> list[Watch]:
    watches, skipped = from_rules([group(*rules, interval=interval)], RulesConfig(), 15)
    assert skipped == []
    return watches


@pytest.mark.parametrize(
    ("form", "least"), [("inequality", 1.0), ("vectors", 1.0), ("equality", 1.0), ("not watched", 0.0)]
)
def test_share_of_popular_rules_turned(form: str, least: float) -> None:
    rules = next(g for g in popular() if g.name == form)
    watches, skipped = from_rules([rules], RulesConfig(), 15)
    assert 1 - len(skipped) / len(rules.rules) == least, skipped
    names = {name for watch in watches for name in watch.alertnames}
    assert names | {skip.alertname for skip in skipped} == {rule.alertname for rule in rules.rules}


def test_every_produced_query_parses_and_is_one_watch() -> None:
    watches, _ = from_rules(popular(), RulesConfig(), 15)
    queries = [watch.query for watch in watches]
    assert [normalise(query) for query in queries] == queries
    assert len(set(queries)) == len(queries) > 110
    assert len({watch.name for watch in watches}) == len(watches)


def test_rules_that_share_an_expression_share_the_watch() -> None:
    labels = labels_of({"severity": "page", "team": "db", "host": "{{ $labels.instance }}"})
    [watch] = turned(
        Rule("Full", 'x{a="1", b="2"}  > 90', 300.0, labels),
        Rule("Filling", '(x{b="2",a="1"}) > 80', 60.0),
    )
    assert watch == Watch(
        name="Filling",
        query='x{a="1",b="2"}',
        source="rule",
        step=15.0,
        direction="up",
        limits=(
            Limit(">", 90.0, 300.0, "Full", "page", (("team", "db"),)),
            Limit(">", 80.0, 60.0, "Filling"),
        ),
        alertnames=("Filling", "Full"),
    )


def test_names_do_not_depend_on_the_order_of_rules() -> None:
    rules = [Rule("A", "x > 1"), Rule("B", "x > 2"), Rule("B", "y > 2"), Rule("C", "z > 1")]
    forward = {watch.query: watch.name for watch in turned(*rules)}
    backward = {watch.query: watch.name for watch in turned(*reversed(rules))}
    assert forward == backward == {"x": "A", "y": "B", "z": "C"}


def test_a_second_expression_of_an_alert_gets_a_hash() -> None:
    first, second = turned(Rule("A", "x > 1 and y > 1"))
    assert (first.name, second.name) == ("A", "A_a1fce436")
    assert [limit.whole for watch in (first, second) for limit in watch.limits] == [False, False]


@pytest.mark.parametrize(
    ("expr", "direction"),
    [("x > 1", "up"), ("x <= 1", "down"), ("x == 1", "both"), ("1 < x < 5", "both"), ("x != 1", "both")],
)
def test_direction(expr: str, direction: str) -> None:
    assert turned(Rule("A", expr))[0].direction == direction


def test_steps_are_multiples_of_the_interval() -> None:
    def steps(*intervals: float) -> list[float]:
        groups = [group(Rule("A", "x > 1"), interval=interval) for interval in intervals]
        return [watch.step for watch in from_rules(groups, RulesConfig(), 15)[0]]

    assert steps(60) == [60]
    assert steps(1) == [15]
    assert steps(20) == [30]
    assert steps(60, 30) == [30]
    assert steps(30, 60) == [30]


def test_include_and_exclude() -> None:
    rules = group(*(Rule(name, f"{name} > 1") for name in ("KubeA", "KubeB", "NodeA")))
    config = RulesConfig(include=("Kube.*",), exclude=(".*B", "ube"))
    assert [watch.name for watch in from_rules([rules], config, 15)[0]] == ["KubeA"]


def test_skipped_rules_are_told() -> None:
    _, skipped = from_rules([group(Rule("Gone", "absent(x)"))], RulesConfig(), 15)
    assert skipped == [Skipped("Gone", "absent(x)", "absent() has no value that could be forecast")]


def test_plan_joins_equal_expressions() -> None:
    slo = LimitConfig(value=0.5, hold=Duration(60), name="slo")
    configured = from_config(
        [
            WatchConfig(name="latency", query="(x)", kind="latency", limits=(slo,), min_deviation=0.1),
            WatchConfig(name="B", query="c", interval=Duration(20)),
        ],
        15,
    )
    rules = turned(Rule("A", "x > 1"), Rule("B", "y < 1"))
    presets = from_config([WatchConfig(name="p", query="y", direction="up")], 15, "preset")
    presets += from_config([WatchConfig(name="q", query="z")], 15, "preset")
    skip = Skipped("S", "absent(x)", "why")
    joined = plan(configured, rules, presets, [skip])
    assert joined.skipped == (skip,)
    assert [(w.name, w.query, w.source, w.step) for w in joined.watches] == [
        ("latency", "x", "config", 15.0),
        ("B", "c", "config", 30.0),
        ("B_a1fce436", "y", "rule", 15.0),
        ("q", "z", "preset", 15.0),
    ]
    first, _, third, _ = joined.watches
    assert first.limits == (Limit(">", 0.5, 60.0, "slo"), Limit(">", 1.0, 0.0, "A"))
    assert (first.kind, first.direction, first.min_deviation) == ("latency", "both", 0.1)
    assert first.alertnames == ("A",)
    assert third.direction == "down"


# --------------------------------------------------------------------------- explained_by


def explained(*by: str, name: str = "cpu", query: str = "cpu", **more: object) -> WatchConfig:
    return WatchConfig(name=name, query=query, explained_by=by, **more)  # type: ignore[arg-type]


def test_what_explains_a_watch_is_watched_silently_at_its_step() -> None:
    configs = [
        explained("rate(r[60s])", "queue", interval=Duration(60)),
        explained("rate(r[1m])", name="latency", query="latency", interval=Duration(60)),
        WatchConfig(name="q", query="queue"),
    ]
    watches = plan(from_config(configs, 15), []).watches
    assert [(w.name, w.query, w.step, w.told) for w in watches] == [
        ("cpu", "cpu", 60, True),
        ("latency", "latency", 60, True),
        ("q", "queue", 15, True),
        ("regressor_2eaab3d3", "rate(r[1m])", 60, False),
        ("regressor_abc78c98", "queue", 60, False),  # of another step: values of one tick have to meet
    ]
    assert watches[0].explained_by == ("rate(r[1m])", "queue")


def test_what_is_watched_anyhow_explains_too() -> None:
    watches = plan(from_config([explained("queue"), WatchConfig(name="q", query="queue")], 15), []).watches
    assert [(w.name, w.told) for w in watches] == [("cpu", True), ("q", True)]


def test_a_preset_says_what_explains_the_query_of_a_rule() -> None:
    preset = from_config([explained("r")], 15, "preset")
    [watch, _] = plan([], turned(Rule("Busy", "cpu > 3")), preset).watches
    assert (watch.name, watch.source, watch.explained_by) == ("Busy", "rule", ("r",))


@pytest.mark.parametrize(
    ("by", "where", "words"),
    [
        (["r", "r["], "explained_by[1]", "it cannot be parsed: unexpected end of input inside brackets"),
        (["r[5m]"], "explained_by[0]", "it gives ranges, not one value per series"),
        (["ALERTS"], "explained_by[0]", "it selects ALERTS"),
        (["r", "(r)"], "explained_by[1]", "it is explained_by[0] once more"),
        (["cpu"], "explained_by[0]", "it is the watch's own query"),
        ([f"r{i}" for i in range(9)], "explained_by", "at most 8 queries, got 9"),
    ],
)
def test_bad_explanations(by: list[str], where: str, words: str) -> None:
    assert list(explained(*by).problems()) == [(where, words)]
