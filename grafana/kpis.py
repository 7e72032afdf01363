"""What it was good for, over the time range that is looked at: the first panels of Remedies and KPIs."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models import dashboard as m

from grafana.panels import Target, bars, number

RANGE = "[$__range]"


def _grown(counter: str) -> str:
    """By how much a counter (with its matchers) grew, over all of its series."""
    return f"sum(increase({counter}{RANGE}))"


def _share(counter: str, label: str, these: str, of: str) -> str:
    return _ratio(f'{counter}{{{label}="{these}"}}', f'{counter}{{{label}=~"{of}"}}')


def _mean(histogram: str, matchers: str = "") -> str:
    return _ratio(f"{histogram}_sum{matchers}", f"{histogram}_count{matchers}")


def _ratio(some: str, of: str) -> str:
    return f"{_grown(some)} / {_grown(of)}"


def _kpi(title: str, words: str, expr: str, unit: str) -> Any:
    nothing = m.SpecialValueMap(
        m.DashboardSpecialValueMapOptions(
            m.SpecialValueMatch.NULL_AND_NAN, m.ValueMappingResult(text="none yet")
        )
    )
    panel = number(title, words, expr, unit).mappings([nothing]).no_value("none yet")
    return panel.decimals(0 if unit == "short" else 1)


def panels() -> list[Any]:
    """Two rows of numbers, and the success by action."""
    verdicts, recovered = "promantis_rule_breaches_total", "promantis_time_to_recover_seconds"
    mended = "sum by (action) (increase(promantis_outcomes_total"
    return [
        _kpi(
            "Time to detect",
            "From the first sample out of its usual until your alert on it began to fire.",
            _mean("promantis_time_to_detect_seconds"),
            "s",
        ),
        _kpi(
            "Time to recover",
            "How long your alerts fired, as Alertmanager told by webhook.",
            _mean(recovered),
            "s",
        ),
        _kpi(
            "Where a remedy fixed it",
            "The same of alerts that ended after a remedy was verified.",
            _mean(recovered, '{remedy="fixed"}'),
            "s",
        ),
        _kpi(
            "Share predicted",
            "Of the breaches of your rules' limits, those that were announced before they came.",
            _share(verdicts, "verdict", "announced", "announced|missed"),
            "percentunit",
        ),
        _kpi(
            "False alarms",
            "Of the breaches that were announced, those that did not come within the hour.",
            _share(verdicts, "verdict", "false", "announced|false"),
            "percentunit",
        ),
        _kpi(
            "Warning before a breach",
            "From its announcement until it came.",
            _ratio("promantis_breach_ahead_seconds_total", f'{verdicts}{{verdict="announced"}}'),
            "s",
        ),
        _kpi(
            "Called not real",
            "Of the verdicts of people on what was odd.",
            _share("promantis_feedback_total", "verdict", "not_real", "real|not_real"),
            "percentunit",
        ),
        _kpi(
            "Forecast skill",
            "1 is perfect, 0 as good as the best naive forecast: the median of the watches, an hour ahead.",
            'quantile(0.5, promantis_forecast_skill{horizon="60m"})',
            "percentunit",
        ),
        _kpi(
            "Breach avoided",
            "Estimate: what the same alerts lasted when nothing was done, less what they lasted with a remedy.",
            f"{_grown('promantis_breach_avoided_seconds_total')} or vector(0)",
            "s",
        ),
        _kpi(
            "Cost saved",
            "The same at cost_per_minute of each policy, in your currency.",
            f"{_grown('promantis_cost_saved_total')} or vector(0)",
            "short",
        ),
        bars(
            "Success by action, in this time",
            "Of the cases that were acted on, those whose verification held.",
            Target(f'{mended}{{outcome="fixed"}}{RANGE})) / {mended}{RANGE})) or vector(0)', "{{action}}"),
        )
        .unit("percentunit")
        .max(1)
        .height(4),
    ]
