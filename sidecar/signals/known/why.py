"""Which evidence made a score, and the words for it."""

from __future__ import annotations

from sidecar.signals.models.level import DIFF, LEVEL, MEAN, SEASON, SLOW
from sidecar.signals.models.tail import CHANNELS

SPREAD, STILL, ZERO, ABSENT = range(CHANNELS, CHANNELS + 4)
"""Rows of evidence after those of the channels; the last two are the states of `rare`."""
KINDS, NONE, JUMP = ABSENT + 1, -1, DIFF

_WORDS = {
    LEVEL: "{far} its level of late",
    SEASON: "{far} what is usual at this time",
    DIFF: "{went} at once",
    MEAN: "{far} its usual for a while",
    SLOW: "{far} what it was in the last days",
    SPREAD: "it moves more than in the last week",
    STILL: "it stands still, which is rare here",
    ZERO: "zero, which is rare here",
    ABSENT: "gone, which is rare here",
}


def words(code: int, up: bool) -> str:
    """What is odd, for people; `up`: the value lies above what was expected.

    >>> words(SEASON, up=False)
    'far below what is usual at this time'
    """
    said = _WORDS.get(code, "out of its usual")
    return said.format(far="far above" if up else "far below", went="rose" if up else "fell")
