"""The README: short, its configs are taken, its links lead somewhere, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sidecar.__main__ import COMMANDS, _parser
from sidecar.config import parse

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FULL = _parser(*COMMANDS)


def test_the_configs_that_it_shows_are_right() -> None:
    shown = [text for text in re.findall(r"```yaml\n(.*?)```", README, flags=re.S) if "remedies:" in text]
    assert len(shown) == 2
    for text in shown:
        parse(text)


@pytest.mark.parametrize("command", re.findall(r"^\$ promantis (.*?)(?: +#.*)?$", README, flags=re.M))
def test_a_command_that_it_shows_is_taken(command: str) -> None:
    words = shlex.split(command)
    assert FULL.parse_args(words).command == words[0]


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


def test_make_targets_that_it_names_are_there() -> None:
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert set(re.findall(r"`make ([a-z]+)|\$ make ([a-z]+)", README)) <= {
        pair for name in targets for pair in ((name, ""), ("", name))
    }


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 400
