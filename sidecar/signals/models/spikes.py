"""What this time of the day usually does to a residual: a job that runs every night is no news.

For each quarter of an hour and channel the largest tempered residual is remembered, fading over days; what is odd now
is divided by what was as odd within half an hour of this time before (research/detection.md: there a quarter; jobs
are less punctual). A number is one byte on a logarithmic scale: four percent is exact enough for the largest of a few.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.signals.models.tail import HOURLY
from sidecar.types import F32, I64, Bools

Codes = np.typing.NDArray[np.uint8]

DAY, QUARTERS = 86400.0, 96
NEAR = 2  # quarters before and after that count
WEIGHT = 0.3  # of what is remembered, in the divisor
RATE = 0.3  # of a day, in the memory
CODES = 24.0  # steps of the scale for a factor of e: up to 40,000
NONE = 255  # no quarter, or nothing was learned in it


def quarter(at: float) -> int:
    """The quarter of an hour of a local time.

    >>> quarter(86400.0 * 3 + 3600 * 2 + 100)
    8
    """
    return math.floor((at % DAY) / (DAY / QUARTERS))


class Spikes(Columns):
    """The largest tempered residual of each quarter of an hour, and what it means for now."""

    fields: ClassVar = {
        "memory": Field((QUARTERS, HOURLY), dtype=np.uint8),
        "shade": Field((HOURLY,)),
        "top": Field((HOURLY,), -np.inf),
        "today": Field((NEAR, HOURLY), NONE, np.uint8),
        "now": Field((), NONE, np.uint8),
    }
    memory: Codes
    shade: F32
    """Log of the divisor now."""
    top: F32
    """Log of the largest tempered residual in this quarter; -inf: nothing was learned in it."""
    today: Codes
    """The same, coded, of the quarters before it, the last one first: what lasts must not become usual by lasting."""
    now: Codes
    """The quarter that `top` is of."""

    def turn(self, at: float) -> None:
        """When a quarter has ended by the local time `at`, remember it, and look up what is usual in the next."""
        now = quarter(at)
        if (self.now == now).all():
            return
        for before in np.unique(self.now[self.now != now]).tolist():
            if before != NONE:
                self._pass(np.flatnonzero(self.now == before), before, (now - before) % QUARTERS)
        self.top[:, self.now != now] = -np.inf
        self.now[:] = now
        around = [self.memory[(now + by) % QUARTERS] for by in range(-NEAR, NEAR + 1)]
        np.log1p(f4(WEIGHT) * _decode(np.maximum.reduce(around)), out=self.shade)

    def _pass(self, rows: I64, before: int, quarters: int) -> None:
        """Let so many quarters pass: what is no longer near goes into the memory."""
        top = self.top[:, rows]
        last = np.where(top > -np.inf, _encode(np.exp(np.maximum(top, f4(-9)))), np.uint8(NONE))
        ended = np.concatenate([last[None], self.today[:, :, rows]])
        kept = np.full((NEAR, HOURLY, len(rows)), NONE, np.uint8)
        for ago, codes in enumerate(ended):
            if quarters + ago - 1 < NEAR:
                kept[quarters + ago - 1] = codes
            else:
                self._remember(rows, (before - ago) % QUARTERS, codes)
        self.today[:, :, rows] = kept

    def _remember(self, rows: I64, place: int, codes: Codes) -> None:
        known = codes[0] != NONE
        rows, old = rows[known], _decode(self.memory[place][:, rows[known]])
        old += f4(RATE) * (_decode(codes[:, known]) - old)
        self.memory[place][:, rows] = _encode(old)

    def learn(self, t: F32, on: Bools) -> None:
        """Take logs of tempered residuals f32[channels, rows], before they are divided, where `on`."""
        np.maximum(self.top, t, out=self.top, where=on)


def _encode(q: F32) -> Codes:
    return np.minimum(np.rint(np.log1p(q) * f4(CODES)), f4(NONE - 1)).astype(np.uint8)


def _decode(code: Codes) -> F32:
    out: F32 = np.expm1(code * f4(1 / CODES))
    return out
