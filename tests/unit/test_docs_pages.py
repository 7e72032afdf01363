"""docs/: links lead somewhere, configs and commands are taken, and each alert has its runbook."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from docs.pictures import SCENES
from sidecar.__main__ import COMMANDS, _parser
from sidecar.config import parse

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
FULL = _parser(*COMMANDS)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def plain(page: Path) -> str:
    """Without code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`|^```.*?^```", "", TEXT[page], flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", plain(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.suffix != ".md" or file.is_relative_to(ROOT / "docs"), f"{target} is not part of the site"
        assert not anchor or anchor in anchors(file), target


def test_the_index_and_the_site_know_every_page() -> None:
    docs = ROOT / "docs"
    there = {str(page.relative_to(docs)) for page in PAGES}
    named = set(re.findall(r"\]\(([\w/-]+\.md)\)", TEXT[docs / "README.md"]))
    assert named == there - {"README.md"}
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert set(re.findall(r"[\w/-]+\.md", site)) == there
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_picture_is_drawn_by_the_program_and_shown() -> None:
    shown = {
        name for text in TEXT.values() for name in re.findall(r"!\[[^]]+\]\(pictures/(\w+)\.png\)", text)
    }
    assert shown == set(SCENES) == {file.stem for file in (ROOT / "docs" / "pictures").iterdir()}


CONFIGS = [
    text
    for page in PAGES
    for text in re.findall(r"```yaml\n\s*# promantis.yml\n(.*?)```", TEXT[page], flags=re.S)
]


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_is_right(text: str) -> None:
    parse(text)


def test_there_are_configs() -> None:
    assert len(CONFIGS) == 4


SAID = sorted({
    " ".join(found.split())
    for page, text in TEXT.items()
    if page.parent.name != "reference"  # whose examples are those of --help, which are tested there
    for found in re.findall(r"(?:`|\$ |; )promantis ([a-z]+ [^`\n#]*|[a-z]+(?:\n[^`]*)?)(?=`|\n|$)", text)
})  # fmt: skip


NAMED = (["approve"], ["backtest"], ["backtest", "--plot"])
"""What is only spoken of."""


@pytest.mark.parametrize("command", SAID)
def test_a_command_is_taken(command: str) -> None:
    words = [word for word in shlex.split(command.partition(" > ")[0]) if word]
    if words in NAMED:
        return
    assert FULL.parse_args(words).command == words[0]


def test_there_are_commands() -> None:
    assert len(SAID) > 10


def test_each_alert_has_its_runbook() -> None:
    groups = yaml.safe_load((ROOT / "rules" / "promantis.rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = list(dict.fromkeys(rule["alert"] for group in groups for rule in group["rules"]))
    runbook = TEXT[ROOT / "docs" / "operations.md"].partition("## Runbook")[2]
    assert re.findall(r"^### (\w+)$", runbook, flags=re.M) == alerts
