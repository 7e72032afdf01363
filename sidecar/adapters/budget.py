"""A budget of queries per second, shared fairly: live ticks go before history."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """A token bucket with two queues; each is served in the order of arrival.

    `rate` tokens come each second, up to `burst`, so that one tick can ask all its watches at once. History
    leaves half of the bucket alone and waits while anybody live waits.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, max(1.0, burst)
        self._tokens = self._burst
        self._at: float | None = None
        self._live: deque[asyncio.Future[None]] = deque()
        self._history: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, *, history: bool = False) -> None:
        """Wait for one query's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._history if history else self._live).append(turn)
        self._serve()
        await turn

    def _serve(self) -> None:
        """Hand out what there is, and come back when the next token is due."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = loop.time()
        since = 0.0 if self._at is None else now - self._at
        self._tokens, self._at = min(self._burst, self._tokens + since * self._rate), now
        for queue, floor in ((self._live, 1.0), (self._history, max(1.0, self._burst / 2))):
            while queue and self._tokens >= floor - 1e-9:
                turn = queue.popleft()
                if not turn.done():  # else its caller has given up
                    turn.set_result(None)
                    self._tokens -= 1
            while queue and queue[0].done():
                queue.popleft()
            if queue:
                self._timer = loop.call_later((floor - self._tokens) / self._rate, self._serve)
                return
