"""All Alertmanagers as they are now: those that the config names, and those that are found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

import msgspec

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.adapters.found import DnsSd, FileSd, in_dns, in_files
from sidecar.types import PromantisError, Unavailable

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

log = logging.getLogger(__name__)


class Fleet(Sequence[Alertmanager]):
    """A list that changes while `run()` runs; whoever holds it sees what is there now. `close()` ends it."""

    def __init__(self, configs: Sequence[AlertmanagerConfig], resolver: Resolver | None = None) -> None:
        """Files are read at once: ConfigError when one is wrong."""
        self._resolver = resolver
        self._known: dict[str, Alertmanager] = {}
        self._of: dict[int, dict[str, AlertmanagerConfig]] = {}
        """By number of the entry: what it stands for, by url."""
        self._searched = [(i, c, way) for i, c in enumerate(configs) if (way := c.file_sd or c.dns)]
        self._said: dict[int, str] = {}
        self._doubted: set[int] = set()
        """Where nobody was found, once so far."""
        of = {}
        for i, config in enumerate(configs):
            targets = in_files(config.file_sd) if config.file_sd else set[str]()
            of[i] = {config.url: config} if config.url is not None else _at(config, targets)
        self._swap(of)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Alertmanager]:
        return iter(tuple(self._known.values()))

    @overload
    def __getitem__(self, index: int) -> Alertmanager: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Alertmanager]: ...
    def __getitem__(self, index: int | slice) -> Alertmanager | Sequence[Alertmanager]:
        return tuple(self._known.values())[index]

    async def silence(self, matchers: Mapping[str, str], seconds: float, comment: str) -> str:
        """At the first of them, which tells the others of its pair; Unavailable when there is none."""
        return await self._first().silence(matchers, seconds, comment)

    async def silenced(self, comment: str) -> str | None:
        """The id of a silence with this comment that is not over."""
        return await self._first().silenced(comment)

    async def unsilence(self, id: str) -> None:
        """End a silence."""
        await self._first().unsilence(id)

    def _first(self) -> Alertmanager:
        for one in self:
            return one
        raise Unavailable("no Alertmanager is known")

    async def close(self) -> None:
        """End all sessions."""
        for alertmanager in self:
            await alertmanager.close()

    async def run(self, changed: Callable[[], None]) -> None:
        """Look again and again; `changed` is told when there are others."""
        async with asyncio.TaskGroup() as group:
            for i, config, way in self._searched:
                group.create_task(self._search(i, config, way, changed))

    async def look(self) -> None:
        """Look once everywhere; what cannot be found out now is for `run()`."""
        await asyncio.gather(*(self._look(*one) for one in self._searched))

    async def _search(
        self, i: int, config: AlertmanagerConfig, way: FileSd | DnsSd, changed: Callable[[], None]
    ) -> None:
        while True:
            await asyncio.sleep(way.refresh_interval)
            gone = await self._look(i, config, way)
            if gone is not None:
                changed()
                for alertmanager in gone:
                    await alertmanager.close()

    async def _look(
        self, i: int, config: AlertmanagerConfig, way: FileSd | DnsSd
    ) -> list[Alertmanager] | None:
        """Who is gone; None when nothing changed, or when nobody can tell: then all stays as it was.

        That all are gone is believed when it is so twice: a file that is just written is empty for a moment.
        """
        try:
            if isinstance(way, DnsSd):
                targets = await in_dns(way, self._resolver)
            else:
                targets = await asyncio.to_thread(in_files, way)
            found = _at(config, targets)
            if not found and self._of[i] and i not in self._doubted:
                self._doubted.add(i)
                return None
            self._doubted.discard(i)
            if found.keys() == self._of[i].keys():
                return None
            gone = self._swap({**self._of, i: found})
        except PromantisError as error:
            if self._said.get(i) != str(error):
                log.warning("alertmanagers[%d]: cannot be looked up, all stays as it was: %s", i, error)
            self._said[i] = str(error)
            return None
        self._said.pop(i, None)
        log.info("alertmanagers[%d]: %s", i, ", ".join(sorted(found)) or "none is there")
        return gone

    def _swap(self, of: dict[int, dict[str, AlertmanagerConfig]]) -> list[Alertmanager]:
        """Keep who stays, make who is new; who is gone. ConfigError, and all stays, when one cannot be made."""
        wanted = {url: config for found in of.values() for url, config in found.items()}
        kept = {url: one for url, one in self._known.items() if url in wanted}
        gone = [one for url, one in self._known.items() if url not in wanted]
        made = {url: Alertmanager(config) for url, config in wanted.items() if url not in kept}
        self._known = {url: (kept.get(url) or made[url]) for url in wanted}
        self._of = of
        return gone


def _at(config: AlertmanagerConfig, targets: set[str]) -> dict[str, AlertmanagerConfig]:
    """The config of each target, in an order that does not depend on who was found first."""
    prefix = config.path_prefix.strip("/")
    urls = [f"{config.scheme}://{target}/{prefix}".rstrip("/") for target in sorted(targets)]
    return {url: msgspec.structs.replace(config, url=url, file_sd=None, dns=None) for url in urls}
