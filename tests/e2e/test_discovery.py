"""Alertmanagers that a real DNS server names, found by the whole process; they come and go while it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
import pytest

from sidecar.demo.peers import Stack, free_port
from tests.e2e.alerting import alert_at, get, message, post, until
from tests.unit.test_fleet import name_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

# Where a machine's resolver asks cannot be changed for one process, and never has a port of its own.
ASKING = """
import sys, dns.asyncresolver
class Resolver(dns.asyncresolver.Resolver):
    def __init__(self):
        super().__init__(configure=False)
        self.nameservers, self.port = ["127.0.0.1"], {port}
dns.asyncresolver.Resolver = Resolver
from sidecar.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


async def test_srv_records_through_the_whole_process(stack: Stack, tmp_path: Path) -> None:
    first = await stack.alertmanager()
    here, port = first.listen.rpartition(":")[2], free_port()
    config = tmp_path / "promantis.yml"
    config.write_text(
        "alertmanagers: [{dns: {names: [_web._tcp.am.test], refresh_interval: 1s}}]\n"
        "presets: none\nalerts: {mode: inline, external_url: 'https://promantis.example.org'}\n"
    )
    async with name_server(f"0 5 {here} localhost.") as (resolver, records):
        side = await stack.program(
            "promantis",
            *(sys.executable, "-c", ASKING.format(port=resolver.port), "run", f"--config.file={config}"),
            *("--web.listen-address={listen}", f"--storage.path={tmp_path / 'state'}"),
            port=port,
            ready="/-/healthy",
        )
        assert await post(side.url, [message("One")]) == 200
        found = await until(lambda: alert_at(first.url, "One"))
        assert found["labels"]["alertname"] == "One"
        assert [one["labels"]["alertname"] for one in await get(side.url)] == ["One"], "passed through"

        second = await stack.alertmanager()  # one more replica of a StatefulSet
        records.append(f"0 5 {second.listen.rpartition(':')[2]} localhost.")
        await until(lambda: two_lanes(side.url))
        assert await post(side.url, [message("Two")]) == 200
        assert await until(lambda: alert_at(first.url, "Two"))
        assert await until(lambda: alert_at(second.url, "Two"))

        del records[0]  # and the first is no longer one of them
        await until(lambda: one_lane(side.url))
        assert await post(side.url, [message("Three")]) == 200
        assert await until(lambda: alert_at(second.url, "Three"))
        assert await alert_at(first.url, "Three") is None
    # the name server is gone: that is no news about who is there
    await until(lambda: "cannot be looked up, all stays as it was" in side.tail())
    assert await post(side.url, [message("Four")]) == 200
    assert await until(lambda: alert_at(second.url, "Four"))


async def lanes(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return (await answer.text()).count("promantis_lane_alerts{")


async def two_lanes(url: str) -> bool:
    return await lanes(url) == 2


async def one_lane(url: str) -> bool:
    return await lanes(url) == 1
