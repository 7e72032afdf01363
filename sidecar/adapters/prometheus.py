"""Asks Prometheus: instant and range queries, rules, names; in columns, inside a budget, with plain errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import aiohttp
import msgspec
import yaml
import yarl

from sidecar.adapters import decode
from sidecar.adapters.budget import Budget
from sidecar.adapters.http import Client, lowered, reason
from sidecar.adapters.http_config import HttpConfig, url_problem
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.watch.watches import Rule, RuleGroup
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, Labels, Rejected, Section, Unavailable, labels_of

T = TypeVar("T")

BURST_SECONDS = 15.0
"""The budget is an average over this long: one tick may ask all its watches at once."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class PrometheusConfig(Section, frozen=True, kw_only=True):
    """Where samples, rules and history come from."""

    url: str = "http://localhost:9090"
    """Rules and samples come from here."""
    history_url: str | None = None
    """History, if it lives elsewhere: Thanos, Mimir, VictoriaMetrics."""
    params: dict[str, str] = msgspec.field(default_factory=dict)
    """More parameters for `history_url`, e.g. `{dedup: "true"}`."""
    ignore_labels: tuple[str, ...] = ("prometheus_replica", "replica")
    """Not part of a series when alerts are matched; external labels are not either."""
    max_queries_per_second: float = 5.0
    """Budget for everything that is asked."""
    http: HttpConfig = HttpConfig()
    """Credentials and TLS, as Prometheus' `http_config`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Urls, the rate, and what http says."""
        for key, url in (("url", self.url), ("history_url", self.history_url)):
            if url is not None and (words := url_problem(url)):
                yield key, words
        if self.max_queries_per_second <= 0:
            yield "max_queries_per_second", "must be greater than 0"
        for where, words in self.http.problems():
            yield ("http." + where).rstrip("."), words


class _ApiRule(msgspec.Struct):
    type: str
    name: str
    query: str
    duration: float = 0.0
    labels: dict[str, str] = {}


class _ApiGroup(msgspec.Struct):
    name: str
    file: str = ""
    interval: float = 0.0
    rules: list[_ApiRule] = []


class _Groups(msgspec.Struct):
    groups: list[_ApiGroup]


class _Rules(msgspec.Struct):
    data: _Groups


class _ApiAlert(msgspec.Struct):
    labels: dict[str, str]
    state: str


class _AlertList(msgspec.Struct):
    alerts: list[_ApiAlert]


class _Alerts(msgspec.Struct):
    data: _AlertList


class _Alertmanager(msgspec.Struct):
    url: str


class _ActiveAlertmanagers(msgspec.Struct):
    active: list[_Alertmanager] = msgspec.field(name="activeAlertmanagers", default_factory=list)


class _Alertmanagers(msgspec.Struct):
    data: _ActiveAlertmanagers


class _Names(msgspec.Struct):
    data: list[str]


class _Yaml(msgspec.Struct):
    yaml: str


class _Status(msgspec.Struct):
    data: _Yaml


class _Error(msgspec.Struct):
    kind: str = msgspec.field(name="errorType", default="")
    error: str = ""


class Prometheus:
    """One Prometheus (and where its history lives). Raises Unavailable or Rejected, naming url and query."""

    def __init__(self, config: PrometheusConfig, telemetry: Telemetry) -> None:
        self._live = Client(config.url, config.http, 30.0)
        elsewhere = config.history_url is not None and config.history_url != config.url
        self._past = Client(config.history_url or "", config.http, 60.0) if elsewhere else self._live
        self._params = config.params
        rate = config.max_queries_per_second
        self._budget = Budget(rate, rate * BURST_SECONDS)
        self._telemetry = telemetry

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self._live.url

    async def close(self) -> None:
        """End the sessions."""
        await self._live.close()
        await self._past.close()

    async def instant(self, query: str, at: Instant, within: float) -> Vector:
        """Every series of the query at one instant; `within` seconds, counted from the query's turn."""
        return await self._instant("instant", query, at, within)

    async def range(
        self, query: str, start: Instant, end: Instant, step: float, within: float = 60.0
    ) -> Matrix:
        """Every series of the query from start to end, both included."""
        await self._budget.take(history=True)
        form = {
            **self._params,
            "query": query,
            "start": _number(start),
            "end": _number(end),
            "step": _number(step),
            "timeout": _number(within),
        }
        what = f"query {shorten(query)}"
        body = await self._ask(self._past, "range", "/api/v1/query_range", what, form, within)
        return await asyncio.to_thread(
            self._decoded, self._past, what, lambda: decode.matrix(body, start, end, step)
        )

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        """A small answer, with its labels read: for conditions of remedies."""
        keys, values = await self._instant("ask", query, at, 10.0)
        read = msgspec.json.Decoder(dict[str, str]).decode
        what = f"query {shorten(query)}"
        labels = self._decoded(self._live, what, lambda: [labels_of(read(key)) for key in keys])
        return list(zip(labels, values.tolist(), strict=True))

    async def rules(self) -> list[RuleGroup]:
        """The alerting rules, by group."""
        what, path = "rules", "/api/v1/rules?type=alert"
        body = await self._ask(self._live, "rules", path, what)
        answer = self._decoded(self._live, what, lambda: msgspec.json.decode(body, type=_Rules))
        return [
            RuleGroup(
                group.name,
                group.file,
                group.interval,
                tuple(
                    Rule(rule.name, rule.query, rule.duration, labels_of(rule.labels))
                    for rule in group.rules
                    if rule.type == "alerting"
                ),
            )
            for group in answer.data.groups
        ]

    async def firing(self) -> list[Labels]:
        """The alerts that fire now, without external labels."""
        what, path = "alerts", "/api/v1/alerts"
        body = await self._ask(self._live, "alerts", path, what)
        answer = self._decoded(self._live, what, lambda: msgspec.json.decode(body, type=_Alerts))
        return [labels_of(alert.labels) for alert in answer.data.alerts if alert.state == "firing"]

    async def alertmanagers(self) -> list[str]:
        """Urls of what it sends its alerts to now."""
        what, path = "alertmanagers", "/api/v1/alertmanagers"
        body = await self._ask(self._live, "alertmanagers", path, what)
        answer = self._decoded(self._live, what, lambda: msgspec.json.decode(body, type=_Alertmanagers))
        return [one.url.removesuffix("/api/v2/alerts") for one in answer.data.active]

    async def metric_names(self) -> frozenset[str]:
        """Names of the metrics of the last hour."""
        what, path = "metric names", f"/api/v1/label/__name__/values?start={time.time() - 3600:.0f}"
        body = await self._ask(self._live, "names", path, what)
        answer = self._decoded(self._live, what, lambda: msgspec.json.decode(body, type=_Names))
        return frozenset(answer.data)

    async def external_labels(self) -> Labels:
        """The labels that Prometheus adds to alerts; none where the peer has no such route."""
        what = "configuration"
        try:
            body = await self._ask(self._live, "config", "/api/v1/status/config", what)
        except Rejected as error:
            if error.status in (404, 405, 501):  # not Prometheus itself, but something with its query API
                return ()
            raise
        answer = self._decoded(self._live, what, lambda: msgspec.json.decode(body, type=_Status))
        try:
            config = yaml.safe_load(answer.data.yaml) or {}
            labels = (config.get("global") or {}).get("external_labels") or {}
            return labels_of({str(name): str(value) for name, value in labels.items()})
        except (yaml.YAMLError, AttributeError):
            raise Unavailable(f"{self.url}: {what}: not a Prometheus configuration") from None

    async def earliest(self, query: str, now: Instant, history: float) -> Instant:
        """About since when the query has data, at most `history` seconds back; `now` when it has none.

        One coarse range query of a hundred points; the answer is early by at most one of its steps.
        """
        step = history / 100
        answer = await self.range(f"count({query})", Instant(now - history), now, step)
        present = answer.at[(answer.values > 0).any(axis=1)]
        return Instant(max(now - history, float(present[0]) - step)) if len(present) else now

    async def scrape_ok(self) -> None:
        """Raise unless it answers a query."""
        await self._instant("ready", "vector(1)", Instant(time.time()), 5.0)

    async def _instant(self, kind: str, query: str, at: Instant, within: float) -> Vector:
        await self._budget.take()
        form = {"query": query, "time": _number(at), "timeout": _number(within)}
        what = f"query {shorten(query)}"
        body = await self._ask(self._live, kind, "/api/v1/query", what, form, within)
        return await asyncio.to_thread(self._decoded, self._live, what, lambda: decode.vector(body))

    async def _ask(
        self,
        peer: Client,
        kind: str,
        path: str,
        what: str,
        form: dict[str, str] | None = None,
        within: float | None = None,
    ) -> bytes:
        """The body of a good answer."""
        # on loopback, packing the answer costs more than moving it
        headers = {"Accept-Encoding": "identity"} if yarl.URL(peer.url).host in LOOPBACK else None
        method = "GET" if form is None else "POST"
        try:
            with self._telemetry.query_duration.labels(kind).time():
                async with peer.request(method, path, data=form, headers=headers, within=within) as response:
                    parts = [part async for part in response.content.iter_any()]
            body = await asyncio.to_thread(b"".join, parts)  # 26 MB would hold the loop for 14 ms
        except TimeoutError:
            words = f"no answer within {within:g}s" if within else "no answer in time"
            raise Unavailable(f"{peer.url}: {what}: {words}") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{peer.url}: {what}: cannot connect: {reason(error)}") from None
        except aiohttp.ClientError as error:
            raise Unavailable(f"{peer.url}: {what}: {reason(error)}") from None
        if response.status == 200:
            return body
        said = _said(body) or response.reason or ""
        words = f"{peer.url}: {what}: {response.status} {said}".rstrip()
        if response.status == 401:
            words += " (its login: basic_auth or authorization under `prometheus.http`)"
        if response.status >= 500 or response.status in (408, 429):
            raise Unavailable(words)
        raise Rejected(words, response.status)

    def _decoded(self, peer: Client, what: str, decoder: Callable[[], T]) -> T:
        try:
            return decoder()
        except (*decode.MALFORMED, decode.NotAnAnswer) as error:
            raise Unavailable(
                f"{peer.url}: {what}: not an answer of Prometheus: {lowered(str(error))}"
            ) from None


def shorten(query: str, most: int = 80) -> str:
    """A query in a message: on one line, its middle left out when it is long.

    >>> shorten("sum(rate(a[5m]))  / b", 14)
    'sum(ra...)) / b'
    """
    line = " ".join(query.split())
    return line if len(line) <= most else line[: most // 2 - 1] + "..." + line[-(most - most // 2) :]


def _number(value: float) -> str:
    """A time or duration for Prometheus: milliseconds, no more.

    >>> _number(1700000000.0), _number(0.25)
    ('1700000000', '0.25')
    """
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _said(body: bytes) -> str:
    """Prometheus' own words about an error."""
    try:
        answer = msgspec.json.decode(body, type=_Error)
    except decode.MALFORMED:
        return ""
    return f"{answer.kind}: {answer.error}"[:300] if answer.error else ""
