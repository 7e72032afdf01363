"""Changes of a cluster as the real Prometheus has them: scaling, configuration, machines. Its exporter is made here."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from aiohttp import web

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.demo.peers import Stack
from sidecar.signals.ingest.happenings import LOOKS, Event
from sidecar.signals.learn import outside
from sidecar.signals.learn.outside import Outside
from sidecar.signals.learn.trust import Trust
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from tests.e2e.alerting import serving, until

pytestmark = pytest.mark.e2e

PROMETHEUS = """
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: ksm, honor_labels: true, static_configs: [{{targets: ["{0}", "{1}"]}}]}}]
"""
BEFORE = {
    'kube_deployment_spec_replicas{namespace="a",deployment="shop"}': 5,
    'kube_deployment_spec_replicas{namespace="a",deployment="cart"}': 2,
    'kube_statefulset_replicas{namespace="a",statefulset="db"}': 3,
    'kube_horizontalpodautoscaler_spec_max_replicas{namespace="a",horizontalpodautoscaler="h"}': 5,
    'kube_horizontalpodautoscaler_info{namespace="a",horizontalpodautoscaler="h",scaletargetref_kind="Deployment",'
    'scaletargetref_name="shop"}': 1,
    'kube_configmap_metadata_resource_version{namespace="a",configmap="shop-settings"}': 100,
    'kube_configmap_metadata_resource_version{namespace="a",configmap="leader"}': 1,
    'kube_secret_metadata_resource_version{namespace="a",secret="shop-tls"}': 7,
    'kube_node_status_condition{node="n1",condition="Ready",status="true"}': 1,
    'kube_node_status_condition{node="n1",condition="Ready",status="unknown"}': 0,
    'kube_node_status_condition{node="n2",condition="MemoryPressure",status="true"}': 0,
    'kube_node_spec_unschedulable{node="n2"}': 0,
}
AFTER = {
    'kube_deployment_spec_replicas{namespace="a",deployment="shop"}': 2,
    'kube_statefulset_replicas{namespace="a",statefulset="db"}': 4,
    'kube_horizontalpodautoscaler_spec_max_replicas{namespace="a",horizontalpodautoscaler="h"}': 10,
    'kube_configmap_metadata_resource_version{namespace="a",configmap="shop-settings"}': 230,
    'kube_secret_metadata_resource_version{namespace="a",secret="shop-tls"}': 231,
    'kube_node_status_condition{node="n1",condition="Ready",status="true"}': 0,
    'kube_node_status_condition{node="n1",condition="Ready",status="unknown"}': 1,
    'kube_node_status_condition{node="n2",condition="MemoryPressure",status="true"}': 1,
    'kube_node_spec_unschedulable{node="n2"}': 1,
}
WORDS = [
    "config map shop-settings was changed",
    "db was scaled from 3 to 4",
    "node/n1 became not ready",
    "node/n2 runs out of memory",
    "node/n2 was cordoned",
    "secret shop-tls was changed",
    "shop was scaled from 5 to 2",
    "the most that shop is scaled to by itself went from 5 to 10",
]


async def test_what_changes_between_two_looks_is_told(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two exporters as in a highly available set-up, and a lock that changes all the time."""
    monkeypatch.setattr(outside, "GRID", 1.0)
    values, events, scrapes = dict(BEFORE), list[str](), 0
    lock = 'kube_configmap_metadata_resource_version{namespace="a",configmap="leader"}'

    async def metrics(_: web.Request) -> web.Response:
        nonlocal scrapes
        scrapes += 1
        values[lock] += 1
        return web.Response(text="".join(f"{name} {value}\n" for name, value in values.items()))

    async def deploy(*of: object) -> None:
        raise AssertionError("nothing is deployed here")

    def tell(found: Sequence[Event], at: Instant) -> None:
        events.extend(event.words for event in found)

    def exporter() -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", metrics)
        return app

    async with serving(exporter()) as one, serving(exporter()) as other:
        peer = await stack.prometheus(PROMETHEUS.format(one.partition("//")[2], other.partition("//")[2]))
        prometheus = Prometheus(PrometheusConfig(url=peer.url, max_queries_per_second=1000), Telemetry())
        looks = Outside(
            prometheus, [], Trust(60.0), deploy, tell, lambda now: (), lambda: Instant(time.time())
        )
        try:
            await until(lambda: scrapes >= 20, 30)  # by now the lock has changed more than once or twice
            assert {look.metric for look in LOOKS} <= await prometheus.metric_names()
            await looks.look()
            await looks.look()
            assert events == []
            values |= AFTER
            changed = scrapes

            async def told() -> bool:
                await looks.look()
                return len(events) >= len(WORDS)

            await until(lambda: scrapes >= changed + 4, 20)
            await until(told, 20)
            await looks.look()
        finally:
            await prometheus.close()
    assert sorted(events) == WORDS
