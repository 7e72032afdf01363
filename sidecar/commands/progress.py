"""How far something is that takes long, on stderr."""

from __future__ import annotations

import sys
import time

OVER, LINES = (
    2.0,
    15.0,
)  # seconds between two words: on a terminal, where a line is written over, and elsewhere


class Progress:
    """Tells what share of some work is done, and about how long the rest takes."""

    def __init__(self, what: str) -> None:
        self._what, self._over = what, sys.stderr.isatty()
        self._began = self._told = time.monotonic()
        self._written = 0

    def at(self, share: float, part: int = 0, parts: int = 1) -> None:
        """So much is done of one of some parts, which come one after the other."""
        now, whole = time.monotonic(), (part + share) / parts
        if now - self._told < (OVER if self._over else LINES) or whole <= 0:
            return
        self._told, left = now, (now - self._began) * (1 - whole) / whole
        rest = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        line = f"promantis: {self._what} {whole:.0%}, about {rest} left".ljust(self._written)
        print(
            f"\r{line}" if self._over else line, end="" if self._over else "\n", file=sys.stderr, flush=True
        )
        self._written = len(line) if self._over else 0

    def done(self) -> None:
        """Leave no half-written line."""
        if self._written:
            print("\r" + " " * self._written + "\r", end="", file=sys.stderr, flush=True)
