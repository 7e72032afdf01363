"""`promantis backtest`: try it on recorded metrics before trusting it with live ones."""

from __future__ import annotations

import argparse
import csv
import datetime
import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sidecar.signals import backtest, groups
from sidecar.signals.backtest import Recording
from sidecar.signals.models import Array
from sidecar.signals.snapshot import FORECAST_OF
from sidecar.types import F64, HORIZONS, ConfigError

RESERVED = ("timestamp", "label", "point_label", "split", "series", "issue")
SAID = ("raw", "confidence", "expected", "lower", "upper")
FORECASTS = {
    f"{words}_{horizon}": column + kind
    for horizon, column in FORECAST_OF.items()
    for words, kind in (("forecast", ""), ("lower", "_lower"), ("upper", "_upper"))
}
"""Header of the output -> column of the engine."""


class File(NamedTuple):
    """One input: its recording, the names of its value columns, and the columns that are passed on."""

    recording: Recording
    names: list[str]
    label: list[str]
    split: list[str]
    times: list[str]


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "--csv", metavar="FILE", nargs="+", required=True, help="timestamp and value columns; .gz too"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="where DIR/<name>.csv is written")
    parser.add_argument("--threshold", type=float, default=1.0, help="score that pages (default 1)")


def run(args: argparse.Namespace) -> int:
    """Replay the files, write what the engine says of each row, print what would have paged."""
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}", error.strerror or str(error)) from None
    by_step: dict[float, list[File]] = {}
    for name in args.csv:
        file = read(Path(name))
        by_step.setdefault(file.recording.step, []).append(file)
    print(f"{'series':40} {'days':>6} {'pages':>6} {'a day':>6}  the oddest")
    for files in by_step.values():
        for name, at, value, score, step in _replay(files, out):
            found = backtest.pages(at, value, score, args.threshold, step)
            days = max(len(at) * step / 86400, 1e-9)
            top = max(found, key=lambda page: page.peak, default=None)
            words = f"{_iso(top.start)} score {top.peak:.1f} value {top.value:.4g}" if top else ""
            print(f"{name:40} {days:6.1f} {len(found):6d} {len(found) / days:6.2f}  {words}")
    return 0


def read(path: Path) -> File:
    """One CSV, gzipped or not; ConfigError names file and line."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        rows = list(csv.DictReader(text.splitlines()))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ConfigError(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    header = list(rows[0]) if rows else []
    names = [name for name in header if name not in RESERVED]
    if "timestamp" not in header or not names:
        raise ConfigError(str(path), "needs a header with timestamp and at least one value column, and rows")
    kept: list[tuple[float, dict[str, str]]] = []
    for line, row in enumerate(rows, 2):
        if not row["timestamp"]:
            continue  # recorded dirt: nobody knows when this was
        try:
            kept.append((_time(row["timestamp"]), row))
        except ValueError:
            raise ConfigError(f"{path}:{line}: timestamp", f"not a time: {row['timestamp']!r}") from None
    kept.sort(key=lambda pair: pair[0])
    at = np.array([time for time, _ in kept])
    if len(at) and np.median(at) > 1e11:
        at = at / 1000  # milliseconds
    values = np.array([[_value(path, row, name) for name in names] for _, row in kept])
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    label, split = ([row[name] for _, row in kept] if name in header else [] for name in ("label", "split"))
    return File(Recording(stem, at, values), names, label, split, [row["timestamp"] for _, row in kept])


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _value(path: Path, row: dict[str, str], name: str) -> float:
    text = row[name]
    try:
        return float(text) if text else math.nan
    except (TypeError, ValueError):
        raise ConfigError(f"{path}: {name}", f"not a number: {text!r} at {row['timestamp']}") from None


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%MZ")


def _replay(files: Sequence[File], out: Path) -> list[tuple[str, F64, Array, Array, float]]:
    """Replay files of one step and write their outputs; (name, times, values, score, step) of each series."""
    said = backtest.run([file.recording for file in files], (*SAID, *FORECASTS.values()))
    done = []
    for file, columns in zip(files, said, strict=True):
        at, step = file.recording.at, file.recording.step
        for j, name in enumerate(file.names):
            whole = file.recording.name + (f".{name}" if len(file.names) > 1 else "")
            mine = {key: column[:, j] for key, column in columns.items()}
            _write(out / f"{whole}.csv", file, file.recording.values[:, j], mine)
            done.append((whole, at, file.recording.values[:, j], mine["raw"], step))
        if len(file.names) > 1:
            score = groups.over_time(columns["raw"])
            empty = np.full(len(at), np.nan)
            _write(out / f"{file.recording.name}.group.csv", file, empty, {"raw": score})
            done.append((f"{file.recording.name}.group", at, empty, score, step))
    return done


def _write(path: Path, file: File, values: Array, said: dict[str, Array]) -> None:
    """One output row per input row; what is not known is an empty cell."""
    steps = {horizon: seconds >= file.recording.step for horizon, seconds in HORIZONS}
    shown = {k: v for k, v in FORECASTS.items() if v in said and steps[k.rpartition("_")[2]]}
    columns = [said.get(name, np.full(len(values), np.nan)) for name in (*SAID, *shown.values())]
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(["timestamp", "value", "label", "split", "score", *SAID[1:], *shown])
        for i, time in enumerate(file.times):
            cells = (_cell(column[i]) for column in (values, *columns))
            value = next(cells)
            label = file.label[i] if file.label else ""
            out.writerow([time, value, label, file.split[i] if file.split else "", *cells])


def _cell(value: float) -> str:
    return f"{value:.9g}" if math.isfinite(value) else ""
