"""What a page is given: incidents and lone alerts, one alert with all around it, what an action changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from sidecar.alerts.identity import fingerprint
from sidecar.alerts.relay import Relay
from sidecar.looking import OTHERS, Looking
from sidecar.remedy.case import Case, Fact
from sidecar.remedy.policy import RemedyConfig, VerifyConfig
from sidecar.signals.ingest.changes import Change, Workload
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.ingest.topology import Map
from sidecar.signals.known.snapshot import Known
from sidecar.signals.learn.opinions import Opinions
from sidecar.signals.scene.recent import Recent
from sidecar.signals.watch.calendar import EventConfig, Planned, When, planned
from sidecar.types import Alert, Duration, Instant, Rejected, Unavailable, labels_of
from tests.unit.calling import candidates
from tests.unit.desk import POLICY
from tests.unit.paging import case, finding
from tests.unit.relaying import Peer, running, until
from tests.unit.test_explain import FULL, POOL, World, explainer

NOW = Instant(1764032400.0)
FIRST, LAST = "2025-11-25T00:50:00.000Z", "2025-11-25T00:55:00.000Z"


def alert(name: str, starts: str = FIRST, ends: str = "2025-11-25T01:04:00.000Z", **labels: str) -> Alert:
    return Alert(labels_of({"alertname": name, **labels}), {"summary": "by hand"}, starts, ends)


class Book:
    """The cases, as a runner has them."""

    def __init__(self) -> None:
        self.all: list[Case] = []
        self.facts: list[Fact] = []
        self.query = "used / size < 0.7"

    def cases(self) -> list[Case]:
        return self.all

    def case(self, id: str) -> tuple[Case, list[Fact]]:
        return next(one for one in self.all if one.id == id), [f for f in self.facts if f.case == id]

    def policy(self, name: str) -> RemedyConfig | None:
        return msgspec.structs.replace(POLICY, verify=VerifyConfig(query=self.query)) if self.query else None


class Source:
    """A Prometheus that has two series of what is compared."""

    down = False

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        if self.down:
            raise Unavailable("down")
        assert query == "used / size"
        at = start + step * np.arange(int((end - start) / step + 1e-9) + 1)
        values = np.stack([np.full(len(at), 0.5), np.full(len(at), 0.9)], 1)
        return Matrix([b'{"pod":"b"}', b'{"pod":"a"}'], at, values)


class Parts:
    """Everything that is looked at."""

    def __init__(self, relay: Relay) -> None:
        self.relay, self.book, self.source = relay, Book(), Source()
        self.explainer = explainer(World(candidates(FULL, more=POOL)))
        self.explainer._whose = lambda labels, _: (  # whose an alert is stands in its labels, or nowhere
            (dict(labels)["service"], "latency") if "service" in dict(labels) else None
        )
        self.opinions = Opinions()
        self.said: list[tuple[Any, ...]] = []
        self.calendar: tuple[Planned, ...] = ()
        self.deployed: list[tuple[float, Change]] = []
        self.looking = Looking(
            Known(),
            Recent(None, Map),  # type: ignore[arg-type]
            self.explainer,
            relay,
            self.book,  # type: ignore[arg-type]
            SimpleNamespace(opinions=self.opinions, say=self.say),  # type: ignore[arg-type]
            self.source,  # type: ignore[arg-type]
            lambda one, now: {"promantis_summary": "looked up"},
            lambda: NOW,
            lambda: self.calendar,
            lambda: self.deployed,
        )

    async def say(self, *said: Any) -> None:
        self.said.append(said)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    made: list[Parts] = []

    def enrich(one: Alert, now: Instant) -> Mapping[str, str]:
        made[0].explainer(one, now)
        return {"promantis_summary": "what was said"}

    async with running("tee", Peer(), enrich=enrich) as (relay, _):
        made.append(Parts(relay))
        yield made[0]


async def come(parts: Parts, *alerts: Alert) -> None:
    """They come, and get their words."""
    await parts.relay.receive(alerts, NOW)
    known = [one.labels for one in alerts]
    await until(lambda: all((one := parts.relay.received(labels)) and one.words for labels in known))


async def test_incidents_with_the_users_alerts_first_and_alerts_of_none(parts: Parts) -> None:
    assert await parts.looking.happening(9) == []
    own = {"promantis_kind": "anomaly", "watch": "latency"}
    await come(
        parts,
        alert("PromantisAnomaly", service="front", **own),
        alert("HighLatency", service="front"),
        alert("Lonely", LAST, zone="a"),
    )
    lonely, incident = await parts.looking.happening(9)
    assert (lonely.names, lonely.words, lonely.firing) == (("Lonely",), "what was said", 1)
    assert (incident.names, incident.firing, incident.cause) == (("HighLatency",), 2, "bank")
    assert incident.fingerprint == fingerprint(alert("HighLatency", service="front").labels)
    assert incident.pattern == "pool exhaustion"
    assert len(await parts.looking.happening(1)) == 1


async def test_an_alert_with_all_around_it(parts: Parts) -> None:
    mine = alert("HighLatency", service="front")
    others = [alert("Slow", LAST, service="front", pod=f"p{i}") for i in range(OTHERS + 5)]
    own = alert("PromantisAnomaly", service="front", promantis_kind="anomaly", watch="latency")
    await come(parts, own, mine, *others)
    parts.explainer.changed = []
    print_of = fingerprint(mine.labels)
    old = msgspec.structs.replace(case(), id="abc", fingerprint=print_of)
    new = msgspec.structs.replace(case(), id="def", fingerprint=print_of, episode=2)
    parts.book.all = [new, old]
    parts.book.facts = [
        Fact(1, 1, Instant(NOW - 9e5), "verify.passed", "abc", "system", {}, ""),
        Fact(1, 2, Instant(NOW - 60), "case.proposed", "def", "system", {"words": "why"}, ""),
        Fact(1, 3, Instant(NOW - 30), "effect.measured", "def", "system", {}, ""),
    ]
    for at in (NOW - 9e5, NOW - 10):
        parts.opinions.add(Instant(at), "fay", {"verdict": "real", "fingerprint": print_of, "runs": []})

    seen = await parts.looking.alert(print_of)
    assert seen is not None
    assert seen.firing
    assert seen.alert.annotations == {"promantis_summary": "what was said", "summary": "by hand"}
    assert seen.explained is not None
    assert seen.explained.pattern == "pool exhaustion"
    assert len(seen.others) == OTHERS
    assert seen.more == 6
    assert seen.others[0].labels == (("pod", "p0"),)  # by what it differs
    kinds = [(one.kind, one.words) for one in seen.events]
    assert kinds[-2:] == [("case.proposed", "bigger-pool"), ("said", "real")]
    assert ("firing", "HighLatency") in kinds
    assert not [kind for kind, _ in kinds if kind in ("verify.passed", "effect.measured")]
    assert [one.at for one in seen.events] == sorted(one.at for one in seen.events)
    assert await parts.looking.alert("f" * 16) is None


async def test_looking_at_an_alert_diagnoses_nothing_anew(parts: Parts) -> None:
    mine = alert("HighLatency", service="front")
    await come(parts, mine)
    count = parts.explainer._telemetry.registry.get_sample_value
    before = count("promantis_diagnoses_total", {"outcome": "cause"})
    for _ in range(3):
        await parts.looking.alert(fingerprint(mine.labels))
    assert count("promantis_diagnoses_total", {"outcome": "cause"}) == before == 1

    over = msgspec.structs.replace(mine, ends_at="2025-11-25T00:59:00Z")
    await come(parts, over)
    seen = await parts.looking.alert(fingerprint(mine.labels))
    assert seen is not None
    assert not seen.firing
    assert seen.explained is not None  # its incident is still open
    assert seen.events[-1].kind == "resolved"


async def test_what_an_action_changed(parts: Parts) -> None:
    acted = case(
        intent_at=Instant(NOW - 600), since=Instant(NOW - 500), before=[], stage="fixed",
        labels=labels_of({"alertname": "X", "pod": "a"}),
    )  # fmt: skip
    found = await parts.looking.outcome(acted)
    assert found is not None
    assert (found.op, found.limit, found.query) == ("<", 0.7, "used / size")
    assert [(line.ours, line.values[0]) for line in found.lines] == [(True, 0.9), (False, 0.5)]
    assert (found.at[0], len(found.at)) == (NOW - 2400, len(found.lines[0].values))
    assert found.at[-1] <= NOW

    parts.source.down = True
    assert await parts.looking.outcome(acted) is None
    parts.source.down = False
    assert await parts.looking.outcome(case(intent_at=NOW)) is None  # too many series to be kept
    assert await parts.looking.outcome(case(before=[])) is None
    for query in ("", "up"):
        parts.book.query = query
        assert await parts.looking.outcome(acted) is None


async def test_a_verdict_is_about_an_alert_that_is_known(parts: Parts) -> None:
    mine = alert("HighLatency", service="front")
    with pytest.raises(Rejected, match="not known"):
        await parts.looking.judge(fingerprint(mine.labels), "real", "fay")
    await come(parts, mine)
    await parts.looking.judge(fingerprint(mine.labels), "real", "fay")
    assert [(who, verdict) for who, _, _, verdict in parts.said] == [("fay", "real")]


async def test_a_page_waits_in_a_thread_and_not_on_the_loop(parts: Parts) -> None:
    """While a diagnosis is under way, whoever looks waits for it; the alerts do not."""
    mine = alert("HighLatency", service="front")
    await come(parts, mine)
    with parts.explainer._lock:
        looking = asyncio.create_task(parts.looking.alert(fingerprint(mine.labels)))
        happening = asyncio.create_task(parts.looking.happening(9))
        await asyncio.sleep(0.05)
        assert not looking.done()
        assert not happening.done()
    assert await looking is not None
    assert len(await happening) == 1


async def test_a_chart_has_the_deployments_and_planned_events_of_its_series(parts: Parts) -> None:
    start, end = When.parse("2025-11-25T01:20"), When.parse("2025-11-25T04:00")
    sale = EventConfig(name="sale", match=('{app="shop"}',), start=start, end=end)
    night = EventConfig(name="night", match=('{app="other"}',), cron="0 1 * * *", duration=Duration(3600))
    parts.calendar = planned((sale, night), "UTC", {})
    parts.deployed = [
        (NOW - 900, Change(frozenset({Workload("", "shop")}))),
        (NOW - 800, Change(frozenset({Workload("", "other")}))),
        (NOW - 9e5, Change(frozenset({Workload("", "shop")}))),
    ]
    one = msgspec.structs.replace(finding(app="shop"), key=b'{"app":"shop"}')
    told = parts.looking.marked(one, Instant(NOW - 3600), Instant(NOW + 3600))
    assert [(mark.at - NOW, mark.text) for mark in told] == [
        (1200, "planned: sale, until 04:00 UTC"),
        (-900, "deployed: shop"),
    ]
