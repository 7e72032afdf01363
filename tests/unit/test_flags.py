"""Flags over the file."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.commands.flags import add_config_flags, config_from, start_logging
from sidecar.config import Config
from sidecar.types import ConfigError


def read(*argv: str) -> Config:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    return config_from(parser.parse_args(argv))


def test_nothing_given_is_the_default() -> None:
    assert read() == Config()


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yml"
    file.write_text(
        "prometheus: {url: 'http://file:1', max_queries_per_second: 9}\nalertmanagers: [{url: 'http://am'}]"
    )
    config = read(f"--config.file={file}")
    assert (config.prometheus.url, config.alertmanagers[0].url) == ("http://file:1", "http://am")
    config = read(
        f"--config.file={file}",
        "--prometheus.url=http://flag:2/prefix",
        "--alertmanager.url=http://a",
        "--alertmanager.url=http://b",
        "--web.listen-address=0.0.0.0:1",
        "--storage.path=/s",
    )
    assert (config.prometheus.url, config.prometheus.max_queries_per_second) == ("http://flag:2/prefix", 9)
    assert [peer.url for peer in config.alertmanagers] == ["http://a", "http://b"]
    assert (config.web.listen, config.storage.path) == ("0.0.0.0:1", "/s")


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        read("--prometheus.url=localhost:9090")
    assert str(caught.value) == "--prometheus.url: must be a url such as http://localhost:9090"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    before = (logger.level, logger.handlers[:])
    yield logger
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def logged(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    start_logging(parser.parse_args(argv))
    log = logging.getLogger("sidecar.signals.tick.watcher")
    log.info("plain")
    log.warning('two "words"\n%s', "é")
    log.critical("end")
    return capsys.readouterr().err.splitlines()


def test_logfmt(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.partition(" ")[2] for line in logged(capsys)]
    assert lines == [
        "level=info logger=signals.tick.watcher msg=plain",
        r'level=warn logger=signals.tick.watcher msg="two \"words\"\né"',
        "level=error logger=signals.tick.watcher msg=end",
    ]


def test_json_and_level(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in logged(capsys, "--log.format=json", "--log.level=warn")]
    assert [(line["level"], line["msg"]) for line in lines] == [("warn", 'two "words"\né'), ("error", "end")]
    assert lines[0]["ts"].endswith("Z")
