"""The dashboards' files are what their code makes, and their queries parse and name metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as m
from jsonschema import Draft7Validator

from grafana import build, series
from tests.unit.metric_names import own, signals

BOARDS: dict[str, dict[str, Any]] = {uid: json.loads(build.render(uid)) for uid in build.BOARDS}


def _filled(query: str) -> str:
    for name, value in {
        "${series:raw}": 'watch="w",service="a"',
        "${query:raw}": "rate(x[5m])",
        "$watch": "w",
        "$__rate_interval": "1m",
        "$__range": "6h",
    }.items():
        query = query.replace(name, value)
    return query


def test_the_committed_files_are_what_the_code_makes() -> None:
    there = {file.stem: file.read_text(encoding="utf-8") for file in build.FOLDER.glob("*.json")}
    assert there == {uid: build.render(uid) for uid in build.BOARDS}, "run: python -m grafana.build"
    assert build.ANNOTATIONS.read_text(encoding="utf-8") == build.annotations(), (
        "run: python -m grafana.build"
    )


@pytest.mark.parametrize("uid", BOARDS)
def test_grafanas_own_model_reads_all_of_a_dashboard(uid: str) -> None:
    """Its types are made from Grafana's schema: what they do not know would be lost on the way, or refused."""
    known = build.current(json.loads(json.dumps(m.Dashboard.from_json(BOARDS[uid]), cls=JSONEncoder)))
    marks = [
        {k: v for k, v in mark.items() if k not in ("step", "titleFormat")}
        for mark in BOARDS[uid]["annotations"]["list"]
    ]  # of Prometheus' annotations alone, which it has not
    assert known == BOARDS[uid] | {"annotations": {"list": marks}}  # fmt: skip


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_is_valid_by_the_schema_of_grafana_13(uid: str) -> None:
    """No key beyond the schema, so that a word that Grafana would not read is found."""
    fixtures = Path(__file__).parent / "fixtures"
    schema = json.loads((fixtures / "grafana.schema.json").read_text(encoding="utf-8"))
    checks = Draft7Validator(schema)
    assert [f"{list(e.absolute_path)}: {e.message[:200]}" for e in checks.iter_errors(BOARDS[uid])] == []
    for wrong in ("fieldConfig", "gridPos"):
        broken = json.loads(json.dumps(BOARDS[uid]))
        broken["panels"][0][wrong]["unheard_of"] = 1
        assert not checks.is_valid(broken)


@pytest.mark.parametrize("query", [*build.queries(), *(query for _, _, query, _ in build.MARKS)])
def test_a_query_parses_and_names_only_metrics_that_exist(query: str) -> None:
    filled = _filled(query)
    assert "$" not in filled
    promql_parser.parse(filled)
    assert set(re.findall(r"promantis_\w+", filled)) <= own() | signals()


def test_every_metric_about_the_series_is_on_a_dashboard() -> None:
    shown = " ".join(build.queries())
    left = {name for name in signals() if name not in shown}
    assert left == {"promantis_watch_info"}  # in the variables


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_have_numbers_titles_and_words_of_their_own(uid: str) -> None:
    board = BOARDS[uid]
    panels = board["panels"]
    assert board["uid"] == uid
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"], panel["title"]
        unit = panel["fieldConfig"]["defaults"].get("unit")
        assert unit or panel["type"] == "table", f"{panel['title']} has no unit"
    assert [
        mark["name"]
        for mark in board["annotations"]["list"]
        if mark["name"] in dict(m[:2] for m in build.MARKS)
    ]


def test_links_lead_to_dashboards_that_exist() -> None:
    found = re.findall(r"/d/([\w-]+)\?", " ".join(build.render(uid) for uid in BOARDS))
    assert set(found) == {"promantis-series"}


def test_variables_ask_only_for_metrics_that_exist() -> None:
    variables = BOARDS["promantis-series"]["templating"]["list"]
    asked = " ".join(str(v["query"]) for v in variables if v["type"] == "query")
    assert set(re.findall(r"promantis_\w+", asked)) <= own() | signals()
    assert [v["name"] for v in variables] == ["datasource", "watch", "series", "query", "page"]


def test_the_look_ahead_opens_the_panel_of_the_series() -> None:
    panels = {panel["id"]: panel for panel in BOARDS["promantis-series"]["panels"]}
    panel = panels[series.SERIES_PANEL]
    assert panel["title"].startswith("$watch")
    assert f"viewPanel={series.SERIES_PANEL}" in panel["links"][0]["url"]


def test_what_is_provisioned_is_where_compose_puts_it() -> None:
    folder = build.FOLDER.parent
    read = lambda name: yaml.safe_load((folder / "provisioning" / name / "promantis.yml").read_text("utf-8"))  # noqa: E731
    (provider,) = read("dashboards")["providers"]
    (source,) = read("datasources")["datasources"]
    compose = yaml.safe_load((folder.parent / "deploy" / "compose.yml").read_text(encoding="utf-8"))[
        "services"
    ]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["../grafana/dashboards"] == provider["options"]["path"]
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"].partition("//")[2].split(":")[0] in compose
