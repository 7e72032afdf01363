"""Where Alertmanagers are found: in files and in DNS, as Prometheus' `file_sd_configs` and `dns_sd_configs` say it."""

from __future__ import annotations

import asyncio
import glob
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import yaml

from sidecar.types import ConfigError, Duration, Section, Unavailable

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

DNS_WITHIN = 5.0
"""Seconds for one name."""


class FileSd(Section, frozen=True, kw_only=True):
    """Lists of targets in JSON or YAML files, which may be patterns such as `am/*.yml`."""

    files: tuple[str, ...]
    """Or all that lists of `targets` in these files name, as Prometheus' `file_sd_configs`."""
    refresh_interval: Duration = Duration(5)
    """How often the files are looked at."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.files:
            yield "files", "names no file"
        if self.refresh_interval <= 0:
            yield "refresh_interval", "must be greater than 0s"


class DnsSd(Section, frozen=True, kw_only=True):
    """Names that are asked for SRV, A or AAAA records; the latter two need a port."""

    names: tuple[str, ...]
    """Or all that these names stand for, as Prometheus' `dns_sd_configs`."""
    type: str = "SRV"
    """SRV, A or AAAA."""
    port: int | None = None
    """For A and AAAA."""
    refresh_interval: Duration = Duration(30)
    """How often they are asked; what cannot be looked up stays as it was."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.names:
            yield "names", "names nothing"
        if self.type not in ("SRV", "A", "AAAA"):
            yield "type", f"unknown type {self.type!r} (SRV, A or AAAA)"
        elif self.type != "SRV" and self.port is None:
            yield "port", f"is needed for records of type {self.type}"
        if self.refresh_interval <= 0:
            yield "refresh_interval", "must be greater than 0s"


class _Group(msgspec.Struct):
    targets: list[str]


def in_files(config: FileSd) -> set[str]:
    """Each `host:port` in the files that are there now; ConfigError names the file that cannot be read."""
    found: set[str] = set()
    for pattern in config.files:
        for file in sorted(glob.glob(pattern)):
            try:
                raw = yaml.safe_load(Path(file).read_text(encoding="utf-8"))  # JSON is YAML
                groups = msgspec.convert(raw or [], list[_Group])
            except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
                words = " ".join((getattr(error, "strerror", None) or str(error)).split())
                raise ConfigError(file, f"is no list of targets: {words}") from None
            for target in (target for group in groups for target in group.targets):
                if not _is_address(target):
                    raise ConfigError(file, f"{target!r} is no host:port")
                found.add(target)
    return found


def _is_address(target: str) -> bool:
    host, _, port = target.rpartition(":")
    return bool(host) and "/" not in host and port.isdecimal()


async def in_dns(config: DnsSd, resolver: Resolver | None = None) -> set[str]:
    """Each `host:port` that the names stand for now; Unavailable when one cannot be told."""
    found: set[str] = set()
    for name in config.names:
        if config.type == "SRV":
            found |= await _srv(name, resolver)
        else:
            family = socket.AF_INET if config.type == "A" else socket.AF_INET6
            found |= await _addresses(name, config.port or 0, family)
    return found


async def _srv(name: str, resolver: Resolver | None) -> set[str]:
    import dns.asyncresolver  # only where it is needed
    import dns.exception

    try:
        asked = resolver or dns.asyncresolver.Resolver()
        answer = await asked.resolve(name, "SRV", search=True, lifetime=DNS_WITHIN)
    except (dns.exception.DNSException, OSError) as error:
        raise Unavailable(f"SRV {name}: {error}") from None
    return {f"{record.target.to_text(omit_final_dot=True)}:{record.port}" for record in answer}


async def _addresses(name: str, port: int, family: socket.AddressFamily) -> set[str]:
    try:
        async with asyncio.timeout(DNS_WITHIN):
            found = await asyncio.get_running_loop().getaddrinfo(
                name, port, family=family, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{name}: {error or 'no answer in time'}") from None
    hosts = [str(address[0]) for *_, address in found]
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts}
