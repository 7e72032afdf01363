"""The metrics about Promantis itself: one table, made per App, never global."""

from __future__ import annotations

import prometheus_client as prom

from sidecar import __version__

prom.disable_created_metrics()  # a second series beside every counter, which nobody asks for


class Telemetry:
    """Self-metrics with a registry of their own, so that several Apps can live in one process."""

    def __init__(self) -> None:
        self.registry = r = prom.CollectorRegistry()
        seconds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        waits = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)

        def counter(name: str, text: str, *labels: str) -> prom.Counter:
            return prom.Counter(f"promantis_{name}", text, labels, registry=r)

        def gauge(name: str, text: str, *labels: str) -> prom.Gauge:
            return prom.Gauge(f"promantis_{name}", text, labels, registry=r)

        def histogram(
            name: str, text: str, *labels: str, buckets: tuple[float, ...] = seconds
        ) -> prom.Histogram:
            return prom.Histogram(f"promantis_{name}", text, labels, buckets=buckets, registry=r)

        prom.ProcessCollector(registry=r)  # CPU, memory, files and start, as of every exporter
        gauge("build_info", "Version of the running Promantis.", "version").labels(__version__).set(1)
        # config
        self.reload_successful = gauge(
            "config_last_reload_successful", "Whether the last load of the config succeeded."
        )
        self.reload_timestamp = gauge(
            "config_last_reload_success_timestamp_seconds", "When the config was last loaded."
        )
        # signals
        self.tick_duration = histogram(
            "tick_duration_seconds", "Time to decode, score, learn and publish one tick.", "step"
        )
        self.tick_lag = gauge("tick_lag_seconds", "How late the last tick was published.", "step")
        self.watch_success = gauge(
            "watch_last_success_timestamp_seconds", "When the watch was last answered.", "watch"
        )
        self.watch_failures = counter("watch_failures_total", "Queries of the watch that failed.", "watch")
        self.watches = gauge("watches", "Watches by where they come from.", "source")
        self.rules_skipped = gauge(
            "rules_skipped",
            "Alerting rules that could not be turned into a watch, without those on Promantis itself.",
        )
        self.series = gauge("series", "Series that are scored now.")
        self.series_exposed = gauge("series_exposed", "Output series of the last exposition.")
        self.series_unexposed = gauge(
            "series_unexposed", "Output series that the exposition budget left out of the last exposition."
        )
        self.series_dropped = counter("series_dropped_total", "Series not admitted, by reason.", "reason")
        for reason in ("budget", "duplicate"):
            self.series_dropped.labels(reason)
        self.series_distrusted = gauge(
            "series_distrusted", "Series that are scored but not learned from now, by reason.", "reason"
        )
        for reason in ("alert", "silence", "event", "feedback"):
            self.series_distrusted.labels(reason)
        self.query_duration = histogram(
            "query_duration_seconds", "Duration of queries to Prometheus.", "kind"
        )
        self.history_progress = gauge(
            "history_progress_ratio", "Share of the history that has been learned, 1 when done."
        )
        self.state_saved = gauge("state_last_save_timestamp_seconds", "When the state was last saved.")
        self.state_damaged = counter(
            "state_damaged_total", "State files set aside because they were damaged."
        )
        self.feedback = counter("feedback_total", "What users said of runs.", "verdict")
        self.confidence_reliability = gauge(
            "confidence_reliability", "Share of the judged runs in a bin of confidence that were real.", "bin"
        )
        self.confidence_runs = gauge("confidence_runs", "Runs judged real or not real, by confidence.", "bin")
        self.confidence_brier = gauge(
            "confidence_brier", "Mean squared error of confidence on the judged runs; NaN before the first."
        )
        self.feedback_gain = gauge(
            "feedback_gain",
            "Log loss of the prior minus that of the confidence that was said, in nats per judged run.",
        )
        self.rule_breaches = counter(
            "rule_breaches_total",
            "Firings of your rules that were announced or missed, and announcements that were false.",
            *("source_alertname", "verdict"),
        )
        self.breach_reliability = gauge(
            "breach_reliability",
            "Share of the odds in a bin that came true within the horizon, over four weeks.",
            *("horizon", "bin"),
        )
        self.breach_odds = gauge(
            "breach_odds", "Odds whose truth has come, over four weeks.", "horizon", "bin"
        )
        self.breach_ahead = counter(
            "breach_ahead_seconds_total",
            "Seconds from the announcement of breaches until they came.",
            "source_alertname",
        )
        self.fits = counter(
            "fits_total",
            "Models fitted to groups and to series, by what came of it.",
            *("model", "outcome"),
        )
        self.fit_duration = histogram("fit_duration_seconds", "Time to fit and judge a model.", "model")
        self.series_modelled = gauge("series_modelled", "Series whose forecast fitted models have a part in.")
        self.model_weight = gauge(
            "model_weight", "Mean weight of a fitted model in the forecasts that it has a part in.", "model"
        )
        self.groups_joined = gauge("groups_joined", "Groups whose score is joined by a fitted model.")
        self.group_answers_late = counter(
            "group_answers_late_total", "Ticks at which the worker's answer was too late to join."
        )
        # alerts
        self.alerts_received = counter("alerts_received_total", "Alerts received from Prometheus.")
        self.alerts_invalid = counter(
            "alerts_invalid_total", "Alerts refused as Alertmanager would refuse them."
        )
        self.alerts_forwarded = counter(
            "alerts_forwarded_total", "Alerts sent to an Alertmanager, by outcome.", "alertmanager", "outcome"
        )
        self.alerts_enriched = counter("alerts_enriched_total", "Alerts that were given annotations.")
        self.enrich_failures = counter(
            "enrich_failures_total", "Alerts whose enrichment failed and went on as they were."
        )
        self.enrich_duration = histogram("enrich_duration_seconds", "Time to enrich one batch.")
        self.time_to_detect = histogram(
            "time_to_detect_seconds",
            "From the first sample out of its usual until the user's alert on it began to fire.",
            buckets=waits,
        )
        self.diagnoses = counter("diagnoses_total", "Diagnoses by outcome: a cause, or none.", "outcome")
        for outcome in ("cause", "none"):
            self.diagnoses.labels(outcome)
        self.diagnosis_duration = histogram("diagnosis_duration_seconds", "Time to diagnose one target.")
        self.incidents = gauge("incidents", "Incidents that are not over.")
        self.incident_info = gauge(
            "incident_info",
            "1 while an incident is not over: the alert that it began with, and who is blamed.",
            *("incident", "alertname", "cause"),
        )
        self.lane_alerts = gauge("lane_alerts", "Alerts waiting for an Alertmanager.", "alertmanager")
        # remedies
        self.leader = gauge("leader", "Whether this replica is the one that acts.")
        self.webhooks = counter("webhooks_received_total", "Webhooks received from Alertmanager.")
        self.cases = gauge("cases", "Cases by stage.", "stage")
        self.actions = counter("actions_total", "Actions by outcome.", "policy", "action", "outcome")
        self.outcomes = counter(
            "outcomes_total",
            "Cases that were acted on, by whether the verification held.",
            *("policy", "action", "outcome"),
        )
        self.time_to_recover = histogram(
            "time_to_recover_seconds",
            "How long the user's alerts fired, by what a remedy did: fixed, tried, none.",
            "remedy",
            buckets=waits,
        )
        for remedy in ("fixed", "tried", "none"):
            self.time_to_recover.labels(remedy)
        self.avoided = counter(
            "breach_avoided_seconds_total",
            "Estimate of how much longer alerts had fired without the policy.",
            "policy",
        )
        self.saved = counter(
            "cost_saved_total",
            "The same at the policy's cost_per_minute, in the currency in which that is.",
            "policy",
        )
        self.storm = gauge("storm", "Whether too much happens at once for anything to act alone.")
        self.killswitch = gauge("kill_switch", "Whether the kill switch forbids every action.")
        self.rights_missing = gauge(
            "rights_missing", "Rights in the cluster that actions need and do not have."
        )
        self.breaker_open = gauge("breaker_open", "Whether the policy failed too often to act now.", "policy")
        self.exhausted = counter(
            "remedies_exhausted_total", "Cases that did not help, with nothing else to try.", "policy"
        )
        self.trials = gauge(
            "policy_trials",
            "Episodes that were acted on or held back as control, by whether they ended in time.",
            *("policy", "group", "ended"),
        )
        self.odds = gauge(
            "policy_success_rate",
            "How often the policy helps: expected, and what 19 of 20 lie above.",
            "policy",
            "stat",
        )
        self.policy_effect = gauge(
            "policy_effect",
            "What the policy changes against earlier firings that were left alone: how much more often alerts end in "
            "time, or how much more the value moves.",
            *("policy", "of", "stat"),
        )
        self.cause_rate = gauge(
            "cause_success_rate",
            "How often the policy is expected to help with this cause, shrunk to all causes while it is little known.",
            *("policy", "action", "cause"),
        )
        self.cause_outcomes = gauge(
            "cause_outcomes",
            "Times that the policy helped with this cause, or did not.",
            *("policy", "action", "cause", "helped"),
        )
        self.refusals = counter(
            "refusals_total", "Remedies that were not proposed or not done, by reason.", "reason"
        )
        self.http_requests = counter("http_requests_total", "Requests served.", "route", "code")
        self.listeners = gauge("page_listeners", "Open pages that are told of news.")
