"""What whoever looks at a page is shown: where series, alerts, cases and what was said of them meet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from sidecar.adapters.prometheus import Prometheus
from sidecar.alerts import narrate
from sidecar.alerts.explainer import Explainer, Going
from sidecar.alerts.identity import fingerprint
from sidecar.alerts.relay import LOOKED, Received, Relay
from sidecar.alerts.times import instant
from sidecar.remedy.case import Case
from sidecar.remedy.measure import compared, ours
from sidecar.remedy.runner import Runner
from sidecar.signals.ingest.changes import Change, concerned
from sidecar.signals.ingest.series import labels as labels_in
from sidecar.signals.known.picture import PATIENCE, Picture, pictured
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.feedback import About, Feedback, listed, of_alert
from sidecar.signals.scene.recent import Recent
from sidecar.signals.watch.calendar import Planned
from sidecar.types import F64, OURS, Alert, Finding, Instant, Labels, PromantisError, Rejected
from sidecar.web.chart import Mark
from sidecar.web.deciding import Line, Outcome
from sidecar.web.incident import Event, Other, Seen
from sidecar.web.pages import Happening

NEAR = 10
"""Series shown beside an alert."""
BEFORE, AFTER = 1800.0, 900.0
"""Seconds of a chart before an action, and after the case was over."""
POINTS, SHORTEST = 160, 5.0
"""Points of that chart, and seconds between them."""
OTHERS, EVENTS = 20, 60
"""Other alerts of an incident that are named, and things that happened, the newest of them."""
LINES = 20
"""Series on it."""


class Looking:
    """Answers the pages. What takes a while runs in threads: no alert waits for a page."""

    def __init__(
        self,
        known: Known,
        recent: Recent,
        explainer: Explainer,
        relay: Relay,
        runner: Runner,
        feedback: Feedback,
        prometheus: Prometheus,
        enrich: Callable[[Alert, Instant], Mapping[str, str]],
        clock: Callable[[], Instant],
        calendar: Callable[[], Sequence[Planned]],
        deployed: Callable[[], Sequence[tuple[float, Change]]],
    ) -> None:
        self._known, self._recent, self._explainer = known, recent, explainer
        self._relay, self._runner, self._feedback = relay, runner, feedback
        self._prometheus, self._enrich, self._clock = prometheus, enrich, clock
        self._calendar, self._deployed = calendar, deployed

    # ------------------------------------------------------------------ now

    def past(self, finding: Finding) -> tuple[F64, F64] | None:
        """Times and values of the last two hours of a series, as far as they are in memory."""
        return self._recent.past(finding.watch, finding.key)

    async def happening(self, limit: int) -> Sequence[Happening]:
        """The incidents that are open, and alerts that fire and belong to none, the newest first."""
        return await asyncio.to_thread(self._happening, self._relay.firing(LOOKED), limit)

    def _happening(self, firing: Sequence[Received], limit: int) -> Sequence[Happening]:
        going = self._explainer.going()
        told = {labels for one in going for labels in one.firing}
        alone = [_alone(one) for one in firing if one.alert.labels not in told]
        found = [*(_incident(one) for one in going if one.firing), *alone]
        return sorted(found, key=lambda one: -one.began)[:limit]

    # ------------------------------------------------------------------ a series

    async def pictured(self, finding: Finding, span: float) -> Picture:
        """What the chart of a series shows of the last seconds."""
        return await pictured(self._prometheus, finding, self._clock(), span)

    def marked(self, finding: Finding, start: Instant, end: Instant) -> Sequence[Mark]:
        """Deployments that were seen and planned events that concern a series, of a time."""
        labels = {**dict(finding.labels), "watch": finding.watch}
        events = [
            Mark(window.start, f"planned: {event.name}, until {narrate.clock(window.end, window.start)}")
            for event in self._calendar()
            if not event.match or any(all(m.matches(labels) for m in matchers) for matchers in event.match)
            for window in event.between(start, end)
        ]
        deployed = [
            Mark(at, " ".join(["deployed:", *sorted(one.name for one in change.workloads)]))
            for at, change in self._deployed()
            if start <= at <= end and concerned(change, finding.watch, finding.key)
        ]
        return [*events, *deployed]

    # ------------------------------------------------------------------ an alert

    async def alert(self, wanted: str) -> Seen | None:
        """What is known of an alert and its incident; None when nothing was received of it."""
        received = self._relay.alert(wanted)
        if received is None:
            return None
        said = [listed(one) for one in self._feedback.opinions.of_alert(wanted)]
        seen, going = await asyncio.to_thread(self._seen, received)
        mine = received.alert.labels
        firing = sorted((labels for labels in going.firing if labels != mine), key=_own) if going else []
        alerts = [one for labels in firing[:OTHERS] if (one := self._relay.received(labels)) is not None]
        others = [
            Other(fingerprint(one.alert.labels), _called(one.alert.labels), _apart(one.alert.labels, mine))
            for one in alerts
        ]
        ids = frozenset({wanted}).union(going.fingerprints if going else ())
        events = [*_starts([received, *alerts]), *self._deeds(ids), *_moves(seen, self._changes(seen))]
        events += [
            Event(one["at"], "said", one["verdict"].replace("_", " "), one["who"])
            for one in said
            if one["at"] >= (_instant(received.alert.starts_at) or 0.0)
        ]
        events.sort(key=lambda one: one.at)
        more = len(firing) - len(others)
        return msgspec.structs.replace(seen, said=said, others=others, more=more, events=events[-EVENTS:])

    def _seen(self, received: Received) -> tuple[Seen, Going | None]:
        now, alert = self._clock(), received.alert
        near = self._known.near(alert.labels, NEAR)
        # what was said already, if anything: looking at an alert is no reason to diagnose it again
        words = received.words or self._enrich(alert, now)
        explained = self._explainer.told(alert, now)
        if explained is None and received.firing:
            explained = self._explainer(alert, now, near)
        going = next(
            (one for one in self._explainer.going() if fingerprint(alert.labels) in one.fingerprints), None
        )
        alert = msgspec.structs.replace(alert, annotations={**words, **alert.annotations})
        pasts = {}
        for moved in explained.moved if explained else ():
            if (past := self._recent.past(moved.watch, moved.key)) is not None:
                pasts[moved.watch, moved.key] = past
        for finding in near:
            if (past := self.past(finding)) is not None:
                pasts[finding.watch, finding.key] = past
        return Seen(alert, received.firing, near, explained=explained, pasts=pasts), going

    def _deeds(self, fingerprints: frozenset[str]) -> list[Event]:
        """What the cases of these alerts, as they fired last, have come to."""
        cases = [case for case in self._runner.cases() if case.fingerprint in fingerprints]
        last = {case.fingerprint: case.episode for case in sorted(cases, key=lambda case: case.episode)}
        return [
            Event(fact.at, fact.kind, case.policy, fact.who, f"/c/{case.id}", fact.data.get("words", ""))
            for case in cases
            if case.episode == last[case.fingerprint]
            for fact in self._runner.case(case.id)[1]
            if not fact.kind.startswith("effect.")  # numbers, that the case itself shows
        ]

    def _changes(self, seen: Seen) -> list[Event]:
        around = {one for pair in seen.explained.calls for one in pair} if seen.explained else set()
        around |= {one.entity for one in seen.explained.causes} if seen.explained else set()
        return [Event(one.at, "change", one.words) for one in self._explainer.changed if one.entity in around]

    # ------------------------------------------------------------------ a case

    async def outcome(self, case: Case) -> Outcome | None:
        """What a case's verification compares, before and after its action; None where nothing can be shown."""
        policy = self._runner.policy(case.policy)
        found = compared(policy.verify.query) if policy else None
        if case.intent_at is None or case.before is None or found is None:  # before: few enough to be kept
            return None
        end = self._clock() if case.open else min(self._clock(), Instant(case.since + AFTER))
        begin = Instant(case.intent_at - BEFORE)
        step = max(SHORTEST, round((end - begin) / POINTS / SHORTEST) * SHORTEST)
        try:
            async with asyncio.timeout(PATIENCE):
                matrix = await self._prometheus.range(found.query, begin, end, step)
        except (PromantisError, TimeoutError):
            return None
        grid: F64 = begin + np.arange(int((end - begin) / step + 1e-9) + 1, dtype=np.float64) * step
        of = dict(case.labels)
        lines = [Line(ours(labels_in(key), of), matrix.values[:, i]) for i, key in enumerate(matrix.keys)]
        lines.sort(key=lambda line: not line.ours)
        return Outcome(grid, lines[:LINES], found.query, found.op, found.limit)

    # ------------------------------------------------------------------ what people say

    async def judge(self, fingerprint: str, verdict: str, who: str) -> None:
        """Take in what a person says of an alert on its page; Rejected with 404 when it is not known."""
        about = self.about(fingerprint)
        if about is None:
            raise Rejected("this alert is not known", 404)
        await self._feedback.say(who, self._clock(), about, verdict)

    def about(self, fingerprint: str) -> About | None:
        """The series that an alert speaks of."""
        received = self._relay.alert(fingerprint)
        if received is None:
            return None
        return of_alert(fingerprint, self._known.near(received.alert.labels, NEAR))


def _incident(one: Going) -> Happening:
    firing = sorted(one.firing, key=_own)
    names = dict.fromkeys(dict(labels).get("alertname", "") for labels in firing if not _own(labels))
    said = one.said
    return Happening(
        fingerprint(firing[0]),
        tuple(names) or (_called(firing[0]),),
        len(one.firing),
        one.began,
        said.summary if said else "",
        said.pattern if said else "",
        said.blamed if said else "",
    )


def _own(labels: Labels) -> bool:
    """Whether an alert is one of Promantis' own rules, which comes after the user's."""
    return any(name == OURS for name, _ in labels)


def _called(labels: Labels) -> str:
    """An alert's name; with what it is about, for those of Promantis' own rules.

    >>> _called((("alertname", "PromantisAnomaly"), ("promantis_kind", "anomaly"), ("watch", "latency")))
    'PromantisAnomaly of latency'
    """
    of = dict(labels)
    about = next((of[name] for name in ("watch", "group", "source_alertname") if of.get(name)), "")
    return f"{of.get('alertname', '')} of {about}" if _own(labels) and about else of.get("alertname", "")


def _apart(labels: Labels, from_: Labels) -> Labels:
    """The labels by which one alert differs from another, without those that its name says."""
    named = ("alertname", "watch", "group", "source_alertname", OURS, "promantis_tier")
    return tuple(pair for pair in labels if pair not in from_ and pair[0] not in named)


def _alone(one: Received) -> Happening:
    alert = one.alert
    words = one.words.get("promantis_summary", "") or alert.annotations.get("summary", "")
    began = _instant(alert.starts_at) or Instant(0.0)
    return Happening(fingerprint(alert.labels), (alert.label("alertname"),), 1, began, words)


def _starts(received: Sequence[Received]) -> list[Event]:
    """When alerts began, and ended."""
    out = []
    for one in received:
        name, link = _called(one.alert.labels), f"/a/{fingerprint(one.alert.labels)}"
        if (began := _instant(one.alert.starts_at)) is not None:
            out.append(Event(began, "firing", name, "", link))
        if not one.firing and (over := _instant(one.alert.ends_at)) is not None:
            out.append(Event(over, "resolved", name, "", link))
    return out


def _moves(seen: Seen, changes: Sequence[Event]) -> list[Event]:
    moved = seen.explained.moved if seen.explained else ()
    return [
        *changes,
        *(
            Event(
                one.since,
                "moved",
                f"{one.entity.replace('->', ' → ')}: {one.name} {one.now}, usually {one.usual}",
            )
            for one in moved
            if one.since is not None
        ),
    ]


def _instant(text: str | None) -> Instant | None:
    try:
        return instant(text)
    except ValueError:
        return None
