"""The replica that leads: what it is to be asked is passed on to it, and its answer back, as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import yarl
from multidict import CIMultiDict

from sidecar.types import Unavailable

TIMEOUT = 30.0
_POD = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
HOLDER = "{{ holder }}"


class Answer(NamedTuple):
    """What it said."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


class Peers:
    """`url` holds `{{ holder }}` for the name of the pod: whatever the lease says, only replicas can be asked."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, holder: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Send one request, once. Unavailable when the leader, by the identity in the lease, does not answer."""
        pod = holder.rpartition("-")[0]  # without the process id
        if HOLDER in self._url and not _POD.fullmatch(pod):
            raise Unavailable(f"{holder!r} leads, which is the name of no replica")
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            connector = aiohttp.TCPConnector(
                force_close=True
            )  # else one may go out twice, on a dead connection
            jar = aiohttp.DummyCookieJar()  # cookies are those of who asks
            self._session = aiohttp.ClientSession(
                timeout=timeout, connector=connector, cookie_jar=jar, auto_decompress=False
            )
        url = self._url.replace(HOLDER, pod) + path
        try:
            async with self._session.request(
                method, yarl.URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as answer:
                return Answer(answer.status, CIMultiDict(answer.headers), await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{holder} leads and does not answer: {error or 'no answer in time'}") from None

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
