"""When planned events are: by cron, and as an iCalendar file says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from sidecar.adapters import events
from sidecar.config import calendar, parse
from sidecar.signals.learn.trust import Trust
from sidecar.signals.watch.calendar import Window
from sidecar.types import ConfigError, Instant
from tests.unit.made import engine, key, vector, watch

pytest.importorskip("cronsim")
pytest.importorskip("recurring_ical_events")

BERLIN = ZoneInfo("Europe/Berlin")
SALE = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:1
DTSTART;TZID=Europe/Berlin:20261023T080000
DURATION:PT2H
RRULE:FREQ=DAILY;COUNT=5
EXDATE;TZID=Europe/Berlin:20261024T080000
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;VALUE=DATE:20261103
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART:20261105T100000Z
DTEND:20261105T113000Z
END:VEVENT
BEGIN:VEVENT
UID:4
DTSTART:20261106T100000
DTEND:20261106T110000
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")


def instant(text: str) -> Instant:
    return Instant(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp())


def found(config: str, start: str, end: str) -> list[tuple[str, float]]:
    """Begin in Berlin, and hours, of each window."""
    (event,) = calendar(parse(config))
    return [
        (f"{datetime.fromtimestamp(one.start, BERLIN):%m-%d %H:%M}", (one.end - one.start) / 3600)
        for one in event.between(instant(start), instant(end))
    ]


MONTHLY = "tz: Europe/Berlin\nevents: [{name: close, cron: '0 2 1 * *', duration: 3h}]"


def test_cron_is_local_time_over_a_change_of_the_clocks() -> None:
    assert found(MONTHLY, "2026-09-30", "2026-12-02") == [
        ("10-01 02:00", 3),
        ("11-01 02:00", 3),
        ("12-01 02:00", 3),
    ]


def test_what_began_before_is_still_on_and_the_end_is_over() -> None:
    assert found(MONTHLY, "2026-10-01T04:59", "2026-10-01T05:00") == [("10-01 02:00", 3)]
    assert found(MONTHLY, "2026-10-01T05:00", "2026-10-01T06:00") == []
    assert found(MONTHLY, "2026-10-01T01:00", "2026-10-01T02:00") == []


def test_windows_that_touch_are_one() -> None:
    config = "events: [{name: all, cron: '*/5 * * * *', duration: 5m, tz: Europe/Berlin}]"
    assert found(config, "2026-10-01", "2026-10-02") == [("10-01 00:00", 24)]


def test_an_icalendar_file(tmp_path: Path) -> None:
    (tmp_path / "sale.ics").write_text(SALE)
    config = f"tz: Europe/Berlin\nevents: [{{name: sale, file: '{tmp_path}/sale.ics'}}]"
    assert found(config, "2026-10-01", "2026-12-01") == [
        ("10-23 08:00", 2),
        ("10-25 08:00", 2),
        ("10-26 08:00", 2),
        ("10-27 08:00", 2),
        ("11-03 00:00", 24),
        ("11-05 11:00", 1.5),
        ("11-06 10:00", 1),
    ]
    assert found(config, "2026-10-23T09:59", "2026-10-23T11:00") == [("10-23 08:00", 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rubbish", "Content line could not be parsed into parts: 'rubbish': Invalid content line"),
        (SALE.replace("RRULE:FREQ=DAILY;COUNT=5", "RRULE:FREQ=FOO"), "UNTIL parameter is missing: FREQ=FOO"),
        (SALE.replace("DTSTART:20261106T100000\r\n", ""), "'DTSTART'"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "sale.ics"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse(f"events: [{{name: sale, file: '{file}'}}]")
    assert str(caught.value) == f"promantis.yml: events[0].file: {file} is not an iCalendar file: {words}"


@pytest.mark.parametrize(
    ("cron", "duration", "words"),
    [
        ("99 * * * *", "1h", "cron: '99 * * * *' is not a cron expression such as '0 2 1 * *': bad minute"),
        ("soon", "1h", "cron: 'soon' is not a cron expression such as '0 2 1 * *': wrong number of fields"),
        ("0 2 1 * *", "0s", "duration: must be more than 0s and at most 1y1d"),
        ("0 2 1 * *", "2y", "duration: must be more than 0s and at most 1y1d"),
    ],
)
def test_cron_that_is_none_is_refused(cron: str, duration: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"events: [{{name: sale, cron: '{cron}', duration: {duration}}}]")
    assert str(caught.value) == f"promantis.yml: events[0].{words}"


def test_month_starts_that_are_planned_page_nobody() -> None:
    config = (
        "events: [{name: close, cron: '0 2 1 * *', duration: 3h, tz: Europe/Berlin, match: ['{job=\"a\"}']}]"
    )
    trust, rng, step = Trust(0.0), np.random.default_rng(1), 3600.0
    trust.plan(calendar(parse(config)))
    planned, not_planned = key(job="a"), key(job="b")
    e = engine(watch(step=step, tz="Europe/Berlin"))
    pages: dict[bytes, set[str]] = {planned: set(), not_planned: set()}
    for at in np.arange(instant("2026-08-25"), instant("2026-11-02"), step).tolist():
        now = datetime.fromtimestamp(at, BERLIN)
        x = 100 + 20 * np.sin(now.hour / 12 * np.pi) + 150 * (now.day == 1 and 2 <= now.hour < 5)
        x = x + rng.normal(0, 3, 2)
        said = e.tick(Instant(at), {"w": vector({planned: x[0], not_planned: x[1]})}, 10, trust)
        for row, one in enumerate((planned, not_planned)):
            if said.columns["score"][row] >= 1 and now.day == 1 and now.hour < 8:
                pages[one].add(f"{now:%m-%d}")
    assert pages == {planned: set(), not_planned: {"09-01", "10-01", "11-01"}}


def test_only_files_are_read() -> None:
    assert events.read(parse(MONTHLY).events, "UTC") == {}
    once = parse("events: [{name: a, start: 2026-11-27, end: 2026-11-28T10:00:00+01:00}]")
    (event,) = calendar(once)
    assert event.match == ()
    (window,) = event.between(instant("2026-11-27T12:00"), instant("2026-11-27T13:00"))
    assert window == Window(instant("2026-11-27T01:00"), instant("2026-11-28T10:00"))
