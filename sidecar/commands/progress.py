"""How far something is that takes long, on stderr: nothing at first, then a line every few seconds."""

from __future__ import annotations

import sys
import time

PATIENCE = 5.0  # seconds without a word


class Progress:
    """Tells of a number of steps; on a terminal in one line that is written over."""

    def __init__(self, what: str) -> None:
        self._what, self._began = what, time.monotonic()
        self._told, self._written = self._began, 0

    def at(self, share: float) -> None:
        """So much is done, of 1."""
        now = time.monotonic()
        if now - self._told < (1.0 if self._written and sys.stderr.isatty() else PATIENCE) or share <= 0:
            return
        self._told, left = now, (now - self._began) * (1 - share) / share
        unit = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        self._write(f"promantis: {self._what} {share:.0%}, about {unit} left")

    def done(self) -> None:
        """Leave no half-written line."""
        if self._written and sys.stderr.isatty():
            print("\r" + " " * self._written + "\r", end="", file=sys.stderr, flush=True)
        self._written = 0

    def _write(self, line: str) -> None:
        over = sys.stderr.isatty()
        print(
            ("\r" if over else "") + line.ljust(self._written),
            end="" if over else "\n",
            file=sys.stderr,
            flush=True,
        )
        self._written = len(line)
