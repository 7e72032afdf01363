"""What is asked of others for people who look: once for all of them, and again only after a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SHARED = 10.0
"""Seconds for which those who look share an answer."""


class Lately(Generic[T]):
    """`await lately(key)`: what `ask(key)` said, at most SHARED seconds ago; its errors too."""

    def __init__(self, ask: Callable[[str], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked: dict[str, tuple[float, asyncio.Future[T]]] = {}

    async def __call__(self, key: str) -> T:
        now = asyncio.get_running_loop().time()
        self._asked = {
            one: (at, said) for one, (at, said) in self._asked.items() if not said.done() or now - at < SHARED
        }
        if key not in self._asked:
            self._asked[key] = now, asyncio.ensure_future(self._ask(key))
        return await asyncio.shield(self._asked[key][1])  # who looks may go; others wait for it too
