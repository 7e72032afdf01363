"""What the dashboards are made of: graphs, tables, numbers, variables, each with its queries."""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.models import dashboard as m
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue as Value
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TEXT: tuple[str, float | None] = ("text", None)
SOURCE = m.DataSourceRef(type_val="prometheus", uid="${datasource}")


class Target(NamedTuple):
    """One query of a panel. A legend is also the name that overrides go by."""

    expr: str
    legend: str
    table: bool = False


def query_of(i: int, target: Target) -> prometheus.Dataquery:
    """The i-th query of a panel."""
    query = prometheus.Dataquery().expr(target.expr).legend_format(target.legend).ref_id(chr(ord("A") + i))
    query = query.datasource(SOURCE)
    return query.instant().format(PromQueryFormat.TABLE) if target.table else query.range()


def rows(
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
        panel = panel.with_target(query_of(i, target))
    panel = panel.with_transformation(m.DataTransformerConfig("merge", options={}))
    panel = panel.with_transformation(
        m.DataTransformerConfig("organize", options={"excludeByName": hide, "renameByName": names})
    )
    for _, column, unit in targets:
        panel = panel.override_by_name(column, [Value("unit", unit), Value("decimals", 2)])
    look = "/d/promantis-series?${datasource:queryparam}&var-watch=${__data.fields.watch}&${__url_time_range}"
    page = '${page:raw}/series?match={watch="${__data.fields.watch}"}'
    links = [{"title": "Look at this watch", "url": look}, {"title": "Its series in Promantis", "url": page}]
    panel = panel.override_by_name("watch", [Value("links", links)])
    return panel.sort_by([common.TableSortByFieldState().display_name(targets[0][1]).desc(True)])


def steps(*borders: tuple[str, float | None]) -> d.ThresholdsConfig:
    """Colours, each from its border on."""
    return (
        d.ThresholdsConfig()
        .mode(m.ThresholdsMode.ABSOLUTE)
        .steps([m.Threshold(value=value, color=colour) for colour, value in borders])
    )


def graph(title: str, words: str, targets: list[Target], width: int = 8, height: int = 7) -> timeseries.Panel:
    """Lines over time, of plain numbers unless `unit()` says otherwise."""
    panel = timeseries.Panel().title(title).description(words).datasource(SOURCE).height(height).span(width)
    panel = panel.unit("short")
    panel = panel.fill_opacity(0).show_points(VisibilityMode.NEVER)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    panel = panel.legend(legend.placement(LegendPlacement.BOTTOM))
    for i, target in enumerate(targets):
        panel = panel.with_target(query_of(i, target))
    return panel


def number(
    title: str, words: str, expr: str, unit: str = "short", *borders: tuple[str, float | None]
) -> stat.Panel:
    """One number now."""
    panel = stat.Panel().title(title).description(words).datasource(SOURCE).height(4).span(4).unit(unit)
    panel = panel.thresholds(steps(*(borders or (("text", None),)))).graph_mode(BigValueGraphMode.NONE)
    return panel.with_target(query_of(0, Target(expr, "")))


def bars(title: str, words: str, target: Target, width: int = 8) -> bargauge.Panel:
    """A bar per series of one query."""
    panel = bargauge.Panel().title(title).description(words).datasource(SOURCE).height(9).span(width).min(0)
    panel = panel.unit("short")
    return panel.with_target(query_of(0, target))


def variable(name: str, label: str, query: str) -> d.QueryVariable:
    """A variable that asks Prometheus."""
    made = d.QueryVariable(name).query({"query": query, "refId": name}).datasource(SOURCE).label(label)
    return made.refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(m.VariableSort.DISABLED)


def history_learned() -> stat.Panel:
    """On the boards of what is and of Promantis itself."""
    return number(
        "History learned",
        "1 once the past of every watch is learned; until then some series have no score.",
        "min(promantis_history_progress_ratio)",
        "percentunit",
    )


def cases_that_wait() -> stat.Panel:
    """On the boards of what is and of remedies."""
    return number(
        "Cases that wait",
        "Remedies that somebody must approve or deny, on the page of Promantis or by promantis approve.",
        'sum(promantis_cases{stage=~"proposed|planned"})',
        "short",
        TEXT,
        ("orange", 1),
    )
