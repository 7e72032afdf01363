"""Flags over the file."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from sidecar.commands.flags import add_config_flags, config_from
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
