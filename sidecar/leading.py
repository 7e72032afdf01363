"""Whose turn it is to act: of several replicas the one that holds the lease and, on their volume, the journal.

All of them score, and take and enrich alerts; remedies wait. Who loses the lease in the middle stops at once and gives
the journal back: who leads then reads it and looks at what was under way. The file lock of the journal is a second
fence: as long as a replica that hangs has it, nobody else begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sidecar.adapters.journal import Held
from sidecar.remedy.runner import Runner
from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError, PromantisError

log = logging.getLogger(__name__)
FIRST = 2.0
"""Seconds that a start waits to learn who leads."""
AGAIN = 1.0
"""Seconds between two tries to open a journal that another process still has."""


class Lease(Protocol):
    """One candidate for one lease."""

    @property
    def elsewhere(self) -> str:
        """Who else holds it, as far as is known; empty: nobody, or we do."""

    def held(self) -> bool:
        """Whether we may act now."""

    async def attempt(self) -> bool:
        """Take or renew it, once."""

    async def acquire(self) -> None:
        """Wait until we hold it."""

    async def keep(self) -> None:
        """Renew it; returns when it is lost."""

    async def release(self) -> None:
        """Give it back."""


class Leading:
    """`acts()` is asked before every step of every action. Without a lease: `begin()` once, and it acts always, but
    for a journal that is damaged or a disk that is full: remedies wait until somebody mended it, and alerts go on."""

    def __init__(
        self,
        lease: Lease | None,
        journal: Held,
        runner: Runner,
        read: Callable[[], Awaitable[None]],
        work: Callable[[], Awaitable[object]],
        telemetry: Telemetry,
    ) -> None:
        """`read` takes over what the journal says beside the cases, `work` is done until it is cancelled."""
        self._lease, self._journal, self._runner, self._read, self._work = lease, journal, runner, read, work
        self._telemetry = telemetry
        self._began = False
        self._failed = ""
        """Why the journal cannot be read, as it was last said."""

    def acts(self) -> bool:
        """Whether this process is the one."""
        return self._began and (self._lease is None or self._lease.held())

    @property
    def elsewhere(self) -> str:
        """Who leads, where it is another."""
        return "" if self._lease is None or self._began else self._lease.elsewhere

    async def look(self) -> None:
        """See who leads, before anybody asks us; a cluster that does not answer holds up nothing."""
        if self._lease is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST):
                    await self._lease.attempt()

    async def begin(self) -> bool:
        """Read the journal, which is ours now; whether that was possible."""
        try:
            await self._open()
            self._began = True  # from here on what comes in waits for the runner to have read it
            await self._runner.start()
            await self._read()
        except PromantisError as error:
            self._began = False
            self._runner.rest()
            await self._journal.give()
            if str(error) != self._failed:
                self._failed = str(error)
                log.error("remedies wait for the journal: %s", error)
            return False
        self._telemetry.leader.set(1)
        return True

    async def _open(self) -> None:
        """Take the journal; a thread cannot be stopped, so it is waited for before anybody gives it back."""
        opening = asyncio.create_task(asyncio.to_thread(self._journal.take))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.gather(opening, return_exceptions=True)
            raise

    async def run(self) -> None:
        """Work whenever it is our turn, until cancelled; then the lease is given back."""
        if self._lease is None:
            while not self._began:
                if not await self.begin():
                    await asyncio.sleep(AGAIN)
            await self._work()
            return
        try:
            while True:
                await self._lease.acquire()
                await self._turn(self._lease)
        finally:
            await self._lease.release()

    async def _turn(self, lease: Lease) -> None:
        """Until the lease is lost; what is under way then is looked up by who leads next."""
        acting, keeping = asyncio.create_task(self._act(lease)), asyncio.create_task(lease.keep())
        try:
            await asyncio.wait((acting, keeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            acting.cancel()
            keeping.cancel()
            await asyncio.gather(acting, keeping, return_exceptions=True)
            self._began = False
            self._runner.rest()
            self._telemetry.leader.set(0)
            await self._journal.give()
        if not acting.cancelled() and (error := acting.exception()):
            raise error

    async def _act(self, lease: Lease) -> None:
        said = ""
        while True:
            try:
                await self._open()
                break
            except ConfigError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("leads, and waits for the journal: %s", said)
                await asyncio.sleep(AGAIN)
        while lease.held():
            if await self.begin():
                await self._work()
                return
            await asyncio.sleep(AGAIN)
