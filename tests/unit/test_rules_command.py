"""`promantis rules`: what is printed is what Prometheus takes, and says what was asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from sidecar.__main__ import main
from sidecar.commands.rules import ALERTS, RECORDING, THRESHOLDS, Wanted, rendered
from sidecar.demo.peers import Binaries


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["rules", *words]) == 0
    return capsys.readouterr().out


def rules_of(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_without_wishes_it_is_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == ALERTS.read_text(encoding="utf-8")
    assert printed(capsys, "--recording") == RECORDING.read_text(encoding="utf-8")


def test_a_wish_that_says_the_default_changes_no_rule() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    same = Wanted(numbers={name: threshold.default for name, threshold in THRESHOLDS.items()})
    assert rules_of(rendered(text, same)) == rules_of(text)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_threshold_changes_its_alert_and_no_other(name: str) -> None:
    text, threshold = ALERTS.read_text(encoding="utf-8"), THRESHOLDS[name]
    new = rules_of(rendered(text, Wanted(numbers={name: 12345})))
    both = [(old, now) for old, now in zip(rules_of(text), new, strict=True) if old != now]
    assert {old["alert"] for old, _ in both} == {threshold.alert}
    tiers = {tier for tier, _ in threshold.before}
    for old, now in both:
        assert tiers == {""} or old["labels"]["promantis_tier"] in tiers
        assert now["expr"].count("12345") == 1
        assert old | {"expr": ""} == now | {"expr": ""}
    assert tiers == {""} or {old["labels"]["promantis_tier"] for old, _ in both} == tiers


def test_everything_at_once_is_taken_by_promtool(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, peers: Binaries
) -> None:
    wishes = [
        *("--label", "team=sre", "--label", "cluster=eu", "--selector", 'cluster=~"eu|us",job="promantis"'),
        *("--set", "score=1.5", "--set", "confidence.high=0.95", "--set", "for.PromantisAnomaly.high=10m"),
        *("--set", "keep_firing_for.PromantisAnomaly=1m", "--drop", "PromantisGroupAnomaly"),
        *("--runbook-url", "https://example.org/operations"),
    ]
    for recording in ([], ["--recording"]):
        file = tmp_path / "mine.yml"
        file.write_text(printed(capsys, *wishes, *recording), encoding="utf-8")
        done = subprocess.run([peers.promtool, "check", "rules", "--lint=all", "--lint-fatal", file])
        assert done.returncode == 0
        for rule in rules_of(file.read_text(encoding="utf-8")):
            assert (rule["labels"]["team"], rule["labels"]["cluster"]) == ("sre", "eu")
            own = rule["expr"].count("promantis_")
            assert rule["expr"].count('{cluster=~"eu|us",job="promantis"') == own > 0
            promql_parser.parse(rule["expr"])
    first, *rest = rules_of(printed(capsys, *wishes))
    assert (first["for"], first["keep_firing_for"]) == ("10m", "1m")
    assert ">= 1.5 and" in first["expr"]
    assert first["expr"].endswith(">= 0.95")
    assert "< 0.95" in rest[0]["expr"]
    assert (rest[0]["for"], rest[0]["keep_firing_for"]) == ("5m", "1m")
    assert "PromantisGroupAnomaly" not in {rule["alert"] for rule in rest}
    runbooks = {rule["alert"]: rule["annotations"].get("runbook_url") for rule in [first, *rest]}
    assert runbooks["PromantisDown"] == "https://example.org/operations#promantisdown"
    assert runbooks["PromantisAnomaly"] == "https://example.org/operations#promantisanomaly"


def test_what_can_be_set_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--list").splitlines()
    assert [line.partition("=")[0] for line in lines] == list(THRESHOLDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--label", "team"], "--label: 'team' is not NAME=VALUE"),
        (["--label", "promantis_tier=x"], "'promantis_tier' is not the name of a label that may be set"),
        (["--label", "source_x=y"], "'source_x' is not the name of a label that may be set"),
        (["--selector", "cluster"], """--selector: not matchers such as cluster="eu": """),
        (["--set", "scores=2"], "--set: unknown name 'scores' (known: score, confidence.high,"),
        (["--set", "score=high"], "--set score: 'high' is not a number such as 0.8"),
        (["--set", "confidence.low=30"], "--set confidence.low: must lie between 0 and 1"),
        (["--set", "confidence.low=0.7"], "--set confidence.medium: 0.6 is not above confidence.low (0.7)"),
        (["--set", "for.PromantisAnomaly=soon"], "--set for.PromantisAnomaly: not a valid duration: 'soon'"),
        (["--set", "for.Other=5m"], "--set: unknown name 'for.Other'"),
        (["--drop", "Other"], "--drop: there is no alert 'Other' (there are PromantisAbsent,"),
    ],
)
def test_a_wrong_wish_is_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", *words]) == 2
    assert said in capsys.readouterr().err
