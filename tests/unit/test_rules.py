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
ALL: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]


def _promtool(peers: Binaries, *arguments: str | Path) -> None:
    done = subprocess.run([peers.promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(peers: Binaries) -> None:
    _promtool(peers, "check", "rules", "--lint=all", "--lint-fatal", FILE)


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


def test_the_examples_are_what_prometheus_and_alertmanager_accept(peers: Binaries, tmp_path: Path) -> None:
    deploy = RULES.parent / "deploy"
    for file in (deploy / "prometheus.yml", FILE):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    _promtool(peers, "check", "config", tmp_path / "prometheus.yml")
    done = subprocess.run(
        [peers.amtool, "check-config", deploy / "alertmanager.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
