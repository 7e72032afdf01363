"""Whether Promantis keeps up: the panels of Promantis itself."""

from __future__ import annotations

from typing import Any

from grafana.panels import TEXT, Target, graph, history_learned, number

RATE = "[$__rate_interval]"
OURS = "and on (job, instance) promantis_build_info"


def panels() -> list[Any]:
    """All of them."""
    spent = f"promantis_tick_duration_seconds_bucket{RATE}"
    asked, enriched = "promantis_query_duration_seconds", "promantis_enrich_duration_seconds_bucket"
    wrong = f"increase(promantis_watch_failures_total{RATE})"
    return [
        history_learned(),
        number(
            "Config",
            "Whether its last load succeeded.",
            "min(promantis_config_last_reload_successful)",
            "bool",
            ("red", None),
            ("text", 1),
        ),
        number(
            "Watch not answered for",
            "Of the watch that waits longest; its query fails or is slow: /api/v1/watches says why.",
            "time() - min(promantis_watch_last_success_timestamp_seconds)",
            "s",
            TEXT,
            ("red", 900),
        ),
        number(
            "Rules not watched",
            "Alerting rules that could not be turned into a watch: /api/v1/watches lists them with the reason.",
            "sum(promantis_rules_skipped)",
        ),
        number(
            "Scores come late by",
            "How long after its time the last tick was done: above the interval, Prometheus or Promantis is too slow.",
            "max(promantis_tick_lag_seconds)",
            "s",
            TEXT,
            ("red", 30),
        ),
        number(
            "State saved",
            "How long ago.",
            "time() - min(promantis_state_last_save_timestamp_seconds)",
            "s",
            TEXT,
            ("red", 3600),
        ),
        graph(
            "Tick: duration and lag",
            "What a tick takes, and how late it was; by the interval of its watches.",
            [
                Target(f"histogram_quantile(0.99, sum by (le, step) (rate({spent})))", "{{step}} p99"),
                Target("max by (step) (promantis_tick_lag_seconds)", "{{step}} lag"),
            ],
        ).unit("s"),
        graph(
            "Alerts",
            "Per second: what Prometheus sent, what got words, and what came of handing it on.",
            [
                Target(f"sum(rate(promantis_alerts_received_total{RATE}))", "received"),
                Target(f"sum(rate(promantis_alerts_enriched_total{RATE}))", "enriched"),
                Target(
                    f"sum by (alertmanager, outcome) (rate(promantis_alerts_forwarded_total{RATE}))",
                    "{{outcome}} {{alertmanager}}",
                ),
            ],
        ).unit("cps"),
        graph(
            "Waiting for an Alertmanager",
            "Alerts that an Alertmanager has not taken yet: it grows while one is down.",
            [Target("sum by (alertmanager) (promantis_lane_alerts)", "{{alertmanager}}")],
        ),
        graph(
            "Queries to Prometheus",
            "What Promantis asks; at most prometheus.max_queries_per_second.",
            [Target(f"sum by (kind) (rate({asked}_count{RATE}))", "{{kind}} per second")],
        ).unit("cps"),
        graph(
            "Time to explain a batch of alerts",
            "Of 99 in 100 batches; alerts have gone on before.",
            [Target(f"histogram_quantile(0.99, sum by (le) (rate({enriched}{RATE})))", "p99")],
        ).unit("s"),
        graph(
            "Diagnoses",
            "Incidents that were diagnosed, by what was found.",
            [Target(f"sum by (outcome) (increase(promantis_diagnoses_total{RATE}))", "{{outcome}}")],
        ),
        graph(
            "Failed queries, by watch",
            "Queries that Prometheus refused or did not answer in time.",
            [Target(f"topk(10, sum by (watch) ({wrong})) or vector(0)", "{{watch}}")],
        ),
        graph(
            "Series: scored, exposed, left out",
            "Not exposed, by exposition.max_series: first the bands and forecasts of calm series. Dropped, by "
            "learning.max_series: without a score.",
            [
                Target("sum(promantis_series)", "scored"),
                Target("sum(promantis_series_exposed)", "exposed"),
                Target("sum(promantis_series_unexposed)", "known, not exposed"),
                Target(
                    "sum by (reason) (increase(promantis_series_dropped_total[1h]))", "dropped, {{reason}}"
                ),
            ],
        ),
        graph(
            "Requests, by route",
            "What was asked of Promantis.",
            [Target(f"sum by (route) (rate(promantis_http_requests_total{RATE}))", "{{route}}")],
        ).unit("reqps"),
        graph(
            "Memory",
            "Of its process; docs/operations.md says what to expect of so many series.",
            [Target(f"process_resident_memory_bytes {OURS}", "resident")],
            width=12,
        )
        .unit("bytes")
        .min(0),
        graph(
            "CPU",
            "Processors that it keeps busy.",
            [Target(f"rate(process_cpu_seconds_total{RATE}) {OURS}", "processors")],
            width=12,
        ).min(0),
    ]
