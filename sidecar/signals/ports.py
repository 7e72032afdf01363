"""What the watcher asks of the outside: samples, and a place for state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from sidecar.signals.frame import Matrix, Vector
from sidecar.signals.models import Array
from sidecar.types import Instant


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
