"""Causes in words: what is out, against what it usually is, since when, and what explains the alert. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sidecar.alerts.diagnose import FLOWS, LOAD, RESOURCES, Cause, Diagnosis, Reason
from sidecar.alerts.evidence import Evidence
from sidecar.alerts.narrate import about, age, clock, number
from sidecar.types import HORIZONS, STOCKS, Candidates, Finding, Instant

_SECONDS = dict(HORIZONS)
FULL = 0.99
"""Share of a whole at which it counts as used up."""
SOME = 0.5
"""Of the excess that would count as evidence: enough to be a consequence of something else."""
ODD = 0.1
"""Weight below which evidence is not worth a word."""
CLEAR = 1.0
"""Weight of evidence on a resource from which latency and errors of its service are its consequence."""


def leading(cause: Cause, c: Candidates) -> Reason:
    """The evidence that says most: a resource that is clearly out of its usual or used up, else what weighs most."""
    own = [
        reason
        for reason in cause.reasons
        if reason.kind in RESOURCES and (reason.weight >= CLEAR or _used_up(reason, c))
    ]
    return max(own or cause.reasons, key=lambda reason: reason.weight)


def _used_up(reason: Reason, c: Candidates) -> bool:
    """Nothing is left of a share that is odd by itself: whatever waits for it is slow, however slow that is."""
    odd = reason.kind in STOCKS and reason.series >= 0 and reason.weight >= ODD
    return odd and FULL <= latest(c, reason.series) <= 1.0


def told(cause: Cause, c: Candidates, ev: Evidence, now: Instant, most: int = 2) -> str:
    """What speaks for a cause, the leading evidence first; latency and errors behind a resource follow from it."""
    first = leading(cause, c)
    parts = [_said(first, cause, c, ev, now)]
    rest = [reason for reason in cause.reasons if reason is not first and reason.weight > ODD]
    flows = _consequences(cause, c, ev) if first.kind in RESOURCES else []
    if flows:
        return f"{parts[0]}; {' and '.join(flows)} follow{'s' if len(flows) == 1 else ''}"
    parts += [_said(reason, cause, c, ev, now) for reason in rest[: most - 1]]
    return "; ".join(parts)


def none(found: Diagnosis) -> str:
    """When nobody is blamed."""
    many = f"{found.among} services and machines" if found.among != 1 else "one service"
    return f"No cause found among {many}: nothing is further out of its usual than chance explains."


def _said(reason: Reason, cause: Cause, c: Candidates, ev: Evidence, now: Instant) -> str:
    kind, row = reason.kind, reason.series
    if kind == "gap":
        bad, of = reason.edges
        return f"on {bad} of {of} calls the client waits longer than the server works: network"
    if kind == "fanout":
        return f"makes fewer calls per request than usual{_since(c, ev, row, now)}"
    value = latest(c, row)
    if kind == "traffic":
        more = _more(value / c.level[row] - 1 if c.level[row] > 0 else math.inf)
        text = f"{amount(kind, value)} requests/s, usually {amount(kind, c.level[row])}{more}"
        return text + _since(c, ev, row, now)
    name = c.names[row] if kind in RESOURCES or kind == "other" else kind
    text = f"{name} {amount(kind, value)}, usually {amount(kind, c.level[row])}{_since(c, ev, row, now)}"
    if kind in FLOWS and reason.own < 0.95:
        text += f", {100 * reason.own:.0f} % of it its own"
    if kind in FLOWS and reason.part >= 0.5 and not cause.entity.startswith(LOAD):
        text += f", which explains {_percent(reason.part)}the alert"
    return text


def _more(share: float) -> str:
    """By how much requests have grown.

    >>> _more(0.5), _more(-0.2), _more(200.4), _more(math.inf)
    (' (+50%)', ' (-20%)', ' (201 times as many)', '')
    """
    if not math.isfinite(share):
        return ""
    return f" ({share + 1:.0f} times as many)" if share >= 2 else f" ({share:+.0%})"


def _percent(share: float) -> str:
    """How much of something.

    >>> _percent(0.7) + "the alert", _percent(0.97) + "the alert"
    ('70 % of the alert', 'the alert')
    """
    return "" if share >= 0.95 else f"{100 * share:.0f} % of "


def _consequences(cause: Cause, c: Candidates, ev: Evidence) -> list[str]:
    """Latency and errors of the same service, where they are up too: less of it is enough, it is not the evidence."""
    rows = {reason.kind: reason.series for reason in cause.reasons if reason.kind in FLOWS}
    for row, (entity, kind) in enumerate(zip(c.entities, c.kinds, strict=True)):
        if entity == cause.entity and kind in FLOWS and ev.delta[row] > max(SOME * ev.least[row], 0.0):
            rows.setdefault(kind, row)
    return [
        f"{kind} {amount(kind, latest(c, rows[kind]))} (usually {amount(kind, c.level[rows[kind]])})"
        for kind in FLOWS
        if kind in rows
    ]


def _since(c: Candidates, ev: Evidence, row: int, now: Instant) -> str:
    at = onset(c, ev, row) if row >= 0 else math.nan
    return "" if math.isnan(at) else f" since {clock(Instant(at), now)}"


def onset(c: Candidates, ev: Evidence, row: int) -> float:
    """When a series went beyond its usual: looked for before the window too, where it was out all through it."""
    at = float(ev.since[row])
    there = np.isfinite(c.values[:, row])
    if math.isnan(at) or at > c.at[there.argmax()]:
        return at
    way = 1.0 if ev.up[row] else -1.0
    times, before = c.before(row)
    out = way * (before - c.level[row]) > ev.least[row]
    for i in range(len(out) - 1, -1, -1):
        if np.isnan(before[i]):
            continue
        if not out[i]:
            break
        at = float(times[i])
    return at


def latest(c: Candidates, row: int) -> float:
    """The newest sample of a series, NaN when there is none."""
    there = c.values[:, row]
    there = there[np.isfinite(there)]
    return float(there[-1]) if len(there) else math.nan


def amount(kind: str, value: float) -> str:
    """A value in the unit of its kind: seconds as time, ratios as shares.

    With two digits, which two replicas seldom read differently.

    >>> amount("latency", 0.4536), amount("latency", 1.2), amount("errors", 0.008), amount("cpu", 0.62)
    ('450 ms', '1.2 s', '0.8 %', '0.62')
    """
    value = float(value)
    if kind == "latency" and abs(value) < 1:
        return f"{number(1000 * value, 2)} ms"
    if kind == "latency":
        return f"{number(value, 2)} s"
    if kind in ("errors", *STOCKS) and 0 <= value <= 1:
        return f"{number(100 * value, 2)} %"
    return number(value, 2)


def listed(found: Diagnosis, says: str, sentences: Sequence[str]) -> str:
    """The likeliest cause and what it `says` of it, with its reason, and who else is possible; or that it is nobody.

    `sentences` are those of the causes, in their order.
    """
    if not found.found:
        return none(found)
    first = found.causes[0]
    name = first.entity.removeprefix(LOAD) if says else first.entity
    head = f"{name} {says} ({first.likelihood})" if says else f"{name}, {first.likelihood}"
    also = [
        f"{cause.entity} ({cause.likelihood})" for cause in found.causes[1:3] if cause.probability >= 0.05
    ]
    return f"{head}: {sentences[0]}." + (f" Else {' or '.join(also)}." if also else "")


def exhaustion(finding: Finding, slope: float = 0.0) -> str:
    """When a share of a whole is used up, by its forecasts or, if that is sooner, by its `slope` per second of late.

    Empty when it is not, or is no share. A forecast that ends at the whole does not say when it gets there.
    """
    if not 0 < finding.observed <= 1:
        return ""
    if finding.observed >= FULL:
        return "it is used up now"
    eta = (FULL - finding.observed) / slope if slope > 0 else math.inf
    before, then = finding.observed, 0.0
    for forecast in finding.forecasts:
        at = _SECONDS[forecast.horizon]
        if forecast.value >= FULL:
            eta = min(eta, then + (at - then) * (FULL - before) / (forecast.value - before))
            break
        before, then = forecast.value, at
    if eta > _SECONDS["60m"]:
        return ""
    return f"it is used up in about {age(about(eta))}"


def slope(c: Candidates, row: int) -> float:
    """Of a series, per second: the median of those between pairs of samples in the latter half of the window.

    0 where that is less than its usual restlessness, as after a step.
    """
    there = np.flatnonzero(np.isfinite(c.values[:, row]))
    there = there[-max(3, len(there) // 2 + 1) :]
    if len(there) < 3:
        return 0.0
    at, values = c.at[there], c.values[there, row]
    i, j = np.triu_indices(len(at), 1)
    found = float(np.median((values[j] - values[i]) / (at[j] - at[i])))
    return found if found * (at[-1] - at[0]) > c.scale[row] else 0.0
