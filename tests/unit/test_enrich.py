"""What is written on alerts: words, caps, links; the same in every replica."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts import narrate
from sidecar.alerts.enrich import Enricher, causes, shorten
from sidecar.alerts.explain import Explanation, Said, Steps
from sidecar.alerts.identity import fingerprint
from sidecar.alerts.narrate import ANNOTATIONS, number, outlook, summary
from sidecar.alerts.relay import AlertsConfig
from sidecar.types import Alert, Breach, Finding, Forecast, Instant, Labels

NAN = math.nan
AT = Instant(1764079745.0)  # 2025-11-25T14:09:05Z
SINCE = Instant(AT - 360)
POOL = Finding(
    watch="pool",
    query="db_pool_used",
    kind="saturation",
    labels=(("job", "shop"),),
    at=AT,
    observed=0.8612,
    expected=0.45,
    lower=0.38,
    upper=0.52,
    score=2.4,
    confidence=0.93,
    since=SINCE,
    forecasts=(
        Forecast("15m", 0.9712, 0.8, 1.0),
        Forecast("30m", 0.99, 0.8, 1.0),
        Forecast("60m", 1.2, 0.8, 1.4),
    ),
    breaches=(
        Breach("PoolExhaustion", "page", ">", 0.9, 300.0, {"15m": 0.9, "30m": 0.95, "60m": 0.97}, 420.0),
    ),
)
ALERT = Alert(
    (("alertname", "PoolExhaustion"), ("job", "shop")), {}, "2025-11-25T14:08:00Z", "2025-11-25T14:12:00Z"
)
OVER = msgspec.structs.replace(ALERT, ends_at="2025-11-25T14:09:00Z")


def but(finding: Finding = POOL, **changes: Any) -> Finding:
    return msgspec.structs.replace(finding, **changes)


EXPLAINED = Explanation(
    what="PoolExhaustion",
    causes=(Said("shop", "saturation", "pool 95%, usually 45%", "very likely", 0.95),),
    none_likelihood=0.05,
    summary="shop runs out of connections (very likely): pool 95%, usually 45%.",
    pattern="pool exhaustion",
    outlook="If nobody acts: pool is at 95%, it is used up in about 3 min.",
    next_steps=Steps(("enlarge the pool", "end slow queries"), ("timeouts",)),
    changes=("shop was deployed at 14:00 UTC (9 min ago)",),
    incident="c0ffee12",
)


class Known:
    """Findings that are what the test says."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings

    def near(self, labels: Labels, limit: int) -> Sequence[Finding]:
        return self.findings[:limit]


def enriched(
    *findings: Finding,
    alert: Alert = ALERT,
    url: str = "http://p:9909/",
    said: Explanation | None = None,
    **config: Any,
) -> Mapping[str, str]:
    def explain(alert: Alert, now: Instant, near: Sequence[Finding]) -> Explanation | None:
        return said

    preview, settings = "bigger-pool would POST", AlertsConfig(**config)
    return Enricher(Known(*findings), lambda alert: preview, settings, url, explain)(alert, AT)


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (
            POOL,
            "db_pool_used is 0.85, normal now 0.38 to 0.52; outside since 14:03 UTC (6 min), confidence high.",
        ),
        (
            but(since=None),
            "db_pool_used is 0.85, normal now 0.38 to 0.52; outside just now, confidence high.",
        ),
        (
            but(since=Instant(AT - 86400), confidence=0.6),
            "db_pool_used is 0.85, normal now 0.38 to 0.52; outside since 2025-11-24 14:09 UTC (1 d), "
            "confidence medium.",
        ),
        (but(observed=0.41, since=None), "db_pool_used is 0.4, inside its normal range 0.38 to 0.52."),
        (
            but(observed=0.41, confidence=0.2),
            "db_pool_used is 0.4, within 0.38 to 0.52 but unusual since 14:03 UTC (6 min), confidence low.",
        ),
        (
            but(lower=NAN, upper=NAN, expected=NAN, since=None),
            "db_pool_used is 0.861. No history for this series yet.",
        ),
        (but(observed=NAN), "db_pool_used has no value now, normal 0.38 to 0.52."),
        (
            but(query="x" * 81, confidence=NAN),
            "pool is 0.85, normal now 0.38 to 0.52; outside since 14:03 UTC (6 min).",
        ),
        (
            but(query="x" * 81, watch="PoolExhaustion", confidence=NAN),
            "The value of PoolExhaustion is 0.85, normal now 0.38 to 0.52; outside since 14:03 UTC (6 min).",
        ),
    ],
)
def test_summary_while_firing(finding: Finding, words: str) -> None:
    assert summary(finding) == words


def test_summary_when_resolved() -> None:
    at = Instant(AT - 5)
    assert (
        summary(but(observed=0.45, since=None), at)
        == "db_pool_used is 0.44, back in its normal range 0.38 to 0.52 since 14:09 UTC."
    )
    assert (
        summary(POOL, at)
        == "Resolved at 14:09 UTC, but db_pool_used is 0.85, outside its normal 0.38 to 0.52."
    )


def _breach(op: str = ">", eta: float | None = 420.0, p: float = 0.9, **changes: Any) -> Breach:
    return Breach("PoolExhaustion", "page", op, 0.9, 0.0, {"15m": p, "30m": p, "60m": p}, eta, **changes)


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (POOL, "If nobody acts: above 0.9 in about 7 min (probability 0.9); 0.95 expected in 15 min."),
        (
            but(breaches=(_breach(eta=1500.0),)),
            "If nobody acts: above 0.9 in about 25 min (probability 0.9); 1 expected in 30 min.",
        ),
        (
            but(breaches=(_breach(between=(170.0, 900.0), also=" and b < 2"),)),
            "If nobody acts: above 0.9 and b < 2 in about 7 min, between 3 and 15 min (probability 0.9);"
            " 0.95 expected in 15 min.",
        ),
        (
            but(breaches=(_breach(between=(415.0, 430.0)),)),  # the same minute
            "If nobody acts: above 0.9 in about 7 min (probability 0.9); 0.95 expected in 15 min.",
        ),
        (
            but(breaches=(_breach(eta=0.0, p=1.0),)),
            "If nobody acts: stays above 0.9; 0.95 expected in 15 min.",
        ),
        (
            but(breaches=(_breach(eta=0.0, p=1.0),), forecasts=(Forecast("15m", 0.5, 0.4, 0.6),)),
            "Above 0.9 now, not for long: 0.5 expected in 15 min.",
        ),
        (but(breaches=(_breach("<", 0.0, 1.0),), forecasts=()), "Below 0.9 now."),
        (
            but(breaches=(), forecasts=(Forecast("15m", 0.45, 0.4, 0.6),)),
            "Back inside its normal range, expected 0.44 in 15 min.",
        ),
        (
            but(breaches=(), observed=0.44, forecasts=(Forecast("15m", 0.45, 0.4, 0.6),)),
            "Stays inside its normal range, expected 0.44 in 15 min.",
        ),
        (
            but(breaches=(_breach(p=0.2),)),
            "If nobody acts: stays outside its normal range, expected 0.95 in 15 min.",
        ),
        (but(breaches=(_breach(eta=None),), forecasts=()), ""),
        (but(lower=NAN, upper=NAN, breaches=()), "Expected 0.971 in 15 min."),
    ],
)
def test_outlook_while_firing(finding: Finding, words: str) -> None:
    assert outlook(finding, "PoolExhaustion") == words


def test_outlook_is_about_the_alerts_own_limit() -> None:
    other = Breach("Other", "page", ">", 0.5, 0.0, {"15m": 1.0}, 0.0)
    assert outlook(but(breaches=(other, *POOL.breaches)), "PoolExhaustion").startswith(
        "If nobody acts: above 0.9 in"
    )
    assert outlook(but(breaches=(other,)), "PoolExhaustion").startswith("If nobody acts: stays above 0.5;")


def test_outlook_when_resolved() -> None:
    calm = (Forecast("15m", 0.45, 0.4, 0.6),)
    assert outlook(but(breaches=(), forecasts=calm), "", True) == "Expected to stay: 0.44 in 15 min."
    assert outlook(POOL, "", True).startswith("May come back: above 0.9 in about 7 min")


def test_default_annotations() -> None:
    assert enriched(POOL) == {
        "promantis_summary": summary(POOL),
        "promantis_outlook": outlook(POOL, "PoolExhaustion"),
        "promantis_url": f"http://p:9909/a/{fingerprint(ALERT.labels)}",
    }


def test_all_annotations() -> None:
    words = enriched(POOL, annotations=tuple(ANNOTATIONS), said=EXPLAINED)
    assert list(words) == [f"promantis_{name}" for name in ANNOTATIONS]
    assert words["promantis_score"] == "2.4"
    assert words["promantis_confidence"] == "0.93"
    assert words["promantis_since"] == "2025-11-25T14:03:00Z"
    assert words["promantis_expected"] == "0.44 (0.38 to 0.52)"
    assert words["promantis_remedy"] == "bigger-pool would POST"
    assert words["promantis_causes"] == (
        "shop runs out of connections (very likely): pool 95%, usually 45%. Changed: shop was deployed at 14:00 UTC."
    )
    assert words["promantis_outlook"] == "If nobody acts: pool is at 95%, it is used up in about 3 min."
    assert words["promantis_next_steps"] == "Now: enlarge the pool; end slow queries. Later: timeouts."
    assert words["promantis_changes"] == "shop was deployed at 14:00 UTC (9 min ago)"
    assert words["promantis_incident"] == "c0ffee12"


def test_the_outlook_is_of_the_alert_where_no_cause_was_found() -> None:
    nobody = Explanation(
        what="x", causes=(), none_likelihood=0.9, summary="No cause found.", incident="c0ffee12"
    )
    words = enriched(POOL, said=nobody)
    assert words["promantis_causes"] == "No cause found."
    assert words["promantis_outlook"] == outlook(POOL, "PoolExhaustion")
    assert "promantis_next_steps" not in words


def test_a_diagnosis_that_fails_costs_the_causes_only(caplog: pytest.LogCaptureFixture) -> None:
    def explain(alert: Alert, now: Instant, near: Sequence[Finding]) -> Explanation | None:
        raise ZeroDivisionError

    words = Enricher(Known(POOL), lambda alert: "", AlertsConfig(), "http://p:9909", explain)(ALERT, AT)
    assert list(words) == ["promantis_summary", "promantis_outlook", "promantis_url"]
    assert "the alert goes on without causes" in caplog.text


def test_an_alert_of_which_nothing_is_known_gets_the_url_only() -> None:
    assert list(enriched()) == ["promantis_url"]
    assert enriched(url="") == {}


def test_resolved_alerts_are_spoken_of_as_resolved() -> None:
    calm = but(observed=0.45, since=None, breaches=(), forecasts=(Forecast("15m", 0.44, 0.4, 0.6),))
    words = enriched(calm, alert=OVER)
    assert words["promantis_summary"].endswith("back in its normal range 0.38 to 0.52 since 14:09 UTC.")
    assert words["promantis_outlook"] == "Expected to stay: 0.44 in 15 min."


def test_replicas_that_tick_some_seconds_apart_agree() -> None:
    other = but(at=Instant(AT + 20), since=Instant(SINCE + 15), observed=0.86117, score=2.4001)
    said = enriched(other, annotations=tuple(ANNOTATIONS), said=EXPLAINED)
    assert said == enriched(POOL, annotations=tuple(ANNOTATIONS), said=EXPLAINED)


def test_a_link_is_whole_or_not_there() -> None:
    assert "promantis_url" not in enriched(POOL, url="http://" + "long." * 60)


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.floats(-5, 5),
    st.sampled_from([None, 0.5, 1.0, 2.0]),
)
def test_rounding_moves_no_value_across_its_band_or_a_limit(
    lower: float, width: float, at: float, limit: float | None
) -> None:
    value, upper = lower + at * width, lower + width
    beyond = lower + limit * width if limit is not None else None
    limits = () if beyond is None else (Breach("A", "page", ">", beyond, 0.0, {}, None),)
    finding = but(observed=value, lower=lower, upper=upper, breaches=limits)
    seen, band = narrate._beside(finding, value)
    low, _, high = band.partition(" to ")
    if seen == number(value) and (low, high) == (number(lower), number(upper)):
        return  # as exact as any number is said
    x, a, b = (spoken(text) for text in (seen, low, high))
    assert abs(x - value) <= max(abs(value - (lower + upper) / 2), width) / 4 + 0.005 * abs(value)
    if max(abs(lower), abs(upper), abs(value)) < 20 * width:  # else three digits cannot tell them apart
        assert (a <= x <= b) == (lower <= value <= upper)


def spoken(text: str) -> float:
    unit = text[-1] if text[-1] in "kMGTPE" else ""
    return float(text.removesuffix(unit)) * 1000.0 ** (" kMGTPE".index(unit) if unit else 0)


def test_words_are_capped() -> None:
    long = enriched(POOL, max_bytes=50)["promantis_summary"]
    assert long == "db_pool_used is 0.85, normal now 0.38 to 0.52…"


@given(st.text(max_size=200), st.integers(min_value=50, max_value=120))
def test_shorten_keeps_whole_characters_and_the_cap(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short.encode("utf-8", "surrogatepass")) <= limit
    assert short == text or text.startswith(short.removesuffix("…"))


@given(st.floats())
def test_numbers_are_short_and_near(value: float) -> None:
    text = number(value)
    assert len(text) <= 13
    if math.isfinite(value) and 1e-6 < abs(value) < 1e4:
        assert float(text) == pytest.approx(value, rel=0.006)


def test_what_changed_is_said_though_the_evidence_is_long() -> None:
    """What was deployed a minute ago is worth more at night than the second half of the evidence."""
    long = "shop runs out of connections (very likely): " + "latency 450 ms, usually 280 ms; " * 10
    said = msgspec.structs.replace(EXPLAINED, summary=long, logs=("new in its log: " + "x" * 200,))
    text = causes(said, 300)
    assert text.startswith("shop runs out of connections (very likely): latency 450 ms")
    assert text.endswith("… Changed: shop was deployed at 14:00 UTC.")
    assert len(text.encode()) <= 300
    assert causes(msgspec.structs.replace(said, changes=("y" * 200,), logs=()), 300) == long
