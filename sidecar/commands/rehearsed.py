"""`promantis backtest --rules`: the user's alerting rules over their own past, asked from Prometheus and only read."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.adapters.prometheus import Prometheus, shorten
from sidecar.commands.asked import step_of
from sidecar.commands.progress import Progress
from sidecar.commands.table import aligned, short
from sidecar.config import Config
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.known.ledger import Rule, Verdict
from sidecar.signals.learn.history import room
from sidecar.signals.replay.rehearsal import WAITS, WINDOWS, Rehearsal, Tally, tally
from sidecar.signals.watch.watches import Skipped, Watch, announced, from_config, from_rules, plan
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, PromantisError

LEARNED = 7  # days before those that count
STEP = 60.0
SLICE = 1440  # samples that are played in one go
WHOLE, CHURN = 10_000_000, 4  # samples in memory, if of each series that is there now there were so many
NONE = Tally()
TOGETHER = "it asks for more than comparisons (`unless`, `and` without a number), of which no odds are said"


class Asked(NamedTuple):
    """The rules as watches, those that are none with the reason, and since when there is a past."""

    watches: Sequence[Watch]
    skipped: Sequence[Skipped]
    begin: float
    end: float
    series: Sequence[int]
    """Of each watch now."""


class Told(NamedTuple):
    """What came of it by rule, of predict_linear by window and `for`."""

    ours: Mapping[Rule, Tally]
    linear: Mapping[str, Mapping[Rule, Tally]]
    days: float
    """From the first sample on."""


def run(args: argparse.Namespace, config: Config) -> int:
    """Replay the rules and print what was announced; 1: Prometheus did not answer."""
    wished = step_of(args, config)
    step = wished if args.step else max(STEP, float(config.interval))
    try:
        asked, told = asyncio.run(_rehearsed(config, args.days, step))
    except PromantisError as error:
        print(f"promantis: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines(asked, told, args.days, args.top)))
    return 0


async def _rehearsed(config: Config, days: float, step: float) -> tuple[Asked, Told]:
    client = Prometheus(config.prometheus, Telemetry())
    try:
        asked = await _ask(client, config, days, step)
        by_step: dict[float, list[Watch]] = {}
        for watch in asked.watches:
            by_step.setdefault(watch.step, []).append(watch)
        progress, ours, linear = Progress("replayed"), list[Verdict](), dict[str, list[Verdict]]()
        first = asked.end
        for done, (one, watches) in enumerate(by_step.items()):
            rehearsal = Rehearsal(watches, one, Instant(asked.end - days * 86400))
            async for share in _played(client, rehearsal, watches, asked):
                progress.at(share, done, len(by_step))
            first, ours = min(first, rehearsal.first or asked.end), ours + rehearsal.ours
            for name, verdicts in rehearsal.linear.items():
                linear.setdefault(name, []).extend(verdicts)
        progress.done()
    finally:
        await client.close()
    by_window = {name: tally(verdicts) for name, verdicts in linear.items()}
    return asked, Told(tally(ours), by_window, (asked.end - first) / 86400)


async def _ask(client: Prometheus, config: Config, days: float, step: float) -> Asked:
    """The rules, and limits of the config."""
    found, skipped = from_rules(await client.rules(), config.rules, step, config.tz)
    mine = [w for w in from_config(config.watches, step, tz=config.tz) if w.limits]
    planned = plan(mine, found).watches
    others = {other.query for watch in planned for limit in announced(watch.limits) for other in limit.also}
    every = [
        msgspec.structs.replace(watch, explained_by=())
        for watch in planned
        if announced(watch.limits) or watch.query in others
    ]
    named = {name for watch in every for name in _names(watch)}
    parts = {limit.alertname: watch for watch in found for limit in watch.limits if not limit.whole}
    out = [one for one in skipped if not one.own]
    out += [Skipped(name, watch.query, TOGETHER) for name, watch in parts.items() if name not in named]
    end = math.floor(time.time() / step) * step
    begin, series, now, watches = end, list[int](), Instant(end), list[Watch]()
    for watch in every:
        try:
            begin = min(begin, await client.earliest(watch.query, now, (days + LEARNED) * 86400))
            series.append(len((await client.instant(watch.query, now, 30.0)).keys))
        except PromantisError as error:
            out += [Skipped(name, watch.query, str(error)) for name in _names(watch)]
        else:
            watches.append(watch)
    return Asked(watches, out, begin, end, series)


def _names(watch: Watch) -> list[str]:
    return list(dict.fromkeys(limit.alertname for limit in announced(watch.limits)))


async def _played(
    client: Prometheus, rehearsal: Rehearsal, watches: Sequence[Watch], asked: Asked
) -> AsyncIterator[float]:
    """Ask and play the whole past, some of it at a time; the share that is done."""
    step = rehearsal.step
    largest, every = max(1, *asked.series), max(1, sum(asked.series))
    most = max(1, min(room(largest), WHOLE // (CHURN * every)))
    failed = set[str]()
    first, last = math.ceil(asked.begin / step), math.floor(asked.end / step)
    for at in range(first, last + 1, most):
        until = min(at + most - 1, last)
        answers = dict[str, Matrix]()
        for watch in watches:
            start, end = Instant(at * step), Instant(until * step)
            try:
                answers[watch.name] = await client.range(watch.query, start, end, step)
            except PromantisError as error:
                if watch.name not in failed:  # once, not for each part of the past
                    print(f"promantis: some of the past is missing: {error}", file=sys.stderr)
                failed.add(watch.name)
        for lo in range(0, until - at + 1, SLICE):
            part = slice(lo, lo + SLICE)
            times = np.arange(at, until + 1, dtype=np.float64)[part] * step
            cut = {
                name: Matrix(matrix.keys, matrix.at[part], matrix.values[part])
                for name, matrix in answers.items()
            }
            rehearsal.play(times, cut)
            yield (at + lo + len(times) - first) / (last - first + 1)


# --------------------------------------------------------------------------- what is printed


def lines(asked: Asked, told: Told, days: float, top: int) -> list[str]:
    """By rule, those that fired most often first, beside predict_linear at its best."""
    limits = [limit for watch in asked.watches for limit in announced(watch.limits)]
    rules = {(limit.alertname, limit.severity, limit.labels) for limit in limits}
    if not rules:
        return [
            "No alerting rule compares with a number: there is no limit to foresee.",
            *_left_out(asked, top),
        ]
    best = {rule: max(told.linear, key=lambda w: told.linear[w].get(rule, NONE).f1) for rule in rules}
    ours = {rule: told.ours.get(rule, NONE) for rule in rules}
    peers = {rule: told.linear[best[rule]].get(rule, NONE) for rule in rules}
    table: list[tuple[str, ...]] = [
        ("rule", "fired", "announced", "ahead", "false", "|", "announced", "ahead", "false", "window")
    ]
    order = sorted(rules, key=lambda rule: (-ours[rule].fired, -ours[rule].false, -peers[rule].false, rule))
    for rule in order[: max(top, 0)]:
        window = best[rule] if peers[rule].announced + peers[rule].false else "-"
        table.append((_named(rule, rules), *_both(ours[rule], peers[rule]), window))
    total, linear = _sum(ours.values()), _sum(peers.values())
    table.append((f"all {len(rules)}", *_both(total, linear), ""))
    first, *rest = aligned(table)
    span, before = min(days, told.days), max(0.0, told.days - days)
    return [
        f"Your alerting rules over the last {_days(span, 3)}, after {_days(before, 2)} to learn from:",
        "Promantis".rjust(first.index("|") - 1) + " | predict_linear",
        first,
        *rest,
        "announced: PromantisPredictedBreach fires in the hour before; ahead: median; false: nothing comes of it.",
        f"predict_linear(x[window], 3600) beyond the limit: for each rule the best window ({_or(WINDOWS)}) and `for`",
        f"({_or(WAITS)}), chosen in hindsight. {_judged(total, linear)}",
        *_left_out(asked, top),
    ]


def _days(count: float, digits: int) -> str:
    """In words.

    >>> _days(14, 3), _days(1, 3), _days(0.75, 2), _days(0.0257, 3)
    ('14 days', '1 day', '0.75 days', '37 minutes')
    """
    if 0 < count < 0.1:
        return f"{round(count * 1440)} minutes"
    text = f"{count:.{digits}g}"
    return f"{text} day" if text == "1" else f"{text} days"


def _judged(ours: Tally, peer: Tally) -> str:
    if not ours.fired:
        return "None of them fired, so nothing can be said of how many would have been announced."
    return f"F1 of all: {ours.f1:.2f}, predict_linear {peer.f1:.2f}."


def _both(ours: Tally, peer: Tally) -> tuple[str, ...]:
    cells = [
        (str(one.announced), f"{median(one.ahead) / 60:.0f} min" if one.ahead else "-", str(one.false))
        for one in (ours, peer)
    ]
    return str(ours.fired), *cells[0], "|", *cells[1]


def _named(rule: Rule, rules: Collection[Rule]) -> str:
    """Its name, and what tells it from others of that name."""
    name, severity, labels = rule
    twins = [other for other in rules if other[0] == name]
    more = [severity] if len({other[1] for other in twins}) > 1 else []
    more += [f"{key}={value}" for key, value in labels] if len({other[2] for other in twins}) > 1 else []
    return short(f"{name} ({', '.join(more)})" if more else name)


def _sum(tallies: Iterable[Tally]) -> Tally:
    every = list(tallies)
    return Tally(
        sum(one.announced for one in every),
        sum(one.missed for one in every),
        sum(one.false for one in every),
        tuple(ahead for one in every for ahead in one.ahead),
    )


def _or(names: Sequence[tuple[str, object]]) -> str:
    return " or ".join(", ".join(name for name, _ in names).rsplit(", ", 1))


def _left_out(asked: Asked, top: int) -> list[str]:
    """Rules that are not among them, by reason."""
    reasons: dict[str, list[str]] = {}
    for one in asked.skipped:
        reasons.setdefault(one.reason, []).append(one.alertname)
    shown = sorted(reasons.items(), key=lambda item: -len(item[1]))[: max(top, 0)]
    told = [f"not among them: {_some(names)}: {shorten(reason, 160)}" for reason, names in shown]
    return ["", *told] if told else []


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
