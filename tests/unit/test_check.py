"""`promantis check`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sidecar.__main__ import main
from sidecar.commands.check import Cost, bill
from sidecar.config import parse
from sidecar.signals.watch.promql import ITS_OWN
from sidecar.signals.watch.watches import Limit, Plan, Skipped, Watch

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def test_a_right_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yml"
    file.write_text(
        "prometheus: {url: 'http://me:secret@prom/p'}\nwatches: [{name: a, query: up}]\npresets: [node]"
    )
    assert main(["check", f"--config.file={file}", "--alertmanager.url=http://am"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"config          {file}: no mistakes found",
        "prometheus      http://prom/p",
        "alertmanagers   http://am (tee)",
        "watches         1 configured; presets: node; every 15s",
        "remedies        0",
    ]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yml")), ids=lambda file: file.name)
def test_the_examples_are_right(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"--config.file={file}"]) == 0
    assert f"{file}: no mistakes found" in capsys.readouterr().out


def test_a_wrong_file_and_a_wrong_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yml"
    file.write_text("intervall: 15s")
    assert main(["check", f"--config.file={file}"]) == 2
    assert capsys.readouterr().err == "promantis: p.yml: unknown key `intervall`: did you mean `interval`?\n"
    with pytest.raises(SystemExit) as caught:
        main(["check", "--nonsense"])
    assert caught.value.code == 2


def test_what_is_hardly_meant_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, action = tmp_path / "p.yml", "action: {type: http, url: 'http://10.0.0.1/'}"
    file.write_text(
        f"remedies:\n  - {{name: a, match: ['alertname=\"A\"'], when: up, {action}, verify: {{query: x == bool 1}}}}\n"
        f"  - {{name: b, match: ['alertname=\"B\"'], {action}, verify: {{query: x < 1, harm: y}}}}\n"
        "guard: {allow_private: [10.0.0.2]}\nweb: {tokens_file: /not/here.yml}\n"
    )
    assert main(["check", f"--config.file={file}"]) == 1
    said = capsys.readouterr()
    assert f"{file}: 5 to look at, see below" in said.out
    assert "not here        web.tokens_file: /not/here.yml, which is read at start" in said.out
    assert [line.split(": ")[1] for line in said.err.splitlines()] == [
        "remedies[0].when",
        "remedies[0].verify.query",
        "remedies[0].action.url",
        "remedies[1].verify.harm",
        "remedies[1].action.url",
    ]
    assert "10.0.0.1: 10.0.0.1 is no public address; allow it by guard.allow_private" in said.err


def test_secrets_that_are_here_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens, file = tmp_path / "tokens.yml", tmp_path / "p.yml"
    tokens.write_text("[{name: ann, token: long-enough-to-be-one, role: boss}]")
    file.write_text(f"web: {{tokens_file: {tokens}}}")
    assert main(["check", f"--config.file={file}"]) == 2
    assert "[0].role: unknown role 'boss'" in capsys.readouterr().err


def test_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert main(["check", "--live", f"--prometheus.url={url}"]) == 1
    assert capsys.readouterr().err == (
        f"promantis: {url}: configuration: cannot connect: connection refused"
        " (--prometheus.url says where Prometheus is)\n"
    )


def test_the_bill() -> None:
    config = parse(
        "prometheus: {max_queries_per_second: 0.1}\nexposition: {max_series: 500}\nlearning: {max_series: 100}"
    )
    limits = (Limit(">", 1.0), Limit(">", 2.0))
    cheap = Cost(Watch("cheap", "sum(x)", "rule", 15.0, limits=limits), 1, 0.3)
    dear = Cost(Watch("dear", "x", "config", 30.0), 120, 0.03, "broken")
    skipped = (Skipped("Gone", "absent(x)", "absent() has no value that could be forecast"),)
    lines, problems = bill(config, Plan((cheap.watch, dear.watch), skipped), [cheap, dear])
    # 14 columns a series (score, confidence, band of 3, 9 of forecasts), 6 for each of its limits
    assert lines == [
        "watches         2 (1 rule, 0 preset, 1 config)",
        "series in       121",
        "series out      1,706 wanted, 500 exported, the most interesting first (exposition.max_series)",
        "queries         0.10/s of at most 0.1/s",
        "query time      0.021 s of Prometheus each second",
        "",
        "most series:",
        "  watch  source  every  series in  series out  query s  query",
        "  dear   config  30s    120        1,680       0.030    x",
        "  cheap  rule    15s    1          26          0.300    sum(x)",
        "",
        "longest queries:",
        "  watch  source  every  series in  series out  query s  query",
        "  cheap  rule    15s    1          26          0.300    sum(x)",
        "  dear   config  30s    120        1,680       0.030    x",
        "",
        "rules not watched: 1",
        "  Gone: absent() has no value that could be forecast: absent(x)",
    ]
    assert problems == ["watch dear: broken", "121 series are more than learning.max_series (100)"]
    own = Skipped("PromantisDown", "up == 0", ITS_OWN)
    assert bill(config, Plan(skipped=(own,)), [])[0][-1] == "rules not watched: 0, and 1 on Promantis itself"
    busy = [cheap, dear, cheap]
    assert bill(config, Plan(), busy)[1][1] == (
        "0.17 queries/s are more than prometheus.max_queries_per_second (0.1): ticks will be late"
    )
