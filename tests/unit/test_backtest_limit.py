"""`promantis backtest --limit`: the odds of a limit, of each row by those before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sidecar.types import F64
from tests.unit.test_backtest_files import HEADER, backtest, read, rows_of, write
from tests.unit.waves import DAY, wave


def odds(folder: Path, days: float, *more: str) -> list[dict[str, str]]:
    """What is written of some days of a wave that goes from 40 to 60 and back each day."""
    file = write(folder / "x.csv", rows_of(wave(4))[: int(days * DAY) + 1])
    assert backtest(folder / "out", file, more=more) == 0
    return read(folder / "out" / "x.csv")


def column(rows: list[dict[str, str]], name: str) -> F64:
    return np.array([float(row[name] or "nan") for row in rows])


def test_a_row_knows_nothing_of_later_rows(tmp_path: Path) -> None:
    """What crosses each day is announced before, and certain while it lasts."""
    rows = odds(tmp_path, 4, "--limit", "58")
    assert list(rows[0]) == [*HEADER.split(","), *(f"breach_probability_{h}" for h in ("15m", "30m", "60m"))]
    assert rows[: 2 * DAY] == odds(tmp_path, 2, "--limit", ">58")
    values, p15, p60 = (column(rows, name) for name in ("value", *list(rows[0])[-3::2]))
    np.testing.assert_array_equal(p60 == 1, values > 58)
    assert np.nanmin(p60 - p15) >= 0
    came = np.array([(values[i + 1 : i + 5] > 58).any() for i in range(len(values))])
    late = (np.arange(len(values)) > 2 * DAY) & (values <= 58)
    assert p60[late & came].mean() > 0.4 > 0.1 > p60[late & ~came].mean()


def test_a_for_makes_it_less_likely(tmp_path: Path) -> None:
    short, long = (
        column(odds(tmp_path, 2, "--limit=58", *more), "breach_probability_60m")
        for more in ((), ("--for=45m",))
    )
    assert np.nanmean(long[(short > 0) & (short < 1)]) < 0.8 * np.nanmean(short[(short > 0) & (short < 1)])


def test_the_direction_decides_on_which_side_the_limit_is(tmp_path: Path) -> None:
    down = odds(tmp_path, 1, "--limit", "42", "--direction", "down")
    np.testing.assert_array_equal(column(down, "breach_probability_60m") == 1, column(down, "value") < 42)
    assert ",".join(odds(tmp_path, 0.5)[0]) == HEADER
