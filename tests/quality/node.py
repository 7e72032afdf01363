"""`python -m tests.quality.node`: two hours of a real node_exporter under changing load, watched live; what pages.

A real Prometheus scrapes node_exporter, itself and Promantis every 15 s, evaluates rules/promantis.rules.yml, and is
asked in the end what paged. Promantis starts cold and watches with its presets and bare series of both, while a process
writes, computes, sends over the loopback or idles for three to fifteen minutes each. `--keep FILE` keeps what was
measured as tests/unit/fixtures/node.npz is, `--replay FILE` takes such a file through an engine: seconds for hours.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.config import PRESETS, presets
from sidecar.demo.binaries import find
from sidecar.demo.peers import REPOSITORY, Stack, free_port
from sidecar.signals.watch.presets import chosen
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Instant
from tests.unit.live import STEP, replayed
from tests.unit.scenes import HELD, runs

RULES = REPOSITORY / "rules" / "promantis.rules.yml"
SCRAPE = """\
global: {{scrape_interval: 15s, evaluation_interval: 15s}}
rule_files: ["{rules}"]
scrape_configs:
- {{job_name: prometheus, static_configs: [{{targets: ["{own}"]}}]}}
- {{job_name: node, static_configs: [{{targets: ["{node}"]}}]}}
- {{job_name: promantis, honor_labels: true, static_configs: [{{targets: ["{promantis}"]}}]}}
"""
PAGED = 'ALERTS{alertname=~"PromantisAnomaly|PromantisGroupAnomaly", alertstate="firing"}'
KEPT = {"name", "query", "kind", "direction", "min_deviation", "min_relative_deviation", "bounds", "absent"}
GAUGES = (
    *(f"node_memory_{name}_bytes" for name in ("MemFree", "MemAvailable", "Cached", "Buffers", "Dirty")),
    *(f"node_memory_{name}_bytes" for name in ("Active", "Inactive", "AnonPages", "Mapped", "Slab")),
    *("node_load1", "node_load5", "node_procs_running", "node_procs_blocked", "node_filefd_allocated"),
    *("node_sockstat_TCP_alloc", "node_sockstat_sockets_used", "node_entropy_available_bits"),
    *("node_filesystem_avail_bytes", "node_netstat_Tcp_CurrEstab", "scrape_duration_seconds"),
    *("go_goroutines", "go_memstats_heap_inuse_bytes", "process_resident_memory_bytes"),
)
COUNTERS = (
    *(f"node_{name}_total" for name in ("context_switches", "intr", "forks")),
    *(
        f"node_disk_{name}_total"
        for name in ("writes_completed", "written_bytes", "io_time_seconds", "read_bytes")
    ),
    *(f"node_network_{name}_total" for name in ("receive_bytes", "transmit_bytes", "receive_packets")),
    *(f"node_netstat_Tcp_{name}" for name in ("InSegs", "ActiveOpens", "RetransSegs")),
    *("node_vmstat_pgfault", "node_vmstat_pgpgout", "node_schedstat_waiting_seconds_total"),
    *("process_cpu_seconds_total", "prometheus_http_requests_total", "go_memstats_alloc_bytes_total"),
    "node_cpu_seconds_total",
)


def bare() -> list[dict[str, Any]]:
    """Watches of series as they are, as a user without presets may have them."""
    wanted = {name: name for name in GAUGES} | {name: f"rate({name}[1m])" for name in COUNTERS}
    return [{"name": f"raw_{name}", "query": query} for name, query in wanted.items()]


# --------------------------------------------------------------------------- load


def load(seconds: float, seed: int) -> None:
    """Keep the machine busy in changing ways; for a process of its own."""
    random, until = np.random.default_rng(seed), time.monotonic() + seconds
    works: list[Callable[[], None]] = [_idle, _compute, _write, _send]
    order = itertools.chain.from_iterable(iter(lambda: random.permutation(len(works)).tolist(), None))
    while (now := time.monotonic()) < until:
        work, end = works[next(order)], min(until, now + random.uniform(180, 900))
        while time.monotonic() < end:
            work()


def _idle() -> None:
    time.sleep(1)


def _compute() -> None:
    until = time.monotonic() + 0.33
    while time.monotonic() < until:
        hashlib.sha256(b"x" * 4096).digest()
    time.sleep(0.67)


def _write() -> None:
    with tempfile.TemporaryFile() as file:
        for _ in range(8):
            file.write(b"x" * (1 << 20))
            file.flush()
            time.sleep(0.1)


def _send() -> None:
    one, other = _pair()
    with one, other:
        for _ in range(100):
            one.sendall(b"x" * 4096)
            other.recv(4096)
            time.sleep(0.005)


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


# --------------------------------------------------------------------------- live


class Told(NamedTuple):
    """What was said of each series, f64[times] by watch and labels, and the alerts that fired."""

    scores: Mapping[str, F64]
    alerts: Sequence[str] = ()


async def live(minutes: float, seed: int, keep: Path | None) -> Told:
    """Start everything, wait, and ask Prometheus what was said."""
    with tempfile.TemporaryDirectory() as folder, Stack(find(), Path(folder)) as stack:
        node, port = await stack.node_exporter(), free_port()
        peers = {"node": node.listen, "promantis": f"127.0.0.1:{port}", "rules": RULES}
        server = await stack.prometheus(lambda own: SCRAPE.format(own=own, **peers))
        client = Prometheus(PrometheusConfig(url=server.url, max_queries_per_second=1000), Telemetry())
        worker = get_context("spawn").Process(target=load, args=(minutes * 60, seed), daemon=True)
        try:
            await asyncio.sleep(2 * STEP)  # a rate needs two samples: presets are chosen by what is there
            config = {"prometheus": {"url": server.url}, "interval": "15s", "watches": bare()}
            await stack.promantis(yaml.safe_dump(config), port=port, within=300)
            began = Instant(time.time())
            worker.start()
            await asyncio.sleep(minutes * 60)
            now = Instant(time.time())
            if keep:
                await record(client, keep, began, now)
            keys, _, scores = await client.range("promantis_anomaly_score", began, now, STEP)
            alerts = await client.range(PAGED, began, now, STEP)
        finally:
            worker.terminate() if worker.is_alive() else None
            await client.close()
    fired = [
        f"{key.decode()}: {np.isfinite(x).sum() * STEP / 60:.0f} min"
        for key, x in zip(alerts[0], alerts[2].T, strict=True)
    ]
    return Told({key.decode(): x for key, x in zip(keys, scores.T, strict=True)}, fired)


async def record(client: Prometheus, to: Path, start: Instant, end: Instant) -> None:
    """Keep what every watch would have been answered."""
    there = {watch.name for watch in chosen("auto", presets(), await client.metric_names(), STEP)}
    files = [yaml.safe_load(path.read_text()) for path in sorted(PRESETS.glob("*.yml"))]
    ready = [w for file in files for w in file["watches"] if w["name"] in there]
    watches = [{k: w[k] for k in w.keys() & KEPT} for w in [*bare(), *ready]]
    names, columns, at = list[str](), list[F64](), np.empty(0)
    for watch in watches:
        keys, at, values = await client.range(watch["query"], start, end, STEP)
        names += [json.dumps({"watch": watch["name"], **json.loads(key)}) for key in keys]
        columns += list(values.T)
    np.savez_compressed(to, at=at, values=np.stack(columns, axis=1), names=names, watches=json.dumps(watches))


# --------------------------------------------------------------------------- what is printed


def table(told: Told) -> str:
    """Pages and runs per series-day, and what paged."""
    days = max(sum(int(np.isfinite(x).sum()) for x in told.scores.values()), 1) * STEP / 86400
    held, short = (sum(len(runs(x, STEP, held)) for x in told.scores.values()) for held in (HELD, 0.0))
    lines = [
        f"{len(told.scores)} series, {days:.1f} series-days with a score",
        f"{held} pages (score of 1 for longer than {HELD / 60:g} min): {held / days:.3f} per series-day, aim .02",
        f"{short} runs of any length: {short / days:.2f} per series-day",
    ]
    for name, x in told.scores.items():
        for first, last in runs(x, STEP):
            peak = np.nanmax(x[first : last + 1])
            lines.append(f"  {first * STEP / 60:.0f}-{last * STEP / 60:.0f} min, peak {peak:.1f}: {name}")
    return "\n".join([*lines, f"{len(told.alerts)} alerts of {RULES.name}", *(f"  {a}" for a in told.alerts)])


def main(argv: list[str] | None = None) -> int:
    """Watch live, or replay."""
    parser = argparse.ArgumentParser(prog="node", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="write what was measured")
    parser.add_argument("--replay", type=Path, help="take what was kept through an engine instead")
    args = parser.parse_args(argv)
    if args.replay:
        names, score = replayed(args.replay)
        told = Told(dict(zip(map(json.dumps, names), score.T, strict=True)))
    else:
        told = asyncio.run(live(args.minutes, args.seed, args.keep))
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
