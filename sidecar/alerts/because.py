"""Causes in words: what is out, against what it usually is, since when, and what explains the alert. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sidecar.alerts import narrate
from sidecar.alerts.diagnose import FLOWS, LOAD, RESOURCES, Cause, Diagnosis, Reason
from sidecar.alerts.evidence import Evidence
from sidecar.alerts.narrate import about, age, clock
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
    if reason.kind not in STOCKS or reason.series < 0 or reason.weight < ODD:
        return False
    return left(latest(c, reason.series), c.unit(reason.series), c.way(reason.series)) <= 1.0 - FULL


def left(value: float, unit: str, way: int) -> float:
    """Of something that is used up, as its series counts: what is left, or the rest of a share; NaN if that is unknown.

    >>> left(0.75, "share", 1), left(75.0, "%", 1), left(2e9, "B", -1), left(2e9, "B", 1), left(3.4, "share", 1)
    (0.25, 0.25, 2000000000.0, nan, nan)
    """
    whole = {"share": 1.0, "%": 100.0}.get(unit)
    if way < 0:
        return value / (whole or 1.0)
    return 1.0 - value / whole if whole and value <= 1.01 * whole else math.nan  # a ratio above 1 is no share


def told(cause: Cause, c: Candidates, ev: Evidence, now: Instant, most: int = 2) -> str:
    """What speaks for a cause, the leading evidence first; latency and errors behind a resource follow from it."""
    first = leading(cause, c)
    parts = [_said(first, cause, c, ev, now)]
    rest = [reason for reason in cause.reasons if reason is not first and reason.weight > ODD]
    flows = _consequences(cause, c, ev) if first.kind in RESOURCES else []
    if flows:
        return f"{parts[0]}; {' and '.join(flows)} follow{'s' if len(flows) == 1 else ''}"
    parts += [_said(reason, cause, c, ev, now) for reason in rest[: most - 1]]
    if first.kind in FLOWS and asked_again(cause.entity, c, ev):
        row = next(
            row for row in _rows(c, cause.entity) if c.kinds[row] == "traffic" and ev.doublings[row] > 0
        )
        parts.append(f"{_requests(c, row)}, while its callers get no more")
    return "; ".join(parts)


def none(found: Diagnosis, itself: bool = False) -> str:
    """When nobody is blamed; `itself`: what the alert is about is out of its usual."""
    many = f"{found.among} services and machines" if found.among != 1 else "one service"
    but = "beside the alert itself " if itself else ""
    return f"No cause found among {many}: {but}nothing is further out of its usual than chance explains."


def _said(reason: Reason, cause: Cause, c: Candidates, ev: Evidence, now: Instant) -> str:
    kind, row = reason.kind, reason.series
    if kind == "gap":
        bad, of = reason.edges
        return f"on {bad} of {of} calls the client waits longer than the server works: network"
    if kind == "fanout":
        return f"makes fewer calls per request than usual{_since(c, ev, row, now)}"
    value = latest(c, row)
    if kind == "traffic":
        return f"{_requests(c, row)}{_since(c, ev, row, now)}"
    text = f"{named(c, row)} {amount(c, row, value)}, usually {amount(c, row, c.level[row])}{_since(c, ev, row, now)}"
    if kind in FLOWS and reason.own < 0.95:
        text += f", {100 * reason.own:.0f}% of it its own"
    if kind in FLOWS and reason.part >= 0.5 and not cause.entity.startswith(LOAD):
        text += f", which explains {_percent(reason.part)}the alert"
    return text


def _requests(c: Candidates, row: int) -> str:
    value, level = latest(c, row), float(c.level[row])
    share = value / level - 1 if level > 0 else math.inf
    what = " requests/s" if c.unit(row) in ("", "/s") else ""
    now, usually = (amount(c, row, one).removesuffix("/s") for one in (value, level))
    return f"{now}{what}, usually {usually}" + _more(share)


def named(c: Candidates, row: int, of: str = "") -> str:
    """Latency and errors by their kind (`of` a service), all else, and what is good while it is high, by its name."""
    if c.kinds[row] in FLOWS and c.way(row) > 0:
        ratio = (
            {"share": "error ratio", "/s": "error rate"}.get(c.unit(row))
            if c.kinds[row] == "errors"
            else None
        )
        return f"{ratio or c.kinds[row]} of {of}" if of else c.kinds[row]
    return c.names[row]


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
    ('70% of the alert', 'the alert')
    """
    return "" if share >= 0.95 else f"{100 * share:.0f}% of "


def _consequences(cause: Cause, c: Candidates, ev: Evidence) -> list[str]:
    """Latency and errors of the same service, where they are up too: less of it is enough, it is not the evidence."""
    rows = {reason.kind: reason.series for reason in cause.reasons if reason.kind in FLOWS}
    for row in _rows(c, cause.entity):
        if c.kinds[row] in FLOWS and ev.delta[row] > max(SOME * ev.least[row], 0.0):
            rows.setdefault(c.kinds[row], row)
    found = [rows[kind] for kind in FLOWS if kind in rows]
    return [
        f"{named(c, row)} {amount(c, row, latest(c, row))} (usually {amount(c, row, c.level[row])})"
        for row in found
    ]


def out(c: Candidates, ev: Evidence, target: tuple[str, str] | None) -> bool:
    """Whether what an alert is about is out of its usual."""
    if target is None:
        return False
    return any(c.kinds[row] == target[1] and ev.doublings[row] > 0 for row in _rows(c, target[0]))


def _rows(c: Candidates, entity: str) -> list[int]:
    return [row for row, one in enumerate(c.entities) if one == entity]


def asked_again(entity: str, c: Candidates, ev: Evidence) -> bool:
    """Whether a service gets more requests than usual while none of its callers does: they ask again and again."""
    rose = {
        c.entities[row]
        for row in np.flatnonzero((ev.doublings > 0) & ev.up).tolist()
        if c.kinds[row] == "traffic"
    }
    return entity in rose and rose.isdisjoint(caller for caller, callee in c.calls if callee == entity)


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


def amount(c: Candidates, row: int, value: float) -> str:
    """A value of a series in its unit, with two digits, which two replicas seldom read differently."""
    return narrate.amount(float(value), c.unit(row), 2)


def listed(found: Diagnosis, says: str, sentences: Sequence[str], itself: bool = False) -> str:
    """The likeliest cause and what it `says` of it, with its reason, and who else is possible; or that it is nobody.

    `sentences` are those of the causes, in their order; `itself` is as in `none`.
    """
    if not found.found:
        return none(found, itself)
    first = found.causes[0]
    name = first.entity.removeprefix(LOAD) if says else first.entity
    head = f"{name} {says} ({first.likelihood})" if says else f"{name}, {first.likelihood}"
    also = [
        f"{cause.entity} ({cause.likelihood})" for cause in found.causes[1:3] if cause.probability >= 0.05
    ]
    return f"{head}: {sentences[0]}." + (f" Else {' or '.join(also)}." if also else "")


USED_UP = "it is used up now"


def exhaustion(finding: Finding, way: int, slope: float = 0.0) -> str:
    """When something is used up, by its forecasts or, if that is sooner, by its `slope` per second of late.

    Empty when it is not, or how much there is at most is not known. A forecast that ends at the whole does not say when
    it gets there.
    """
    now = left(finding.observed, finding.unit, way)
    end = 1.0 - FULL if finding.unit in ("share", "%") else 0.0
    if math.isnan(now):
        return ""
    if now <= end:
        return USED_UP
    falls = now - left(finding.observed + slope, finding.unit, way)
    eta = (now - end) / falls if falls > 0 else math.inf
    before, then = now, 0.0
    for forecast in finding.forecasts:
        at, there = _SECONDS[forecast.horizon], left(forecast.value, finding.unit, way)
        if there <= end:
            eta = min(eta, then + (at - then) * (before - end) / (before - there))
            break
        before, then = there, at
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
    return found if abs(found) * (at[-1] - at[0]) > c.scale[row] else 0.0
