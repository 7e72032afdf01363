"""Builds grafana/dashboards/*.json: `python -m grafana.build`; a test holds the files to this code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as m

from grafana import itself, remedies, series
from grafana.panels import SOURCE, TEXT, Target, cases_that_wait, graph, history_learned, number, rows

PAGE = "http://localhost:9909"
"""Where the page is, until somebody writes another into the variable."""
FOLDER = Path(__file__).with_name("dashboards")
ANNOTATIONS = Path(__file__).with_name("annotations.json")


# --------------------------------------------------------------------------- what stands out


def _anomalies() -> table.Panel:
    most = "topk(20, sum without () (promantis_anomaly_score))"
    return rows(
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
    return rows(
        "Breaches ahead",
        "Your own alerts: how likely their condition becomes true within the hour, and when. Not those already true.",
        [
            (ahead, "probability", "percentunit"),
            (f"sum without () (promantis_breach_eta_seconds) and {ahead}", "in", "s"),
            (f"sum without () (promantis_breach_eta_lower_seconds) and {ahead}", "from", "s"),
            (f"sum without () (promantis_breach_eta_upper_seconds) and {ahead}", "to", "s"),
        ],
    )


def _verdicts(verdict: str) -> str:
    return f'sum by (source_alertname) (increase(promantis_rule_breaches_total{{verdict="{verdict}"}}[7d]))'


def _groups() -> timeseries.Panel:
    oddest = "topk(10, max by (group, watch) (promantis_group_anomaly_score)) or vector(0)"
    panel = graph(
        "Groups out of their usual",
        "Members that are odd together; /api/v1/groups says which of them.",
        [Target(oddest, "{{group}}{{watch}}")],
        width=12,
        height=9,
    )
    return panel.min(0)


# --------------------------------------------------------------------------- the dashboards


def _overview() -> list[Any]:
    high = "count(max without (horizon) (promantis_breach_probability) >= 0.7 < 1) or vector(0)"
    late = "time() - min(promantis_watch_last_success_timestamp_seconds)"
    return [
        number(
            "Out of the usual",
            "Series whose score is 1 or more now; Most anomalous now names them.",
            "count(promantis_anomaly_score >= 1) or vector(0)",
        ),
        number(
            "Breaches likely",
            "Limits of your alerts that are crossed within the hour with a probability of 0.7 or more.",
            high,
        ),
        cases_that_wait(),
        number(
            "Incidents",
            "Incidents that are open: alerts of one cause count once.",
            "sum(promantis_incidents)",
        ),
        history_learned(),
        number(
            "Oldest answer",
            "How long ago the watch that waits longest had an answer of Prometheus.",
            late,
            "s",
            TEXT,
            ("red", 900),
        ),
        _anomalies(),
        _breaches(),
        graph(
            "Series out of their usual, by watch",
            "How many series of each watch score 1 or more: a surge of many at once is one incident, not many.",
            [Target("topk(10, count by (watch) (promantis_anomaly_score >= 1)) or vector(0)", "{{watch}}")],
            width=12,
            height=9,
        ),
        _groups(),
    ]


def _forecasts() -> list[Any]:
    skill, coverage = "promantis_forecast_skill", "promantis_forecast_coverage"
    return [
        _breaches().span(24),
        graph(
            "Probability of the likeliest breaches",
            "Within the hour; 1 while the condition of your alert is true.",
            [
                Target(
                    "topk(10, max by (source_alertname, watch) (promantis_breach_probability))",
                    "{{source_alertname}} {{watch}}",
                )
            ],
            width=24,
        )
        .unit("percentunit")
        .min(0)
        .max(1),
        rows(
            "Were your alerts announced? (7 days)",
            "Announced: PromantisPredictedBreach began in the hour before. Missed: not so. False: nothing came of it.",
            [
                (f"round({_verdicts(verdict)})", verdict, "short")
                for verdict in ("announced", "missed", "false")
            ],
        ),
        graph(
            "Odds that came true, by what was said",
            "Honest odds of 0.7-0.9 come true in 70 to 90% of the cases.",
            [
                Target(
                    'avg by (bin) (promantis_breach_reliability{horizon="60m"}) or vector(0)', "said {{bin}}"
                )
            ],
            width=12,
            height=9,
        )
        .unit("percentunit")
        .min(0)
        .max(1),
        graph(
            "Skill: how much better than the best naive forecast",
            "1 is perfect, 0 as good as naive.",
            [Target(f"quantile by (horizon) (0.5, {skill})", "{{horizon}}, median watch")],
            width=12,
        ).unit("percentunit"),
        graph(
            "Coverage: truths inside of the interval",
            "Nominal is 90%.",
            [Target(f"avg by (horizon) ({coverage})", "{{horizon}}")],
            width=12,
        )
        .unit("percentunit")
        .min(0)
        .max(1),
        rows(
            "Skill by watch",
            "Over the series of the watch.",
            [
                (f'sum without () ({skill}{{horizon="60m"}})', "skill, 60m", "percentunit"),
                (f'sum without () ({coverage}{{horizon="60m"}})', "coverage, 60m", "percentunit"),
            ],
            drop=("job", "instance", "horizon"),
        ).span(24),
    ]


BOARDS: Mapping[str, tuple[str, str, Callable[[], Sequence[Any]]]] = {
    "promantis": ("Overview", "What is out of its usual, what is coming, what waits.", _overview),
    "promantis-series": ("Series explorer", "One series with its band and its forecasts.", series.panels),
    "promantis-forecasts": (
        "Forecasts and breaches",
        "What is coming, and how good forecasts were.",
        _forecasts,
    ),
    "promantis-remedies": (
        "Remedies and KPIs",
        "What was done, what helped, what people said.",
        remedies.panels,
    ),
    "promantis-itself": ("Promantis itself", "Whether it keeps up.", itself.panels),
}
"""By uid: title, words, panels."""
MARKS = (
    (
        "Incidents",
        "purple",
        "max by (incident, alertname, cause) (promantis_incident_info)",
        "incident: {{alertname}} {{cause}}",
    ),
    (
        "Actions",
        "red",
        "sum by (policy, action, outcome) (increase(promantis_actions_total[1m])) > 0",
        "{{policy}}: {{action}} {{outcome}}",
    ),
    (
        "Alerts of Promantis",
        "orange",
        'ALERTS{alertname=~"Promantis(Anomaly|PredictedBreach)", alertstate="firing"}',
        "{{alertname}} {{watch}} {{source_alertname}}",
    ),
)
"""Annotations, which may be copied to any dashboard: name, colour, query, title."""


def build(uid: str) -> m.Dashboard:
    """One dashboard."""
    title, words, panels = BOARDS[uid]
    board = d.Dashboard(f"Promantis: {title}").uid(uid).tags(["promantis"]).timezone("browser").editable()
    board = board.description(words)
    board = board.time("now-6h", "now").refresh("30s").tooltip(m.DashboardCursorSync.CROSSHAIR)
    links = d.DashboardLink("Promantis").type(m.DashboardLinkType.DASHBOARDS).tags(["promantis"])
    board = board.link(links.keep_time(True).include_vars(True).as_dropdown(True))
    page = (
        d.DashboardLink("Page of Promantis")
        .type(m.DashboardLinkType.LINK)
        .url("${page:raw}")
        .target_blank(True)
    )
    board = board.link(page.icon("external link"))
    board = board.with_variable(d.DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
    for choice in series.choices() if uid == "promantis-series" else ():
        board = board.with_variable(choice)
    board = board.with_variable(d.TextBoxVariable("page").label("Page of Promantis").default_value(PAGE))
    for name, colour, query, _ in MARKS:
        mark = d.AnnotationQuery().name(name).icon_color(colour).datasource(SOURCE).expr(query).enable(True)
        board = board.annotation(mark)
    for number_, panel in enumerate(panels(), 1):
        board = board.with_panel(panel.id(number_))
    return board.build()


def render(uid: str) -> str:
    """A dashboard as the text of its committed file."""
    made = json.loads(json.dumps(build(uid), cls=JSONEncoder))
    titles = {name: text for name, _, _, text in MARKS}
    for mark in made["annotations"]["list"]:  # the SDK has no field for the words of Prometheus' annotations
        if mark["name"] in titles:
            mark |= {"titleFormat": titles[mark["name"]], "step": "30s"}
    return _text(current(made))


def current(made: Any) -> Any:
    """A dashboard without what the SDK writes and the schema of Grafana 13 has no more."""
    for one in made["templating"]["list"]:
        for key in ("auto", "auto_min", "auto_count"):  # of intervals alone
            one.pop(key, None)
    for panel in made["panels"]:  # before, no footer is the default
        panel.get("options", {}).pop("footer", None)
    return made


def annotations() -> str:
    """The marks for a dashboard of the user's own, on its default Prometheus."""
    marks = json.loads(render("promantis"))["annotations"]["list"]
    return _text([mark | {"datasource": {"type": "prometheus"}} for mark in marks])


def _text(made: Any) -> str:
    return json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def queries() -> list[str]:
    """Every query of the dashboards, with its variables (`$watch`, `${series:raw}`, ...) in place."""
    boards = [json.loads(render(uid)) for uid in BOARDS]
    return [t["expr"] for board in boards for panel in board["panels"] for t in panel["targets"]]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(render(name), encoding="utf-8")
    ANNOTATIONS.write_text(annotations(), encoding="utf-8")
