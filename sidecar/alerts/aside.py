"""Enriches batches in a thread of its own, within a deadline: whatever goes wrong there, alerts go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Labels

log = logging.getLogger(__name__)

ENRICH_WITHIN = 2.0
"""Seconds to enrich one batch; alerts that are not done by then go on as they are."""
GIVE_WAY, WAYS = 0.001, 4
"""Seconds that it stands back while somebody waits for the loop, and how often before each alert: at the same time
both would run at half their speed, and nobody waits for words."""
RETRY = 10.0
"""Seconds until what failed is begun again."""

Enrich = Callable[[Alert, Instant], Mapping[str, str]]
"""Annotations for one alert at a time; may fail and may be slow."""


class Aside:
    """One thread, so that enrichment that hangs can hold up no more than itself. Use it with `with`."""

    def __init__(self, enrich: Enrich, telemetry: Telemetry, busy: Callable[[], bool]) -> None:
        """`busy`: whether somebody waits for what only the loop can do."""
        self._enrich = enrich
        self._busy = busy
        self._telemetry = telemetry
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enrich")

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def enrich(self, batch: Sequence[tuple[Alert, Instant]]) -> Mapping[Labels, Mapping[str, str]]:
        """What could be said in time, by alert; those that are missing failed or took too long."""
        found: dict[Labels, Mapping[str, str]] = {}
        late = Event()
        with self._telemetry.enrich_duration.time():
            work = self._thread.submit(self._all, batch, found, late)
            try:
                async with asyncio.timeout(ENRICH_WITHIN):
                    await asyncio.wrap_future(work)
            except TimeoutError:
                late.set()
                log.warning("enrichment took longer than %g s, alerts go on as they are", ENRICH_WITHIN)
        in_time = dict(found)
        self._telemetry.enrich_failures.inc(len(batch) - len(in_time))
        return in_time

    def _all(
        self, batch: Sequence[tuple[Alert, Instant]], found: dict[Labels, Mapping[str, str]], late: Event
    ) -> None:
        for alert, now in batch:
            for _ in range(WAYS):
                if not self._busy() or late.wait(GIVE_WAY):
                    break
            if late.is_set():
                return
            with going_on("enrichment failed, the alert goes on as it is labels=%s", dict(alert.labels)):
                found[alert.labels] = self._enrich(alert, now)


@contextmanager
def going_on(words: str, *about: object) -> Iterator[None]:
    """The boundary of whatever alerts can do without: what fails inside is logged, and who is outside goes on."""
    try:
        yield
    except Exception:
        log.exception(words, *about)


async def again_and_again(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Work that alerts can do without, until cancelled: whatever fails in it, it is begun again a little later."""
    while True:
        with going_on("%s failed, it begins again in %g s", what, RETRY):
            await work()
        await asyncio.sleep(RETRY)
