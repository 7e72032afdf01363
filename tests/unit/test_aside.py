"""What alerts can do without: it fails alone, and is begun again."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.alerts import aside


async def test_what_nobody_foresaw_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aside, "RETRY", 0.01)
    begun, goes_on = list[int](), asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) == 1:
            raise LookupError("a shape that nobody foresaw")
        goes_on.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(aside.again_and_again("looking around", work))
    await asyncio.wait_for(goes_on.wait(), 5)
    assert "looking around failed, it begins again in 0.01 s" in caplog.text
    assert "nobody foresaw" in caplog.text
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert begun == [0, 1]
