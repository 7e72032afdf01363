"""Every tests/golden/config/*.bad.yml is refused with the words of its first line, which is `# <words>`.

Add a file to add a case; there is nothing to change here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidecar.config import Config, load, parse
from sidecar.types import ConfigError, Duration

FOLDER = Path(__file__).parents[1] / "golden" / "config"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.bad.yml")), ids=lambda file: file.name)
def test_refused_with_its_words(file: Path) -> None:
    words = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == words


def test_the_empty_file_is_the_default() -> None:
    assert parse("") == Config()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yml: cannot be read: No such file or directory$"):
        load(tmp_path / "gone.yml")
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match=r"^latin\.yml: is not UTF-8 text$"):
        load(tmp_path / "latin.yml")


def test_a_watch_with_everything() -> None:
    text = """
watches:
  - name: api_latency
    query: avg by (service) (rate(http_seconds_sum[2m]) / rate(http_seconds_count[2m]))
    kind: latency
    direction: up
    limits: [{op: ">", value: 0.5, for: 5m, name: slo, severity: page}]
    min_deviation: 0.02
    min_relative_deviation: 0.1
    bounds: [0, null]
    absent: zero
    absent_for: 1h30m
    interval: 30s
rules: {include: ["Kube.*"], exclude: [Watchdog]}
presets: [node]
"""
    config = parse(text)
    assert config.watches[0].absent_for == Duration(5400)
    assert config.watches[0].bounds == (0, None)
    assert config.presets == ("node",)


def test_sections_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().presets = "none"  # type: ignore[misc]
    assert msgspec.structs.replace(Config(), presets="none").presets == "none"
