"""Fixtures of every test: the real Prometheus, Alertmanager, node_exporter and Promantis as processes.

    async def test_x(prometheus, alertmanager, promantis):
        am = await alertmanager()                          # or alertmanager(config_text)
        prom = await prometheus(config_text, rules_text, "--rules.alert.resend-delay=2s")
        side = await promantis(f"prometheus: {{url: {prom.url}}}", "--log.level=debug")
        side.kill(); await side.start()                    # a crash, and again on the same port and state

A config may be a function of the peer's own `host:port`; `port=free_port()` fixes one beforehand. `stack` has
all of them in one object, and `module_stack` keeps them for the tests of one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sidecar.demo.binaries import Binaries, find
from sidecar.demo.peers import Stack


def spread(files: Sequence[Path]) -> list[Path]:
    """Files whose tests wait for real peers, evenly between those that compute: while one waits another works.

    Examples in docstrings come last: they take no time, so that no process is left alone with much.
    """
    parts: dict[str, list[Path]] = {"e2e": [], "unit": [], "": []}
    for file in files:
        parts[next((part for part in parts if part in file.parts), "")].append(file)
    place = {file: (i + 0.5) / len(part) for part in parts.values() for i, file in enumerate(part)}
    return sorted(files, key=lambda file: (file in parts[""], place[file]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for several processes (`--no-loadscope-reorder` keeps it); tests of a file stay together."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    items[:] = [item for file in spread([*files]) for item in files[file]]


@pytest.fixture(scope="session")
def peers() -> Binaries:
    """Where the real binaries are; fetched when they are not here."""
    return find()


@pytest.fixture
def stack(peers: Binaries, tmp_path: Path) -> Iterator[Stack]:
    """Starts peers for one test."""
    with Stack(peers, tmp_path) as stack:
        yield stack


@pytest.fixture(scope="module")
def module_stack(peers: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Starts peers for the tests of one file."""
    with Stack(peers, tmp_path_factory.mktemp("stack")) as stack:
        yield stack
