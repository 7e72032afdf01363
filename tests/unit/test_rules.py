"""The alert rules are valid, behave as their promtool tests say, and name metrics that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from sidecar.demo.peers import Binaries
from tests.unit.metric_names import own, signals

RULES = Path(__file__).resolve().parents[2] / "rules"
FILE = RULES / "promantis.rules.yml"
RECORDING = RULES / "promantis.recording.yml"
ALL: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]


def _promtool(peers: Binaries, *arguments: str | Path) -> None:
    done = subprocess.run([peers.promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(peers: Binaries) -> None:
    _promtool(peers, "check", "rules", "--lint=all", "--lint-fatal", FILE)
    _promtool(peers, "check", "rules", "--lint=all", "--lint-fatal", RECORDING)


def test_the_rules_do_what_their_tests_say(peers: Binaries) -> None:
    _promtool(peers, "test", "rules", *sorted((RULES / "tests").glob("*.yml")))


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: f"{rule['alert']}-{rule['labels']['promantis_tier']}")
def test_a_rule_routes_by_fixed_labels_and_names_metrics_that_exist(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    assert set(rule["labels"]) == {"promantis_kind", "promantis_tier"}
    assert rule["labels"]["promantis_kind"] in ("anomaly", "breach", "meta")
    assert rule["labels"]["promantis_tier"] in ("high", "medium", "low")
    words = rule["expr"] + " ".join(rule["annotations"].values())
    assert set(re.findall(r"promantis_\w+", words)) <= own() | signals()


def test_every_alert_is_tested() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (RULES / "tests").glob("*.yml"))
    assert {rule["alert"] for rule in ALL} <= set(re.findall(r"\bPromantis\w+", tests))


def test_what_is_recorded_is_named_by_convention_of_metrics_that_exist_and_is_tested() -> None:
    tests = (RULES / "tests" / "recording.yml").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(RECORDING.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert re.fullmatch(r"promantis:[a-z_]+:[a-z0-9_]+", rule["record"])
        assert f"expr: {rule['record']}" in tests
        assert set(re.findall(r"promantis_\w+", rule["expr"])) <= own() | signals()


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=PoolExhaustion severity=page", "promantis,people"),
        ("alertname=PromantisDown promantis_kind=meta promantis_tier=high", "promantis,operators"),
        ("promantis_kind=meta promantis_tier=low", "promantis,operators"),
        ("promantis_kind=anomaly promantis_tier=low", "promantis,nobody"),
        ("promantis_kind=anomaly promantis_tier=high watch=cpu", "promantis,people"),
        ("promantis_kind=anomaly promantis_tier=medium team=shop", "promantis,shop"),
        ("promantis_kind=breach promantis_tier=medium source_severity=page", "promantis,people"),
        ("promantis_kind=breach promantis_tier=high source_severity=page team=shop", "promantis,pager"),
        ("promantis_kind=breach promantis_tier=high source_severity=warning team=shop", "promantis,shop"),
    ],
)
def test_the_example_routes_lead_where_they_say(peers: Binaries, labels: str, receivers: str) -> None:
    file = RULES.parent / "deploy" / "alertmanager.yml"
    command = [peers.amtool, "config", "routes", "test", f"--config.file={file}"]
    done = subprocess.run(
        [*command, f"--verify.receivers={receivers}", *labels.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_are_what_prometheus_and_alertmanager_accept(peers: Binaries, tmp_path: Path) -> None:
    deploy = RULES.parent / "deploy"
    for file in (deploy / "prometheus.yml", FILE):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    _promtool(peers, "check", "config", tmp_path / "prometheus.yml")
    done = subprocess.run(
        [peers.amtool, "check-config", deploy / "alertmanager.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
