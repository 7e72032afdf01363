"""The way out of the HTTP action: one request, once, and its status."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from sidecar.types import Rejected, Unavailable

log = logging.getLogger(__name__)
TIMEOUT = 30.0
"""Seconds for one call."""

METADATA = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"),
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    )
)
"""Where clouds tell a machine its secrets: link-local, and what AWS, Google, Alibaba, Azure and Oracle use besides."""
_CARRIERS = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))
"""Prefixes whose addresses end in the IPv4 address that is called: NAT64, and the compatible ones of old."""


class Refused(OSError):
    """An address that nobody allowed."""


class Allowed(AbstractResolver):
    """Resolves names to addresses that may be called: public ones, and those that the config allows.

    Looked at where the connection is made, so that a name cannot change its address in between.
    """

    def __init__(self, allow: Callable[[], Sequence[str]]) -> None:
        self._allow = allow

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name; Refused when one of them is not allowed."""
        found = await ThreadedResolver().resolve(host, port, family)
        for one in found:
            self.check(host, one["host"])
        return found

    def check(self, host: str, address: str) -> None:
        """Refused unless the host may be called at this address."""
        at = called(address)
        allow = self._allow()
        named = host.lower() in (one.lower().strip("[]") for one in allow)
        inside = any(at in ipaddress.ip_network(one) for one in allow if "/" in one)
        public = at.is_global and not at.is_multicast and not getattr(at, "is_site_local", False)
        secret = any(at in network for network in METADATA)
        if not (inside or ((named or public) and not secret)):
            words = "is no public address; allow it by guard.allow_private, as a host or a network"
            raise Refused(f"{host}: {at} {words}")

    async def close(self) -> None:
        """Nothing is open."""


def called(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that is called in truth: that in an IPv6 one which only carries it.

    >>> [str(called(one)) for one in ("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "::1%lo", "10.0.0.1")]
    ['10.0.0.1', '10.0.0.1', '10.0.0.1', '::1', '10.0.0.1']
    """
    at = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(at, ipaddress.IPv4Address):
        return at
    if any(at in prefix for prefix in _CARRIERS) and int(at) > 1:
        return ipaddress.IPv4Address(int(at) & 0xFFFFFFFF)
    return at.ipv4_mapped or at.sixtofour or at


class Targets:
    """Sends requests to targets: never twice, never along a redirect. `close()` ends it."""

    def __init__(self, allow: Callable[[], Sequence[str]], timeout: float = TIMEOUT) -> None:
        """`allow`: hosts and networks that are not public and may be called nevertheless, as of now."""
        self._allowed = Allowed(allow)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> int:
        """The status of the answer; Rejected for an address that is not allowed or where nobody listens; Unavailable
        when nobody knows whether the request arrived."""
        if self._session is None:
            # No cache: the address that is looked at is the one that is called. A kept connection may be dead.
            connector = aiohttp.TCPConnector(resolver=self._allowed, use_dns_cache=False, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
            # Else aiohttp sends GET, PUT and DELETE again when the server hangs up. It has no public switch
            # for that; tests/unit/test_targets.py sees whether this one still works.
            self._session._retry_connection = False
        self._check_literal(url)
        data = None if body is None else body.encode()
        request = self._session.request(method, url, headers=headers, data=data, allow_redirects=False)
        try:
            async with request as answer:
                return answer.status
        except Refused as error:
            raise Rejected(str(error)) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, Refused):
                raise Rejected(str(error.os_error)) from None
            raise Rejected(f"nothing was sent: {error}") from None
        except TimeoutError:
            raise Unavailable(f"the target did not answer within {self._timeout.total:g}s") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise Unavailable(f"the target did not answer: {error or type(error).__name__}") from None

    def _check_literal(self, url: str) -> None:
        """An address in the url is resolved by nobody."""
        host = URL(url).host or ""  # as aiohttp reads it: other digits and dots are made plain ones
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        try:
            self._allowed.check(host, host)
        except Refused as error:
            raise Rejected(str(error)) from None

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class KillSwitch:
    """A file whose presence forbids every action: `touch <storage>/killswitch`."""

    def __init__(self, storage: Path) -> None:
        self._path = storage / "killswitch"
        self._on = False
        """It was switched on here: that holds for this process though the disk may take nothing."""

    def __call__(self) -> bool:
        """Whether it is on; on as well when nobody can tell."""
        if self._on:
            return True
        try:
            self._path.lstat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def set(self, on: bool) -> None:
        """Switch it; Unavailable, and it stays on, when the file cannot be removed."""
        self._on = self._on or on
        try:
            if on:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not on:
                raise Unavailable(f"{self._path} cannot be removed: {error.strerror}") from None
            log.error("kill switch is on for this process only: %s: %s", self._path, error.strerror)
        else:
            self._on = False  # the file says it from here on
