"""What the watcher asks of the outside: samples, a place for state, and one for facts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.models import Array
from sidecar.types import Instant, JsonObject, Unavailable

log = logging.getLogger(__name__)
Tell = Callable[[str, JsonObject], Awaitable[None]]
"""Writes a fact of this kind into the journal; Unavailable when it cannot."""


def telling(tell: Tell) -> Tell:
    """The same of what the journal can do without: that it could not be written is said in the log only."""

    async def told(kind: str, data: JsonObject) -> None:
        try:
            await tell(kind, data)
        except Unavailable as error:
            log.warning("%s is not in the journal: %s", kind, error)

    return told


class Source(Protocol):
    """Where samples come from. Raises Unavailable or Rejected."""

    async def instant(self, query: str, at: Instant, within: float) -> Vector: ...
    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix: ...
    async def earliest(self, query: str, now: Instant, history: float) -> Instant: ...


class Store(Protocol):
    """Where state survives a restart."""

    @property
    def damaged(self) -> int: ...
    def save(self, step: float, dump: Iterator[tuple[str, Any]]) -> None: ...
    def load(self) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Array]]]: ...
    def set_aside(self, step: float, why: str) -> None: ...
