"""What to watch, as the user's rules, the metrics that exist and the config have it: looked at every minute."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from sidecar.adapters.prometheus import Prometheus
from sidecar.config import Config, presets
from sidecar.signals.tick.watcher import Watcher
from sidecar.signals.watch.presets import chosen
from sidecar.signals.watch.watches import Plan, Skipped, from_config, from_rules, plan
from sidecar.telemetry import Telemetry
from sidecar.types import PromantisError

log = logging.getLogger(__name__)

FOLLOW = 60.0
"""Seconds between looks at the user's alerting rules."""
RETRY = 5.0
SOURCES = ("rule", "preset", "config")
"""Where a watch comes from."""


async def planned(prometheus: Prometheus, config: Config) -> Plan:
    """What is to be watched: from the config, the alerting rules, and the presets whose metrics exist."""
    interval, tz = float(config.interval), config.tz
    watches, skipped = from_rules(await prometheus.rules(), config.rules, interval, tz)
    wanted = config.presets not in ("none", ())
    names = await prometheus.metric_names() if wanted else frozenset[str]()
    ready_made = chosen(config.presets, presets(), names, interval, tz)
    return plan(from_config(config.watches, interval, tz=tz), watches, ready_made, skipped)


class Following:
    """Keeps a watcher at what is planned; `config` is asked each time, since a reload may swap it."""

    def __init__(
        self, prometheus: Prometheus, watcher: Watcher, telemetry: Telemetry, config: Callable[[], Config]
    ) -> None:
        self._prometheus, self._watcher, self._telemetry = prometheus, watcher, telemetry
        self._config = config
        self._now = asyncio.Event()
        self.skipped: tuple[Skipped, ...] = ()
        """The rules that are not watched, and why."""

    def look_now(self) -> None:
        """Wait no longer for the next look."""
        self._now.set()

    async def run(self) -> None:
        """Look every minute, sooner when told or while it fails; until cancelled."""
        said = ""
        while True:
            wait = FOLLOW
            try:
                await self.look()
                said = ""
            except PromantisError as error:
                wait = RETRY
                if said != str(error):
                    said = str(error)
                    log.warning(
                        "cannot read what to watch: %s; again in %g s (--prometheus.url)", said, RETRY
                    )
            self._now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._now.wait()

    async def look(self) -> None:
        """Look once; PromantisError when Prometheus cannot be asked."""
        found = await planned(self._prometheus, self._config())
        lost = [one for one in found.skipped if not one.own]
        before = {(one.alertname, one.reason) for one in self.skipped}
        for one in lost:
            if (one.alertname, one.reason) not in before:
                log.info("rule %s is not watched: %s", one.alertname, one.reason)
        self.skipped = found.skipped
        self._telemetry.rules_skipped.set(len(lost))
        by = [sum(w.source == source for w in found.watches) for source in SOURCES]
        for source, count in zip(SOURCES, by, strict=True):
            self._telemetry.watches.labels(source).set(count)
        if found.watches != tuple(self._watcher.watches.values()):
            log.info("watching %d expressions: %d of rules, %d of presets, %d of the config", sum(by), *by)
        self._watcher.watch(found.watches)
