"""What was done, what helped, what people said: the panels of Remedies and KPIs, its numbers first."""

from __future__ import annotations

from typing import Any

from grafana import kpis
from grafana.panels import TEXT, Target, bars, cases_that_wait, graph, number


def panels() -> list[Any]:
    """All of them."""
    return [
        *kpis.panels(),
        cases_that_wait(),
        number(
            "Fixed", "Cases whose remedy was verified in Prometheus.", 'sum(promantis_cases{stage="fixed"})'
        ),
        number(
            "Kill switch",
            "On: nothing is done. promantis kill off allows it again.",
            "max(promantis_kill_switch)",
            "bool_on_off",
            TEXT,
            ("red", 1),
        ),
        number(
            "Storm",
            "Yes: so many alerts fire that nothing acts alone.",
            "max(promantis_storm)",
            "bool_yes_no",
            TEXT,
            ("red", 1),
        ),
        number(
            "Rights missing",
            "What remedies need of the cluster and may not do: promantis check --rbac prints it.",
            "sum(promantis_rights_missing)",
            "short",
            TEXT,
            ("red", 1),
        ),
        number(
            "Breakers open",
            "Policies that failed too often and wait until they are tried again.",
            "sum(promantis_breaker_open) or vector(0)",
            "short",
            TEXT,
            ("red", 1),
        ),
        bars(
            "Cases by stage",
            "What waits for a person stands at proposed or planned.",
            Target("sum by (stage) (promantis_cases)", "{{stage}}"),
        ),
        bars(
            "Success rate by policy",
            "How often it helped; the second bar is what it lies above, 19 times of 20.",
            Target(
                "sum by (policy, stat) (promantis_policy_success_rate) or vector(0)", "{{policy}} {{stat}}"
            ),
        )
        .unit("percentunit")
        .max(1),
        graph(
            "Not proposed or not done, by reason",
            "What stood in the way of remedies, in an hour.",
            [Target("sum by (reason) (increase(promantis_refusals_total[1h])) or vector(0)", "{{reason}}")],
            height=9,
        ),
        graph(
            "Actions in the last hour",
            "What was done, and what came of it.",
            [
                Target(
                    "sum by (policy, action, outcome) (increase(promantis_actions_total[1h])) or vector(0)",
                    "{{policy}} {{action}} {{outcome}}",
                )
            ],
            width=12,
        ),
        graph(
            "Episodes acted on, and held back as control",
            "Of policies with an experiment: how many alerts ended in time with the remedy, and without it.",
            [
                Target(
                    "sum by (group, ended) (promantis_policy_trials) or vector(0)",
                    "{{group}}, ended in time: {{ended}}",
                )
            ],
            width=12,
        ),
        graph(
            "What people said of alerts, in a day",
            "Verdicts on the page and by promantis feedback; they move the confidence.",
            [Target("sum by (verdict) (increase(promantis_feedback_total[1d])) or vector(0)", "{{verdict}}")],
            width=12,
        ),
        graph(
            "Is confidence honest? Share real of the judged, by confidence",
            "Of what was said with a confidence of 0.7 to 0.9, 70 to 90% should be real.",
            [Target("max by (bin) (promantis_confidence_reliability) or vector(0)", "{{bin}}")],
            width=12,
        )
        .unit("percentunit")
        .min(0)
        .max(1),
    ]
