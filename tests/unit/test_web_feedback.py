"""Feedback over HTTP, with the real engine, journal and routes: what is taken, refused, kept, and what it changes."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.adapters.journal import SqliteJournal
from sidecar.remedy.case import Draft
from sidecar.signals.detect.belief import NONE
from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.feedback import About, Feedback, of_alert
from sidecar.signals.learn.runs import Runs
from sidecar.signals.learn.trust import none
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, JsonObject
from sidecar.web import auth, feedback, server
from tests.unit.made import START, engine, key, learned, watch

A, B = key(i="a"), key(i="b")
FINGERPRINT = "0123456789abcdef"
SAYS, WEAK = "f" * 20, "v" * 20
SPELL = 40  # ticks of quiet after which a run is over


@functools.cache
def past() -> Block:
    """What two days taught of two series around 50."""
    rng = np.random.default_rng(1)
    return learned(15.0, 2, lambda _: 50 + rng.normal(0, 1, 2), 2)


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


class Site:
    """An engine of two watches with two series each, that know two days, and what stands around it."""

    def __init__(self, folder: Path) -> None:
        self.engine = engine(watch(kind="cpu"), watch("other", "y", kind="disk"))
        for name in ("w", "other"):
            self.engine.adopt(START, name, [A, B], past(), 0, 100)
        self.noise = np.random.default_rng(2)
        self.known, self.runs, self.beliefs = Known(), Runs(), NONE
        self.path, self.at = folder / "journal.db", START
        self.client: TestClient[Any, Any]

    async def start(self) -> None:
        """Promantis starts, with what the journal says; runs are not remembered."""
        self.runs, self.beliefs, self.telemetry = Runs(), NONE, Telemetry()
        self.journal = SqliteJournal(self.path)
        self.feedback = Feedback(self, self.known, self.record, self.telemetry)
        facts = await self.journal.facts()
        self.feedback.restore((fact.at, fact.who, fact.data) for fact in facts)
        people = (auth.Token("fay", SAYS, "feedback"), auth.Token("victor", WEAK, "view"))
        doors = auth.Auth(people, True)
        routes = feedback.routes(self.feedback, self.about, lambda: self.at)
        self.client = TestClient(TestServer(server.build(routes, doors, self.telemetry, list, self.reload)))
        await self.client.start_server()

    async def stop(self) -> None:
        await self.client.close()
        await self.journal.close()

    async def reload(self) -> None: ...

    async def record(self, who: str, data: JsonObject) -> Instant:
        (fact,) = await self.journal.append(self.at, [Draft("feedback", None, who, data)])
        return fact.at

    async def accept(self, series: Mapping[str, list[bytes]]) -> None:
        for name, keys in series.items():
            self.engine.accept(name, keys)

    def about(self, fingerprint: str) -> About | None:
        near = self.known.matching(lambda labels: labels == {"watch": "w", "i": "a"}, 1)
        return of_alert(fingerprint, near) if fingerprint == FINGERPRINT else None

    def tick(self, shift: float = 0.0, count: int = 1, trust: bool = True) -> float:
        """Ticks in which series A of both watches is shifted; the highest confidence of the first."""
        highest = 0.0
        for _ in range(count):
            self.at = Instant(self.at + self.engine.step)
            x = 50 + self.noise.normal(0, 1, 2) + np.array([shift, 0])
            if self.engine.beliefs is not self.beliefs:
                self.engine.believe(self.beliefs)
            answers = {name: Vector([A, B], x) for name in ("w", "other")}
            doubt = none(self.engine.capacity)._replace(suspect=np.full(self.engine.capacity, not trust))
            said = self.engine.advance(self.engine.frame(self.at, answers, 10), doubt)
            self.runs.note(said, self.engine.beliefs)
            self.known.publish(said)
            highest = max(highest, float(said.columns["confidence"][0]))
        return highest

    def spell(self) -> None:
        """A run of series A of both watches, and quiet after it."""
        self.tick(40, 2, trust=False)  # what is learned again and again is odd no more
        self.tick(0, SPELL)

    async def say(self, verdict: str = "not_real", token: str = SAYS, **more: Any) -> tuple[int, Any]:
        body = {"verdict": verdict} | more
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self.client.post("/api/v1/feedback", json=body, headers=headers)
        return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        return await (await self.client.get(path)).json()

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"promantis_{name}", labels)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.start()
    yield site
    await site.stop()


W = '{watch="w"}'


async def test_a_verdict_is_a_fact_about_a_run(site: Site) -> None:
    site.tick(0, 5)
    began = site.at
    site.tick(40, 3)
    status, said = await site.say("not_real", match='{watch="w",i="a"}', comment="a backup")
    assert status == 200
    assert (said["at"], said["who"], said["verdict"], said["comment"]) == (
        site.at,
        "fay",
        "not_real",
        "a backup",
    )
    (run,) = said["runs"]
    assert (run["watch"], run["kind"], run["labels"]) == ("w", "cpu", {"i": "a"})
    assert (run["start"], run["end"]) == (began + 15, site.at)
    assert run["peak"] > 2
    assert 0.3 < run["confidence"] == run["prior"]
    assert await site.get("/api/v1/feedback") == [said]
    (fact,) = await site.journal.facts()
    assert (fact.v, fact.kind, fact.case, fact.who) == (1, "feedback", None, "fay")


async def test_runs_are_listed_with_what_was_said(site: Site) -> None:
    site.spell()
    site.tick(40)
    await site.say("real", fingerprint=FINGERPRINT)
    runs = await site.get("/api/v1/runs?limit=3")
    assert [(run["watch"], run["end"] is None, run["verdict"]) for run in runs] == [
        ("other", True, None),
        ("w", True, "real"),
        ("other", False, None),
    ]
    assert set(runs[0]) == {"watch", "labels", "start", "end", "peak", "confidence", "verdict"}


async def test_ten_verdicts_lower_the_watch_s_confidence_also_after_a_restart(site: Site) -> None:
    for _ in range(10):
        site.spell()
        await site.say(match=W)
    site.spell()
    other, mine = site.runs.recent(2)
    assert (other.watch, mine.watch) == ("other", "w")
    assert log_odds(mine.confidence) - log_odds(mine.prior) < -1
    assert -0.2 < log_odds(other.confidence) - log_odds(other.prior) < 0
    assert site.value("feedback_total", verdict="not_real") == 10
    assert site.value("feedback_gain") > 0.1
    bins = [sample for m in site.telemetry.confidence_runs.collect() for sample in m.samples]
    assert sum(sample.value for sample in bins) == 10
    shares = [sample for m in site.telemetry.confidence_reliability.collect() for sample in m.samples]
    assert {sample.value for sample in shares} == {0.0}
    numbers = {name: site.value(name) for name in ("feedback_gain", "confidence_brier")}
    said = await site.get("/api/v1/feedback")

    beliefs = site.beliefs
    await site.stop()
    await site.start()
    assert site.beliefs == beliefs
    assert await site.get("/api/v1/feedback") == said
    assert {name: site.value(name) for name in numbers} == numbers
    assert site.value("feedback_total", verdict="not_real") == 10
    site.spell()
    assert log_odds(site.runs.recent(2)[1].confidence) - log_odds(site.runs.recent(2)[1].prior) < -1


async def test_the_last_word_on_a_run_counts_and_once(site: Site) -> None:
    site.tick(40, 2)
    for verdict in ("real", "not_real", "real"):
        assert (await site.say(verdict, match=W))[0] == 200
    once = site.beliefs
    assert once.of("w", "cpu") > 0
    assert site.value("feedback_total", verdict="real") == 2
    assert (await site.get("/api/v1/runs"))[1]["verdict"] == "real"
    site.tick(40, 2)
    await site.say("real", match=W)  # the same run: what was said of it before is what is judged
    assert site.beliefs == once


async def test_expected_from_now(site: Site) -> None:
    site.tick(40, 3)
    status, said = await site.say("expected_from_now", match=W)
    assert (status, len(said["runs"])) == (200, 1)
    assert site.tick(40, SPELL) < 0.2  # calm on the new level
    assert site.beliefs == NONE  # whether the page was right was not said
    assert site.known.snapshots[15.0].columns["score"][2] > 1  # of the other watch nothing was said
    assert await site.say("expected_from_now", match=W) == (
        409,
        {"error": "nothing of it is out of its usual now", "where": "match"},
    )


async def test_what_was_said_to_another_replica_counts_here_too(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    other.path.parent.mkdir()
    await other.start()
    try:
        other.tick(40, 3)
        old = other.at
        for one in (site, other):
            one.tick(40, 3)
        assert (await site.say("expected_from_now", match=W))[0] == 200
        told = [(fact.at, fact.who, fact.data) for fact in await site.journal.facts()]
        await other.feedback.hear([(Instant(old - 3600), *told[0][1:])], other.at)
        assert other.tick(40) > 0.2, "what was said an hour ago is not about now"
        await other.feedback.hear([(other.at, *told[0][1:])], other.at)
        assert other.tick(40, SPELL) < 0.2
        assert other.value("feedback_total", verdict="expected_from_now") == 2
    finally:
        await other.stop()


async def test_planned_is_kept_until_it_is_over(site: Site) -> None:
    site.tick()
    start, end = site.at + 60, site.at + 600
    stamp = datetime.fromtimestamp(end, UTC).isoformat()
    status, said = await site.say("planned", match=W, start=start, end=stamp)
    assert (status, said["start"], said["end"], said["runs"]) == (200, start, end, [])
    await site.stop()
    await site.start()
    assert [(one.match, one.start, one.end) for one in site.feedback.opinions.planned(site.at)] == [
        (W, start, end)
    ]
    assert site.feedback.opinions.planned(Instant(end)) == []


async def test_a_verdict_without_a_run_is_kept_and_teaches_nothing(site: Site) -> None:
    site.tick(0, 5)
    status, said = await site.say("real", match=W)
    assert (status, said["runs"]) == (200, [])
    assert site.beliefs == NONE


@pytest.mark.parametrize(
    ("body", "status", "words", "where"),
    [
        ({"match": W, "fingerprint": FINGERPRINT}, 400, "name either match or fingerprint", "match"),
        ({}, 400, "name either match or fingerprint", "match"),
        ({"match": W, "verdict": "meh"}, 400, "Invalid enum value 'meh'", "verdict"),
        ({"match": W, "who": "x"}, 400, "Object contains unknown field `who`", "/api/v1/feedback"),
        ({"match": "{watch="}, 400, None, "match"),
        ({"match": '{watch="nothing"}'}, 404, "no series that is known fits", "match"),
        ({"fingerprint": "f" * 16}, 404, "this alert is not known", "fingerprint"),
        ({"match": W, "start": "yesterday"}, 400, "Invalid RFC3339 encoded datetime", "start"),
        ({"match": W, "start": 1.7e12}, 400, "1.7e+12 is not a time in unix seconds", "start"),
        ({"match": W, "start": 200, "end": 100}, 400, "it lies before start", "end"),
        ({"match": W, "verdict": "planned"}, 400, "planned needs an end that is still to come", "end"),
        (
            {"match": W, "verdict": "planned", "end": 5},
            400,
            "planned needs an end that is still to come",
            "end",
        ),
        ({"match": W, "comment": "x" * 1001}, 400, "longer than 1000 characters", "comment"),
    ],
)
async def test_what_does_not_fit_names_its_place(
    site: Site, body: dict[str, Any], status: int, words: str | None, where: str
) -> None:
    site.tick()
    got, answer = await site.say(**({"verdict": "real"} | body))
    assert (got, answer["where"]) == (status, where)
    assert words is None or answer["error"] == words
    assert await site.journal.facts() == []


async def test_who_may(site: Site) -> None:
    site.tick()
    assert await site.say(match=W, token="") == (
        401,
        {"error": "a token is needed", "where": "Authorization"},
    )
    status, answer = await site.say(match=W, token=WEAK)
    assert (status, answer["error"]) == (403, "victor may view; this needs feedback")
    for limit in ("0", "x", "1001"):
        answer = await site.client.get(f"/api/v1/runs?limit={limit}")
        assert await answer.json() == {"error": f"{limit!r} is not a number from 1 to 1000", "where": "limit"}
