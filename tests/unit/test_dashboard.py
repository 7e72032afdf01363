"""The dashboard's file is what its code makes, and its queries parse and name metrics that exist."""

from __future__ import annotations

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import promql_parser
import pytest

from tests.unit.metric_names import own, signals

FOLDER = Path(__file__).resolve().parents[2] / "grafana"


def _module() -> ModuleType:
    spec = spec_from_file_location("grafana_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _module()


def _filled(query: str) -> str:
    for name, value in {
        "${series:raw}": 'watch="w",service="a"',
        "${query:raw}": "rate(x[5m])",
        "$watch": "w",
        "$__rate_interval": "1m",
    }.items():
        query = query.replace(name, value)
    return query


def test_the_committed_file_is_what_the_code_makes() -> None:
    assert (FOLDER / "promantis.json").read_text(encoding="utf-8") == build.render(), (
        "run: python grafana/build.py"
    )


@pytest.mark.parametrize("query", build.queries())
def test_a_query_parses_and_names_only_metrics_that_exist(query: str) -> None:
    filled = _filled(query)
    assert "$" not in filled
    promql_parser.parse(filled)
    assert set(re.findall(r"promantis_\w+", filled)) <= own() | signals()


def test_variables_ask_only_for_metrics_that_exist() -> None:
    variables = json.loads(build.render())["templating"]["list"]
    asked = " ".join(str(v["query"]) for v in variables if v["type"] == "query")
    assert set(re.findall(r"promantis_\w+", asked)) <= own() | signals()
    assert [v["name"] for v in variables] == ["datasource", "watch", "series", "query"]


def test_the_look_ahead_opens_the_panel_of_the_series() -> None:
    panels = {panel["id"]: panel for panel in json.loads(build.render())["panels"]}
    panel = panels[build.SERIES_PANEL]
    assert panel["title"].startswith("$watch")
    assert f"viewPanel={build.SERIES_PANEL}" in panel["links"][0]["url"]
