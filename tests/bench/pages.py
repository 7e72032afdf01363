"""First paint of every page in a headless Chromium with 10,000 series, and what pages that are open cost the alerts.

Everything is real: Prometheus with an hour and a half of past that scrapes the fleet, Alertmanager, Promantis with a
case that acted, Chromium (Debian's `chromium`; its part is left out where that is not installed). Caches are cold.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import math
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidecar.demo.binaries import find
from sidecar.demo.peers import Peer, Stack, free_port
from sidecar.web.pages import LIVE
from tests.bench.alerts import _bodies, _post
from tests.bench.table import Row

PAST, STEP = 5400, 60
"""Seconds of past, and between its samples."""
LOADS = 7
SURGES = 40
"""Series that are out of their usual while pages are looked at."""
PAINTED = 300.0
"""Milliseconds until something is seen."""
VIEWERS, ROUNDS, SECONDS, EVERY = 20, 4, 8.0, 0.04
"""Pages that are open, and in how many rounds of how long how often alerts are posted."""
ADDED = 10.0
"""Milliseconds that they may add for 99 of 100 batches."""
QUERY = "sum by (pod, path) (rate(http_requests_total[5m]))"
POD = "shop-7d9f8b6c5d-00000"

RULES = f"""\
groups:
  - name: fleet
    rules:
      - {{alert: TooManyRequests, expr: '{QUERY} > 300', for: 5m, labels: {{severity: page}}}}
      - alert: Busy
        expr: sum by (pod, path) (rate(http_requests_total{{pod="{POD}"}}[5m])) > 1
        labels: {{severity: page}}
"""
PROMETHEUS = """\
global: {{scrape_interval: 15s, evaluation_interval: 15s}}
rule_files: [rules.yml]
scrape_configs:
  - {{job_name: fleet, honor_labels: true, static_configs: [{{targets: ["{fleet}"]}}]}}
  - {{job_name: promantis, honor_labels: true, static_configs: [{{targets: ["{promantis}"]}}]}}
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}", "{promantis}"]}}]}}]}}
"""
ALERTMANAGER = """\
route: {{receiver: promantis, group_wait: 1s, group_interval: 5s}}
receivers:
  - name: promantis
    webhook_configs:
      - url: http://{promantis}/api/v1/webhook
        http_config: {{authorization: {{credentials: {token}}}}}
"""
PROMANTIS = """\
prometheus: {{url: "http://{prometheus}"}}
alertmanagers: [{{url: "http://{alertmanager}"}}]
presets: none
web: {{tokens_file: "{tokens}"}}
guard: {{allow_private: ["127.0.0.1"]}}
remedies:
  - name: fewer
    match: ['alertname="Busy"']
    action: {{type: http, method: POST, url: "http://{fleet}/", undo: {{method: POST, url: "http://{fleet}/"}}}}
    verify: {{query: 'max by (pod) (fleet_acted) > 0.5', within: 2m, hold: 5s}}
"""


def counters(series: int, at: float, since: float = math.inf) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A counter of each series at an instant: a rate of its own with a slow wave; `since` then some have a surge."""
    i = np.arange(series)
    rate = 20 + i % 60
    surge = (i % (series // SURGES) == 0) * rate * 200 * max(0.0, at - since)
    return rate * (at - 1.7e9) + rate * 30 * np.sin(at / 300 + i) + surge


def names(series: int) -> list[str]:
    """What each is called in the exposition."""
    labels = 'instance="10.{}.{}.{}:9100",job="shop",path="/api/v1/things/{}",pod="shop-7d9f8b6c5d-{:05d}"'
    return [
        f"http_requests_total{{{labels.format(i >> 16, i >> 8 & 255, i & 255, i % 40, i)}}}"
        for i in range(series)
    ]


def past(series: int, until: float, seconds: int = PAST) -> Iterator[str]:
    """The past as OpenMetrics, a series after the other."""
    times = [until - seconds + STEP * k for k in range(seconds // STEP)]
    values = np.stack([counters(series, at) for at in times], 1)
    yield "# TYPE http_requests counter"
    for name, column in zip(names(series), values.tolist(), strict=True):
        yield "\n".join(f"{name} {value:.1f} {at:.0f}" for at, value in zip(times, column, strict=True))
    yield "# EOF"


def exporter(series: int, port: int) -> None:
    """Serve the fleet's metrics for ever."""
    from aiohttp import web

    known, acted, began = names(series), list[int](), time.time()

    async def metrics(_: web.Request) -> web.Response:
        lines = [
            f"{name} {value:.1f}"
            for name, value in zip(known, counters(series, time.time(), began), strict=True)
        ]
        lines.append(f'fleet_acted{{pod="{POD}"}} {len(acted)}')
        return web.Response(text="\n".join(lines) + "\n")

    async def done(request: web.Request) -> web.Response:
        acted.extend([1] if request.method == "POST" else [])
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.post("/", done), web.get("/", done)])
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def rows(series: int) -> list[Row]:
    """First paint and server time of each page; and the latency of alerts with and without open pages."""
    with tempfile.TemporaryDirectory() as folder, Stack(find(), Path(folder)) as stack:
        side, token, paths = asyncio.run(_started(stack, series))
        chromium = shutil.which("chromium")
        painted = asyncio.run(_painted(side, token, paths, chromium)) if chromium else []
        return [*painted, _alerts(side)]


async def _started(stack: Stack, series: int) -> tuple[Peer, str, dict[str, str]]:
    ports = {name: free_port() for name in ("fleet", "prometheus", "alertmanager", "promantis")}
    token = secrets.token_urlsafe(24)
    tokens = stack.folder / "tokens.yml"
    tokens.write_text(f"[{{name: bench, token: {token}, role: admin}}]\n", encoding="utf-8")
    words = {name: f"127.0.0.1:{port}" for name, port in ports.items()} | {
        "token": token,
        "tokens": str(tokens),
    }
    print("pages: writing the past", file=sys.stderr, flush=True)
    data = await recorded(stack, series, ports["fleet"])
    await stack.prometheus(PROMETHEUS.format_map(words), RULES, data=data, port=ports["prometheus"])
    await stack.alertmanager(ALERTMANAGER.format_map(words), port=ports["alertmanager"])
    print("pages: learning it", file=sys.stderr, flush=True)
    side = await stack.promantis(PROMANTIS.format_map(words), port=ports["promantis"], within=300)
    case = await _fixed(side, token)
    await asyncio.to_thread(_odd, side)
    series_page = urllib.parse.urlencode(
        {"match": f'{{watch="TooManyRequests",path="/api/v1/things/0",pod="{POD}"}}'}
    )
    return side, token, {
        "Now": "/",
        "Incident": f"/a/{case['fingerprint']}",
        "Case": f"/c/{case['id']}",
        "Series, all": "/series?match=%7B%7D",
        "Series, one": f"/series?{series_page}",
        "Trust": "/trust",
        "Journal": "/journal",
        "(a word)": "/-/healthy",
    }  # fmt: skip


async def recorded(stack: Stack, series: int, port: int, seconds: int = PAST) -> Path:
    """A Prometheus' data folder with the fleet's past, and the fleet itself at a port."""
    text, data = stack.folder / "past.om", stack.folder / "tsdb"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in past(series, float(int(time.time()) // STEP * STEP), seconds))
    command = [str(stack.binaries.promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    await asyncio.to_thread(subprocess.run, [*command, str(text), str(data)], check=True)
    text.unlink()
    program = f"from tests.bench import pages; pages.exporter({series}, {port})"
    await stack.program("fleet", sys.executable, "-c", program, port=port)
    return data


async def _fixed(side: Peer, token: str) -> dict[str, Any]:
    """The case, once it has acted and helped."""
    for _ in range(240):
        await asyncio.sleep(0.5)
        for case in await asyncio.to_thread(_ask, side, "/api/v1/cases"):
            if case["stage"] == "proposed":
                await asyncio.to_thread(_ask, side, f"/api/v1/cases/{case['id']}/plan", token, {})
            if case["stage"] == "planned":
                plan = {"plan_hash": case["plan_hash"]}
                await asyncio.to_thread(_ask, side, f"/api/v1/cases/{case['id']}/approve", token, plan)
            if case["stage"] == "fixed":
                return dict(case)
            if case["stage"] in ("refused", "failed", "undone", "unknown"):
                raise RuntimeError(f"the case is {case['stage']}: {case['words']}")
    raise RuntimeError(f"no case was fixed\n{side.tail()}")


def _odd(side: Peer) -> None:
    """Wait until there is much to show, and alerts have come."""
    for _ in range(120):
        found = _ask(side, "/api/v1/series?match=%7Bwatch%3D%22TooManyRequests%22%7D")
        if sum((one["score"] or 0) >= 1 for one in found) >= 3:
            break
        time.sleep(1)
    else:
        raise RuntimeError("nothing is out of its usual")
    connection = http.client.HTTPConnection(side.listen, timeout=10)
    for body in _bodies(10_000):
        _post(connection, body)
    connection.close()
    time.sleep(10)  # until they have words


def _ask(side: Peer, path: str, token: str = "", body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(urllib.request.Request(side.url + path, data, headers), timeout=30) as answer:
        return json.load(answer)


# --------------------------------------------------------------------------- what is seen

MEASURE = """() => new Promise(done => {
  const told = () => {
    const paint = performance.getEntriesByName('first-contentful-paint')[0];
    const [nav] = performance.getEntriesByType('navigation');
    if (!paint || !nav.responseEnd) return setTimeout(told, 10);
    const { requestStart, responseStart, responseEnd, encodedBodySize } = nav;
    done([paint.startTime, responseStart - requestStart, responseEnd - requestStart, encodedBodySize]);
  };
  told();
})"""


class Load(NamedTuple):
    """Milliseconds, and bytes."""

    painted: float
    first: float
    whole: float
    size: float


async def _painted(side: Peer, token: str, paths: dict[str, str], chromium: str) -> list[Row]:
    from playwright.async_api import async_playwright

    loads: dict[str, list[Load]] = {name: [] for name in paths}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        login = await browser.new_context(base_url=side.url)
        page = await login.new_page()
        await page.goto("/login")
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Log out").wait_for()
        state = await login.storage_state()
        for _ in range(LOADS + 1):
            for name, path in random.sample(list(paths.items()), len(paths)):
                context = await browser.new_context(
                    base_url=side.url, storage_state=state
                )  # nothing is cached
                page = await context.new_page()
                await page.goto(path)
                loads[name].append(Load(*await page.evaluate(MEASURE)))
                await context.close()
        await browser.close()
    word = statistics.median(one.painted for one in loads.pop("(a word)")[1:])
    return [_row(name, of[1:], word) for name, of in loads.items()]


def _row(name: str, loads: list[Load], word: float) -> Row:
    """`word` is what Chromium takes here for a page of one word."""
    middle = [statistics.median(column) for column in zip(*loads, strict=True)]
    note = f"a page of one word {word:.0f}; server {middle[1]:.0f} ms"
    note += f" (whole page {middle[2]:.0f})" if middle[2] > middle[1] + 20 else ""
    return Row.below(f"{name}: first paint", middle[0], "ms", PAINTED, f"{note}, {middle[3] / 1024:.0f} KiB")


# --------------------------------------------------------------------------- what it costs


def _alerts(side: Peer) -> Row:
    """Latency of posted alerts, in turns alone and while pages are open that read themselves anew."""
    alone, beside, read = list[float](), list[float](), 0
    program = f"from tests.bench import pages; pages.viewers({side.listen!r})"
    for _ in range(ROUNDS):
        alone += _posted(side)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as viewers:
            time.sleep(LIVE)  # until they are at it
            beside += _posted(side)
            viewers.terminate()
            read += len((viewers.stdout or io.BytesIO()).read())
    assert read > VIEWERS, "nobody looked"
    p99 = [float(np.quantile(spent, 0.99)) * 1e3 for spent in (alone, beside)]
    note = f"{p99[0]:.1f} -> {p99[1]:.1f} ms a batch of 64, median {statistics.median(alone) * 1e3:.1f} -> "
    note += f"{statistics.median(beside) * 1e3:.1f}; {read} pages read"
    return Row.below(
        f"latency of alerts added by {VIEWERS} open pages, p99", max(0.0, p99[1] - p99[0]), "ms", ADDED, note
    )


def _posted(side: Peer) -> list[float]:
    """Seconds that each batch took."""
    bodies, spent = _bodies(10_000)[:4], list[float]()
    connection = http.client.HTTPConnection(side.listen, timeout=10)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        began = time.perf_counter()
        _post(connection, bodies[len(spent) % len(bodies)])
        spent.append(time.perf_counter() - began)
        time.sleep(max(0.0, EVERY - spent[-1]))
    connection.close()
    return spent


def viewers(listen: str) -> None:
    """Open pages of what is now, in a process of their own until it is ended; a byte out for each that was read."""
    for i in range(VIEWERS):
        threading.Timer(i * LIVE / VIEWERS, _viewer, (listen,)).start()


def _viewer(listen: str) -> None:
    """Listens, and reads the page anew as often as the script ever does."""
    stream = http.client.HTTPConnection(listen, timeout=60)
    stream.request("GET", "/events")
    events = stream.getresponse()
    assert events.readline() == b"retry: 5000\n", events.status
    while True:
        page = http.client.HTTPConnection(listen, timeout=30)
        page.request("GET", "/")
        assert page.getresponse().read()
        page.close()
        sys.stdout.write(".")
        sys.stdout.flush()
        time.sleep(LIVE)
