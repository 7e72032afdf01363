"""`promantis run`: start the sidecar, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import signal
import sys

from sidecar import __version__
from sidecar.adapters import memory
from sidecar.adapters.lease import Lease
from sidecar.app import PARTS, App
from sidecar.commands import leadership
from sidecar.commands.flags import add_config_flags, config_from, start_logging
from sidecar.types import ConfigError

log = logging.getLogger("promantis")


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_config_flags(parser)
    words = "parts this process is for (default %(default)s); remedies with min_confidence need signals"
    parser.add_argument("--enable", metavar="PARTS", default=",".join(PARTS), help=words)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP reloads the config."""
    start_logging(args)
    memory.share()
    asyncio.run(_serve(args))
    return 0


MOST_FILES = 65_536


def open_enough() -> None:
    """Allow as many open files as the system lets us, as Prometheus and Alertmanager do: each page and peer is one.

    Many shells and services begin with 1,024 or less, and who cannot be accepted cannot bring an alert.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def let_the_loop_run() -> None:
    """Keep what delays the event loop short: waiting for a thread that holds the GIL, and collecting garbage."""
    # the loop takes the GIL again after each read and write, ten times for a batch of alerts on its way
    sys.setswitchinterval(0.00002)
    gc.collect()
    gc.freeze()  # what lives as long as the process is never looked at again
    gc.set_threshold(
        100_000, 20, 100
    )  # a look at all label bytes of 100,000 series takes tens of milliseconds


async def _serve(args: argparse.Namespace) -> None:
    config = config_from(args)
    unknown = [part for part in args.enable.split(",") if part not in PARTS]
    if unknown:
        raise ConfigError("--enable", f"unknown part {unknown[0]!r} (some of {','.join(PARTS)})")
    async with leadership.candidate(config) as lease:
        await _run(args, lease)


async def _run(args: argparse.Namespace, lease: Lease | None) -> None:
    app = App(lambda: config_from(args), lease, args.enable.split(","))
    log.info("promantis %s starts, prometheus=%s", __version__, app.prometheus.url)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(app))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def stop(name: str) -> None:
        log.info("stopping: %s", name)
        app.stop()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop, name.name)
    loop.add_signal_handler(signal.SIGHUP, reload)
    open_enough()
    let_the_loop_run()
    bar = loop.create_task(_bar(app)) if sys.stderr.isatty() else None
    try:
        await app.run(lambda port: log.info("listening on port %d", port))
        log.info("stopped")
    finally:
        if bar:
            bar.cancel()


async def _reload(app: App) -> None:
    with contextlib.suppress(ConfigError):  # said in the log and the metrics; the old config stays
        await app.reload()


async def _bar(app: App) -> None:
    """Show on a terminal what is still to be done, and how much of the history is learned."""
    while missing := app.missing():
        words = ", ".join(missing)
        done = 0 if words.endswith(("answered", " 0%")) else round(30 * app.watcher.progress)
        sys.stderr.write(f"\r[{'#' * done}{' ' * (30 - done)}] {words:<60}")
        sys.stderr.flush()
        await asyncio.sleep(0.5)
    sys.stderr.write("\rready" + " " * 90 + "\n")
