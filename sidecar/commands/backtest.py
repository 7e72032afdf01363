"""`promantis backtest`: try it on what was recorded before trusting it with what is live."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sidecar.commands import recorded, rehearsed
from sidecar.commands.asked import MOST, asked, step_of
from sidecar.commands.flags import FLAGS, config_from
from sidecar.commands.plots import Plotter
from sidecar.commands.progress import Progress
from sidecar.commands.recorded import FORECASTS, ODDS, SAID, File
from sidecar.commands.table import aligned, short
from sidecar.config import Config
from sidecar.signals.detect import groups
from sidecar.signals.known import why
from sidecar.signals.models import Array
from sidecar.signals.replay import backtest
from sidecar.signals.replay.backtest import Page
from sidecar.signals.watch.wanted import DIRECTIONS, SCALES, LimitConfig, WatchConfig
from sidecar.signals.watch.watches import Watch, from_config
from sidecar.types import ConfigError, Duration, PromantisError

COLUMNS = (*SAID.values(), *FORECASTS.values(), "lately", "why", "age")
CHOICE = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # scores whose pages a day are shown


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--csv", metavar="FILE", nargs="+", help="timestamp and value columns; .gz too")
    source.add_argument("--query", metavar="EXPR", help="PromQL: every series of it, from Prometheus")
    source.add_argument(
        "--rules", action="store_true", help="your alerting rules: what would have been announced"
    )
    parser.add_argument("--out", metavar="DIR", help="where DIR/<name>.csv is written, for --csv and --query")
    parser.add_argument(
        "--days", type=float, default=14.0, help="days of the past, from Prometheus (default 14)"
    )
    parser.add_argument(
        "--step", metavar="DURATION", help="between samples (default the interval, for --rules at least 1m)"
    )
    parser.add_argument("--limit", metavar="VALUE", help="write how likely it is crossed: 0.9, or '<5'")
    parser.add_argument("--for", dest="hold", metavar="DURATION", help="how long --limit must be crossed")
    parser.add_argument("--threshold", type=float, default=1.0, help="score that pages (default 1)")
    parser.add_argument("--top", type=int, default=20, help="pages, or rules, that are printed (default 20)")
    parser.add_argument("--plot", action="store_true", help="draw DIR/<name>.png (needs matplotlib)")
    parser.add_argument("--direction", choices=DIRECTIONS, default="both", help="which way is odd")
    parser.add_argument("--min-deviation", type=float, default=0.0, help="smaller deviations are nothing")
    parser.add_argument(
        "--min-relative-deviation", type=float, default=0.0, help="the same as a share of what is expected"
    )
    parser.add_argument(
        "--scale", choices=SCALES, default="linear", help="log: by factors, not by differences"
    )
    parser.add_argument("--bounds", metavar="LOW,HIGH", help="what values cannot pass, e.g. 0,1 or 0,")
    parser.add_argument("--tz", help="time zone of days and weeks (default the config's, else UTC)")
    for flag, options in FLAGS:
        if flag in ("--config.file", "--prometheus.url"):
            parser.add_argument(flag, dest=flag.removeprefix("--"), **options)


def run(args: argparse.Namespace) -> int:
    """Replay, write what the engine says of each row, print what would have paged. 1: Prometheus did not answer;
    2: of the files some could not be read, and the others were replayed."""
    began, config = time.monotonic(), config_from(args)
    if args.rules:
        for flag, given in (
            ("out", args.out),
            ("plot", args.plot),
            ("limit", args.limit),
            ("for", args.hold),
        ):
            if given:
                raise ConfigError(
                    f"--{flag}", "is nothing for --rules, which reads your rules and writes no files"
                )
        return rehearsed.run(args, config)
    if not args.out:
        raise ConfigError("--out", "is needed: the folder that is written to")
    out = Path(args.out)
    watch = settings(args, config)
    plotter = Plotter(out, args.threshold) if args.plot else None
    bad = 0
    try:
        if args.csv:
            files, bad = _read(args.csv)
        else:
            files = [asyncio.run(asked(config, watch, args.days, step_of(args, config)))]
    except ConfigError:
        raise
    except PromantisError as error:
        print(f"promantis: {error}", file=sys.stderr)
        return 1
    names = [name for file in files for name in (*file.outputs, *[file.group] * file.grouped)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(
            "--csv", f"two outputs would be called {twice[0]}.csv: rename a file, or run it alone"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}", error.strerror or str(error)) from None
    told = list[Told]()
    progress, batches = Progress("replayed"), list(_batches(files))
    for i, batch in enumerate(batches):
        share = partial(progress.at, part=i, parts=len(batches))
        told += _replayed(batch, watch, out, args.threshold, plotter, share)
    progress.done()
    if told:
        print("\n".join([*paged(told, args.threshold, args.top), "", *choice(told, args.threshold)]))
        rows = sum(one.rows for one in told)
        print(f"\n{rows} rows of {len(told)} series in {out}, {time.monotonic() - began:.0f} s")
    if bad and told:
        print(f"promantis: {bad} of {len(args.csv)} files could not be read, see above", file=sys.stderr)
    return 2 if bad else 0


def _read(names: Sequence[str]) -> tuple[list[File], int]:
    """The files, and how many could not be read; what is wrong with them is printed."""
    files = list[File]()
    for name in names:
        try:
            files.append(recorded.read(Path(name)))
        except ConfigError as error:
            print(f"promantis: {error}", file=sys.stderr)
        else:
            print("".join(f"{note}\n" for note in files[-1].notes), end="", file=sys.stderr)
    return files, len(names) - len(files)


def settings(args: argparse.Namespace, config: Config) -> Watch:
    """The flags as a watch; ConfigError names the flag."""
    low, high = _bounds(args.bounds) if args.bounds else (None, None)
    watch = WatchConfig(
        name="backtest",
        query=args.query or "up",
        direction=args.direction,
        min_deviation=args.min_deviation,
        min_relative_deviation=args.min_relative_deviation,
        scale=args.scale,
        bounds=(low, high),
        tz=args.tz,
        limits=_limits(args.limit, args.hold, args.direction),
    )
    for key, words in watch.problems():
        raise ConfigError("--" + key.replace("_", "-"), words)
    return from_config([watch], float(config.interval), tz=config.tz)[0]


def _limits(limit: str | None, hold: str | None, direction: str) -> tuple[LimitConfig, ...]:
    """A limit such as `0.9`, upward unless the direction is down, or `<5`."""
    if limit is None:
        if hold is not None:
            raise ConfigError("--for", "needs a --limit")
        return ()
    found = re.fullmatch(r"\s*(>=|<=|>|<)?\s*(\S+)\s*", limit)
    try:
        value = float(found[2]) if found else math.nan
    except ValueError:
        value = math.nan
    if not found or not math.isfinite(value):
        raise ConfigError("--limit", f"{limit!r} is not a number such as 0.9, or a condition such as '<5'")
    try:
        lasting = Duration.parse(hold or "0s")
    except ValueError as error:
        raise ConfigError("--for", str(error)) from None
    op = found[1] or ("<" if direction == "down" else ">")
    return (LimitConfig(op=op, value=value, hold=lasting),)


def _bounds(text: str) -> tuple[float | None, float | None]:
    low, comma, high = text.partition(",")
    try:
        if comma:
            return float(low) if low.strip() else None, float(high) if high.strip() else None
    except ValueError:
        pass
    raise ConfigError("--bounds", f"{text!r} is not two numbers such as 0,1 (or 0, without an upper one)")


# --------------------------------------------------------------------------- replay


class Alarm(NamedTuple):
    """A page with what stood there at its peak; of a group value and band are NaN."""

    page: Page
    reason: str
    value: float
    lower: float
    upper: float


class Told(NamedTuple):
    """What is printed of one series or group; the rows themselves are written and gone."""

    name: str
    rows: int
    days: float
    """With a score."""
    alarms: list[Alarm]
    counts: Mapping[float, int]
    """Pages by threshold."""
    grouped: bool


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Files of one step, as many as can run together: what is said of them has to fit in memory."""
    by_step: dict[float, list[File]] = {}
    for file in files:
        by_step.setdefault(file.step, []).append(file)
    for same in by_step.values():
        batch, size = list[File](), 0
        for file in same:
            mine = len(file.times) * len(file.columns)
            if batch and size + mine > MOST:
                yield batch
                batch, size = [], 0
            batch.append(file)
            size += mine
        yield batch


def _replayed(
    files: Sequence[File],
    watch: Watch,
    out: Path,
    threshold: float,
    plotter: Plotter | None,
    progress: Callable[[float], None],
) -> list[Told]:
    """Run files of one step together, and write what is said of them."""
    every = [r for file in files for r in file.recordings]
    columns = (*COLUMNS, *(ODDS.values() if watch.limits else ()))
    said, told = backtest.run(every, files[0].step, columns, watch, progress), list[Told]()
    for file in files:
        mine, said = said[: len(file.recordings)], said[len(file.recordings) :]
        told += _told(file, mine, out, threshold, plotter)
    return told


def _told(
    file: File, said: list[dict[str, Array]], out: Path, threshold: float, plotter: Plotter | None
) -> list[Told]:
    """Write a file's outputs; what there is to tell of it."""
    together = [_together(one, file.step) for one in said] if file.grouped else []
    recorded.write(out, file, said, together)
    told = list[Told]()
    for i, (r, columns) in enumerate(zip(file.recordings, said, strict=True)):
        every = [
            (name, {key: column[:, j] for key, column in columns.items()} | {"value": r.values[:, j]})
            for j, name in enumerate(file.outputs)
        ]
        for name, mine in [*every, *((file.group, one) for one in together[i : i + 1])]:
            whole = name + (f"[{r.name}]" if r.name else "")
            found = backtest.pages(r.at, mine["raw"], threshold, file.step)
            grouped = "value" not in mine
            reasons = [
                _oddest(columns["lately"][page.row], file.columns) if grouped else _reason(mine, page.row)
                for page in found
            ]
            alarms = [Alarm(*of, *_stood(mine, of[0].row)) for of in zip(found, reasons, strict=True)]
            days = max(float(np.isfinite(mine["raw"]).sum()) * file.step / 86400, 1e-9)
            counts = {at: backtest.count(r.at, mine["raw"], at, file.step) for at in (*CHOICE, threshold)}
            told.append(Told(whole, len(r.at), days, alarms, counts, grouped))
            if plotter:
                plotter.draw(recorded.safe(whole), r.at, mine, found)
    return told


def _stood(said: Mapping[str, Array], row: int) -> tuple[float, float, float]:
    value, lower, upper = (
        float(said[key][row]) if key in said else math.nan for key in ("value", "lower", "upper")
    )
    return value, lower, upper


def _together(said: Mapping[str, Array], step: float) -> dict[str, Array]:
    """What is said of the columns of a file as one group."""
    score = groups.over_time(said["lately"], step)
    return {"raw": score, "confidence": groups.believed(score, said["raw"], said["age"])}


def _reason(said: Mapping[str, Array], row: int) -> str:
    code, value = int(said["why"][row]), said["value"]
    before = value[:row][np.isfinite(value[:row])]  # what it rose or fell from
    usual = before[-1] if code == why.JUMP and len(before) else said["expected"][row]
    return why.words(code, bool(value[row] > usual))


def _oddest(raw: Array, names: Sequence[str]) -> str:
    known = np.nan_to_num(raw, nan=-np.inf)
    return "the oddest: " + ", ".join(names[i] for i in np.argsort(-known, kind="stable")[:2])


# --------------------------------------------------------------------------- what is printed


def paged(told: Sequence[Told], threshold: float, top: int) -> list[str]:
    """The oddest pages, by series and time; the rest is counted."""
    every = [(one, alarm) for one in told for alarm in one.alarms]
    if not every:
        return [f"Nothing would have paged at score {threshold:g}."]
    peaks = sorted((alarm.page.peak for _, alarm in every), reverse=True)
    least = peaks[min(top, len(peaks)) - 1] if top > 0 else math.inf
    shown = [entry for entry in every if entry[1].page.peak >= least][: max(top, 0)]
    table = [("series", "from (UTC)", "for", "score", "value", "usual", "why")]
    for one, (page, reason, value, lower, upper) in shown:
        usual = f"{lower:.4g} to {upper:.4g}" if math.isfinite(lower) else "-"
        lasted = str(Duration(max(1, round(page.end - page.start))))
        number = f"{value:.4g}" if math.isfinite(value) else "-"
        table.append((short(one.name), _utc(page.start), lasted, f"{page.peak:.1f}", number, usual, reason))
    lines = [f"What would have paged at score {threshold:g}:", *aligned(table)]
    if rest := len(every) - len(shown):
        of = len({one.name for one, _ in every})
        lines.append(f"and {rest} more; {len(every)} pages on {of} of {len(told)} series (--top shows more)")
    return lines


def choice(told: Sequence[Told], threshold: float) -> list[str]:
    """Pages a day at other thresholds, so that one can be chosen."""
    table = [("score", "pages", "per series and day", "series that page", "the noisiest", "per day")]
    for words, mine in (
        ("", [one for one in told if not one.grouped]),
        (" (groups)", [one for one in told if one.grouped]),
    ):
        days = sum(one.days for one in mine)
        for score in sorted({*CHOICE, threshold}) if mine else ():
            counts = [one.counts[score] for one in mine]
            worst = max(range(len(mine)), key=lambda i: counts[i] / mine[i].days)
            noisy = (
                (short(mine[worst].name), f"{counts[worst] / mine[worst].days:.3f}")
                if counts[worst]
                else ("-", "-")
            )
            paging = f"{sum(n > 0 for n in counts)} of {len(mine)}"
            table.append((f"{score:g}{words}", str(sum(counts)), f"{sum(counts) / days:.3f}", paging, *noisy))
    return ["Pages at other thresholds (--threshold):", *aligned(table)]


def _utc(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
