"""Which evidence made a score: the channel that was the oddest, and the words for it."""

from __future__ import annotations

import numpy as np

from sidecar.signals.models import f4
from sidecar.signals.models.level import DIFF, LEVEL, MEAN, SEASON, SLOW
from sidecar.types import F32, Bools

NONE, CHANNEL, ZERO, ABSENT = 0, 1, 101, 102
"""Nothing odd; CHANNEL + c for channel c of the tail; the states of `rare`."""

JUMP = CHANNEL + DIFF

_WORDS = {
    CHANNEL + LEVEL: "{far} its level of late",
    CHANNEL + SEASON: "{far} what is usual at this time",
    JUMP: "{went} at once",
    CHANNEL + MEAN: "{far} its usual for a while",
    CHANNEL + SLOW: "{far} what it was in the last days",
    ZERO: "zero, which is rare here",
    ABSENT: "gone, which is rare here",
}


def winning(channels: F32, odd: F32, zero: Bools, absent: Bools) -> F32:
    """Code f32[rows] of the evidence, from E of the channels f32[channels, rows], the verdict `odd` f32[rows], and
    whether a row is zero or absent where that is rare.

    >>> e = np.array([[2, 0, 0], [1, 3, 0]], np.float32)
    >>> winning(e, np.float32([2, 3, 1.6]), np.array([True, False, True]), np.zeros(3, bool)).tolist()
    [1.0, 2.0, 101.0]
    """
    code = (channels.argmax(0) + CHANNEL).astype(f4)
    code[zero & (odd > channels.max(0) + 1e-3)] = ZERO
    code[absent] = ABSENT
    return np.asarray(code, f4)


def words(code: int, up: bool) -> str:
    """What is odd, for people; `up`: the value lies above what was expected.

    >>> words(CHANNEL + SEASON, up=False)
    'far below what is usual at this time'
    """
    said = _WORDS.get(code, "out of its usual")
    return said.format(far="far above" if up else "far below", went="rose" if up else "fell")
