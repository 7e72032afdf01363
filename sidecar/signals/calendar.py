"""What the clock on the wall says: time zones, and the planned events in which nothing is learned; pure."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UTC = "UTC"
QUARTER = 900  # seconds: clocks are changed on the quarter hour


def local(tz: str, at: float) -> float:
    """An instant as seconds on the wall clock: its hours and weekdays are those of the zone.

    >>> local("UTC", 5.0), (local("Europe/Berlin", 1.7e9) - 1.7e9) / 3600
    (5.0, 1.0)
    """
    return at if tz == UTC else at + offset(tz, at)


def offset(tz: str, at: float) -> float:
    """Seconds by which the zone's clocks are ahead of UTC at an instant, at any time of the year."""
    return _offset(tz, at // QUARTER)


@functools.lru_cache(4096)
def _offset(tz: str, quarter: float) -> float:
    ahead = datetime.fromtimestamp(quarter * QUARTER, ZoneInfo(tz)).utcoffset()
    return (ahead or timedelta()).total_seconds()


def zone_problem(tz: str) -> str:
    """What is wrong with the name of a time zone; empty when nothing is.

    >>> zone_problem("Europe/Berlin"), zone_problem("Berlin")
    ('', "'Berlin' is not a known time zone (write Europe/Berlin or UTC)")
    """
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{tz!r} is not a known time zone (write Europe/Berlin or UTC)"
    return ""
