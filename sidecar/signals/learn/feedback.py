"""Feedback arrives: which runs it speaks of, what it changes now, and the numbers about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from sidecar.signals.detect.belief import Beliefs
from sidecar.signals.learn.opinions import EXPECTED, PLANNED, VERDICTS, Opinion, Opinions, Spoken, Statement
from sidecar.signals.learn.runs import Run, Runs
from sidecar.telemetry import Telemetry
from sidecar.types import Finding, Instant, JsonObject, Rejected

log = logging.getLogger(__name__)
MOST = 100  # runs of one statement
Wanted = Callable[[Mapping[str, str]], bool]


class Rows(Protocol):
    """Where the engines are."""

    beliefs: Beliefs

    @property
    def runs(self) -> Runs: ...
    async def accept(self, series: Mapping[str, list[bytes]]) -> None: ...


class Series(Protocol):
    """What is known of series."""

    def matching(self, wanted: Wanted, limit: int) -> list[Finding]: ...


class About(NamedTuple):
    """What a statement is about: a selector, or the series of an alert."""

    wanted: Wanted
    """A test on labels, of which `watch` is one."""
    match: str = ""
    fingerprint: str = ""
    series: tuple[tuple[str, dict[str, str]], ...] = ()


def of_alert(fingerprint: str, findings: Iterable[Finding]) -> About:
    """The series that an alert is about."""
    series = tuple((f.watch, dict(f.labels)) for f in findings)
    mine = [{**labels, "watch": watch} for watch, labels in series]
    return About(lambda labels: labels in mine, fingerprint=fingerprint, series=series)


LATELY = 600.0
"""Seconds for which what was said to another replica is about what goes on now."""


class Misplaced(Rejected):
    """`where` names the field that is wrong."""

    def __init__(self, status: int, where: str, words: str) -> None:
        super().__init__(words, status)
        self.where = where


class Feedback:
    """What users say. `restore()` once, then `say()` and read."""

    def __init__(
        self,
        rows: Rows,
        known: Series,
        record: Callable[[str, JsonObject], Awaitable[Instant]],
        telemetry: Telemetry,
    ) -> None:
        """`record(who, data)` makes a fact, durably on return, and gives its time."""
        self.opinions = Opinions()
        self._rows, self._known, self._record, self._telemetry = rows, known, record, telemetry
        self._one_at_a_time = asyncio.Lock()
        for verdict in VERDICTS:
            telemetry.feedback.labels(verdict)
        self._show()

    def restore(self, facts: Iterable[tuple[Instant, str, JsonObject]]) -> None:
        """Fold what was said before the start: time, who, and data of each fact, in order."""
        for at, who, data in facts:
            try:
                self._fold(at, who, data)
            except msgspec.ValidationError as error:
                log.error("feedback of %s cannot be read: %s", who, error)
        self._rows.beliefs = self.opinions.beliefs()
        self._show()

    async def hear(self, facts: Sequence[tuple[Instant, str, JsonObject]], now: Instant) -> None:
        """Fold what was said to another replica while this one runs: what is normal from now on is so here too."""
        self.restore(facts)
        meant = [
            {**run["labels"], "watch": run["watch"]}
            for at, _, data in facts
            if data.get("verdict") == EXPECTED and now - at < LATELY
            for run in data.get("runs", ())
        ]
        if meant:
            await self._accept(
                run for run in self._rows.runs.find(lambda labels: labels in meant, now) if run.going
            )

    async def say(
        self,
        who: str,
        now: Instant,
        about: About,
        verdict: str,
        start: Instant | None = None,
        end: Instant | None = None,
        comment: str = "",
    ) -> Opinion:
        """Take a verdict in; Misplaced (400, 404, 409) when it cannot be meant."""
        if start is not None and end is not None and end < start:
            raise Misplaced(400, "end", "it lies before start")
        if verdict == PLANNED and (end is None or end <= now):
            raise Misplaced(400, "end", "planned needs an end that is still to come")
        runs = await asyncio.to_thread(self._spoken_of, now, about, verdict, start, end)
        said = Statement(
            verdict=verdict,
            match=about.match,
            fingerprint=about.fingerprint,
            start=now if verdict == PLANNED and start is None else start,
            end=end,
            comment=comment,
            runs=tuple(Spoken.of(run) for run in runs),
            series=about.series,
        )
        async with self._one_at_a_time:
            data: JsonObject = msgspec.to_builtins(said)
            opinion = self._fold(await self._record(who, data), who, data)
            if verdict == EXPECTED:
                await self._accept(runs)
            self._rows.beliefs = self.opinions.beliefs()
        self._show()
        return opinion

    def runs(self, limit: int) -> list[tuple[Run, str | None]]:
        """What has been odd lately, and what was said of it."""
        return [(run, self.opinions.verdict(run)) for run in self._rows.runs.recent(limit)]

    def _spoken_of(
        self, now: Instant, about: About, verdict: str, start: Instant | None, end: Instant | None
    ) -> list[Run]:
        if verdict == PLANNED:
            return []  # it is about samples to come
        if verdict == EXPECTED:
            runs = [run for run in self._rows.runs.find(about.wanted, now) if run.going]
        else:
            runs = self._rows.runs.find(about.wanted, now, start, end)[:MOST]
        place = "fingerprint" if about.fingerprint else "match"
        if not runs and not self._known.matching(about.wanted, 1):
            raise Misplaced(404, place, "no series that is known fits")
        if not runs and verdict == EXPECTED:
            raise Misplaced(409, place, "nothing of it is out of its usual now")
        return runs

    async def _accept(self, runs: Iterable[Run]) -> None:
        series: dict[str, list[bytes]] = {}
        for run in runs:
            series.setdefault(run.watch, []).append(run.key)
        await self._rows.accept(series)

    def _fold(self, at: Instant, who: str, data: JsonObject) -> Opinion:
        opinion = self.opinions.add(at, who, data)
        self._telemetry.feedback.labels(opinion.said.verdict).inc()
        return opinion

    def _show(self) -> None:
        now, t = self.opinions.reliability(), self._telemetry
        for name, count in now.runs.items():
            t.confidence_runs.labels(name).set(count)
        t.confidence_reliability.clear()
        for name, share in now.share.items():
            t.confidence_reliability.labels(name).set(share)
        t.confidence_brier.set(now.brier)
        t.feedback_gain.set(now.gain)


def listed(opinion: Opinion) -> dict[str, Any]:
    """A statement as people and programs read it."""
    view: dict[str, Any] = msgspec.to_builtins(opinion.said)
    empty: dict[str, Any] = {
        "match": "",
        "fingerprint": "",
        "start": None,
        "end": None,
        "comment": "",
        "runs": (),
    }
    view.pop("series", None)
    return {"at": opinion.at, "who": opinion.who, **empty, **view}
