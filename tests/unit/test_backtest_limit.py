"""`promantis backtest --limit`: the odds of a limit, of each row by those before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.unit.test_backtest_files import HEADER, backtest, read, rows_of, write
from tests.unit.waves import DAY, wave


def test_odds_of_a_limit_know_nothing_of_later_rows(tmp_path: Path) -> None:
    """A wave that crosses each day: announced before, certain while it lasts; a `for` makes it less likely."""
    whole = rows_of(wave(6))
    files = {name: write(tmp_path / f"{name}.csv", whole) for name in ("short", "long", "down", "none")}
    half = write(tmp_path / "half.csv", whole[: 4 * DAY + 1])

    def odds(file: Path, *more: str) -> list[dict[str, str]]:
        assert backtest(tmp_path / "out", file, more=more) == 0
        return read(tmp_path / "out" / file.name)

    short = odds(files["short"], "--limit", "58")
    assert list(short[0]) == [*HEADER.split(","), *(f"breach_probability_{h}" for h in ("15m", "30m", "60m"))]
    assert short[: 4 * DAY] == odds(half, "--limit", ">58")
    values = np.array([float(row["value"]) for row in short])
    p15, p60 = (
        np.array([float(row[f"breach_probability_{h}"] or "nan") for row in short]) for h in ("15m", "60m")
    )
    np.testing.assert_array_equal(p60 == 1, values > 58)
    assert np.nanmin(p60 - p15) >= 0
    came = np.array([(values[i + 1 : i + 5] > 58).any() for i in range(len(values))])
    late = (np.arange(len(values)) > 3 * DAY) & (values <= 58)
    assert p60[late & came].mean() > 0.4 > 0.1 > p60[late & ~came].mean()
    long = np.array(
        [float(r["breach_probability_60m"] or 0) for r in odds(files["long"], "--limit=58", "--for=45m")]
    )
    assert long[late & came].mean() < p60[late & came].mean()
    down = odds(files["down"], "--limit", "42", "--direction", "down")
    assert [row["breach_probability_60m"] in ("1", "1.0") for row in down] == (values < 42).tolist()
    assert ",".join(odds(files["none"])[0]) == HEADER
