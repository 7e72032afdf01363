"""What the clock on the wall says: time zones, and the planned events in which nothing is learned; pure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sidecar.signals.watch import selectors
from sidecar.types import Duration, Instant, Section

UTC = "UTC"
QUARTER = 900  # seconds: clocks are changed on the quarter hour
LONGEST = Duration(366 * 86400)
"""An event that comes again lasts no longer."""


def local(tz: str, at: float) -> float:
    """An instant as seconds on the wall clock: its hours and weekdays are those of the zone.

    >>> local("UTC", 5.0), (local("Europe/Berlin", 1.7e9) - 1.7e9) / 3600
    (5.0, 1.0)
    """
    return at if tz == UTC else at + offset(tz, at)


def hour_of(tz: str, at: float) -> int:
    """The hour of the day on the wall clock.

    >>> hour_of("UTC", 7200.0), hour_of("Europe/Berlin", 86400 - 1.0)
    (2, 0)
    """
    return int(local(tz, at) % 86400 // 3600)


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


# --------------------------------------------------------------------------- events


class When(str):
    """A date, or a date and time, as ISO 8601 writes it; without an offset it is local."""

    @classmethod
    def parse(cls, value: object) -> When:
        """Read what YAML makes of it; ValueError otherwise.

        >>> When.parse("2026-11-27"), When.parse("2026-11-27T08:00:00+01:00").at("UTC")
        ('2026-11-27', 1795762800.0)
        """
        text = value.isoformat() if isinstance(value, date) else value
        try:
            datetime.fromisoformat(text)  # type: ignore[arg-type]  # no text: TypeError
        except (TypeError, ValueError):
            raise ValueError(
                f"not a time: {value!r} (write 2026-11-27 or 2026-11-27T08:00:00+01:00)"
            ) from None
        return cls(text)

    def at(self, tz: str) -> Instant:
        """The instant; `tz` for who did not say where."""
        found = datetime.fromisoformat(self)
        return Instant((found if found.tzinfo else found.replace(tzinfo=ZoneInfo(tz))).timestamp())


class Window(NamedTuple):
    """One time, the end not included."""

    start: Instant
    end: Instant


Between = Callable[[Instant, Instant], Iterable[Window]]
"""The windows that begin before the second instant and end after the first."""


class EventConfig(Section, frozen=True, kw_only=True):
    """A planned event: once, or again and again by cron or by an iCalendar file."""

    name: str
    """What it is called."""
    match: tuple[str, ...] = ()
    """Selectors of series (of alerts, for a freeze), e.g. `['{service="shop"}', '{watch="cpu"}']`, one of which
    must fit; empty: all."""
    start: When | None = None
    """When it is, once: `2026-11-27`, or a time with or without its offset from UTC."""
    end: When | None = None
    """The first moment after it."""
    cron: str | None = None
    """Or when it begins again and again: `0 2 1 * *`."""
    duration: Duration | None = None
    """And how long it lasts each time."""
    file: str | None = None
    """Or an iCalendar file, of which every event counts; read at start and at a reload."""
    tz: str | None = None
    """Time zone of what does not say its own; default: `tz`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """One way to say when, and selectors that can be read."""
        for i, text in enumerate(self.match):
            try:
                selectors.parse(text)
            except ValueError as error:
                yield f"match[{i}]", str(error)
        if self.tz is not None and (words := zone_problem(self.tz)):
            yield "tz", words
        once, again = (self.start, self.end), (self.cron, self.duration)
        ways = [way for way in (once, again, (self.file,)) if any(part is not None for part in way)]
        if len(ways) != 1 or None in ways[0]:
            yield "", "needs start and end, or cron and duration, or file"
        elif self.start is not None and self.end is not None:
            if not self.start.at(self.tz or UTC) < self.end.at(self.tz or UTC):
                yield "end", "must be after start"
        elif self.cron is not None and self.duration is not None:
            try:
                _fires(self.cron, Instant(0), UTC)
            except ValueError as error:
                yield "cron", f"{self.cron!r} is not a cron expression such as '0 2 1 * *': {error}"
            if not 0 < self.duration <= LONGEST:
                yield "duration", f"must be more than 0s and at most {LONGEST}"

    def between(self, tz: str) -> Between:
        """When it is, unless a file says so; `tz` where the event has none of its own."""
        zone = self.tz or tz
        if self.start is not None and self.end is not None:
            once = Window(self.start.at(zone), self.end.at(zone))
            return lambda start, end: [once] if once.start < end and once.end > start else []
        cron, lasts = self.cron or "", float(self.duration or 0)
        return lambda start, end: _again(cron, lasts, zone, start, end)


class Planned(NamedTuple):
    """An event, and whom it concerns."""

    name: str
    match: tuple[tuple[selectors.Matcher, ...], ...]
    """Series that fit one of these; all when there is none."""
    between: Between


def planned(events: Iterable[EventConfig], tz: str, files: Mapping[str, Between]) -> tuple[Planned, ...]:
    """The events of the config, already checked; `files` says what is in those that they name."""
    return tuple(
        Planned(
            event.name,
            tuple(selectors.parse(text) for text in event.match),
            event.between(tz) if event.file is None else files[event.file],
        )
        for event in events
    )


def _again(cron: str, lasts: float, tz: str, start: Instant, end: Instant) -> Iterator[Window]:
    """Windows after each time that cron fires, joined where they touch."""
    window: Window | None = None
    for at in _fires(cron, Instant(start - lasts), tz):
        if at >= end:
            break
        if window is not None and at <= window.end:
            window = Window(window.start, Instant(at + lasts))
            continue
        if window is not None:
            yield window
        window = Window(at, Instant(at + lasts))
    if window is not None:
        yield window


def _fires(cron: str, after: Instant, tz: str) -> Iterator[Instant]:
    """When it fires, in Debian's reading; ValueError when it is no cron expression."""
    from cronsim import CronSim, CronSimError

    try:
        times = CronSim(cron, datetime.fromtimestamp(after, ZoneInfo(tz)))
    except CronSimError as error:
        raise ValueError(str(error).lower()) from None
    return (Instant(time.timestamp()) for time in times)
