"""Who looks at Prometheus and at every Alertmanager all the time, and says what must never be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from sidecar.demo.peers import Peer
from tests.e2e.chain import named

Act = Callable[[], Awaitable[None]]
Name = tuple[str, str, str]
"""alertname, name and i."""

EVERY = 0.3
"""Seconds between two looks."""
LATE = 4.0
"""Seconds after which an alert that fires in Prometheus must be at an Alertmanager that nothing is wrong with."""
SURE = 1.2
"""Seconds for which an alert must be away before it counts as lost: the two are not asked at one instant."""


@dataclass
class World:
    """One Promantis with its Alertmanagers, and how to break and heal it."""

    name: str
    mode: str
    side: str
    """`host:port` of Promantis."""
    alertmanagers: list[Peer]
    doors: list[str]
    """`host:port` of each Alertmanager, as Promantis (and in `tee` mode Prometheus) knows it."""
    breaks: Act
    heals: Act
    prompt: Sequence[int] = ()
    """Alertmanagers that must have everything at once even while it is broken."""
    start: Act | None = None
    """Starts Promantis, where that needs a Prometheus."""
    checks: Act | None = None
    """What else must be true in the end."""

    @property
    def listed(self) -> list[str]:
        """What Prometheus is to send to."""
        return [self.side, *(self.doors if self.mode == "tee" else ())]


@dataclass
class _Seen:
    """One alert at one Alertmanager."""

    shown: float | None = None
    away: float | None = None
    back: bool = False
    """It was away, is there again, and did not fire in Prometheus a moment ago."""


@dataclass
class Watchman:
    """Looks at Prometheus and at every Alertmanager all the time; `wrong` says what must never be."""

    prometheus: str
    worlds: Sequence[World]
    broken: bool = False
    """While it is, and until `heal()` is long enough ago, only what is `prompt` must be there at once."""
    wrong: list[str] = field(default_factory=list)
    looks: int = 0
    _since: dict[Name, float] = field(default_factory=dict)
    _seen: dict[tuple[str, Name], _Seen] = field(default_factory=dict)
    _pids: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(EVERY)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Once: first Prometheus, then all Alertmanagers."""
        firing = await self._firing(session)
        peers = [(world, i, am) for world in self.worlds for i, am in enumerate(world.alertmanagers)]
        shown = await asyncio.gather(*(shown_at(session, am.url) for _, _, am in peers))
        if firing is None:
            return
        self.looks += 1
        for (world, i, am), alerts in zip(peers, shown, strict=True):
            if alerts is not None:
                self._compare(world, i, am, {named(a["labels"]) for a in alerts})

    async def _firing(self, session: aiohttp.ClientSession) -> set[Name] | None:
        answer = await _json(session, f"{self.prometheus}/api/v1/alerts")
        if answer is None:
            self._since.clear()  # a Prometheus that starts again fires anew, and nobody saw what it said last
            self._seen.clear()
            return None
        now = time.monotonic()
        firing = {named(a["labels"]) for a in answer["data"]["alerts"] if a["state"] == "firing"}
        self._since = {name: self._since.get(name, now) for name in firing}
        return firing

    def _compare(self, world: World, i: int, am: Peer, shown: set[Name]) -> None:
        now, where = time.monotonic(), f"{world.name} ({world.mode}), Alertmanager {i}"
        if self._pids.setdefault(am.url, am.pid) != am.pid:  # a new one knows nothing: no news
            self._pids[am.url] = am.pid
            self._seen = {key: seen for key, seen in self._seen.items() if key[0] != am.url}
        for name in shown | self._since.keys():
            seen = self._seen.setdefault((am.url, name), _Seen())
            since = self._since.get(name)
            if name in shown:
                if seen.back and since is None:  # it may have fired between the two questions, but not twice
                    self._say(f"{where}: {name} came back to life")
                seen.back = since is None and seen.away is not None
                seen.shown, seen.away = now, None
                continue
            seen.away, seen.back = seen.away or now, False
            if since is None or now - seen.away < SURE:
                continue
            if seen.shown is not None and seen.shown > since + SURE:
                self._say(f"{where}: {name} is lost")
            elif now - since > LATE and (not self.broken or i in world.prompt):
                self._say(f"{where}: {name} is late")
        for url, name in [key for key in self._seen if key[0] == am.url]:
            if name not in shown and self._seen[url, name].away is None:
                self._seen[url, name].away = now

    def _say(self, words: str) -> None:
        if words not in self.wrong:
            self.wrong.append(words)

    async def settled(self, within: float) -> None:
        """Wait until every Alertmanager shows just what fires in Prometheus, with words; AssertionError if not."""
        until = time.monotonic() + within
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while differences := await self._differences(session):
                assert time.monotonic() < until, "\n".join(differences)
                await asyncio.sleep(EVERY)

    async def _differences(self, session: aiohttp.ClientSession) -> list[str]:
        firing = await self._firing(session)
        if not firing:
            return ["Prometheus says nothing"]
        out = []
        for world in self.worlds:
            for i, am in enumerate(world.alertmanagers):
                alerts = await shown_at(session, am.url) or []
                shown = {named(a["labels"]) for a in alerts}
                raw = [
                    a for a in alerts if not any(name.startswith("promantis_") for name in a["annotations"])
                ]
                where = f"{world.name} ({world.mode}), Alertmanager {i}"
                for what, names in (
                    ("lacks", firing - shown),
                    ("keeps", shown - firing),
                    ("has without words", {named(a["labels"]) for a in raw}),
                ):
                    if names:
                        out.append(f"{where} {what} {len(names)}: {sorted(names)[:3]}")
        return out


async def _json(session: aiohttp.ClientSession, url: str) -> Any:
    try:
        async with session.get(url) as answer:
            return orjson.loads(await answer.read()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError):
        return None


async def shown_at(session: aiohttp.ClientSession, url: str) -> Any:
    """The alerts that an Alertmanager shows; None when it does not answer."""
    return await _json(session, f"{url}/api/v2/alerts")
