"""What is known of the series, over HTTP: /metrics, /api/v1/watches, /api/v1/series, /api/v1/groups."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import prometheus_client
import promql_parser
from aiohttp import HttpVersion11, web
from isal import isal_zlib
from prometheus_client.openmetrics import exposition as openmetrics

from sidecar.signals.known.expose import Exposition, render
from sidecar.signals.known.snapshot import Group, Known
from sidecar.signals.watch.watches import Skipped, Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Finding, Instant
from sidecar.web.answers import Problem, json
from sidecar.web.auth import Role, needs

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
MOST = 1000  # series or groups of one answer
MEMBERS = 20  # that are told of a group


class Watching(Protocol):
    """The state of the watches."""

    @property
    def watches(self) -> Mapping[str, Watch]: ...
    @property
    def errors(self) -> Mapping[str, str]: ...
    @property
    def succeeded(self) -> Mapping[str, Instant]: ...


def routes(
    known: Known,
    exposition: Callable[[], Exposition],
    watching: Watching,
    skipped: Callable[[], Sequence[Skipped]],
    telemetry: Telemetry,
    clock: Callable[[], Instant],
    hidden: Callable[[], bool] = lambda: False,
) -> list[web.RouteDef]:
    """The routes; `exposition` and `skipped` are asked each time, since a reload may swap them.

    While `hidden`, another replica says the same of every series, which must not be on `/metrics` twice.
    """
    one_at_a_time = asyncio.Lock()

    @needs(Role.VIEW, local=True)
    async def metrics(request: web.Request) -> web.StreamResponse:
        """Prometheus text or OpenMetrics."""
        modern = "application/openmetrics-text" in request.headers.get("Accept", "")
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        snapshots = [] if hidden() else list(known.snapshots.values())
        async with one_at_a_time:
            prepared = await asyncio.to_thread(exposition().prepare, snapshots, clock())
        lines = sum(
            2 * len(p.rows) + 12 * len(p.detailed) + 4 * len(p.lines) + len(p.groups) for p in prepared
        )
        telemetry.series_exposed.set(lines)
        telemetry.series_unexposed.set(sum(p.shown.dropped for p in prepared))
        response = web.StreamResponse(headers={"Content-Type": OPENMETRICS if modern else TEXT})
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        packer = isal_zlib.compressobj(1, wbits=31) if zipped else None

        async def write(data: bytes) -> None:
            data = packer.compress(data) if packer else data
            if data:
                await response.write(data)

        own = openmetrics.generate_latest if modern else prometheus_client.generate_latest
        await write(own(telemetry.registry).removesuffix(b"# EOF\n"))
        for part in render(prepared):
            await write(part)
            await asyncio.sleep(0)  # others first: an alert must not wait for a scrape
        if modern:
            await write(b"# EOF\n")
        if packer:
            await response.write(packer.flush())
        await response.write_eof()
        return response

    async def watches(_: web.Request) -> web.Response:
        """Watches with their state, and the rules that could not be turned, with the reason."""
        snapshots = known.snapshots.values()
        counts = {name: len(rows) for snapshot in snapshots for name, rows in snapshot.rows.items()}
        listed = [
            {
                "name": name,
                "query": watch.query,
                "source": watch.source,
                "kind": watch.kind,
                "step": watch.step,
                "series": counts.get(name, 0),
                "limits": [
                    {"op": lim.op, "value": lim.value, "for": lim.hold, "alertname": lim.alertname}
                    for lim in watch.limits
                ],
                "last_success": watching.succeeded.get(name),
                "error": watching.errors.get(name),
            }
            for name, watch in sorted(watching.watches.items())
        ]
        missing = [{"alertname": s.alertname, "expr": s.expr, "reason": s.reason} for s in skipped()]
        return json({"watches": listed, "skipped": missing})

    async def series(request: web.Request) -> web.Response:
        """What is known of the series that `match` selects."""
        wanted = selector(request.query.get("match", "{}"))
        found = await asyncio.to_thread(known.matching, wanted, MOST)  # reads the labels of every series
        return json([_series(finding) for finding in found])

    async def groups(request: web.Request) -> web.Response:
        """The groups that `match` selects, the oddest first, with the share of each odd member."""
        wanted = selector(request.query.get("match", "{}"))
        found = await asyncio.to_thread(known.groups, wanted, MOST, MEMBERS)
        return json([_group(group) for group in found])

    return [
        web.get("/metrics", metrics),
        web.get("/api/v1/watches", watches),
        web.get("/api/v1/series", series),
        web.get("/api/v1/groups", groups),
    ]


class Selector:
    """A PromQL selector as a test on labels, of which `watch` is one."""

    def __init__(self, ways: Sequence[Sequence[tuple[str, str, str]]]) -> None:
        """Any of the ways, each of which is name, operator and value of matchers that must all hold."""
        self._ways = [[_test(*matcher) for matcher in way] for way in ways]
        plain = ways[0] if len(ways) == 1 else ()
        self.texts = tuple(
            value.encode().join((b'"', b'"'))
            for name, op, value in plain
            if op == "Equal" and name != "watch" and _PLAIN.fullmatch(value)
        )
        """Stand in the raw label object of all that pass, so that few have to be read."""

    def __call__(self, labels: Mapping[str, str]) -> bool:
        return any(all(test(labels) for test in way) for way in self._ways)


_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""Values that Prometheus writes as they are; others may be escaped in more ways than one."""


def selector(text: str) -> Selector:
    """A PromQL selector as a test on labels (`watch` is one of them); Problem 400 when it is none.

    >>> selector('{job="shop",code=~"5.."}')({"job": "shop", "code": "503"})
    True
    >>> selector('{watch="w",job="shop",path="/a",code!="5"}').texts
    (b'"shop"',)
    """
    try:
        parsed = promql_parser.parse(text) if text.strip() not in ("", "{}") else None
        if parsed is None:
            return Selector([[]])
        if not isinstance(parsed, promql_parser.VectorSelector) or parsed.offset or parsed.at:
            raise ValueError('write {watch="...",job="..."}')
        return Selector(
            [
                [(m.name, str(m.op).rpartition(".")[2], m.value) for m in way if m.name != "__name__"]
                for way in parsed.matchers.or_matchers or [parsed.matchers.matchers]
            ]
        )
    except (ValueError, re.error) as wrong:
        raise Problem(400, f"not a selector: {wrong}", "match") from None


def _test(name: str, op: str, value: str) -> Callable[[Mapping[str, str]], bool]:
    """One matcher; a label that is not there is empty, as in Prometheus."""
    if op in ("Equal", "NotEqual"):
        return lambda labels: (labels.get(name, "") == value) == (op == "Equal")
    pattern = re.compile(value)
    return lambda labels: (pattern.fullmatch(labels.get(name, "")) is not None) == (op == "Re")


def _series(f: Finding) -> dict[str, Any]:
    return {
        "watch": f.watch,
        "labels": dict(f.labels),
        "at": f.at,
        **{
            name: getattr(f, name)
            for name in ("observed", "expected", "lower", "upper", "score", "confidence")
        },
        "since": f.since,
        "forecasts": {c.horizon: {"value": c.value, "lower": c.lower, "upper": c.upper} for c in f.forecasts},
        "breaches": [
            {
                "source_alertname": b.alertname,
                "op": b.op,
                "value": b.value,
                "also": b.also,
                "probability": dict(b.probability),
                "eta_seconds": b.eta,
                "eta_between_seconds": b.between,
            }
            for b in f.breaches
        ],
    }


def _group(g: Group) -> dict[str, Any]:
    return {
        g.by: g.name,
        "labels": dict(g.labels),
        "at": g.at,
        "score": g.score,
        "size": g.size,
        "members": [
            {
                "watch": m.finding.watch,
                "labels": dict(m.finding.labels),
                "score": m.finding.score,
                "share": m.share,
            }
            for m in g.members
        ],
    }
