"""What is said of made incidents: through the kinds, units and places of real rules, the diagnosis and the enricher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest

from sidecar.alerts.enrich import Enricher
from sidecar.alerts.explain import Changed
from sidecar.alerts.explainer import Explainer
from sidecar.alerts.relay import AlertsConfig
from sidecar.config import Config, knowledge
from sidecar.signals.ingest.topology import place, whose
from sidecar.signals.scene.recent import named, unit, usually, way
from sidecar.signals.watch.wanted import RulesConfig
from sidecar.signals.watch.watches import Limit, Rule, RuleGroup, Watch, from_rules
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Breach, Candidates, Finding, Forecast, Instant, Labels, labels_of

BEGAN = 7200.0
NOW = Instant(BEGAN + 310)
CALLS = (("front", "cart"), ("front", "bank"))
RULES = {
    "HighLatency": "sum by (job) (rate(http_request_duration_seconds_sum[5m]))"
    " / sum by (job) (rate(http_request_duration_seconds_count[5m])) > 0.4",
    "HighErrors": 'sum by (job) (rate(http_requests_total{code=~"5.."}[5m]))'
    " / sum by (job) (rate(http_requests_total[5m])) > 0.02",
    "Traffic": "sum by (job) (rate(http_requests_total[5m])) > 1000",
    "Cpu": "rate(process_cpu_seconds_total[5m]) > 0.9",
    "Pool": "db_pool_in_use / db_pool_max > 0.95",
    "Waiting": "pool_waiting > 0.5",
    "Throttled": "rate(container_cpu_cfs_throttled_periods_total[5m])"
    " / rate(container_cpu_cfs_periods_total[5m]) > 0.25",
    "Memory": "container_memory_working_set_bytes / container_spec_memory_limit_bytes > 0.9",
    "DiskFull": "node_filesystem_avail_bytes * 100 / node_filesystem_size_bytes < 10",
    "MemoryLow": "node_memory_MemAvailable_bytes < 1e9",
    "Certificate": "probe_ssl_earliest_cert_expiry - time() < 86400 * 7",
    "Probe": "probe_success < 1",
    "CrashLooping": "increase(kube_pod_container_status_restarts_total[15m]) > 3",
    "Success": 'sum by (job) (rate(http_requests_total{code!~"5.."}[5m]))'
    " / sum by (job) (rate(http_requests_total[5m])) < 0.99",
    "Quiet": "sum by (job) (rate(shop_requests_total[5m])) < 1",
    "Lag": "sum by (consumergroup) (kafka_consumergroup_lag) > 10000",
    "Replicas": "kube_deployment_status_replicas_available / kube_deployment_spec_replicas < 0.7",
    "Hot": "room_temperature_celsius > 40",
    "Skewed": "abs(node_timex_offset_seconds) > 0.05",
    "Handshakes": 'sum by (job) (rate(proxy_streams_total{kind="tls certificate valid"}[5m])) > 10',
    "Licences": 'licences_used{kind="pool of connections"} > 5',
    "WillFill": "predict_linear(node_filesystem_avail_bytes[1h], 4 * 3600) < 0",
    "NodeCpu": '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])) > 0.9',
}
WATCHES: Mapping[str, Watch] = {
    name: from_rules([RuleGroup("g", "f", 15.0, (Rule(name, expr, 60.0),))], RulesConfig(), 15.0)[0][0]
    for name, expr in RULES.items()
}
JOB = {"job": "bank"}
LAG = {"consumergroup": "billing", "job": "kafka-exporter"}
COPIES = {"deployment": "cart", "namespace": "shop"}
USUAL = {"HighLatency": 0.1, "HighErrors": 0.001, "Traffic": 50.0, "Cpu": 0.4}
POD = {"pod": "cart-6d4cf56db6-x2x9k", "namespace": "shop", "container": "cart"}
DISK, NODE, PROBE = (
    {"instance": "n1:9100", "mountpoint": "/"},
    {"instance": "n1:9100"},
    {"instance": "https://a/"},
)


class Moved(NamedTuple):
    """A series besides those that every service has, or one of these that has changed."""

    rule: str
    labels: dict[str, str]
    usual: float
    now: float | Sequence[float]


def job(name: str, rule: str, now: float) -> Moved:
    return Moved(rule, {"job": name}, USUAL[rule], now)


class World:
    """Two hours of three services that call one another, then five minutes in which some series have moved."""

    def __init__(self, moved: Sequence[Moved]) -> None:
        random, here = np.random.default_rng(5), {(one.rule, *one.labels.values()) for one in moved}
        calm = [job(s, rule, level) for s in ("front", "cart", "bank") for rule, level in USUAL.items()]
        series = [*moved, *(one for one in calm if (one.rule, *one.labels.values()) not in here)]
        self.watches = [WATCHES[one.rule] for one in series]
        level = np.array([one.usual for one in series])
        past = level * (1 + 0.03 * random.standard_normal((140, len(series))))
        now = np.stack([np.broadcast_to(one.now, 5) for one in series], 1)
        now = np.vstack([past[-1], now * (1 + 0.005 * random.standard_normal(now.shape))])
        places = [place(watch, one.labels) for watch, one in zip(self.watches, series, strict=True)]
        kinds, names = [one.kind for one in places if one], [watch.name for watch in self.watches]
        ways = [way(watch) for watch in self.watches]
        self.ids = [(watch.name, bytes(i)) for i, watch in enumerate(self.watches)]
        self.labels = [labels_of(one.labels) for one in series]
        self.c = Candidates(
            *([one.entity for one in places if one], kinds, [named(watch) for watch in self.watches]),
            *usually(past, past[:96], kinds, names, np.zeros(len(series)), np.array(ways)),
            *(BEGAN + 60.0 * np.arange(6), now, CALLS, frozenset(), [("cart", "node/n1")], self.ids),
            *(lambda row: (np.empty(0), np.empty(0)), [unit(watch) for watch in self.watches], ways),
            [watch.query for watch in self.watches],
        )

    def candidates(self, since: float) -> Candidates:
        return self.c

    def near(self, labels: Labels, limit: int) -> list[Finding]:
        rule = dict(labels)["alertname"]
        mine = {(name, value) for name, value in labels if name != "alertname"}
        rows = [i for i, watch in enumerate(self.watches) if watch.name == rule and mine <= {*self.labels[i]}]
        return [self.finding(row) for row in rows[:limit]]

    def one(self, watch: str, key: bytes) -> Finding | None:
        return self.finding(self.ids.index((watch, key)))

    def finding(self, row: int) -> Finding:
        watch, usual, now = self.watches[row], float(self.c.level[row]), float(self.c.values[-1, row])
        ahead, limits = Forecast("15m", now, now, now), tuple(_crossed(limit) for limit in watch.limits)
        band = usual, 0.9 * usual, 1.1 * usual
        return Finding(
            *(watch.name, watch.query, watch.kind, self.labels[row], NOW, now, *band, 3.0, 0.9),
            *(Instant(BEGAN + 60), (ahead,), limits, "", self.ids[row][1], self.c.units[row]),
        )


def _crossed(limit: Limit) -> Breach:
    return Breach(limit.alertname, limit.severity, limit.op, limit.value, limit.hold, {"15m": 1.0}, 0.0)


def said(rule: str, labels: dict[str, str], moved: Sequence[Moved], *changed: Changed) -> tuple[str, str]:
    """The pattern, and all words of an alert."""
    world = World(moved)
    explains = Explainer(
        *(world, world, lambda labels, of: whose(WATCHES, labels, of.watch, of.labels) if of else None),
        Telemetry(),
    )
    explains.patterns, explains.changed = knowledge(Config()), list(changed)
    config = AlertsConfig(annotations=("summary", "causes", "outlook", "next_steps"))
    alert = Alert(
        labels_of({"alertname": rule, **labels}), {}, "1970-01-01T02:02:00Z", "1970-01-03T00:00:00Z"
    )
    words = Enricher(world, lambda alert: "", config, "", explains)(alert, NOW)
    found = explains(alert, NOW)
    return found.pattern if found else "", "\n".join(words.values())


FRONT_SLOW = job("front", "HighLatency", 0.8)
CART_SLOW = job("cart", "HighLatency", 0.6)
FRONT_FAILS = job("front", "HighErrors", 0.3)


@pytest.mark.parametrize(
    ("rule", "labels", "moved", "pattern", "words"),
    [
        (
            *("DiskFull", DISK, [Moved("DiskFull", DISK, 40, (30, 24, 18, 12, 8))], "disk filling"),
            (
                "is 8",
                "%, normal now 37 to 45%",
                "node/n1 runs out of disk space",
                "used up in about",
                "free space",
            ),
        ),
        (
            *("MemoryLow", NODE, [Moved("MemoryLow", NODE, 8e9, 6e8)], "noisy neighbour"),
            ("node/n1 is overloaded", "node_memory_MemAvailable_bytes 600 MB, usually 8", " GB"),
        ),
        (
            *(
                "HighLatency",
                {"job": "front"},
                [FRONT_SLOW, CART_SLOW, Moved("Throttled", POD, 0.02, 0.6)],
                "cpu throttling",
            ),
            ("Latency is 8", " ms, normal now", "cart is stopped by its CPU limit", "acts: Throttled"),
        ),
        (
            *(
                "HighLatency",
                {"job": "front"},
                [FRONT_SLOW, job("bank", "HighLatency", 0.7)],
                "downstream latency",
            ),
            (
                "bank answers slowly, and front waits for it",
                "latency of bank",
                "which explains 86% of the alert",
            ),
        ),
        (
            "HighErrors",
            {"job": "front"},
            [FRONT_FAILS, job("bank", "HighErrors", 0.32), job("bank", "Traffic", 150)],
            "retry storm",
            (
                "The error ratio is 30%",
                "150 requests/s, usually 50",
                "while its callers get no more",
                "stop the retries",
            ),
        ),
        (
            *("Certificate", PROBE, [Moved("Certificate", PROBE, 6.5e5, 5e5)], "certificate expiry"),
            ("a has a certificate that expires", "5.8 d, usually 7.6 d"),
        ),
        (
            *("Probe", PROBE, [Moved("Probe", PROBE, 1, 0)], "does not answer"),
            (
                "a does not answer (very likely): probe_success 0, usually 1 since",
                "acts: probe_success stays below 1",
            ),
        ),
        (
            "HighLatency",
            {"job": "front"},
            [FRONT_SLOW, *(job(s, "Traffic", 200) for s in ("front", "cart", "bank"))],
            "saturation by traffic",
            ("front gets more requests", "200 requests/s, usually 5", "scale out front"),
        ),
        (
            "HighLatency",
            {"job": "front"},
            [FRONT_SLOW, CART_SLOW, Moved("NodeCpu", NODE, 0.3, 0.99)],
            "noisy neighbour",
            ("node/n1 is overloaded by what runs on it", "move or limit it"),
        ),
        (
            *("Memory", POD, [Moved("Memory", POD, 0.45, (0.8, 0.83, 0.86, 0.89, 0.92))], "memory leak"),
            ("92%, usually 46% since", "it is used up in about 2 min"),
        ),
        (
            "CrashLooping",
            POD,
            [Moved("CrashLooping", POD, 1e-3, (0, 1, 2, 4, 5)), job("cart", "HighErrors", 0.3), FRONT_FAILS],
            "crash loop",
            ("cart ends and is started again and again", "restarts_total[15m]) 5, usually", "--previous"),
        ),
        (
            *("Pool", JOB, [Moved("Pool", JOB, 0.45, (0.7, 0.9, 1, 1, 1))], "pool exhaustion"),
            ("db_pool_max is at 100%: it is used up now, and who needs it waits", "enlarge the pool of bank"),
        ),
        (
            *("Waiting", JOB, [Moved("Waiting", JOB, 0.01, 1)], "pool exhaustion"),
            ("pool_waiting is 1, normal", "bank runs out of pooled connections"),
        ),
        (
            *("Success", {"job": "front"}, [Moved("Success", {"job": "front"}, 0.999, 0.5)], "errors"),
            ("The value of Success is 50%", "front fails by itself", "Success 50%, usually 100%"),
        ),
        (
            *(
                "Quiet",
                {"job": "door"},
                [Moved("Quiet", {"job": "door"}, 50, 0.1)],
                "requests that stay away",
            ),
            ("door gets fewer requests", "usually 5", "load balancer, DNS"),
        ),
        (
            *("Lag", LAG, [Moved("Lag", LAG, 200, (3000, 6000, 9000, 12000, 15000))], "queue"),
            ("billing takes work in faster than it does it", "15k, usually 200"),
        ),
        (
            *("Replicas", COPIES, [Moved("Replicas", COPIES, 1, 0.33)], "instances that do not run"),
            ("cart has instances that do not run", "0.33, usually 1 since"),
        ),
        (
            *("Hot", {"job": "attic"}, [Moved("Hot", {"job": "attic"}, 20, 60)], ""),
            ("attic, very likely: room_temperature_celsius 60, usually 20",),
        ),
        (
            *("Skewed", NODE, [Moved("Skewed", NODE, 1e-3, 0.4)], ""),
            ("node/n1, very likely: abs(node_timex_offset_seconds)",),
        ),
        (
            *(
                "Handshakes",
                {"job": "door"},
                [Moved("Handshakes", {"job": "door"}, 2, 40)],
                "",
            ),
            ("40/s, normal now", "beside the alert itself nothing is further out"),
        ),
        (
            *("Licences", {"job": "cad"}, [Moved("Licences", {"job": "cad"}, 2, 9)], "saturation"),
            ("cad has a resource that is nearly used up",),
        ),
        (
            *("WillFill", DISK, [Moved("WillFill", DISK, 4e10, -1e9)], "disk filling"),
            ("is -1 GB, normal now 37 to 45 GB", "acts: predict_linear"),
        ),
        (
            *("HighLatency", {"job": "front"}, [], ""),
            ("Latency is 1", "No cause found among 3 services and machines"),
        ),
    ],
)
def test_what_is_said_of_an_incident(
    rule: str, labels: dict[str, str], moved: Sequence[Moved], pattern: str, words: Sequence[str]
) -> None:
    found, text = said(rule, labels, moved)
    assert found == pattern, text
    assert [part for part in words if part not in text] == [], text
    assert "100%" not in text or rule in ("Pool", "Quiet", "Success"), text


def test_errors_after_a_deployment() -> None:
    deployed = Changed("cart", Instant(BEGAN - 30), "cart was deployed", "deployed")
    found, text = said(
        "HighErrors", {"job": "front"}, [FRONT_FAILS, job("cart", "HighErrors", 0.3)], deployed
    )
    assert found == "error burst after a deployment"
    assert "cart fails since it was deployed (very likely): errors 30%, usually 0." in text
    assert "roll cart back" in text
