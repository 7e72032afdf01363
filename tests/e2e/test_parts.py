"""A process for some of the parts has the routes of these, and no others."""

from __future__ import annotations

import aiohttp
import pytest

from sidecar.demo.peers import Stack
from tests.e2e.alerting import message, notifying

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.mark.parametrize(
    ("parts", "alerts", "webhook"),
    [("alerts", 200, 404), ("remedies", 404, 200), ("alerts,remedies", 200, 200)],
)
async def test_the_parts_of_a_process(stack: Stack, parts: str, alerts: int, webhook: int) -> None:
    peer = await stack.alertmanager(notifying("http://127.0.0.1:9/"))
    config = f"alertmanagers: [{{url: '{peer.url}'}}]\nprometheus: {{url: 'http://127.0.0.1:9'}}\n"
    side = await stack.promantis(config, f"--enable={parts}")
    async with aiohttp.ClientSession() as session:
        for path, body, status in (
            ("/api/v2/alerts", [message("Full")], alerts),
            ("/api/v1/webhook", {"version": "4", "alerts": []}, webhook),
        ):
            async with session.post(side.url + path, json=body) as answer:
                assert answer.status == status, path
        async with session.get(f"{side.url}/") as answer:
            assert answer.status == 200
        async with session.get(f"{side.url}/metrics") as answer:
            assert answer.status == 200


async def test_an_unknown_part_is_named(stack: Stack) -> None:
    with pytest.raises(
        RuntimeError, match=r"--enable: unknown part 'alert' \(some of signals,alerts,remedies\)"
    ):
        await stack.promantis("", "--enable=alert")
