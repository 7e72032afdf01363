"""What to watch is followed: rules, presets and config become watches, and what cannot be one is told and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.adapters.state import StateFiles
from sidecar.config import Config, parse
from sidecar.following import Following
from sidecar.signals.detect.groups import Joint
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.tick.watcher import Watcher
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from tests.unit.relaying import sample, until

RULES = {"Full": "pool > 0.9", "Gone": "absent(x)", "PromantisSlow": "promantis_tick_lag_seconds > 30"}


class Site:
    """A Prometheus with rules, and what follows them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.telemetry = Telemetry()
        self.config: Config = parse("presets: none")
        self.prometheus = Prometheus(PrometheusConfig(url=url), self.telemetry)
        known, files = Known(Joint()), StateFiles(folder)
        clock = lambda: Instant(1.0)  # noqa: E731
        self.watcher = Watcher(self.prometheus, files, known, LearningConfig(), self.telemetry, clock)
        self.following = Following(self.prometheus, self.watcher, self.telemetry, lambda: self.config)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async def rules(_: web.Request) -> web.Response:
        listed = [
            {"type": "alerting", "name": name, "query": query, "duration": 0, "labels": {}}
            for name, query in RULES.items()
        ]
        group = {"name": "g", "file": "f", "interval": 15, "rules": listed}
        return web.json_response({"status": "success", "data": {"groups": [group]}})

    app = web.Application()
    app.router.add_get("/api/v1/rules", rules)
    async with TestServer(app) as server:
        site = Site(f"http://127.0.0.1:{server.port}", tmp_path)
        yield site
        await site.prometheus.close()


async def test_what_is_not_watched_is_told_once_and_counted_without_our_own(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.following")
    await site.following.look()
    await site.following.look()
    assert list(site.watcher.watches) == ["Full"]
    assert {one.alertname for one in site.following.skipped} == {"Gone", "PromantisSlow"}
    assert sample(site.telemetry, "rules_skipped") == 1
    assert [sample(site.telemetry, "watches", source=source) for source in ("rule", "preset", "config")] == [
        1,
        0,
        0,
    ]
    assert caplog.messages == [
        "rule Gone is not watched: absent() has no value that could be forecast",
        "watching 1 expressions: 1 of rules, 0 of presets, 0 of the config",
    ]


async def test_a_new_config_is_looked_at_at_once(site: Site) -> None:
    running = asyncio.create_task(site.following.run())
    try:
        await until(lambda: site.watcher.watches)
        site.config = parse("presets: none\nwatches: [{name: cpu, query: cpu_busy}]")
        site.following.look_now()
        await until(lambda: "cpu" in site.watcher.watches)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert sample(site.telemetry, "watches", source="config") == 1
