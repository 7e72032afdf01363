"""Builds grafana/promantis.json: `python grafana/build.py`; a test holds the file to this code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue as Value
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE = Path(__file__).with_name("promantis.json")
SOURCE = m.DataSourceRef(type_val="prometheus", uid="${datasource}")
SERIES_PANEL = 7
"""Number of the panel that shows one series; its link opens it alone."""
HORIZONS = ("15m", "30m", "60m")
SERIES = "${series:raw}"
"""All labels of one watched series, without braces."""


class Target(NamedTuple):
    """One query of a panel. A legend is also the name that overrides go by."""

    expr: str
    legend: str
    table: bool = False


def _query(i: int, target: Target) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(target.expr).legend_format(target.legend).ref_id(chr(ord("A") + i))
    query = query.datasource(SOURCE)
    return query.instant().format(PromQueryFormat.TABLE) if target.table else query.range()


# --------------------------------------------------------------------------- a watched series


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
    panel = _graph("$watch: value, band and what was forecast", _truth_and_forecasts(), width=24, height=11)
    panel = panel.description(
        "Shaded: where an ordinary value lies. Dashed: what was forecast 15, 30 and 60 minutes before. "
        "'An hour ahead' in the corner of this panel shows the forecasts that are still to come true."
    ).links(
        [
            d.DashboardLink("An hour ahead").url(
                f"/d/promantis?${{__all_variables}}&from=now-6h&to=now%2B1h&viewPanel={SERIES_PANEL}"
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
    panel = _graph(
        "Score and confidence",
        [
            Target(f"promantis_anomaly_score{{{SERIES}}}", "score"),
            Target(f"promantis_anomaly_confidence{{{SERIES}}}", "confidence"),
        ],
        width=12,
    )
    panel = panel.description("At a score of 1 a look is worth while; above it, rarer.").min(0)
    return panel.thresholds(_steps(("transparent", None), ("red", 1))).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    )


def _breach_panel() -> timeseries.Panel:
    expr = f"max by (source_alertname, source_severity, horizon) (promantis_breach_probability{{{SERIES}}})"
    panel = _graph(
        "Probability that your alert's condition becomes true",
        [Target(expr, "{{source_alertname}} {{source_severity}} in {{horizon}}")],
        width=12,
    )
    return panel.description("Exactly 1 while it is true.").unit("percentunit").min(0).max(1)


# --------------------------------------------------------------------------- tables


def _table(
    title: str, words: str, targets: list[tuple[str, str, str]], drop: tuple[str, ...] = ()
) -> table.Panel:
    """A row per series; `targets` are (query, column, unit), joined on their labels. Sorted by the first.

    The queries drop the metric's name (`sum without ()`), in which they differ and could not be joined.
    """
    queries = [Target(expr, "", table=True) for expr, _, _ in targets]
    names = {f"Value #{chr(ord('A') + i)}": column for i, (_, column, _) in enumerate(targets)}
    hide = dict.fromkeys(("Time", "__name__", *drop), True)
    panel = table.Panel().title(title).description(words).datasource(SOURCE).height(9).span(12)
    for i, target in enumerate(queries):
        panel = panel.with_target(_query(i, target))
    panel = panel.with_transformation(m.DataTransformerConfig("merge", options={}))
    panel = panel.with_transformation(
        m.DataTransformerConfig("organize", options={"excludeByName": hide, "renameByName": names})
    )
    for _, column, unit in targets:
        panel = panel.override_by_name(column, [Value("unit", unit), Value("decimals", 2)])
    look = "/d/promantis?${datasource:queryparam}&var-watch=${__data.fields.watch}&${__url_time_range}"
    panel = panel.override_by_name("watch", [Value("links", [{"title": "Look at this watch", "url": look}])])
    return panel.sort_by([common.TableSortByFieldState().display_name(targets[0][1]).desc(True)])


def _anomalies() -> table.Panel:
    most = "topk(20, sum without () (promantis_anomaly_score))"
    return _table(
        "Most anomalous now",
        "Score 1 is the threshold that is worth a look. Of the points given a confidence p, a share p is anomalous.",
        [
            (most, "score", "none"),
            (f"sum without () (promantis_anomaly_confidence) and {most}", "confidence", "percentunit"),
            (f"sum without () (promantis_expected) and {most}", "expected", "short"),
            (f"sum without () (promantis_lower) and {most}", "lower", "short"),
            (f"sum without () (promantis_upper) and {most}", "upper", "short"),
        ],
    )


def _breaches() -> table.Panel:
    ahead = "topk(20, max without (horizon) (promantis_breach_probability) < 1)"
    return _table(
        "Breaches ahead",
        "Your own alerts: how likely their condition becomes true within the hour, and when. Not those already true.",
        [
            (ahead, "probability", "percentunit"),
            (f"sum without () (promantis_breach_eta_seconds) and {ahead}", "in", "s"),
        ],
    )


# --------------------------------------------------------------------------- small panels


def _steps(*steps: tuple[str, float | None]) -> d.ThresholdsConfig:
    return (
        d.ThresholdsConfig()
        .mode(m.ThresholdsMode.ABSOLUTE)
        .steps([m.Threshold(value=value, color=colour) for colour, value in steps])
    )


def _graph(title: str, targets: list[Target], width: int = 8, height: int = 7) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).datasource(SOURCE).height(height).span(width)
    panel = panel.fill_opacity(0).show_points(VisibilityMode.NEVER)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    panel = panel.legend(legend.placement(LegendPlacement.BOTTOM))
    for i, target in enumerate(targets):
        panel = panel.with_target(_query(i, target))
    return panel


def _stat(title: str, expr: str, unit: str = "short", *steps: tuple[str, float | None]) -> stat.Panel:
    panel = stat.Panel().title(title).datasource(SOURCE).height(4).span(4).unit(unit)
    panel = panel.thresholds(_steps(*(steps or (("text", None),)))).graph_mode(BigValueGraphMode.NONE)
    return panel.with_target(_query(0, Target(expr, "")))


def _cases() -> bargauge.Panel:
    panel = bargauge.Panel().title("Cases by stage").datasource(SOURCE).height(9).span(8).min(0)
    panel = panel.description("What waits for a person stands at proposed or planned.")
    return panel.with_target(_query(0, Target("sum by (stage) (promantis_cases)", "{{stage}}")))


def _itself() -> list[timeseries.Panel]:
    spent = "promantis_tick_duration_seconds_bucket[$__rate_interval]"
    forwarded = "promantis_alerts_forwarded_total[$__rate_interval]"
    asked = "promantis_query_duration_seconds"
    return [
        _graph(
            "Tick: duration and lag",
            [
                Target(f"histogram_quantile(0.99, sum by (le, step) (rate({spent})))", "{{step}} p99"),
                Target("max by (step) (promantis_tick_lag_seconds)", "{{step}} lag"),
            ],
        ).unit("s"),
        _graph(
            "Alerts",
            [
                Target("sum(rate(promantis_alerts_received_total[$__rate_interval]))", "received"),
                Target("sum(rate(promantis_alerts_enriched_total[$__rate_interval]))", "enriched"),
                Target(f"sum by (alertmanager, outcome) (rate({forwarded}))", "{{outcome}} {{alertmanager}}"),
            ],
        ).unit("cps"),
        _graph(
            "Queries to Prometheus",
            [
                Target(f"sum by (kind) (rate({asked}_count[$__rate_interval]))", "{{kind}} per second"),
            ],
        ).unit("cps"),
    ]


def _series_budget() -> timeseries.Panel:
    return _graph(
        "Series: scored, exposed, left out",
        [
            Target("sum(promantis_series)", "scored"),
            Target("sum(promantis_series_exposed)", "exposed"),
            Target("sum(promantis_series_unexposed)", "known, not exposed"),
            Target("sum by (reason) (increase(promantis_series_dropped_total[1h]))", "dropped, {{reason}}"),
        ],
        width=16,
        height=9,
    )


# --------------------------------------------------------------------------- the dashboard


def _variables() -> list[d.QueryVariable | d.DatasourceVariable]:
    def variable(name: str, query: str) -> d.QueryVariable:
        made = d.QueryVariable(name).query({"query": query, "refId": name}).datasource(SOURCE)
        return made.refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(m.VariableSort.DISABLED)

    return [
        d.DatasourceVariable("datasource").type("prometheus").label("Prometheus"),
        variable("watch", "label_values(promantis_watch_info, watch)").label("Watch"),
        # the labels of one series, the most anomalous first; what stands between the braces
        variable("series", 'query_result(sort_desc(promantis_anomaly_score{watch="$watch"}))')
        .regex(r"/\{(.*)\}/")
        .label("Series"),
        # the user's own expression: the value itself is theirs and is not exported again
        variable("query", 'label_values(promantis_watch_info{watch="$watch"}, query)').hide(
            m.VariableHide.HIDE_VARIABLE
        ),
    ]


def build() -> m.Dashboard:
    """The dashboard."""
    board = d.Dashboard("Promantis").uid("promantis").tags(["promantis"]).timezone("browser").editable()
    board = board.description("What is out of its usual, what is coming, and Promantis itself.")
    board = board.time("now-6h", "now").refresh("30s").tooltip(m.DashboardCursorSync.CROSSHAIR)
    for variable in _variables():
        board = board.with_variable(variable)
    waiting = 'sum(promantis_cases{stage=~"proposed|planned"})'
    high = "count(max without (horizon) (promantis_breach_probability) >= 0.7 < 1) or vector(0)"
    late = "time() - min(promantis_watch_last_success_timestamp_seconds)"
    panels = [
        _stat("Out of the usual", "count(promantis_anomaly_score >= 1) or vector(0)"),
        _stat("Breaches likely", high),
        _stat("Cases that wait", waiting, "short", ("text", None), ("orange", 1)),
        _stat("Series watched", "sum(promantis_series)"),
        _stat("History learned", "min(promantis_history_progress_ratio)", "percentunit"),
        _stat("Oldest answer", late, "s", ("text", None), ("red", 900)),
        _series_panel(),
        _score_panel(),
        _breach_panel(),
        _anomalies(),
        _breaches(),
        _cases(),
        _series_budget(),
        *_itself(),
    ]
    for number, panel in enumerate(panels, 1):
        board = board.with_panel(panel.id(number))
    return board.build()


def render() -> str:
    """The dashboard as the text of the committed file."""
    return json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def queries() -> list[str]:
    """Every query of the dashboard, with its variables (`$watch`, `${series:raw}`, ...) in place."""
    found: list[str] = []
    for panel in json.loads(render())["panels"]:
        found += [target["expr"] for target in panel["targets"]]
    return found


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
