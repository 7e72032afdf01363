"""The words: what is known of one series, as an on-call lead would say it. Pure and the same in each replica."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from sidecar.types import HORIZONS, Breach, Finding, Forecast, Instant, spoken

ANNOTATIONS = {
    "summary": "one sentence: the value against what is usual, since when, how sure",
    "causes": "the likeliest cause and what speaks for it, or that none was found; and what changed last",
    "outlook": "what comes if nobody acts: of the cause, where there is one",
    "next_steps": "what to do now, and what keeps it from coming back, for the pattern of the cause",
    "changes": "what changed within the last hour of the services involved: deployments, replicas, their autoscaler, "
    "config maps and secrets that are named like them, the nodes that they run on",
    "incident": "the id of the incident: alerts of the same service or cause, or of a call between them, have the same",
    "pattern": "the pattern of failure that was recognised, by its name; a process for remedies alone reads it there",
    "url": "the page of this alert: always the same for the same labels",
    "score": "the score",
    "confidence": "how sure",
    "since": "since when it is out of its usual",
    "expected": "what was expected",
    "remedy": "what a policy would do; or that it did not help, and a person is needed",
}
"""What `alerts.annotations` may list, in words; on the alert each starts with `promantis_`."""

_LIKELY = 0.5
"""A breach less probable than this is not announced."""

_SECONDS = dict(HORIZONS)


def summary(finding: Finding, resolved_at: Instant | None = None) -> str:
    """One sentence: the value against what is normal, since when, how sure. `resolved_at` when it is over."""
    name = _name(finding)
    if math.isnan(finding.observed):
        now = f"{name} has no value now"
        return (
            f"{now}, normal {_beside(finding, finding.expected)[1]}."
            if _has_band(finding)
            else f"{now}. {_UNKNOWN}"
        )
    if name == finding.watch and any(breach.alertname == name for breach in finding.breaches):
        name = f"The value of {name}"  # a rule is no quantity
    if not _has_band(finding):
        return f"{name} is {amount(finding.observed, finding.unit)}. {_UNKNOWN}"
    seen, band = _beside(finding, finding.observed)
    value = f"{name} is {seen}"
    inside = finding.lower <= finding.observed <= finding.upper
    if resolved_at is not None:
        if inside:
            return f"{value}, back in its normal range {band} since {clock(resolved_at, finding.at)}."
        return f"Resolved at {clock(resolved_at, finding.at)}, but {value}, outside its normal {band}."
    if inside and finding.since is None:
        return f"{value}, inside its normal range {band}."
    if inside:  # odd for its moment or its shape, not for its size
        return f"{value}, within {band} but unusual{_since(finding)}{_confidence(finding)}."
    return f"{value}, normal now {band}; outside{_since(finding)}{_confidence(finding)}."


def outlook(finding: Finding, alertname: str, resolved: bool = False) -> str:
    """What happens if nobody acts; empty when nothing can be said."""
    breach = _worst(finding, alertname)
    near = finding.forecasts[0] if finding.forecasts else None
    if breach is not None and breach.eta == 0 and not resolved:
        return _while_true(finding, breach, near)
    if breach is not None and breach.eta is not None:
        horizon = _covering(breach)
        probability = breach.probability.get(horizon, math.nan)
        if probability >= _LIKELY:
            lead = "May come back" if resolved else "If nobody acts"
            then, limit = _forecast(finding, horizon), amount(breach.value, finding.unit) + breach.also
            return (
                f"{lead}: {_side(breach)} {limit} {_in(breach.eta)}{_between(breach)}"
                f" (probability {_odds(probability)}){_expected(finding, then, '; ')}."
            )
    if near is None or math.isnan(near.value):
        return ""
    expected = f"{_beside(finding, near.value)[0]} in {_minutes(_SECONDS[near.horizon])}"
    if not _has_band(finding):
        return f"Expected {expected}."
    if resolved:
        return f"Expected to stay: {expected}."
    if finding.lower <= near.value <= finding.upper:
        inside = finding.lower <= finding.observed <= finding.upper
        return f"{'Stays' if inside else 'Back'} inside its normal range, expected {expected}."
    return f"If nobody acts: stays outside its normal range, expected {expected}."


def _while_true(finding: Finding, breach: Breach, near: Forecast | None) -> str:
    side, limit = _side(breach), amount(breach.value, finding.unit) + breach.also
    if near is None or math.isnan(near.value):
        return f"{side.capitalize()} {limit} now."
    if _holds(breach.op, near.value, breach.value):
        return f"If nobody acts: stays {side} {limit}{_expected(finding, near, '; ')}."
    return f"{side.capitalize()} {limit} now, not for long{_expected(finding, near, ': ')}."


_UNKNOWN = "No history for this series yet."


def expected(finding: Finding) -> str:
    """The value that would be normal now, and its range; empty when there is no history."""
    if not _has_band(finding):
        return ""
    value, band = _beside(finding, finding.expected)
    return f"{value} ({band})"


def number(value: float, digits: int = 3) -> str:
    """Round to significant digits; large values with SI prefixes, since no unit is known.

    >>> [number(x) for x in (0.8642, 0.5, 1234.0, 15321.0, 2.5e9, -0.0000123, 0.0, float("inf"))]
    ['0.864', '0.5', '1230', '15.3k', '2.5G', '-0.0000123', '0', '+Inf']
    """
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    value, unit = float(f"{value:.{digits}g}"), ""
    if abs(value) >= 1e21 or 0 < abs(value) < 1e-7:
        return f"{value:.{digits}g}"
    if abs(value) >= 1e4:
        power = math.floor(math.log10(abs(value))) // 3
        value, unit = value / 1000**power, " kMGTPE"[power]
    places = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
    text = f"{value:.{max(0, places)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + unit


def amount(value: float, unit: str, digits: int = 3) -> str:
    """A value in its unit (as `Finding.unit` has it), as people write it: on pages and in words.

    >>> amount(0.4536, "s", 2), amount(1.2, "s"), amount(5e5, "s"), amount(450.0, "ms"), amount(0.008, "share")
    ('450 ms', '1.2 s', '5.79 d', '450 ms', '0.8%')
    >>> amount(1.2e8, "B"), amount(35.0, "/s"), amount(85.4, "%", 2), amount(0.62, ""), amount(math.inf, "s")
    ('120 MB', '35/s', '85%', '0.62', '+Inf')
    """
    if not math.isfinite(value):
        return number(value)
    if unit in ("share", "%"):
        return f"{number(100 * value if unit == 'share' else value, digits)}%"
    if unit in ("s", "ms"):
        return _time(value / 1000 if unit == "ms" else value, digits)
    text = number(value, digits)
    if unit in ("", "/s"):
        return text + unit
    figures, prefix = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    return f"{figures} {prefix}{unit}"


def _time(seconds: float, digits: int) -> str:
    if 0 < abs(seconds) < 1:
        return f"{number(1000 * seconds, digits)} ms"
    size, unit = next(((n, unit) for n, unit in _LONG if abs(seconds) >= 2 * n), (1.0, "s"))
    return f"{number(seconds / size, digits)} {unit}"


_LONG = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
"""From twice as many seconds on they are said otherwise."""


def within(lower: float, upper: float, unit: str) -> str:
    """From a lower edge to an upper one, the unit said once.

    >>> within(0.25, 0.31, "s"), within(0.0, 0.25, "share"), within(0.9, 1.1, "s")
    ('250 to 310 ms', '0 to 25%', '900 ms to 1.1 s')
    """
    start, end = amount(lower, unit), amount(upper, unit)
    figures, of = _apart(start)
    return f"{figures if figures == '0' or of == _apart(end)[1] else start} to {end}"


def _apart(text: str) -> tuple[str, str]:
    """Figures and unit of an amount.

    >>> _apart("85%"), _apart("450 ms"), _apart("35/s"), _apart("1.2M")
    (('85', '%'), ('450', 'ms'), ('35', '/s'), ('1.2M', ''))
    """
    for tail in ("%", "/s"):
        if " " not in text and text.endswith(tail):
            return text[: -len(tail)], tail
    figures, _, unit = text.partition(" ")
    return figures, unit


def clock(at: Instant, now: Instant) -> str:
    """The minute, with its day when that is not today.

    >>> clock(Instant(50580), Instant(86000)), clock(Instant(50580), Instant(90000))
    ('14:03 UTC', '1970-01-01 14:03 UTC')
    """
    when = datetime.fromtimestamp(at, UTC)
    today = when.date() == datetime.fromtimestamp(now, UTC).date()
    return when.strftime("%H:%M UTC" if today else "%Y-%m-%d %H:%M UTC")


def age(seconds: float) -> str:
    """How long, in the two largest units.

    >>> [age(s) for s in (20, 360, 7500, 7200, 190000)]
    ['less than a minute', '6 min', '2 h 5 min', '2 h', '2 d 4 h']
    """
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{n} {unit}" for n, unit in parts[:2] if n)


def _name(finding: Finding) -> str:
    """The query when it is short enough for a sentence, what it measures where that is sure, else the watch."""
    name = spoken(finding.query, finding.watch)
    if name != finding.watch:
        return name
    if finding.kind == "latency" and finding.unit in ("s", "ms"):
        return "Latency"
    harmful = {breach.op[0] for breach in finding.breaches} == {">"}  # else it may be one of what succeeds
    return "The error ratio" if finding.kind == "errors" and finding.unit == "share" and harmful else name


def _has_band(finding: Finding) -> bool:
    return not (math.isnan(finding.lower) or math.isnan(finding.upper))


def _beside(finding: Finding, value: float) -> tuple[str, str]:
    """A value to a twentieth and the band to a tenth of its width: what is finer differs by replica and says nothing.

    Finer where else a value beyond the band, or a limit of its rules, would not look so.
    """
    lower, upper = finding.lower, finding.upper
    width, far = upper - lower, max(lower - value, value - upper)
    limits = [breach.value for breach in finding.breaches]
    for finer in (1, 2.5, 5, 10, 50) if math.isfinite(value) and 0 < width < math.inf else ():
        step = _step(width / 10 / finer)
        low, high = _rounded(lower, step), _rounded(upper, step)
        seen = _rounded(value, _step(min(max(width, far) / 10, abs(value) / 20 or width) / finer))
        sides = all((seen > at, seen < at) == (value > at, value < at) for at in limits)
        if low < high and (low <= seen <= high) == (far <= 0) and sides:
            return amount(seen, finding.unit), within(low, high, finding.unit)
    return amount(value, finding.unit), within(lower, upper, finding.unit)


def _step(span: float) -> float:
    """The next 1, 2 or 5 times a power of ten.

    >>> [_step(x) for x in (0.04, 3.0, 11.0)]
    [0.05, 5.0, 20.0]
    """
    power = 10.0 ** math.floor(math.log10(span))
    return float(f"{power * next(n for n in (1, 2, 5, 10) if span <= n * power * (1 + 1e-9)):.1g}")


def _rounded(value: float, step: float) -> float:
    return float(f"{round(value / step) * step:.12g}")


def _odds(probability: float) -> str:
    """In steps of a twentieth, and never certain before it is.

    >>> [_odds(p) for p in (0.5, 0.93, 0.99)]
    ['0.5', '0.95', '0.99']
    """
    return number(min(round(probability * 20) / 20, 0.99), 2)


def _since(finding: Finding) -> str:
    if finding.since is None:
        return " just now"
    minutes = finding.at // 60 - finding.since // 60  # of the clock: replicas tick some seconds apart
    return f" since {clock(finding.since, finding.at)} ({age(60 * minutes)})"


def _confidence(finding: Finding) -> str:
    if math.isnan(finding.confidence):
        return ""
    words = "high" if finding.confidence >= 0.8 else "medium" if finding.confidence >= 0.5 else "low"
    return f", confidence {words}"


def _worst(finding: Finding, alertname: str) -> Breach | None:
    """The limit of the alert itself, if it is among them; else the most probable one, the nearest first."""

    def order(breach: Breach) -> tuple[bool, float, float]:
        eta = math.inf if breach.eta is None else breach.eta
        return (breach.alertname != alertname, -max(breach.probability.values(), default=0.0), eta)

    return min(finding.breaches, key=order, default=None)


def _covering(breach: Breach) -> str:
    """The shortest horizon that reaches the expected crossing."""
    eta = breach.eta or 0.0
    return next((name for name, seconds in HORIZONS if seconds >= eta), HORIZONS[-1][0])


def _forecast(finding: Finding, horizon: str) -> Forecast | None:
    return next((forecast for forecast in finding.forecasts if forecast.horizon == horizon), None)


def _expected(finding: Finding, forecast: Forecast | None, before: str) -> str:
    if forecast is None or math.isnan(forecast.value):
        return ""
    return f"{before}{_beside(finding, forecast.value)[0]} expected in {_minutes(_SECONDS[forecast.horizon])}"


def _in(eta: float) -> str:
    return "within a minute" if eta < 30 else f"in about {age(about(eta))}"


def about(seconds: float) -> float:
    """Seconds, as people say how long it will be: whole minutes, then fives, then quarters of an hour.

    >>> [about(60 * m) / 60 for m in (0.2, 3.4, 12, 21, 50)]
    [1.0, 3.0, 10.0, 20.0, 45.0]
    """
    step = next((60.0 * n for n, below in ((1, 9.5), (5, 32.5)) if seconds < 60 * below), 900.0)
    return max(60.0, round(seconds / step) * step)


def _between(breach: Breach) -> str:
    """Where the time may differ by more than is said of it, from when until when."""
    soonest, latest = (round(about(time) / 60) for time in breach.between or (0.0, 0.0))
    return f", between {soonest} and {latest} min" if latest > soonest else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"


def _side(breach: Breach) -> str:
    return {">": "above", ">=": "at or above", "<": "below", "<=": "at or below", "==": "at"}.get(
        breach.op, f"{breach.op}"
    )


def _holds(op: str, value: float, limit: float) -> bool:
    return {
        ">": value > limit,
        ">=": value >= limit,
        "<": value < limit,
        "<=": value <= limit,
        "==": value == limit,
    }.get(op, value != limit)
