"""Reads iCalendar files: when planned events are, with all that repeats."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from sidecar.signals.watch.calendar import Between, EventConfig, Window
from sidecar.types import ConfigError, Instant


def read(events: Iterable[EventConfig], tz: str) -> dict[str, Between]:
    """What is in the files that events name; ConfigError when one cannot be read."""
    return {
        event.file: _calendar(event.file, f"events[{i}].file", event.tz or tz)
        for i, event in enumerate(events)
        if event.file is not None
    }


def _calendar(file: str, where: str, tz: str) -> Between:
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(where, f"{file} cannot be read: {error.strerror}") from None
    # 6 MiB of memory, for those who have a calendar
    from icalendar import Calendar
    from recurring_ical_events import of

    try:
        found = of(Calendar.from_ical(text))
        found.between(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC))
    except (ValueError, KeyError, IndexError) as error:
        raise ConfigError(where, f"{file} is not an iCalendar file: {error}") from None

    def between(start: Instant, end: Instant) -> list[Window]:
        span = (datetime.fromtimestamp(at, UTC) for at in (start, end))
        return [Window(_at(event.start, tz), _at(event.end, tz)) for event in found.between(*span)]

    return between


def _at(moment: date, tz: str) -> Instant:
    """Whole days and times without a zone are local."""
    when = moment if isinstance(moment, datetime) else datetime.combine(moment, time())
    return Instant((when if when.tzinfo else when.replace(tzinfo=ZoneInfo(tz))).timestamp())
