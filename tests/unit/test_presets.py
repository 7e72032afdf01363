"""What each watch of the presets makes of its exporter's metrics, worked out by promtool.

`fixtures/presets/<preset>.txt` holds series in Prometheus' notation, one sample each 30 s, with the labels that the
exporter's source gives them; `golden/presets.txt` what every watch is then after an hour. A watch without a line in
it fails, so does one that has more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import promql_parser as pq
import pytest
import yaml

from sidecar.config import Config, presets
from sidecar.demo.peers import Binaries
from sidecar.signals.watch import promql
from sidecar.signals.watch.presets import Preset, chosen
from sidecar.signals.watch.wanted import WatchConfig
from sidecar.signals.watch.watches import plan

SERIES = Path(__file__).parent / "fixtures" / "presets"
GOLDEN = Path(__file__).parents[1] / "golden" / "presets.txt"
OF_TARGETS = {"cluster", "job", "namespace", "service", "exported_job"}
"""Labels that service discovery, relabelling or a clash with the exporter's may add: no exporter has to have them."""
PRESETS = presets()
ALL = [watch for preset in PRESETS for watch in preset.watches]


def lines(file: Path) -> list[tuple[str, str]]:
    """(series, values) of each line that is no comment."""
    text = file.read_text(encoding="utf-8").splitlines()
    return [
        (head + "}", tail.strip())
        for head, _, tail in (line.rpartition("}") for line in text if line[0] != "#")
    ]


def selectors(watch: WatchConfig) -> list[pq.VectorSelector]:
    return list(promql.selectors(promql.parse(watch.query)))


def aggregations(expr: pq.Expr) -> Iterator[pq.AggregateExpr]:
    found: list[pq.AggregateExpr] = []
    pq.walk(expr, pre_visit=lambda e: found.append(e) if isinstance(e, pq.AggregateExpr) else None)
    yield from found


def labels_of_metrics(preset: Preset) -> dict[str, set[str]]:
    """Labels of each metric in the preset's series."""
    out: dict[str, set[str]] = {}
    for series, _ in lines(SERIES / f"{preset.name}.txt"):
        [selector] = promql.selectors(promql.parse(series))
        assert selector.name is not None
        out.setdefault(selector.name, set()).update(matcher.name for matcher in selector.matchers.matchers)
    return out


def test_every_watch_says_what_its_exporter_does(peers: Binaries, tmp_path: Path) -> None:
    inputs = [
        {"series": series, "values": values}
        for preset in PRESETS
        for series, values in lines(SERIES / f"{preset.name}.txt")
    ]
    said: dict[str, list[dict[str, object]]] = {watch.name: [] for watch in ALL}
    for series, value in lines(GOLDEN):
        name, _, labels = series.partition("{")
        said[name].append({"labels": "{" + labels, "value": float(value)})
    assert [name for name, samples in said.items() if not samples] == []
    tests = [
        {"expr": f"round({watch.query}, 0.0001)", "eval_time": "1h", "exp_samples": said[watch.name]}
        for watch in ALL
    ]
    file = tmp_path / "presets.yml"
    group = {"interval": "30s", "input_series": inputs, "promql_expr_test": tests}
    file.write_text(yaml.safe_dump({"tests": [group]}), encoding="utf-8")
    done = subprocess.run([peers.promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_watches_name_metrics_and_labels_that_exist(preset: Preset) -> None:
    there = labels_of_metrics(preset)
    assert {selector.name for watch in preset.watches for selector in selectors(watch)} == set(there)
    for watch in preset.watches:
        for selector in selectors(watch):
            for matcher in selector.matchers.matchers:
                assert matcher.name in there[selector.name or ""], (watch.name, matcher.name)
        for aggregation in aggregations(promql.parse(watch.query)):
            inside = {selector.name or "" for selector in promql.selectors(aggregation.expr)}
            known = set[str]().union(*(there[name] for name in inside))
            named = set(aggregation.modifier.labels if aggregation.modifier else ())
            assert named <= known | OF_TARGETS | {"workload"}, watch.name


@pytest.mark.parametrize("watch", ALL, ids=lambda watch: watch.name)
def test_settings_fit_what_is_measured(watch: WatchConfig) -> None:
    assert list(watch.problems()) == []
    assert watch.kind != "errors" or watch.direction != "both"
    if watch.name.endswith("_ratio"):
        assert watch.bounds[0] == 0
        assert watch.direction != "both"
    if watch.kind == "traffic":
        assert watch.direction == "both"
    assert watch.interval is not None  # so that a short `interval` of the config multiplies no queries


def test_names_and_queries_are_unique_and_files_are_called_as_they_are() -> None:
    assert [preset.name for preset in PRESETS] == sorted(preset.name for preset in PRESETS)
    every = chosen("auto", PRESETS, metrics(*PRESETS), 15)
    assert len(every) == len(ALL)
    told = [watch for watch in plan((), (), every).watches if watch.told]
    assert [watch.name for watch in told] == [watch.name for watch in ALL]


def test_the_members_of_a_group_share_labels() -> None:
    groups: dict[str, set[tuple[str, ...]]] = {}
    for watch in ALL:
        if watch.group:
            groups.setdefault(watch.group, set()).add(watch.group_by)
    assert {name for name, kinds in groups.items() if len(kinds) != 1} == set()
    assert {"node", "http", "kubernetes_workload"} <= set(groups)


def metrics(*those: Preset) -> set[str]:
    return {name for preset in those for name in labels_of_metrics(preset)}


def named(name: str) -> Preset:
    return next(preset for preset in PRESETS if preset.name == name)


def who(setting: str | tuple[str, ...], there: set[str]) -> list[str]:
    return [watch.name for watch in chosen(setting, PRESETS, there, 15)]


def test_a_watch_is_chosen_when_its_metrics_are_there() -> None:
    everything = metrics(*PRESETS)
    assert who("none", everything) == who((), everything) == who("auto", set()) == []
    assert who(("redis",), everything) == [watch.name for watch in named("redis").watches]
    assert who(("redis",), metrics(named("node"))) == []
    assert who("auto", {"redis_connected_clients", "node_load1"}) == ["redis_clients"]
    # one scheme of names, and one side of an `or`, is enough
    assert who("auto", {"http_requests_total"}) == ["http_requests", "http_error_ratio"]
    assert who("auto", {"http_request_duration_seconds_bucket"}) == ["http_latency_seconds"]
    assert who("auto", {"http_request_duration_seconds_sum"}) == []


def test_what_explains_a_watch_is_asked_only_where_it_is_there() -> None:
    def explained(there: set[str]) -> tuple[str, ...]:
        [found] = [w for w in chosen("auto", PRESETS, there, 15) if w.name == "http_latency_seconds"]
        return found.explained_by

    assert explained({"http_request_duration_seconds_bucket"}) == ()
    assert len(explained({"http_request_duration_seconds_bucket", "http_requests_total"})) == 1


def test_all_of_them_at_once_are_inside_the_budget_of_queries() -> None:
    every = plan((), (), chosen("auto", PRESETS, metrics(*PRESETS), 15)).watches
    assert sum(1 / watch.step for watch in every) < Config().prometheus.max_queries_per_second


def test_presets_are_frozen() -> None:
    with pytest.raises(AttributeError):
        PRESETS[0].watches = ()  # type: ignore[misc]
    assert msgspec.structs.replace(PRESETS[0], watches=()).watches == ()
