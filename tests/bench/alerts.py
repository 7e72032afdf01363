"""Alerts through Promantis against straight into the same Alertmanager, while 100k series tick.

Promantis is the real process, inline before a real Alertmanager; its Prometheus is a fake that answers prepared bytes.
Alerts are posted by threads over plain sockets, so that the one who measures costs little of the machine. While
latencies are taken, what is on the way of an alert goes before whatever else the machine does, where we may ask for it
(Linux, root): else they tell of the other work. Processor time of the loop per alert is the steadier measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidecar.demo.binaries import find
from sidecar.demo.peers import Peer, Stack
from tests.bench import fleet
from tests.bench.table import Row

ALERTS = 1000
BATCH = 64
CONNECTIONS = 4
ROUNDS = 5
SECONDS = 4.0
STEP = 15.0
END = "when it ends"
"""In the place of a time that differs from one evaluation to the next."""
ENRICHED_WITHIN = 10.0
SHARE = 0.4
"""Of Alertmanager's own rate."""
ADDED = 5.0
"""Milliseconds at p99, below half of that rate."""


def rows(series: int) -> list[Row]:
    """Time to enrich a thousand at once, the rate of steady re-sends, and the latency added below half of it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(find(), Path(folder)) as stack,
        _fake(series) as prometheus,
    ):
        am, side = asyncio.run(_started(stack, prometheus.url))
        while _sample(side, "promantis_series") < series:
            time.sleep(0.5)
        bodies = _bodies(series)
        enriched = _enriched(am, side, bodies)
        shares, direct, through = _rates(am, side, bodies)
        pace = 0.45 * SHARE * direct
        with _first((os.getpid(), am.pid), side.pid, prometheus.pid) as first:
            late, spent = _latencies(am, side, bodies, pace)
        ticks = _sample(side, "promantis_tick_duration_seconds_count")
    assert ticks > 3, "nothing ticked"
    note = f"{ticks:.0f} ticks of {series // 1000}k series meanwhile"
    share = float(np.median(shares))
    added = {q: (late["side"][q] - late["am"][q]) * 1e3 for q in late["am"]}
    alone = "before all else on this machine" if first else "beside whatever else this machine does"
    return [
        Row.below(f"{ALERTS:,} alerts at once enriched", enriched, "s", ENRICHED_WITHIN, note),
        Row(
            "steady re-sends inline",
            f"{through:,.0f} alerts/s",
            f"straight into Alertmanager {direct:,.0f}",
            f"{share:.0%} ({min(shares):.0%} to {max(shares):.0%})",
            f">= {SHARE:.0%}",
            share >= SHARE,
        ),
        Row("the loop's processor time", f"{spent * 1e6:.0f} us an alert", alone, "", "", None),
        Row(
            f"latency added at {pace:,.0f} alerts/s, p50",
            f"{added[50]:.1f} ms",
            _plain(late, 50),
            "",
            "",
            None,
        ),
        Row.below(f"latency added at {pace:,.0f} alerts/s, p99", added[99], "ms", ADDED, _plain(late, 99)),
    ]


def _plain(late: dict[str, dict[int, float]], q: int) -> str:
    return f"{late['side'][q] * 1e3:.1f} - {late['am'][q] * 1e3:.1f} ms a batch of {BATCH}"


# --------------------------------------------------------------------------- who takes part


class _Fake(NamedTuple):
    url: str
    pid: int


@contextlib.contextmanager
def _fake(series: int) -> Iterator[_Fake]:
    """A Prometheus that has one rule, and 100k series for it."""
    command = [sys.executable, "-c", f"from tests.bench import alerts; alerts.fake({series})"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield _Fake(f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid)
        finally:
            process.kill()


def fake(series: int) -> None:
    """Serve for ever."""
    asyncio.run(_serve(series))


async def _serve(series: int) -> None:
    from aiohttp import web

    keys, feed = fleet.keys(series), fleet.values(series)
    bodies = [fleet.body(keys, next(feed), fleet.START) for _ in range(4)]
    rule = {
        **{"type": "alerting", "name": "TooManyRequests", "query": f"{fleet.WATCH.query} > 90"},
        **{"duration": 300, "labels": {"severity": "page"}},
    }
    group = {"name": "g", "file": "f", "interval": STEP, "rules": [rule]}
    served = 0

    async def query(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        return web.Response(body=bodies[served % len(bodies)], content_type="application/json")

    def said(data: Any) -> Any:
        async def handler(_: web.Request) -> web.Response:
            return web.json_response({"status": "success", "data": data})

        return handler

    app = web.Application()
    app.add_routes(
        [
            web.post("/api/v1/query", query),
            web.post("/api/v1/query_range", said({"resultType": "matrix", "result": []})),
            web.get("/api/v1/rules", said({"groups": [group]})),
            web.get("/api/v1/alerts", said({"alerts": []})),
            web.get("/api/v1/status/config", said({"yaml": ""})),
            web.get("/api/v1/label/__name__/values", said([])),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def _started(stack: Stack, prometheus: str) -> tuple[Peer, Peer]:
    am = await stack.alertmanager()
    config = (
        f"prometheus: {{url: '{prometheus}'}}\nalertmanagers: [{{url: '{am.url}'}}]\npresets: none\n"
        f"interval: {STEP:g}s\nalerts: {{mode: inline, external_url: 'https://promantis.example.org'}}\n"
    )
    return am, await stack.promantis(config, within=120.0)


def _sample(side: Peer, name: str) -> float:
    connection = http.client.HTTPConnection(side.listen, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))


@contextlib.contextmanager
def _first(ahead: tuple[int, ...], side: int, prometheus: int) -> Iterator[bool]:
    """Let these and `side` go first, Prometheus next, all else of the machine last; whether that is allowed.

    What they take from one another stays in the measure. All threads of `side` alike: one of lower rank would be kept
    from the processor while it has the interpreter's lock, and keep the loop waiting for 40 ms.
    """
    ranks = {pid: 2 for pid in (*ahead, side)} | {prometheus: 1}
    threads = {int(tid): rank for pid, rank in ranks.items() for tid in os.listdir(f"/proc/{pid}/task")}
    try:
        for tid, rank in threads.items():
            os.sched_setscheduler(tid, os.SCHED_RR, os.sched_param(rank))
    except OSError:
        yield False
        return
    yield True
    with contextlib.suppress(OSError):
        for tid in threads:
            os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))


def _worked(pid: int) -> float:
    """Seconds of processor time of a process' first thread, which is the one that has the loop."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


# --------------------------------------------------------------------------- what is measured


def _bodies(series: int) -> list[bytes]:
    """A thousand alerts as Prometheus sends them, in batches; when they end is to be filled in."""
    start = _time(datetime.now(UTC))
    alerts = [
        {
            "annotations": {
                "summary": f"too many requests at {i}",
                "runbook": "https://runbooks.example.org/requests",
            },
            "endsAt": END,
            "startsAt": start,
            "generatorURL": "http://prometheus:9090/graph?g0.expr=rate%28http_requests_total%5B5m%5D%29&g0.tab=1",
            "labels": {"alertname": "TooManyRequests", "severity": "page", **json.loads(key)},
        }
        for i, key in enumerate(fleet.keys(series)[:ALERTS])
    ]
    return [json.dumps(alerts[i : i + BATCH]).encode() for i in range(0, ALERTS, BATCH)]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    body = body.replace(END.encode(), _time(datetime.now(UTC) + timedelta(minutes=5)).encode())
    connection.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


def _enriched(am: Peer, side: Peer, bodies: list[bytes]) -> float:
    """Seconds from the first post until Alertmanager shows words on every alert."""
    connection = http.client.HTTPConnection(side.listen, timeout=30)
    shown = http.client.HTTPConnection(am.listen, timeout=30)
    began = time.perf_counter()
    for body in bodies:
        _post(connection, body)
    while True:
        shown.request("GET", "/api/v2/alerts")
        alerts = json.loads(shown.getresponse().read())
        if len(alerts) == ALERTS and all("promantis_url" in alert["annotations"] for alert in alerts):
            return time.perf_counter() - began
        assert time.perf_counter() - began < 60, "never enriched"
        time.sleep(0.1)


class _Done(NamedTuple):
    batches: int
    seconds: list[float]


def _posting(listen: str, bodies: list[bytes], seconds: float, pace: float | None) -> list[_Done]:
    """Post over some connections at once for a while; at a pace, time counts from when a batch was due."""
    done: list[_Done] = []

    def work(number: int) -> None:
        connection = http.client.HTTPConnection(listen, timeout=30)
        began = time.perf_counter() + (number / pace if pace else 0.0)
        spent: list[float] = []
        while (now := time.perf_counter()) < began + seconds:
            due = began + len(spent) * CONNECTIONS / pace if pace else now
            if due > now:
                time.sleep(due - now)
            _post(connection, bodies[(number + len(spent) * CONNECTIONS) % len(bodies)])
            spent.append(time.perf_counter() - due)
        done.append(_Done(len(spent), spent))
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def _rates(am: Peer, side: Peer, bodies: list[bytes]) -> tuple[list[float], float, float]:
    """Their ratio in each round, and alerts per second straight and through: in turns, a busy machine slows both."""
    taken = [
        [
            sum(one.batches for one in _posting(peer.listen, bodies, SECONDS, None)) * ALERTS / len(bodies)
            for peer in (am, side)
        ]
        for _ in range(ROUNDS)
    ]
    straight, through = (sum(counts) / SECONDS / ROUNDS for counts in zip(*taken, strict=True))
    return [by / to for to, by in taken], straight, through


def _latencies(
    am: Peer, side: Peer, bodies: list[bytes], alerts: float
) -> tuple[dict[str, dict[int, float]], float]:
    """Quantiles of seconds a batch at a steady pace, straight and through, in turns; the loop's seconds an alert."""
    pace = alerts / (ALERTS / len(bodies))
    took: dict[str, list[float]] = {"am": [], "side": []}
    worked = {"am": 0.0, "side": 0.0}
    for _ in range(ROUNDS):
        for name, listen in (("am", am.listen), ("side", side.listen)):
            began = _worked(side.pid)
            took[name] += [s for one in _posting(listen, bodies, SECONDS, pace) for s in one.seconds]
            worked[name] += _worked(side.pid) - began
    late = {name: {q: float(np.percentile(times, q)) for q in (50, 99)} for name, times in took.items()}
    return late, (worked["side"] - worked["am"]) / (len(took["side"]) * ALERTS / len(bodies))
