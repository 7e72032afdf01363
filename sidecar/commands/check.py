"""`promantis check`: is the config right; with --live, what would watching cost, before anything runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import yaml

from sidecar.adapters.alertmanager import AlertmanagerConfig
from sidecar.adapters.fleet import Fleet
from sidecar.adapters.kubernetes import own_namespace
from sidecar.adapters.prometheus import Prometheus, shorten
from sidecar.commands.doubts import absent, doubts
from sidecar.commands.flags import add_config_flags, config_from
from sidecar.commands.way import contradictions
from sidecar.config import Config
from sidecar.following import SOURCES, planned
from sidecar.remedy.rights import manifests, needed
from sidecar.signals.known.expose import DETAILS, PER_LINE, SCORES
from sidecar.signals.watch.watches import Plan, Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Labels, PromantisError, Rejected

PER_SERIES = sum(len(family.columns) for family in (*SCORES, *DETAILS))
MOST = 10
TIMEOUT = 30.0


class Cost(NamedTuple):
    """What one watch asks of Prometheus and gives back."""

    watch: Watch
    series: int
    seconds: float
    """Time of its query, without waiting for its turn."""
    error: str = ""

    @property
    def series_out(self) -> int:
        """Output series when all is exported: score, confidence, band and forecasts per series, and per
        limit and series a probability for each horizon and the time of the breach."""
        return self.series * (PER_SERIES + PER_LINE * len(self.watch.limits))


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_config_flags(parser)
    parser.add_argument(
        "--rbac", action="store_true", help="print the manifests of the rights that remedies need"
    )
    parser.add_argument("--live", action="store_true", help="ask Prometheus, and print the bill")


def run(args: argparse.Namespace) -> int:
    """0 all is well, 1 something is hardly meant so or wrong live; a wrong config is a ConfigError (2)."""
    config = config_from(args)
    if args.rbac:
        print(rbac(config), end="")
        return 0
    told = [f"{place}: {words}" for place, words in doubts(config)]
    lines = summary(config, vars(args)["config.file"], len(told))
    lines += [f"not here        {place}: {file}, which is read at start" for place, file in absent(config)]
    print("\n".join(lines), flush=True)
    for words in told:
        print(f"promantis: {words}", file=sys.stderr)
    wrong = asyncio.run(_live(config)) if args.live else 0
    return 1 if told else wrong


def rbac(config: Config) -> str:
    """Manifests of a service account that may do what the config's remedies need, and no more."""
    lease = config.kubernetes.lease if config.kubernetes else None
    own = (lease.namespace if lease else None) or own_namespace() or "monitoring"
    rights = needed(config.remedies, own if lease else None)
    return yaml.safe_dump_all(manifests(rights, own), sort_keys=False)


def summary(config: Config, file: str | None, doubtful: int = 0) -> list[str]:
    """What the config says, in a few lines."""
    mistakes = f"{doubtful} to look at, see below" if doubtful else "no mistakes found"
    presets = config.presets if isinstance(config.presets, str) else ", ".join(config.presets) or "none"
    alertmanagers = ", ".join(_where(peer) for peer in config.alertmanagers) or "none"
    return [
        f"config          {file or 'defaults, no file'}: {mistakes}",
        f"prometheus      {Prometheus(config.prometheus, Telemetry()).url}",
        f"alertmanagers   {alertmanagers} ({config.alerts.mode})",
        f"watches         {len(config.watches)} configured; presets: {presets}; every {config.interval}",
        f"remedies        {len(config.remedies)}",
    ]


def _where(peer: AlertmanagerConfig) -> str:
    """The url, or where it is looked for."""
    if peer.file_sd is not None:
        return "those in " + ", ".join(peer.file_sd.files)
    return peer.url or "those of " + ", ".join(peer.dns.names if peer.dns else ())


async def costs(prometheus: Prometheus, telemetry: Telemetry, watches: Sequence[Watch]) -> list[Cost]:
    """Ask each watch once, one after the other."""

    def asked() -> float:
        name, labels = "promantis_query_duration_seconds_sum", {"kind": "instant"}
        return telemetry.registry.get_sample_value(name, labels) or 0.0

    out = []
    for watch in watches:
        before, series, error = asked(), 0, ""
        try:
            series = len((await prometheus.instant(watch.query, Instant(time.time()), TIMEOUT)).keys)
        except PromantisError as failure:
            error = str(failure)
        out.append(Cost(watch, series, asked() - before, error))
    return out


def bill(config: Config, found: Plan, costs: Sequence[Cost]) -> tuple[list[str], list[str]]:
    """The bill as lines, and the problems in it."""
    sources = Counter(cost.watch.source for cost in costs)
    series, out = sum(cost.series for cost in costs), sum(cost.series_out for cost in costs)
    rate = sum(1 / cost.watch.step for cost in costs)
    most, budget = config.prometheus.max_queries_per_second, config.exposition.max_series
    busy = sum(cost.seconds / cost.watch.step for cost in costs)
    rest = "" if out <= budget else ", the most interesting first (exposition.max_series)"
    by_source = ", ".join(f"{sources[source]} {source}" for source in SOURCES)
    lines = [
        f"watches         {len(costs)} ({by_source})",
        f"series in       {series:,}",
        f"series out      {out:,} wanted, {min(out, budget):,} exported{rest}",
        f"queries         {rate:.2f}/s of at most {most:g}/s",
        f"query time      {busy:.3f} s of Prometheus each second",
    ]
    lines += _table("most series", sorted(costs, key=lambda c: -c.series)[:MOST])
    lines += _table("longest queries", sorted(costs, key=lambda c: -c.seconds)[:MOST])
    skipped = [one for one in found.skipped if not one.own]
    own = len(found.skipped) - len(skipped)
    lines += ["", f"rules not watched: {len(skipped)}{f', and {own} on Promantis itself' if own else ''}"]
    lines += [f"  {s.alertname}: {s.reason}: {shorten(s.expr)}" for s in skipped]
    return lines, list(_problems(config, costs, series, rate))


def _problems(config: Config, costs: Sequence[Cost], series: int, rate: float) -> Iterator[str]:
    for cost in costs:
        if cost.error:
            yield f"watch {cost.watch.name}: {cost.error}"
    if rate > config.prometheus.max_queries_per_second:
        yield (
            f"{rate:.2f} queries/s are more than prometheus.max_queries_per_second"
            f" ({config.prometheus.max_queries_per_second:g}): ticks will be late"
        )
    if series > config.learning.max_series:
        yield f"{series:,} series are more than learning.max_series ({config.learning.max_series:,})"


def _table(title: str, costs: Sequence[Cost]) -> list[str]:
    """A heading and a row per watch, in columns."""
    if not costs:
        return []
    rows = [("watch", "source", "every", "series in", "series out", "query s", "query")]
    for cost in costs:
        watch = cost.watch
        rows.append(
            (
                watch.name,
                watch.source,
                f"{watch.step:g}s",
                f"{cost.series:,}",
                f"{cost.series_out:,}",
                f"{cost.seconds:.3f}",
                shorten(watch.query, 60),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return ["", f"{title}:", *("  " + line.rstrip() for line in lines)]


async def way_of(config: Config, prometheus: Prometheus) -> Sequence[str]:
    """Whether Prometheus sends its alerts where `alerts.mode` wants them."""
    fleet = Fleet(config.alertmanagers)
    await fleet.look()
    await fleet.close()
    try:
        theirs = await prometheus.alertmanagers()
    except Rejected:  # not Prometheus itself, but something with its query API
        return []
    return await contradictions(config.alerts.mode, config.web.listen, [one.url for one in fleet], theirs)


async def _live(config: Config) -> int:
    telemetry = Telemetry()
    prometheus = Prometheus(config.prometheus, telemetry)
    try:
        labels: Labels = await prometheus.external_labels()
        found = await planned(prometheus, config)
        lines, problems = bill(config, found, await costs(prometheus, telemetry, found.watches))
        problems += await way_of(config, prometheus)
    except PromantisError as error:
        print(f"promantis: {error} (--prometheus.url says where Prometheus is)", file=sys.stderr)
        return 1
    finally:
        await prometheus.close()
    told = ", ".join(f'{name}="{value}"' for name, value in labels) or "none"
    print("\n".join([f"external labels {told}", *lines]))
    for problem in problems:
        print(f"promantis: {problem}", file=sys.stderr)
    return 1 if problems else 0
