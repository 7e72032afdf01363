"""Recorded metrics as CSV: read what is dirty, write what was said of each row."""

from __future__ import annotations

import csv
import datetime
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from sidecar.signals.backtest import Recording
from sidecar.signals.models import Array
from sidecar.signals.snapshot import FORECAST_OF
from sidecar.types import F64, HORIZONS, ConfigError

RESERVED = ("timestamp", "label", "point_label", "split", "series", "issue")
SAID = {"score": "raw", **{name: name for name in ("confidence", "expected", "lower", "upper")}}
FORECASTS = {
    f"{words}_{horizon}": column + kind
    for horizon, column in FORECAST_OF.items()
    for words, kind in (("forecast", ""), ("lower", "_lower"), ("upper", "_upper"))
}
"""Header of the output -> column of the engine, as in SAID."""
DIGITS = 9
MILLISECONDS = 1e11  # unix seconds beyond this would lie in the year 5138


class File(NamedTuple):
    """One input: a recording for each of its series, the names of its value columns, and what is passed on."""

    name: str
    recordings: list[Recording]
    columns: list[str]
    times: list[str]
    passed: dict[str, list[str]]
    """Cells of label, split and series, where the input has them; rows as in the recordings, one after the other."""
    skipped: list[str]
    """Columns without any number."""
    step: float
    """Usual seconds between rows."""

    @property
    def outputs(self) -> list[str]:
        """Name of each column's output; all differ."""
        if len(self.columns) == 1 and not self.recordings[0].keys:
            return [safe(self.name)]
        out, taken = list[str](), {f"{safe(self.name)}.group"}
        for column in self.columns:
            name = safe(f"{self.name}.{column}")
            while name in taken:
                name += "_"
            taken.add(name)
            out.append(name)
        return out


def read(path: Path) -> File:
    """One CSV, gzipped or not; ConfigError names file and line."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")
        lines = csv.reader(text.splitlines(), strict=True)
        header, rows = next(lines, []), [(lines.line_num, row) for row in lines if row]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ConfigError(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    header = [name.strip() for name in header]
    if "timestamp" not in header or not rows or not set(header) - set(RESERVED):
        raise ConfigError(str(path), "needs a header with timestamp and at least one value column, and rows")
    if twice := [name for name in header if header.count(name) > 1]:
        raise ConfigError(f"{path}:1", f"two columns are called {twice[0]!r}")
    for line, row in rows:
        if len(row) != len(header):
            raise ConfigError(f"{path}:{line}", f"has {len(row)} cells, the header has {len(header)}")
    return _file(path, header, rows)


def _file(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> File:
    when = header.index("timestamp")
    rows = [
        (line, row) for line, row in rows if row[when].strip()
    ]  # recorded dirt: nobody knows when that was
    at = np.array([_time(path, line, row[when].strip()) for line, row in rows])
    if len(at) and np.median(at) > MILLISECONDS:
        at = at / 1000
    cells = dict(zip(header, zip(*(row for _, row in rows), strict=True), strict=True)) if rows else {}
    values, skipped = dict[str, F64](), list[str]()
    for name in (name for name in cells if name not in RESERVED):
        numbers = _numbers(path, name, cells[name], [line for line, _ in rows])
        if numbers is None:
            skipped.append(name)
        else:
            values[name] = numbers
    if not values:
        raise ConfigError(
            str(path),
            "has no column with numbers" if rows else "has no row with a time",
        )
    table = np.stack(list(values.values()), axis=1)
    series = cells.get("series", ())
    recordings, order = list[Recording](), list[int]()
    for one in dict.fromkeys(series) if series else [None]:
        mine = np.array([i for i in range(len(rows)) if one is None or series[i] == one])
        mine = mine[np.argsort(at[mine], kind="stable")]
        recordings.append(Recording(one or "", at[mine], table[mine]))
        order += mine.tolist()
    passed = dict[str, list[str]]()
    for name in ("label", "split", "series"):
        if name in cells:
            passed[name] = [cells[name][i] for i in order]
    stem = re.sub(r"(\.csv)?(\.gz)?$", "", path.name)
    longest = max(recordings, key=lambda r: len(r.at))
    times = [cells["timestamp"][i] for i in order]
    return File(stem, recordings, list(values), times, passed, skipped, longest.step)


def _time(path: Path, line: int, text: str) -> float:
    try:
        at = float(text)
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            moment = None
        at = math.nan
        if moment is not None:
            at = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    if not math.isfinite(at):
        raise ConfigError(f"{path}:{line}: timestamp", f"not a time: {text!r}")
    return at


def _numbers(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> F64 | None:
    """A column as numbers, NaN where a cell is empty; None when it holds text and no number."""
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError:
        wrong = [i for i, cell in enumerate(cells) if cell and not _number(cell)]
    if len(wrong) == sum(map(bool, cells)):
        return None
    raise ConfigError(f"{path}:{lines[wrong[0]]}: {name}", f"not a number: {cells[wrong[0]]!r}")


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# --------------------------------------------------------------------------- writing


def write(
    out: Path, file: File, said: Sequence[Mapping[str, Array]], group: Sequence[Mapping[str, Array]]
) -> None:
    """One file for each value column, and one for the group: an output row for each input row."""
    fixed = _Fixed(file)
    for j, name in enumerate(file.outputs):
        mine = {key: np.concatenate([one[key][:, j] for one in said]) for key in said[0]}
        mine["value"] = np.concatenate([r.values[:, j] for r in file.recordings])
        fixed.write(out / f"{name}.csv", mine)
    if group:
        mine = {key: np.concatenate([one[key] for one in group]) for key in group[0]}
        fixed.write(out / f"{safe(file.name)}.group.csv", mine)


class _Fixed:
    """What every output of a file has in common."""

    def __init__(self, file: File) -> None:
        reach = {horizon: seconds >= file.step for horizon, seconds in HORIZONS}
        self._columns = {**SAID, **FORECASTS}
        self._blank = {key for key in FORECASTS if not reach[key.rpartition("_")[2]]}
        rows, more = len(file.times), "series" in file.passed
        self._header = ["timestamp", "value", "label", "split", *self._columns, *["series"] * more]
        self._first = [_quoted(text) for text in file.times]
        label, split = (map(_quoted, file.passed.get(name, [""] * rows)) for name in ("label", "split"))
        self._middle = [f"{a},{b}" for a, b in zip(label, split, strict=True)]
        self._last = ["," + _quoted(text) for text in file.passed["series"]] if more else [""] * rows

    def write(self, path: Path, said: Mapping[str, Array]) -> None:
        nothing = np.full(len(self._first), np.nan)
        table = np.stack(
            [
                nothing if key in self._blank else said.get(name, nothing)
                for key, name in self._columns.items()
            ],
            axis=1,
        )
        values = _cells(said.get("value", nothing)[:, None])
        rows = zip(self._first, values, self._middle, _cells(table), self._last, strict=True)
        text = "\n".join(f"{at},{value},{middle},{rest}{last}" for at, value, middle, rest, last in rows)
        try:
            path.write_text(",".join(self._header) + "\n" + text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {path}", error.strerror or str(error)) from None


def _cells(table: Array) -> Iterator[str]:
    """Rows of a table as cells with `DIGITS` digits, empty where nothing is known.

    >>> list(_cells(np.array([[1.5, np.nan], [1e-7 / 3, 123456789.123]])))
    ['1.5,', '3.33333333e-8,123456789.0']
    """
    size = np.abs(table, where=np.isfinite(table), out=np.zeros(table.shape))
    power = np.floor(np.log10(size, where=size > 0, out=np.zeros(table.shape)))
    places = np.power(10.0, np.clip(DIGITS - 1 - power, -300, 300))
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.where(np.isfinite(table), np.round(table * places) / places, table)
    text = orjson.dumps(np.ascontiguousarray(rounded), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return iter(text[2:-2].replace("null", "").split("],["))


def _quoted(text: str) -> str:
    """A cell, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\n]', text) else text


def safe(name: str) -> str:
    """A name as one of a file: no folder, not longer than file systems take.

    >>> safe("a/b|c"), len(safe("x" * 300))
    ('a_b|c', 200)
    """
    return re.sub(r"[/\\\x00-\x1f]", "_", name)[:200].lstrip(".") or "_"
