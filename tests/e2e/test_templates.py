"""The receiver templates, rendered by the real amtool: three lines and one link, with and without Promantis' words."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.demo.binaries import Binaries
from sidecar.demo.peers import REPOSITORY

pytestmark = pytest.mark.e2e

FOLDER = REPOSITORY / "deploy" / "alertmanager"
RECEIVERS = yaml.safe_load((FOLDER / "receivers.yml").read_text(encoding="utf-8"))["receivers"]
URL = "http://promantis:9909/a/0123456789abcdef"
WORDS = {
    "promantis_summary": 'HighLatency is 0.445, normal now 0.27 to 0.3 <script>"',
    "promantis_causes": "shop runs out of pooled connections (very likely): pool 85 %, usually 45 %.",
    "promantis_next_steps": "Now: enlarge the pool of shop. Later: timeouts.",
    "promantis_incident": "c0ffee12",
    "promantis_url": URL,
}
OWN = {"summary": "Requests are slow", "description": "Look at the dashboard."}
PROMETHEUS = "http://prometheus:9090/graph?g0.expr=x"


def data(annotations: dict[str, str], status: str = "firing", alerts: int = 2) -> dict[str, Any]:
    """What Alertmanager gives to a template."""
    one = {
        "status": status,
        "labels": {"alertname": "HighLatency", "job": "shop"},
        "annotations": annotations,
        "startsAt": "2026-11-25T14:08:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": PROMETHEUS,
        "fingerprint": "0123456789abcdef",
    }
    common = {"groupLabels": {"alertname": "HighLatency"}, "commonLabels": one["labels"]}
    more = {"commonAnnotations": annotations, "externalURL": "http://alertmanager:9093"}
    return {"receiver": "slack", "status": status, "alerts": [one] * alerts, **common, **more}


def texts(settings: Any) -> dict[str, str]:
    """Every template of a receiver, by its key."""
    if isinstance(settings, list):
        return {f"{i}.{k}": v for i, one in enumerate(settings) for k, v in texts(one).items()}
    if isinstance(settings, dict):
        return {f"{key}.{k}".rstrip("."): v for key, one in settings.items() for k, v in texts(one).items()}
    return {"": settings} if isinstance(settings, str) and "{{" in settings else {}


@pytest.fixture
def render(peers: Binaries, tmp_path: Path) -> Any:
    def with_data(text: str, values: dict[str, Any], kind: str = "text") -> str:
        file = tmp_path / "data.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        glob = f"--template.glob={FOLDER}/*.tmpl"
        command = [peers.amtool, "template", "render", glob, f"--template.text={text}"]
        more = [f"--template.type={kind}", f"--template.data={file}"]
        done = subprocess.run([*map(str, command), *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return with_data


def test_every_receiver_is_a_valid_config(peers: Binaries, tmp_path: Path) -> None:
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    command = [str(peers.amtool), "check-config", str(tmp_path / "receivers.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("receiver", RECEIVERS, ids=lambda receiver: receiver["name"])
@pytest.mark.parametrize("annotations", [WORDS, OWN, {}], ids=["explained", "own", "bare"])
@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_three_lines_and_one_link(
    render: Any, receiver: dict[str, Any], annotations: dict[str, str], status: str
) -> None:
    """Slack's title, PagerDuty's description and the subject of a mail are beside them."""
    said = {
        key: render(text, data(annotations, status), "html" if key.endswith("html") else "text")
        for key, text in texts({k: v for k, v in receiver.items() if k != "name"}).items()
    }
    link = annotations.get("promantis_url", PROMETHEUS)
    assert all(text and "no value" not in text and "\n\n" not in text for text in said.values())
    bodies = {
        "slack": ["slack_configs.0.text"],
        "pagerduty": [f"pagerduty_configs.0.{k}" for k in ("description", "details.why", "details.now")],
        "email": ["email_configs.0.text"],
    }[receiver["name"]]
    lines = "\n".join(said[key] for key in bodies).splitlines()
    assert len([line for line in lines if link not in line]) == 3
    assert sum(link in text for key, text in said.items() if not key.endswith("html")) == 1
    if annotations:
        for name in ("promantis_causes", "description"):
            assert annotations.get(name, "") in "\n".join(lines)


def test_what_is_in_a_mail_is_no_markup(render: Any) -> None:
    html = render('{{ template "promantis.html" . }}', data(WORDS), "html")
    assert "<script>" not in html
    assert len(re.findall("<a ", html)) == 1
    assert html.count("<p>") == 4  # three lines and the link
