"""The demo's service: a shop whose metrics Prometheus scrapes, and whose pool can leak and be resized.

`python -m sidecar.demo.shop --listen=127.0.0.1:8080 --state=shop.json` continues from the state that the past
ended with. `POST /leak {"per_minute": 6}` starts a leak, `POST /pool {"size": 40}` resizes the pool.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import prometheus_client as prom
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sidecar.demo.model import BUCKETS, Shop, advance


def families(shop: Shop) -> Iterator[Metric]:
    """The shop's metrics, in the names that such services use; counts are whole numbers."""
    requests = CounterMetricFamily("http_requests", "Requests by status code.", labels=["code"])
    requests.add_metric(["200"], int(shop.served))
    requests.add_metric(["500"], int(shop.failed))
    yield requests
    latency = HistogramMetricFamily("http_request_duration_seconds", "Latency of requests.")
    edges = [str(edge) if edge < BUCKETS[-1] else "+Inf" for edge in BUCKETS]
    latency.add_metric([], list(zip(edges, map(int, shop.buckets), strict=True)), round(shop.seconds, 6))
    yield latency
    yield GaugeMetricFamily("db_pool_connections_in_use", "Connections that are in use now.", shop.in_use)
    yield GaugeMetricFamily("db_pool_connections_max", "Connections that the pool may open.", shop.pool)
    yield CounterMetricFamily("process_cpu_seconds", "CPU time used.", round(shop.cpu, 3))
    yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", shop.memory)


class Leak(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /leak`."""

    per_minute: float = 6.0


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /pool`."""

    size: int


Body = TypeVar("Body", Leak, Pool)


class Service:
    """The shop over HTTP; reads the clock, the model does not."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.registry = prom.CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks at each scrape."""
        return families(self.now())

    def now(self) -> Shop:
        """Bring the shop up to date."""
        self.shop = advance(self.shop, time.time())
        return self.shop

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self.state),
                web.get("/metrics", self.metrics),
                web.post("/leak", self.leak),
                web.post("/pool", self.pool),
            ]
        )
        return app

    async def state(self, request: web.Request) -> web.Response:
        """The shop as JSON."""
        return web.Response(body=msgspec.json.encode(self.now()), content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        """The exposition."""
        body = prom.generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": prom.CONTENT_TYPE_LATEST})

    async def leak(self, request: web.Request) -> web.Response:
        """Start leaking."""
        body = _decode(await request.read() or b"{}", Leak)
        self.shop = msgspec.structs.replace(self.now(), leak_per_second=body.per_minute / 60)
        return await self.state(request)

    async def pool(self, request: web.Request) -> web.Response:
        """Resize the pool."""
        body = _decode(await request.read(), Pool)
        if not 1 <= body.size <= 1000:
            raise web.HTTPBadRequest(text="size must be from 1 to 1000")
        shop = self.now()
        pace = shop.leak_per_second if body.size <= shop.pool else 0.0
        self.shop = msgspec.structs.replace(shop, pool=body.size, leak_per_second=pace)
        return await self.state(request)


def _decode(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from None


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080")
    parser.add_argument("--state", help="JSON of the shop to continue from")
    args = parser.parse_args()
    shop = msgspec.json.decode(Path(args.state).read_bytes(), type=Shop) if args.state else Shop(time.time())
    host, _, port = args.listen.rpartition(":")
    web.run_app(Service(shop).app(), host=host, port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    main()
