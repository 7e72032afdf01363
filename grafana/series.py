"""The panels of the Series explorer: one watched series, its band, and what was forecast of it."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, timeseries
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue as Value

from grafana.panels import Target, graph, steps, variable

SERIES_PANEL = 1
"""Number of the panel that shows one series; its link opens it alone."""
HORIZONS = ("15m", "30m", "60m")
SERIES = "${series:raw}"
"""All labels of one watched series, without braces."""


def _truth_and_forecasts() -> list[Target]:
    """The forecasts are moved to the time that they speak of, so that truth and forecast lie together."""
    band = [
        Target(f"promantis_upper{{{SERIES}}}", "upper"),
        Target(f"promantis_lower{{{SERIES}}}", "lower"),
        Target(f"promantis_expected{{{SERIES}}}", "expected"),
        Target(f"(${{query:raw}}) and ignoring (watch) promantis_expected{{{SERIES}}}", "value"),
    ]
    forecasts = [
        Target(f'promantis_forecast{{{SERIES}, horizon="{h}"}} offset {h}', f"said {h} before")
        for h in HORIZONS
    ]
    edges = [
        Target(f'promantis_forecast_{edge}{{{SERIES}, horizon="60m"}} offset 60m', f"60m {edge}")
        for edge in ("upper", "lower")
    ]
    return band + forecasts + edges


def _colour(name: str) -> Value:
    return Value("color", {"mode": "fixed", "fixedColor": name})


def _filled(below: str, colour: str, opacity: int) -> list[Value]:
    return [
        Value("custom.fillBelowTo", below),
        Value("custom.fillOpacity", opacity),
        Value("custom.lineWidth", 0),
        _colour(colour),
    ]


def _series_panel() -> timeseries.Panel:
    hidden = Value("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    panel = graph(
        "$watch: value, band and what was forecast",
        "Shaded: where an ordinary value lies. Dashed: what was forecast 15, 30 and 60 minutes before. "
        "'An hour ahead' in the corner of this panel shows the forecasts that are still to come true.",
        _truth_and_forecasts(),
        width=24,
        height=11,
    ).links(
        [
            d.DashboardLink("An hour ahead").url(
                f"/d/promantis-series?${{__all_variables}}&from=now-6h&to=now%2B1h&viewPanel={SERIES_PANEL}"
            )
        ]
    )
    panel = panel.override_by_name("value", [_colour("text"), Value("custom.lineWidth", 2)])
    panel = panel.override_by_name("expected", [_colour("semi-dark-blue")])
    panel = panel.override_by_name("upper", _filled("lower", "blue", 18))
    panel = panel.override_by_name("lower", [Value("custom.lineWidth", 0), _colour("blue")])
    panel = panel.override_by_name("60m upper", [*_filled("60m lower", "orange", 10), hidden])
    panel = panel.override_by_name("60m lower", [Value("custom.lineWidth", 0), _colour("orange"), hidden])
    dashed = Value("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})
    colours = zip(HORIZONS, ("light-orange", "orange", "dark-orange"), strict=True)
    for horizon, colour in colours:
        panel = panel.override_by_name(f"said {horizon} before", [dashed, _colour(colour)])
    return panel


def _score_panel() -> timeseries.Panel:
    panel = graph(
        "Score and confidence",
        "At a score of 1 a look is worth while; above it, rarer. Confidence: how often what looks like this is real.",
        [
            Target(f"promantis_anomaly_score{{{SERIES}}}", "score"),
            Target(f"promantis_anomaly_confidence{{{SERIES}}}", "confidence"),
        ],
        width=12,
    )
    panel = panel.min(0)
    return panel.thresholds(steps(("transparent", None), ("red", 1))).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    )


def _breach_panel() -> timeseries.Panel:
    expr = f"max by (source_alertname, source_severity, horizon) (promantis_breach_probability{{{SERIES}}})"
    panel = graph(
        "Probability that your alert's condition becomes true",
        "Exactly 1 while it is true.",
        [Target(expr, "{{source_alertname}} {{source_severity}} in {{horizon}}")],
        width=12,
    )
    return panel.unit("percentunit").min(0).max(1)


def panels() -> list[Any]:
    """In their order; the first is SERIES_PANEL."""
    return [_series_panel(), _score_panel(), _breach_panel()]


def choices() -> list[d.QueryVariable]:
    """Which series."""
    return [
        variable("watch", "Watch", "label_values(promantis_watch_info, watch)"),
        # the labels of one series, the most anomalous first; what stands between the braces
        variable(
            "series", "Series", 'query_result(sort_desc(promantis_anomaly_score{watch="$watch"}))'
        ).regex(r"/\{(.*)\}/"),
        # the user's own expression: the value itself is theirs and is not exported again
        variable("query", "Query", 'label_values(promantis_watch_info{watch="$watch"}, query)').hide(
            m.VariableHide.HIDE_VARIABLE
        ),
    ]
