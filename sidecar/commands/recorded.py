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
from typing import NamedTuple, TextIO

import numpy as np
import orjson

from sidecar.signals.known.snapshot import FORECAST_OF
from sidecar.signals.models import Array
from sidecar.signals.replay.backtest import PROBABILITY_OF, Recording
from sidecar.types import F64, HORIZONS, I64, ConfigError

RESERVED = ("timestamp", "label", "point_label", "split", "series", "issue")
SAID = {"score": "raw", **{name: name for name in ("confidence", "expected", "lower", "upper")}}
FORECASTS = {
    f"{words}_{horizon}": column + kind
    for horizon, column in FORECAST_OF.items()
    for words, kind in (("forecast", ""), ("lower", "_lower"), ("upper", "_upper"))
}
ODDS = {f"breach_probability_{name}": column for name, column in PROBABILITY_OF.items()}
"""Header of the output -> column of the engine, as in SAID; odds only where there is a limit."""
DIGITS = 9
PART = 10_000  # rows whose text is made at once
FAR = 1e11  # unix seconds beyond this would lie in the year 5138: they are milliseconds (or micro-, or nano-)


class File(NamedTuple):
    """One input: a recording for each of its series, the names of its value columns, and what is passed on."""

    name: str
    recordings: list[Recording]
    rows: list[I64]
    """Of each recording: which rows of the file its rows are."""
    columns: list[str]
    times: list[str]
    passed: dict[str, list[str]]
    """Cells of label, split and series, where the input has them; rows as in the file, as are the times."""
    notes: list[str]
    """What was left out, with file, line and column."""
    step: float
    """Usual seconds between rows."""

    @property
    def outputs(self) -> list[str]:
        """Name of each column's output; all differ."""
        if len(self.columns) == 1 and not self.recordings[0].keys:
            return [safe(self.name)]
        out, taken = list[str](), {self.group}
        for column in self.columns:
            name = safe(f"{self.name}.{column}")
            while name in taken:
                name += "_"
            taken.add(name)
            out.append(name)
        return out

    @property
    def grouped(self) -> bool:
        """Whether there are columns to score together."""
        return len(self.columns) > 1

    @property
    def group(self) -> str:
        """Name of the output of all columns together."""
        return f"{safe(self.name)}.group"


class Row(NamedTuple):
    """A row of the file that has a time."""

    line: int
    at: float
    cells: list[str]


def read(path: Path) -> File:
    """One CSV, gzipped or not. A line or cell that cannot be read is left out and noted; ConfigError names file and
    line where nothing is left."""
    number, rows = 0, list[tuple[int, list[str]]]()
    try:
        with _opened(path) as file:
            lines = csv.reader(file, strict=True)
            for cells in lines:
                number = lines.line_num
                if cells:
                    rows.append((number, cells))
    except csv.Error as error:
        raise ConfigError(f"{path}:{number + 1}", f"cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(*_undecoded(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    header = _header(path, rows[0][1] if rows else [])
    notes = list[str]()
    return _file(path, header, _rows(path, header, rows[1:], notes), notes)


def _opened(path: Path) -> TextIO:
    """The text of a file, gzipped or not; lines end as csv wants them to."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="")


def _undecoded(path: Path) -> tuple[str, str]:
    """Where a file is not UTF-8, and what stands there."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"{path}:{line}", f"cannot be read: byte {content[error.start]:#x} is not UTF-8"
    return str(path), "changed while it was read"


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """Names of the columns, those that mean something in lower case; an index that pandas wrote has none."""
    header = [name.strip() for name in cells]
    header = [name.lower() if name.lower() in RESERVED else name for name in header]
    if "timestamp" not in header or not set(header) - {*RESERVED, ""}:
        has = ", ".join(filter(None, header)) or "nothing"
        words = f"needs a header with timestamp and at least one value column; has {has[:100]}"
        raise ConfigError(f"{path}:1", words)
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise ConfigError(f"{path}:1", f"two columns are called {twice[0]!r}")
    return header


def _rows(path: Path, header: list[str], lines: list[tuple[int, list[str]]], notes: list[str]) -> list[Row]:
    """Rows with a time and a cell for each column that has a name."""
    when, least = header.index("timestamp"), max(i for i, name in enumerate(header) if name) + 1
    rows, wrong = list[Row](), list[tuple[int, str]]()
    for line, cells in lines:
        if len(cells) < least or any(cells[len(header) :]):
            wrong.append((line, f"has {len(cells)} cells, the header has {len(header)}"))
        elif math.isnan(at := _time(cells[when].strip())):
            wrong.append((line, f"timestamp: not a time: {cells[when]!r}"))
        else:
            rows.append(Row(line, at, cells))
    while rows and np.median([row.at for row in rows]) > FAR:
        rows = [row._replace(at=row.at / 1000) for row in rows]
    wrong += [(row.line, f"timestamp: not a time: {row.cells[when]!r}") for row in rows if abs(row.at) > FAR]
    rows = [row for row in rows if abs(row.at) <= FAR]
    if not rows:
        line, words = wrong[0] if wrong else (1, "has a header and no rows")
        raise ConfigError(f"{path}:{line}", words)
    notes += _noted(path, wrong, "the line is left out")
    return rows


def _file(path: Path, header: list[str], rows: list[Row], notes: list[str]) -> File:
    cells = dict(zip(header, zip(*(row.cells[: len(header)] for row in rows), strict=False), strict=False))
    values = dict[str, F64]()
    for name in (name for name in cells if name and name not in RESERVED):
        numbers, wrong = _numbers(cells[name])
        if 2 * len(wrong) > sum(map(bool, cells[name])):
            notes.append(f"{path}: column {name!r} has no numbers and is left out")
            continue
        values[name] = numbers
        found = [(rows[i].line, f"{name}: not a number: {cells[name][i]!r}") for i in wrong]
        notes += _noted(path, found, "the cell is taken as empty")
    if not values:
        raise ConfigError(str(path), "has no column with numbers")
    table, at = np.stack(list(values.values()), axis=1), np.array([row.at for row in rows])
    series = cells.get("series", ("",) * len(rows))
    places = dict[str, list[int]]()
    for i, one in enumerate(series):
        places.setdefault(one, []).append(i)
    recordings, order = list[Recording](), list[I64]()
    for one, place in places.items():
        mine = np.array(place)[np.argsort(at[place], kind="stable")]
        recordings.append(Recording(one, at[mine], table[mine]))
        order.append(mine)
    passed = dict[str, list[str]]()
    passed |= {name: list(cells[name]) for name in ("label", "split", "series") if name in cells}
    stem = re.sub(r"(\.csv)?(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    longest = max(recordings, key=lambda r: len(r.at))
    return File(stem, recordings, order, list(values), list(cells["timestamp"]), passed, notes, longest.step)


def _noted(path: Path, wrong: Sequence[tuple[int, str]], done: str) -> list[str]:
    """The first of what is wrong, and how much more of it there is."""
    if not wrong:
        return []
    line, words = wrong[0]
    more = f" ({len(wrong) - 1} more such)" if len(wrong) > 1 else ""
    return [f"{path}:{line}: {words}; {done}{more}"]


def _time(text: str) -> float:
    """Unix seconds (or milliseconds, as it stands); NaN where it is no time."""
    try:
        at = float(text)
    except ValueError:
        try:
            moment = datetime.datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return math.nan
    return at if math.isfinite(at) else math.nan


def _numbers(cells: Sequence[str]) -> tuple[F64, list[int]]:
    """A column as numbers, NaN where a cell is empty or, as is told, holds something else."""
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells]), []
    except ValueError:
        numbers = [_number(cell) for cell in cells]
        wrong = [i for i, number in enumerate(numbers) if number is None]
        return np.array([math.nan if number is None else number for number in numbers]), wrong


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        return None


# --------------------------------------------------------------------------- writing


def write(
    out: Path, file: File, said: Sequence[Mapping[str, Array]], group: Sequence[Mapping[str, Array]]
) -> None:
    """One file for each value column, and one for the group: an output row for each input row, in its place."""
    limited = any(column in one for column in ODDS.values() for one in said)
    fixed = _Fixed(file, {**SAID, **FORECASTS, **(ODDS if limited else {})})
    for j, name in enumerate(file.outputs):
        mine = [{key: column[:, j] for key, column in one.items()} for one in said]
        values = [r.values[:, j] for r in file.recordings]
        fixed.write(out / f"{name}.csv", mine, values)
    if group:
        fixed.write(out / f"{file.group}.csv", group)


class _Fixed:
    """What every output of a file has in common."""

    def __init__(self, file: File, columns: Mapping[str, str]) -> None:
        self._rows, self._columns = file.rows, columns
        reach = {horizon: seconds >= file.step for horizon, seconds in HORIZONS}
        self._blank = {key for key in columns if not reach.get(key.rpartition("_")[2], True)}
        rows, more = len(file.times), "series" in file.passed
        self._header = ["timestamp", "value", "label", "split", *self._columns, *["series"] * more]
        self._first = [_quoted(text) for text in file.times]
        label, split = (map(_quoted, file.passed.get(name, [""] * rows)) for name in ("label", "split"))
        self._middle = [f"{a},{b}" for a, b in zip(label, split, strict=True)]
        self._last = ["," + _quoted(text) for text in file.passed["series"]] if more else [""] * rows

    def write(self, path: Path, said: Sequence[Mapping[str, Array]], values: Sequence[Array] = ()) -> None:
        """`said` by column, and values, of each recording."""
        table = np.full((len(self._first), len(self._columns)), np.nan)
        for j, (key, name) in enumerate(self._columns.items()):
            for rows, one in zip(self._rows, said, strict=True) if key not in self._blank else ():
                table[rows, j] = one.get(name, np.nan)
        value = np.full((len(self._first), 1), np.nan)
        for rows, numbers in zip(self._rows, values, strict=True) if values else ():
            value[rows, 0] = numbers
        cells = (row for lo in range(0, len(table), PART) for row in _text(_rounded(table[lo : lo + PART])))
        lines = zip(self._first, _text(value), self._middle, cells, self._last, strict=True)
        try:
            with path.open("w", encoding="utf-8") as out:
                out.write(",".join(self._header) + "\n")
                out.writelines(
                    f"{at},{value},{middle},{rest}{last}\n" for at, value, middle, rest, last in lines
                )
        except OSError as error:
            raise ConfigError(f"--out {path}", error.strerror or str(error)) from None


def _rounded(table: F64) -> F64:
    """To `DIGITS` digits.

    >>> _rounded(np.array([[1e-7 / 3, 123456789.123]])).tolist()
    [[3.33333333e-08, 123456789.0]]
    """
    size = np.abs(table, where=np.isfinite(table), out=np.zeros(table.shape))
    power = np.floor(np.log10(size, where=size > 0, out=np.zeros(table.shape)))
    places = np.power(10.0, np.clip(DIGITS - 1 - power, -300, 300))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isfinite(table), np.round(table * places) / places, table)


def _text(table: F64) -> Iterator[str]:
    """Rows of a table as cells, empty where nothing is known.

    >>> list(_text(np.array([[1.5, np.nan], [3e-8, 2]])))
    ['1.5,', '3e-8,2.0']
    """
    text = orjson.dumps(np.ascontiguousarray(table), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return iter(text[2:-2].replace("null", "").split("],["))


def _quoted(text: str) -> str:
    """A cell, in quotes where it needs them."""
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\r\n]', text) else text


def safe(name: str) -> str:
    """A name as one of a file: no folder, not longer than file systems take.

    >>> safe("a/b|c"), len(safe("x" * 300)), len(safe("ä" * 300))
    ('a_b|c', 200, 100)
    """
    name = re.sub(r"[/\\\x00-\x1f]", "_", name)
    return name.encode("utf-8", "replace")[:200].decode("utf-8", "ignore").lstrip(".") or "_"
