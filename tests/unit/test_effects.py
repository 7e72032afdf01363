"""The comparison of what actions changed goes on, whatever it stumbles over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar import effects
from sidecar.effects import Effects
from sidecar.types import Instant


class Stumbles:
    """A runner whose cases cannot be read at first."""

    def __init__(self) -> None:
        self.asked = 0
        self.again = asyncio.Event()

    def cases(self) -> list[Any]:
        self.asked += 1
        if self.asked == 1:
            raise LookupError("a case of a shape that nobody foresaw")
        self.again.set()
        return []


async def test_what_nobody_foresaw_ends_neither_it_nor_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(effects, "MINUTE", 0.01)
    runner: Any = Stumbles()
    nobody: Any = None
    task = asyncio.create_task(Effects(nobody, runner, lambda: Instant(0.0)).run())
    await asyncio.wait_for(runner.again.wait(), 5)
    assert not task.done()
    assert "nobody foresaw" in caplog.text
    task.cancel()
