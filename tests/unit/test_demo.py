"""The demo's command where it cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.__main__ import main
from sidecar.commands import demo


def test_the_demo_works_in_a_checkout_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "REPOSITORY", tmp_path)
    assert main(["demo"]) == 1
    words = "promantis demo: works in a checkout only: git clone the repository, then make demo\n"
    assert capsys.readouterr().err == words
