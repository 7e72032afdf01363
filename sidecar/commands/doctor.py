"""`promantis doctor`: whether a running Promantis, its Prometheus and its Alertmanager fit together."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import msgspec
import yarl

from sidecar.adapters.fleet import Fleet
from sidecar.adapters.prometheus import Prometheus
from sidecar.commands import talk
from sidecar.commands.check import way_of
from sidecar.commands.examined import MONTH, Check, Seen, Watched, examined
from sidecar.commands.flags import add_config_flags, config_from
from sidecar.config import Config
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Labels, PromantisError, Rejected, Unavailable

AHEAD = 290.0
"""Seconds: an instant query finds samples of five minutes before its time, so a bit less than those."""
MARKS = {"ok": "ok   ", "bad": "BAD  ", "unknown": "?    "}


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_config_flags(parser)
    parser.add_argument("--url", help="where Promantis listens (default: as the config says)")
    parser.add_argument(
        "--token-file", metavar="FILE", help="a file with your token, instead of the admin token"
    )


def run(args: argparse.Namespace) -> int:
    """0 all is well, 1 something is not, or nobody could be asked; a wrong config is a ConfigError (2)."""
    config = config_from(args)
    if args.url and not (getattr(args, "config.file") or getattr(args, "web.listen-address")):
        web = msgspec.structs.replace(config.web, listen=yarl.URL(args.url).authority)
        config = msgspec.structs.replace(config, web=web)  # else its port is not known
    args.url = args.url or f"http://{config.web.listen}"
    args.storage = config.storage.path
    server = talk.Server(args)
    found: list[Check] = []

    def work() -> None:
        waits, watches = _asked(server)
        try:
            found.extend(examined(asyncio.run(_seen(config, waits, watches))))
        except Unavailable as error:
            raise Unavailable(f"{error} (--prometheus.url says where Prometheus is)") from error
        for check in found:
            print(f"{MARKS[check.state]} {check.name:13} {talk.plain(check.words)}")
            if check.remedy and check.state != "ok":
                print(f"{'':20}{check.remedy}")

    return talk.guarded(work) or int(any(check.state == "bad" for check in found))


def _asked(server: talk.Server) -> tuple[str, list[Watched]]:
    """What Promantis itself says: what it waits for, and its watches."""
    waits = ""
    try:
        server.text("/-/ready")
    except Rejected as error:
        waits = str(error).removeprefix("not ready: ")
    listed: list[dict[str, Any]] = server.ask("GET", "/api/v1/watches")["watches"]
    return waits, [Watched(w["name"], w["step"], w["last_success"], w["error"]) for w in listed]


async def _seen(config: Config, waits: str, watches: list[Watched]) -> Seen:
    prometheus = Prometheus(config.prometheus, Telemetry())
    now = Instant(time.time())

    async def number(query: str, at: Instant = now) -> float | None:
        found = [value for _, value in await prometheus.ask(query, at)]
        return max(found, default=None)

    try:
        newest = [await number("max(timestamp(up))", Instant(now + ahead)) for ahead in (AHEAD, 0.0)]
        asked = 'sum(increase(promantis_http_requests_total{route="/metrics",code="200"}[10m]))'
        targets: list[Labels] = [labels for labels, _ in await prometheus.ask("promantis_build_info", now)]
        start = await prometheus.earliest("up", now, MONTH)
        known, silent = await _silent(config)
        return Seen(
            now=now,
            waits=waits,
            watches=watches,
            newest=next((at for at in newest if at is not None), None),
            targets=targets,
            scrapes=await number(f"{asked} / sum(count_over_time(promantis_build_info[10m]) > 5)"),
            overwritten=int(await number('count(promantis_anomaly_confidence{exported_job!=""})') or 0),
            blank=config.exposition.blank_labels,
            alertmanagers=known,
            silent=silent,
            contradictions=await way_of(config, prometheus),
            runs=await number(
                "time() - max(process_start_time_seconds and on (instance, job) promantis_build_info)"
            ),
            firing=int(await number('count(ALERTS{alertstate="firing"})') or 0),
            received=await number("sum(promantis_alerts_received_total)"),
            remedies=len(config.remedies),
            webhooks=await number("sum(promantis_webhooks_received_total)"),
            deep=now - start,
            step=await _step(prometheus, start, now),
        )
    finally:
        await prometheus.close()


async def _silent(config: Config) -> tuple[int, list[str]]:
    """How many Alertmanagers there are, and what came of asking those that do not answer."""
    fleet, silent = Fleet(config.alertmanagers), list[str]()
    await fleet.look()
    for one in fleet:
        try:
            await one.silences()
        except PromantisError as error:
            silent.append(str(error))
    known = len(fleet)
    await fleet.close()
    return known, silent


async def _step(prometheus: Prometheus, start: Instant, now: Instant) -> float | None:
    """Seconds between samples in the first hours of the history; None when there is none."""
    at = Instant(min(start + MONTH / 50, now))  # `start` is early by at most a hundredth
    per_hour = await prometheus.range("max(count_over_time(up[1h]))", at, at, 3600.0)
    counts = per_hour.values[per_hour.values > 0]
    return 3600.0 / float(counts.max()) if counts.size else None
