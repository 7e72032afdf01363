"""The whole process, as far as it goes without peers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from sidecar.alerts import aside
from sidecar.app import App
from sidecar.config import Config


async def test_what_fails_beside_alerts_and_remedies_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = msgspec.convert(
        {
            "prometheus": {"url": "http://127.0.0.1:9"},
            "storage": {"path": str(tmp_path)},
            "web": {"listen": "127.0.0.1:0"},
        },
        Config,
    )
    app, tried = App(lambda: config), list[str]()

    def broken(name: str) -> object:
        async def run(*_: object) -> None:
            tried.append(name)
            raise LookupError(name)

        return run

    monkeypatch.setattr(aside, "RETRY", 0.01)
    beside = {"trainer", "outside", "following", "effects", "alertmanagers"}
    for name in beside:
        monkeypatch.setattr(getattr(app, name), "run", broken(name))
    started = asyncio.Event()
    running = asyncio.create_task(app.run(lambda port: started.set()))
    await asyncio.wait_for(started.wait(), 10)
    while set(tried) != beside or len(tried) < 2 * len(beside):
        await asyncio.sleep(0.01)
        assert not running.done()
    app.stop()
    await asyncio.wait_for(running, 10)
    assert "failed, it begins again" in caplog.text
