"""What `promantis doctor` makes of what it saw: each check in one line, and what to do where it is not well; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from sidecar.types import Labels

State = Literal["ok", "bad", "unknown"]
DRIFT = 5.0
"""Seconds between two clocks that do no harm."""
OLD = 300.0
"""Seconds, and three steps, after which a watch's data are old."""
RESENT, REPEATED = 120.0, 360.0
"""Seconds after which Prometheus has sent each alert again, and Alertmanager has told of one that is new."""
MONTH = 30 * 86400.0
COARSE = 300.0
"""Seconds between samples of history from which on minutes cannot be learned."""
OWN_TARGET = ("__name__", "job", "instance", "version")
NAMED = 5
"""Of many, how many are named."""


class Check(NamedTuple):
    """One line; `remedy` says what to do when it is not ok."""

    name: str
    state: State
    words: str
    remedy: str = ""


class Watched(NamedTuple):
    """One watch, as `/api/v1/watches` tells it."""

    name: str
    step: float
    answered: float | None
    error: str | None


class Seen(NamedTuple):
    """What was found out; None: it could not be asked, or there is no such thing."""

    now: float
    waits: str
    """What Promantis still waits for; empty when it is ready."""
    watches: Sequence[Watched]
    newest: float | None
    """Time of Prometheus' newest sample."""
    targets: Sequence[Labels]
    """Labels of each Promantis that Prometheus scrapes."""
    scrapes: float | None
    """Requests for /metrics per scrape of this Prometheus."""
    overwritten: int
    """Series of results whose `job` gave way to the target's."""
    blank: Sequence[str]
    """`exposition.blank_labels`."""
    alertmanagers: int
    """That are known."""
    silent: Sequence[str]
    """What came of asking those that do not answer."""
    contradictions: Sequence[str]
    """Of the way that alerts go."""
    runs: float | None
    """Seconds since Promantis started."""
    firing: int
    """Alerts that fire in Prometheus."""
    received: float | None
    """Alerts that came from Prometheus since the start."""
    remedies: int
    webhooks: float | None
    """Webhooks that came back since the start."""
    deep: float
    """Seconds that history reaches back, of the thirty days that are asked for."""
    step: float | None
    """Seconds between samples at its far end."""


def examined(seen: Seen) -> Iterator[Check]:
    """Every check, in the order in which to repair what is wrong."""
    yield (
        Check("promantis", "bad", f"not ready: {seen.waits}", "wait; its log says what it does")
        if seen.waits
        else Check("promantis", "ok", "is ready")
    )
    yield _clock(seen)
    yield _watches(seen)
    yield from _scraped(seen)
    yield from _alertmanagers(seen)
    yield from _alerts(seen)
    yield _history(seen)


def _clock(seen: Seen) -> Check:
    if seen.newest is None:
        return Check(
            "clock", "unknown", "Prometheus has no recent sample of `up`", "does it scrape anything?"
        )
    drift = seen.now - seen.newest
    if drift < -DRIFT:
        words = f"Prometheus has samples {span(-drift)} from now: its clock and this one differ"
        return Check("clock", "bad", words, "set both by NTP")
    if drift > 60 + DRIFT:
        words = f"Prometheus' newest sample is {span(drift)} old: its clock is behind, or it scrapes rarely"
        return Check("clock", "bad", words, "set both by NTP")
    return Check("clock", "ok", f"Prometheus' newest sample is {span(max(drift, 0))} old")


def _watches(seen: Seen) -> Check:
    if not seen.watches:
        return Check("watches", "bad", "nothing is watched", "`promantis check --live` says why")
    old = [w for w in seen.watches if w.answered is None or seen.now - w.answered > max(OLD, 3 * w.step)]
    if not old:
        age = max(seen.now - (w.answered or 0.0) for w in seen.watches)
        return Check("watches", "ok", f"{len(seen.watches)}, the oldest data are of {span(age)} ago")
    named = "; ".join(f"{w.name}: {w.error or 'never answered'}" for w in old[:NAMED])
    more = f"; and {len(old) - NAMED} more" if len(old) > NAMED else ""
    return Check(
        "watches", "bad", f"{len(old)} without data: {named}{more}", "mend the query, or its metrics"
    )


def _scraped(seen: Seen) -> Iterator[Check]:
    if not seen.targets:
        yield Check(
            "scraped", "bad", "Prometheus does not scrape Promantis", "add the job of deploy/prometheus.yml"
        )
        return
    if len(seen.targets) > 1:
        named = ", ".join(dict(labels).get("instance", "?") for labels in seen.targets[:NAMED])
        words = f"{len(seen.targets)} targets serve Promantis' metrics: {named}"
        yield Check("scraped", "bad", words, "scrape one Promantis, by one job: two say everything twice")
    elif seen.scrapes is not None and seen.scrapes > 1.5:
        words = f"/metrics is asked {seen.scrapes:.1f} times for each scrape of this Prometheus"
        yield Check(
            "scraped", "bad", words, "something else scrapes it too: one Promantis for one Prometheus"
        )
    else:
        yield Check("scraped", "ok", "by this Prometheus only")
    yield (
        Check(
            "honor_labels",
            "bad",
            f"{seen.overwritten} series of results have an exported_job",
            "set honor_labels: true",
        )
        if seen.overwritten
        else Check("honor_labels", "ok", "the labels of your series are theirs")
    )
    leaking = sorted({name for labels in seen.targets for name, _ in labels} - {*OWN_TARGET, *seen.blank})
    yield (
        Check(
            "labels",
            "bad",
            f"labels of Promantis' own target are put on series that lack them: {', '.join(leaking)}",
            "add them to exposition.blank_labels",
        )
        if leaking
        else Check("labels", "ok", "none of Promantis' own target leaks in")
    )


def _alertmanagers(seen: Seen) -> Iterator[Check]:
    for words in seen.silent:
        yield Check("alertmanager", "bad", words, "is it up, is its url right, does it want a login?")
    if not seen.alertmanagers:
        words = "none is known, so no alert gets words"
        yield Check("alertmanager", "unknown", words, "name it in alertmanagers, or by --alertmanager.url")
    elif not seen.silent:
        yield Check(
            "alertmanager", "ok", "answers" if seen.alertmanagers == 1 else f"all {seen.alertmanagers} answer"
        )


def _alerts(seen: Seen) -> Iterator[Check]:
    for words in seen.contradictions:
        yield Check("alerts", "bad", words, "see deploy/prometheus.yml")
    if not seen.contradictions:
        if seen.received:
            yield Check("alerts", "ok", f"{seen.received:.0f} came from Prometheus since the start")
        elif seen.firing and (seen.runs or RESENT) < RESENT:
            words = f"none has come in the {span(seen.runs or 0)} since the start"
            yield Check("alerts", "unknown", words, "Prometheus sends each again within a minute: ask then")
        elif seen.firing:
            words = f"{seen.firing} fire in Prometheus, and none has come"
            yield Check("alerts", "bad", words, "is the token right? see Prometheus' log")
        else:
            yield Check("alerts", "unknown", "none fires, so none came")
    if not seen.remedies:
        yield Check("webhook", "ok", "no remedy is configured, so none is needed")
    elif seen.webhooks:
        yield Check("webhook", "ok", f"{seen.webhooks:.0f} came from Alertmanager since the start")
    elif seen.firing and (seen.runs or REPEATED) < REPEATED:
        words = f"none has come in the {span(seen.runs or 0)} since the start"
        yield Check(
            "webhook", "unknown", words, "Alertmanager tells of what is new, or once in group_interval"
        )
    elif seen.firing:
        words = f"{seen.firing} alerts fire, and Alertmanager has sent no webhook"
        yield Check(
            "webhook", "bad", words, "add the receiver of deploy/alertmanager.yml; is its token right?"
        )
    else:
        yield Check("webhook", "unknown", "no alert fires, so none came")


def _history(seen: Seen) -> Check:
    least = MONTH / 100  # of what was looked for, its beginning is known no closer
    deep = (
        f"reaches back {span(seen.deep)}" if seen.deep > 2 * least else f"is shorter than {span(2 * least)}"
    )
    if seen.step is None:
        return Check("history", "unknown", "Prometheus has none of `up`", "does it scrape anything?")
    if seen.deep < 2 * 86400:  # of minutes, how coarse it is cannot be told either
        more = "it grows with Prometheus' age: else raise its retention, or set prometheus.history_url"
        return Check("history", "unknown", deep, more)
    if seen.step > COARSE:
        words = f"{deep}, with a sample every {span(seen.step)} at its far end"
        return Check("history", "bad", words, "its days and weeks are learned, its minutes are not")
    words = f"{deep} of 30d, with a sample every {span(seen.step)}"
    return Check("history", "ok", words)


def span(seconds: float) -> str:
    """A length of time, rounded.

    >>> span(3.4), span(7300), span(30 * 86400)
    ('3s', '2h', '30d')
    """
    units = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    unit, letter = next((u for u in units if seconds >= 2 * u[0]), units[-1])
    return f"{round(seconds / unit)}{letter}"
