"""One process that works for this one: started at its first task, replaced when it dies, let go when nobody asks."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def quiet() -> None:
    """Make this process a quiet worker: low priority, Ctrl-C is for the main one, and warnings are for nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    warnings.simplefilter("ignore")  # of models that did not converge: they are judged by what they say


def one_thread() -> None:
    """Of the libraries that are loaded: again whenever a model may have brought another one, as torch."""
    with contextlib.suppress(ImportError):
        importlib.import_module("threadpoolctl").threadpool_limits(1)


def process(settle: Callable[[], None] = quiet) -> Executor:
    """One process with one thread, started at its first task; it begins with `settle`."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=settle)


def installed(libraries: Iterable[str]) -> bool:
    """Whether all can be found; nothing is imported."""
    return all(importlib.util.find_spec(name) is not None for name in libraries)


class Hired:
    """Asks a pool of one; whatever goes wrong there is no answer, and a new pool at the next question."""

    def __init__(self, make: Callable[[], Executor], rested: Callable[[], None] = lambda: None) -> None:
        """`rested` is told when the process goes, and with it all that it held."""
        self._make, self._rested = make, rested
        self.pool: Executor | None = None

    async def ask(self, patience: float | None, work: Callable[..., T], *args: object) -> T | None:
        """What the worker says, or None when it is late or failed; one that died is replaced at the next question."""
        if self.pool is None:
            self.pool = self._make()
        try:
            future = asyncio.wrap_future(self.pool.submit(work, *args))
        except BrokenExecutor as broken:
            self._gone(broken)
            return None
        try:
            await asyncio.wait({future}, timeout=patience)
        finally:
            if not future.done():
                future.cancel()
        if future.cancelled():
            return None
        error = future.exception()
        if error is None:
            return future.result()
        self._gone(error)
        return None

    def _gone(self, error: BaseException) -> None:
        log.warning("the worker of fits failed: %s: %s", type(error).__name__, error)
        self.rest()

    def rest(self) -> None:
        """Let the worker go; it is started again when it is needed."""
        self._rested()
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None
