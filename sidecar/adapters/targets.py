"""The way out of the HTTP action: one request, once, and its status."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aiohttp

from sidecar.types import Unavailable

TIMEOUT = 30.0
"""Seconds for one call."""


class Targets:
    """Sends requests to targets: never twice, never along a redirect. `close()` ends it."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> int:
        """The status of the answer; Unavailable when nobody knows whether the request arrived."""
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True)  # a kept connection may be dead
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
            # Else aiohttp sends GET, PUT and DELETE again when the server hangs up. It has no public switch
            # for that; tests/unit/test_targets.py sees whether this one still works.
            self._session._retry_connection = False
        data = None if body is None else body.encode()
        request = self._session.request(method, url, headers=headers, data=data, allow_redirects=False)
        try:
            async with request as answer:
                return answer.status
        except TimeoutError:
            raise Unavailable(f"the target did not answer within {self._timeout.total:g}s") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise Unavailable(f"the target did not answer: {error or type(error).__name__}") from None

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class KillSwitch:
    """A file whose presence forbids every action: `touch <storage>/killswitch`."""

    def __init__(self, storage: Path) -> None:
        self._path = storage / "killswitch"

    def __call__(self) -> bool:
        """Whether it is on; on as well when nobody can tell."""
        try:
            self._path.lstat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def set(self, on: bool) -> None:
        """Switch it; Unavailable when the file cannot be made or removed."""
        try:
            if on:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be changed: {error.strerror}") from None
