"""Times of alerts as numbers, for comparing only: on the wire they stay the strings that came."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from sidecar.types import Alert, Instant

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)?"  # RFC 3339, or local time taken as UTC
    r"|T(\d\d?):(\d\d)Z?"
    r"| (\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?)?",
    re.ASCII,
)


@lru_cache(maxsize=4096)  # the alerts of one evaluation end at the same instant
def instant(text: str | None) -> Instant | None:
    """Read a time as Alertmanager does; None when it is missing or zero, ValueError when it is no time.

    >>> instant("1970-01-01T01:00:00.5+01:00"), instant("1970-01-02"), instant("")
    (0.5, 86400.0, 0.0)
    >>> instant("0001-01-01T00:00:00Z"), instant(None)
    (None, None)
    """
    if text is None:
        return None
    if text == "":
        return Instant(0.0)
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'parsing time "{text}": it is no RFC 3339 time')
    year, month, day, h1, m1, s1, f1, zone, h2, m2, h3, m3, s3, f3 = match.groups()
    hour, minute, second, fraction = h1 or h2 or h3, m1 or m2 or m3, s1 or s3, f1 or f3
    try:
        at = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError as error:
        raise ValueError(f'parsing time "{text}": {error}') from None
    seconds = at.timestamp() + float(f"0.{fraction or 0}")
    if zone and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return None if seconds == _ZERO else Instant(seconds)


_ZERO = datetime(1, 1, 1, tzinfo=UTC).timestamp()


def ends(alert: Alert) -> Instant | None:
    """When it ends or ended; None when it does not say."""
    return instant(alert.ends_at)


def resolved(alert: Alert, now: Instant) -> bool:
    """Whether its end has come."""
    at = ends(alert)
    return at is not None and at <= now
