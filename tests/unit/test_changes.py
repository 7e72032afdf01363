"""Deployments: who was deployed, which series that concerns, and what they are for an hour after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
import pytest

from sidecar.signals.ingest.changes import (
    AFTER,
    KUBERNETES,
    Change,
    ChangesConfig,
    Workload,
    belief,
    deployed,
    pace,
    share,
    state,
)
from sidecar.signals.ingest.happenings import LOOKS, Event
from sidecar.signals.learn.opinions import Statement
from sidecar.signals.learn.outside import Outside
from sidecar.signals.learn.trust import Silence, Trust
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.selectors import Matcher, parse
from sidecar.types import Instant, Labels, Unavailable, labels_of
from tests.unit.made import START, engine, key, learned, vector, watch

SHOP = Workload("prod", "shop")
SHOP_CHANGED = [Change(frozenset([SHOP]))]


def said(value: float = 1.0, **labels: str) -> tuple[Labels, float]:
    return labels_of(labels), value


def pod(name: str, image: str) -> tuple[Labels, float]:
    return said(namespace="prod", pod=name, container="web", image=image)


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        ([said(5, deployment="shop")], [said(6, deployment="shop")], ["shop"]),
        ([said(5, deployment="shop")], [said(5, deployment="shop")], []),
        ([], [said(6, deployment="shop")], []),  # only just seen
        ([said(5, deployment="shop")], [], []),
        (
            [pod("shop-6d4cf56db6-x2x9k", "v1")],
            [pod("shop-6d4cf56db6-x2x9k", "v1"), pod("shop-7c9b8d6f54-abcde", "v2")],
            ["shop"],
        ),
        (
            [pod("shop-6d4cf56db6-x2x9k", "v1"), pod("shop-7c9b8d6f54-abcde", "v2")],
            [pod("shop-7c9b8d6f54-abcde", "v2")],
            [],
        ),
        ([pod("db-0", "v1")], [pod("db-0", "v1"), pod("db-1", "v1")], []),  # scaled
        ([pod("agent-x2x9k", "v1")], [pod("agent-8j7qz", "v2")], ["agent"]),
        ([said(1, job="api", version="1")], [said(1, job="api", version="2")], ["api"]),
        ([said(1)], [said(2)], []),  # nobody's
    ],
)
def test_who_was_deployed(
    before: list[tuple[Labels, float]], now: list[tuple[Labels, float]], names: list[str]
) -> None:
    assert [one.name for one in deployed(state(before), state(now))] == names


KEYS = [
    key(namespace="prod", pod="shop-7c9b8d6f54-abcde"),
    key(namespace="prod", deployment="shop"),
    key(namespace="test", deployment="shop"),
    key(job="shop"),
    key(namespace="prod", pod="shopping-7c9b8d6f54-abcde"),
    key(namespace="prod", pod="db-0", job="shop"),
    key(namespace="prod"),
]


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (Change(frozenset([SHOP])), [0, 1, 3, 5]),
        (Change(frozenset(), (parse('{namespace="test"}'),)), [2]),
        (Change(frozenset(), (parse('{watch="w",job=""}'),)), [0, 1, 2, 4, 6]),
    ],
)
def test_which_series_it_concerns(change: Change, rows: list[int]) -> None:
    e = engine(watch())
    e.tick(START, {"w": vector(dict.fromkeys(KEYS, 1.0))}, 10)
    e.deployed([change], START)
    assert np.flatnonzero(e.blocks[0].life.changed == START).tolist() == rows


def test_how_it_fades() -> None:
    changed = np.array([np.nan, START, START - AFTER / 2, START - AFTER, START + 5])
    part = share(changed, START)
    assert part is not None
    assert part.tolist() == [1, 0, 0.5, 1, 1]
    assert belief(part).tolist() == [1, 0.5, 0.75, 1, 1]
    assert pace(part).tolist() == [1, 3, 3, 1, 1]
    assert share(changed[[0, 3]], START) is None


def test_series_of_a_deployed_workload_are_believed_less_and_learn_faster() -> None:
    shop, other = KEYS[0], KEYS[4]
    rng = np.random.default_rng(1)
    e = engine(watch())
    e.adopt(START, "w", [shop, other], learned(15.0, 2, lambda _: 10 + rng.normal(0, 1, 2), 0.2), 0, 100)

    def tick(value: float) -> dict[bytes, dict[str, float]]:
        found = e.tick(Instant(max(e.at, START) + 15), {"w": vector({shop: value, other: value})}, 10)
        columns = ("confidence", "expected", "score")
        return {k: {n: float(found.columns[n][i]) for n in columns} for i, k in enumerate(found.keys) if k}

    tick(10.0)
    e.deployed(SHOP_CHANGED, e.at)
    first = tick(40.0)
    assert min(first[shop]["score"], first[other]["score"]) > 2
    assert first[shop]["confidence"] > 0
    assert first[shop]["confidence"] == pytest.approx(first[other]["confidence"] / 2, rel=0.1)
    for _ in range(20):
        last = tick(40.0)
    assert last[shop]["expected"] - 10 > 1.5 * (last[other]["expected"] - 10) > 0


def test_when_it_was_deployed_survives_a_restart() -> None:
    e = engine(watch())
    e.tick(START, {"w": vector({KEYS[0]: 1.0})}, 10)
    e.deployed(SHOP_CHANGED, START)
    (_, header), *arrays = e.dump()
    assert Engine.load(header, dict(arrays), {"w": watch()}).blocks[0].life.changed[0] == START


# --------------------------------------------------------------------------- looking


class Peer:
    """A Prometheus and an Alertmanager that say what they are told, or nothing."""

    name = "am:9093"

    def __init__(self) -> None:
        self.names = frozenset[str]()
        self.alerts: list[Labels] = []
        self.quiet: list[Silence] = []
        self.answers: dict[str, list[tuple[Labels, float]]] = {}
        self.down = False

    async def firing(self) -> list[Labels]:
        if self.down:
            raise Unavailable("no answer")
        return self.alerts

    async def silences(self) -> list[Silence]:
        return self.quiet

    async def metric_names(self) -> frozenset[str]:
        return self.names

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        return self.answers.get(query, [])


class World:
    def __init__(self) -> None:
        self.peer, self.trust, self.deployments = Peer(), Trust(60.0), list[Change]()
        self.planned: list[Statement] = []
        self.events, self.at = list[tuple[str, Instant]](), START
        self.outside = Outside(
            *(self.peer, [self.peer], self.trust, self._deploy, self._tell),
            lambda now: self.planned,
            lambda: self.at,
        )
        self.engine = engine(watch(alertnames=("High",)))
        self.engine.tick(START, {"w": vector(dict.fromkeys(KEYS, 1.0))}, 10)

    async def _deploy(self, changes: Sequence[Change], at: Instant) -> None:
        self.deployments += changes

    def _tell(self, events: Sequence[Event], at: Instant) -> None:
        self.events += [(event.words, at) for event in events]

    def counts(self) -> dict[str, int]:
        e = self.engine
        self.trust.doubt(e.step, START, e.table.view(), e.watches, e.capacity)
        return {reason: count for reason, count in self.trust.counts().items() if count}


async def test_alerts_silences_and_words_are_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.peer.alerts = [labels_of({"alertname": "High", "job": "shop"})]
    world.peer.quiet = [Silence((Matcher("namespace", "=", "prod"),), START, START + 9)]
    labels = {"namespace": "test", "deployment": "shop"}
    world.planned = [
        Statement("planned", match='up{job="shop"}', start=START, end=START + 9),
        Statement("planned", fingerprint="f", start=START, end=START + 9, series=(("w", labels),)),
    ]
    await world.outside.look()
    assert world.counts() == {"alert": 1, "silence": 5, "feedback": 3}
    world.peer.down, world.peer.quiet, world.planned = True, [], []
    with caplog.at_level(logging.WARNING):
        await world.outside.look()
        await world.outside.look()
    assert world.counts() == {"alert": 1}  # what is not known now is taken to be as it was
    assert [record.message for record in caplog.records] == ["alerts are not known: no answer"]


async def test_deployments_are_seen_from_the_second_look_on(caplog: pytest.LogCaptureFixture) -> None:
    world, generation = World(), KUBERNETES[0].query
    world.peer.answers = {generation: [said(5, deployment="shop", namespace="prod")], "v": [said(1, app="a")]}
    await world.outside.look()
    world.peer.names = frozenset(["kube_pod_container_info"])
    await world.outside.look()
    world.peer.answers = {generation: [said(6, deployment="shop", namespace="prod")], "v": [said(2, app="a")]}
    with caplog.at_level(logging.INFO):
        await world.outside.look()
    assert world.deployments == SHOP_CHANGED
    assert [record.message for record in caplog.records] == ["deployed: prod/shop"]
    world.outside.adopt((), (ChangesConfig(query="v", match=('{job="shop"}',)),))
    await world.outside.look()
    world.peer.answers = {"v": [said(3, app="a")]}
    await world.outside.look()
    assert world.deployments[1:] == [Change(frozenset(), (parse('{job="shop"}'),))]


async def test_other_changes_are_told_at_whole_minutes_and_not_after_a_long_pause() -> None:
    world, scaled = World(), LOOKS[0]

    async def look(replicas: float) -> None:
        world.at = Instant(world.at + 61)
        world.peer.answers = {scaled.query: [said(replicas, deployment="shop")]}
        await world.outside.look()

    await look(5)
    world.peer.names = frozenset([scaled.metric])
    for replicas in (5, 5, 2):
        await look(replicas)
    assert world.events == [("shop was scaled from 5 to 2", world.at // 60 * 60)]
    world.at = Instant(world.at + 3600)  # nobody knows when in this hour
    await look(7)
    assert len(world.events) == 1
    assert world.deployments == []


async def test_it_looks_until_it_is_cancelled() -> None:
    world = World()
    world.peer.alerts = [labels_of({"alertname": "High", "job": "shop"})]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await world.outside.run()
    assert world.counts() == {"alert": 1}
