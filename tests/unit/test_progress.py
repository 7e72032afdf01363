"""Progress on stderr: silent while it is quick, lines in a log, one line on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from sidecar.commands import progress
from sidecar.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_what_is_quick_is_silent_and_what_takes_long_is_a_line_now_and_then(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    made = Progress("replayed")
    for second in range(60):
        clock.now = 100.0 + second
        made.at(second % 30 / 30, second // 30, 2)
    made.done()
    assert told.getvalue().splitlines() == [
        "promantis: replayed 25%, about 45 s left",
        "promantis: replayed 50%, about 30 s left",
        "promantis: replayed 75%, about 15 s left",
    ]


def test_on_a_terminal_it_is_one_line_that_goes_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", told := Terminal())
    made = Progress("replayed")
    for second, share in ((1, 0.01), (10, 0.01), (400, 0.5)):
        clock.now = 100.0 + second
        made.at(share)
    made.done()
    *_, long, short, blank, end = told.getvalue().split("\r")
    assert long == "promantis: replayed 1%, about 16 min left"
    assert short.rstrip() == "promantis: replayed 50%, about 7 min left"
    assert (blank.strip(), end) == ("", "")
    assert "\n" not in told.getvalue()
