"""The exposition, read back by prometheus-client's own parsers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as modern
from prometheus_client.parser import text_string_to_metric_families as classic
from prometheus_client.samples import Sample

from sidecar.signals.known.expose import (
    FAMILIES,
    PER_LINE,
    PER_ROW,
    Exposition,
    ExpositionConfig,
    limit_labels,
    render,
)
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import HORIZONS, Instant
from tests.unit.made import START, engine, key, noisy, ticked, watch

assert parser
assert openmetrics
HIGH = Limit(">", 0.5, 300.0, "High", "page", (("team", "shop"),))


def text(snapshots: list[Snapshot], config: ExpositionConfig | None = None) -> str:
    made = Exposition(config or ExpositionConfig())
    return b"".join(render(made.prepare(snapshots, Instant(START)))).decode()


def samples(said: str) -> list[Sample]:
    """All samples; each must be there once, and both formats must agree."""
    one = [s for family in classic(said) for s in family.samples]
    two = [s for family in modern(said + "# EOF\n") for s in family.samples]
    assert one == two
    names = [(s.name, *sorted(s.labels.items())) for s in one]
    assert len(set(names)) == len(names)
    return one


def exposed(*keys: bytes, config: ExpositionConfig | None = None, **more: object) -> list[Sample]:
    """What is exposed of these series after some hours."""
    w = watch(step=60.0, limits=(HIGH,), alertnames=("High",), **more)
    answer = noisy(keys)
    return samples(text([ticked(engine(w), lambda i: {"w": answer(i)}, 240)], config))


def test_every_family_is_there_once_a_series() -> None:
    said = exposed(key(job="shop", instance="a:80"))
    counts = {family.name: sum(s.name == family.name for s in said) for family in FAMILIES}
    assert counts.pop("promantis_breach_eta_seconds") == 1  # it is true
    assert counts.pop("promantis_breach_probability") == len(HORIZONS)
    assert counts.pop("promantis_watch_info") == 1
    assert counts.pop("promantis_group_anomaly_score") == 0
    assert counts == {name: len(HORIZONS) if "forecast" in name else 1 for name in counts}
    assert PER_ROW == 12
    assert PER_LINE == 6


def test_missing_target_labels_are_blank_and_others_stay() -> None:
    (score,) = [s for s in exposed(key(job="shop", pod="p")) if s.name == "promantis_anomaly_score"]
    assert score.labels == {
        "watch": "w", "job": "shop", "instance": "", "pod": "p",
        "namespace": "", "container": "", "service": "", "endpoint": "", "node": "",
    }  # fmt: skip
    config = ExpositionConfig(blank_labels=())
    (score,) = [s for s in exposed(key(pod="p"), config=config) if s.name == "promantis_anomaly_score"]
    assert score.labels == {"watch": "w", "job": "", "instance": "", "pod": "p"}


def test_values_of_labels_survive_escaping() -> None:
    odd = 'a"b\\c\nd é {},= '
    said = exposed(key(path=odd), query='x{path="a\\"b"}')
    assert all(s.labels["path"] == odd for s in said if "path" in s.labels)
    assert {s.labels["query"] for s in said if s.name == "promantis_watch_info"} == {'x{path="a\\"b"}'}


def test_own_labels_win_and_the_source_s_are_kept() -> None:
    said = exposed(key(watch="a", exported_watch="b", horizon="c", limit="d", team="e"))
    for sample in said:
        if sample.name == "promantis_breach_probability":
            assert sample.labels["watch"] == "w"
            assert sample.labels["limit"] == ">0.5"
            assert sample.labels["team"] == "shop"
            assert sample.labels["exported_team"] == "e"
        if sample.name == "promantis_forecast":
            assert sample.labels["horizon"] in ("15m", "30m", "60m")
            assert sample.labels["exported_horizon"] == "c"
            assert sample.labels["exported_watch"] == "b"
            assert sample.labels["exported_exported_watch"] == "a"


def test_series_that_differ_in_a_clashing_label_only_stay_apart() -> None:
    said = exposed(key(watch="a", exported_watch="b"), key(watch="c", exported_watch="b"))
    assert sum(s.name == "promantis_anomaly_score" for s in said) == 2


def test_label_names_that_prometheus_2_cannot_read_are_plain() -> None:
    (score,) = [
        s for s in exposed(key(**{"http.status": "5", "2xx": "6"})) if s.name == "promantis_anomaly_score"
    ]
    assert (score.labels["http_status"], score.labels["_2xx"]) == ("5", "6")
    limit = Limit(">", 1.0, labels=(("a.b", "c"), ("2", "d"), ("horizon", "e")))
    assert limit_labels("w", limit)[:2] == (("a_b", "c"), ("_2", "d"))


def test_two_rules_that_say_the_same_are_one_line() -> None:
    twice = (HIGH, Limit(">", 0.5, 60.0, "High", "page", (("team", "shop"),)))
    w = watch(limits=twice, alertnames=("High",))
    answer = noisy([key(i="a")])
    snapshot = ticked(engine(w), lambda i: {"w": answer(i)}, 60)
    assert sum(s.name == "promantis_breach_probability" for s in samples(text([snapshot]))) == 3
    assert snapshot.limits.limit[0].hold == 60


def test_two_rules_with_limits_of_their_own_are_two_lines_of_one_series() -> None:
    limits = (Limit(">", 5.0, alertname="Warn"), Limit(">", 90.0, alertname="Page", severity="page"))
    w = watch(limits=limits, alertnames=("Page", "Warn"))
    answer = noisy([key(i="a")])
    said = samples(text([ticked(engine(w), lambda i: {"w": answer(i)}, 240)]))
    assert sum(s.name == "promantis_anomaly_score" for s in said) == 1
    odds = {(s.labels["source_alertname"], s.labels["source_severity"], s.labels["limit"]): s.value
            for s in said if s.name == "promantis_breach_probability" and s.labels["horizon"] == "15m"}  # fmt: skip
    assert odds[("Warn", "", ">5")] == 1
    assert odds[("Page", "page", ">90")] < 0.5
    assert {s.labels["source_alertname"] for s in said if s.name == "promantis_watch_info"} == {
        "Page",
        "Warn",
    }


def test_what_is_not_finite_is_not_said() -> None:
    answer = noisy([key(i="a")])
    snapshot = ticked(engine(watch()), lambda i: {"w": answer(i)}, 3)
    said = samples(text([snapshot]))  # too early for a verdict, and no forecast has been judged
    assert {s.name for s in said} == {"promantis_anomaly_confidence", "promantis_watch_info"}
    column = np.array([math.inf, -math.inf, math.nan])
    forced = snapshot._replace(columns={**snapshot.columns, "confidence": column[:1], "score": column[:1]})
    assert {s.name for s in samples(text([forced]))} == {"promantis_watch_info"}


@pytest.mark.parametrize("value", [0.0, 1e-300, 123456789.123, -1e12 / 3, 1.7e308, 5e-324, 0.1, 2.5e15])
def test_nine_digits_of_any_number(value: float) -> None:
    answer = noisy([key(i="a")])
    snapshot = ticked(engine(watch()), lambda i: {"w": answer(i)}, 60)
    forced = snapshot._replace(columns={**snapshot.columns, "expected": np.array([value])})
    (said,) = [s.value for s in samples(text([forced])) if s.name == "promantis_expected"]
    assert said == pytest.approx(value, rel=1e-8, abs=1e-300)


def test_above_the_budget_scores_come_first() -> None:
    keys = [key(i=str(i)) for i in range(10)]
    said = exposed(*keys, config=ExpositionConfig(max_series=32))
    assert sum(s.name == "promantis_anomaly_score" for s in said) == 10
    assert sum(s.name.startswith("promantis_breach") for s in said) == 2 * PER_LINE
    assert not any(s.name == "promantis_expected" for s in said)


def test_labels_are_made_anew_only_when_rows_change() -> None:
    made, w = Exposition(ExpositionConfig()), watch()
    e, keys = engine(w), [key(i="a"), key(i="b")]
    first = made.prepare([ticked(e, lambda i: {"w": noisy(keys)(i)})], Instant(START))
    second = made.prepare([ticked(e, lambda i: {"w": noisy(keys)(i)}, 1, START + 900)], Instant(START))
    assert second[0].rows is first[0].rows
    third = made.prepare(
        [ticked(e, lambda i: {"w": noisy([*keys, key(i="c")])(i)}, 2, START + 915)], Instant(START)
    )
    assert third[0].rows[:2] == first[0].rows
    assert len(third[0].rows) == 3


def test_two_engines_are_one_exposition() -> None:
    fast, slow = watch("fast"), Watch(name="slow", query="y", source="rule", step=60.0)
    a = ticked(engine(fast), lambda i: {"fast": noisy([key(i="a")])(i)})
    b = ticked(engine(slow), lambda i: {"slow": noisy([key(i="a")])(i)})
    said = text([a, b])
    assert {s.labels["watch"] for s in samples(said) if s.name == "promantis_anomaly_score"} == {
        "fast",
        "slow",
    }
    assert said.count("# TYPE promantis_anomaly_score gauge\n") == 1


@pytest.mark.parametrize(
    ("config", "where", "words"),
    [
        ({"max_series": 0}, "max_series", "must be at least 1, got 0"),
        ({"blank_labels": ("a-b",)}, "blank_labels[0]", "'a-b' cannot be the name of a target's label"),
        ({"blank_labels": ("pod", "horizon")}, "blank_labels[1]", "'horizon' cannot be the name of a target's label"),
    ],
)  # fmt: skip
def test_bad_settings(config: dict[str, object], where: str, words: str) -> None:
    assert list(ExpositionConfig(**config).problems()) == [(where, words)]  # type: ignore[arg-type]
