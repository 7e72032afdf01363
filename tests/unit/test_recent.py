"""The last two hours beside the engines: what is usual, in turns, for series that have a place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pytest

from sidecar.alerts.diagnose import diagnose
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.ingest.topology import CausesConfig, Map, Places, Topology, place
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.scene.attribute import parts_of
from sidecar.signals.scene.recent import MINUTE, SLOTS, WINDOW, Recent, Ring, then
from sidecar.signals.scene.usual import usual
from sidecar.signals.watch.watches import Watch
from sidecar.types import Candidates, Instant, Labels, Unavailable
from tests.unit.made import START, engine, key, vector, watch

SHOPS = [key(job=name, instance=f"{name}-1") for name in ("cart", "pay")]
LATENCY = watch("slow", "rate(s[1m]) / rate(c[1m])", 60.0, kind="latency")
LOST = watch("lost", "x", 60.0, kind="cpu")
EDGE = watch("wait", "y", 60.0, kind="gap")


def played(ring: Ring, level: float = 0.1, ticks: int = 150, odd: dict[int, float] | None = None) -> Snapshot:
    """Ticks of an engine, each followed by the ring: two services, one call, and one series that is nobody's."""
    made = engine(LATENCY, LOST, EDGE)
    random, said = np.random.default_rng(1), None
    for i in range(ticks):
        noise = level * (1 + 0.02 * random.standard_normal(2))
        answers = {
            "slow": vector(dict(zip(SHOPS, noise + (odd or {}).get(i, 0.0), strict=True))),
            "lost": vector({key(zone="a"): 1.0}),
            "wait": vector({key(client="cart", server="pay"): 0.001}),
        }
        said = made.tick(Instant(START + 60 * i), answers, 100)
        ring.follow(said)
    assert said is not None
    return said


def test_only_what_has_a_place_is_kept_and_its_usual_is_known() -> None:
    ring = Ring(60.0)
    played(ring)
    assert [one.entity for one in ring.places] == ["cart", "pay", "cart->pay"]
    assert ring.known.level[:2] == pytest.approx([0.1, 0.1], rel=0.02)
    assert np.isfinite(ring.known.scale).all()
    at, values = ring.window(START + 60 * 146)
    assert at.tolist() == [START + 60 * i for i in (146, 147, 148, 149)]
    assert values.shape == (4, 3)


def test_the_past_of_one_series_is_in_memory() -> None:
    recent = Recent(None, Map)  # type: ignore[arg-type]  # nothing is asked
    recent.rings[60.0] = ring = Ring(60.0)
    played(ring, odd={149: 1.0})
    found = recent.past("slow", SHOPS[0])
    assert found is not None
    at, values = found
    assert at.tolist() == [START + 60 * i for i in range(150)]
    assert values[:149] == pytest.approx(np.full(149, 0.1), rel=0.1)
    assert values[149] == pytest.approx(1.1, rel=0.1)
    assert recent.past("slow", key(job="nobody")) is None
    assert recent.past("lost", key(zone="a")) is None  # it has no place


def test_what_came_in_the_last_ten_minutes_does_not_teach() -> None:
    ring = Ring(60.0)
    played(ring, odd={i: 1.0 for i in range(141, 150)})
    assert ring.known.level[:2] == pytest.approx([0.1, 0.1], rel=0.02)
    assert ring.known.just[:2] == pytest.approx([0.1, 0.1], rel=0.05)


def test_an_incident_that_was_odd_does_not_teach() -> None:
    ring, made = Ring(60.0), engine(LATENCY)
    for i in range(150):
        odd = 100 <= i < 145
        said = made.tick(
            Instant(START + 60 * i), {"slow": vector(dict.fromkeys(SHOPS, 1.1 if odd else 0.1))}, 10
        )
        score = np.full_like(said.columns["score"], 2.0 if odd else 0.0)
        ring.follow(said._replace(columns={**said.columns, "score": score}))
    assert ring.known.just[:2] == pytest.approx([0.1, 0.1], rel=0.05)
    assert (ring.known.scale[:2] < 0.02).all()


def test_what_is_part_of_an_incident_does_not_teach_from_before_its_first_alert_on() -> None:
    ring = Ring(60.0)
    began = START + 60 * 110
    ring.suspects = lambda: {"pay": began} if ring.latest >= began else {}
    played(ring, odd={i: 1.0 for i in range(104, 150)})
    cart, pay, _ = ring.known.just
    assert cart == pytest.approx(1.1, rel=0.05)
    assert pay == pytest.approx(0.1, rel=0.05)


def test_the_newest_sample_is_in_the_window_before_its_minute_is_over() -> None:
    ring, fast = Ring(15.0), watch("slow", "x", 15.0, kind="latency")
    made = engine(fast)
    for i in range(10):
        ring.follow(made.tick(Instant(START + 15 * i), {"slow": vector({SHOPS[0]: float(i)})}, 10))
    at, values = ring.window(START)
    assert at.tolist() == [START, START + 60, START + 120, START + 135]
    assert values[:, 0].tolist() == [0.0, 4.0, 8.0, 9.0]


def test_series_that_come_and_go_keep_what_is_known_of_the_others() -> None:
    ring, made = Ring(60.0), engine(LATENCY)
    for i in range(60):
        here = SHOPS if i >= 30 else SHOPS[:1]
        new = ring.follow(
            made.tick(Instant(START + 60 * i), {"slow": vector(dict.fromkeys(here, 1.0 + i))}, 10)
        )
        assert new == (["slow"] if i == 0 else [])  # a new pod has no past to ask for
    _, values = ring.window(START)
    assert values[:, 0].tolist() == [1.0 + i for i in range(60)]
    assert np.isnan(values[:30, 1]).all()


def test_labels_are_read_of_new_series_only_and_again_when_their_watch_changes() -> None:
    watches, names = {"slow": LATENCY}, ("slow", "slow")
    first = Places().now(watches, names, tuple(SHOPS))
    again = first.now(dict(watches), names, (SHOPS[0], key(job="new")))
    assert again.found[0] is first.found[0]
    assert [one.entity for one in again.found if one] == ["cart", "new"]
    other = again.now({"slow": msgspec.structs.replace(LATENCY, kind="cpu")}, names, again.keys)
    assert {one.kind for one in other.found if one} == {"cpu"}
    assert again.now(watches, ("", "slow"), (None, SHOPS[1])).found[0] is None
    assert first.now(watches, names, tuple(SHOPS), most=1).found[1:] == first.found[1:]  # known already
    assert [one is None for one in Places().now(watches, names, tuple(SHOPS), most=1).found] == [False, True]


class Peer:
    """Stands for Prometheus."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        self.asked.append(query)
        if self.down:
            raise Unavailable("gone")
        at = start + np.arange(round((end - start) / step) + 1) * step
        values = np.full((len(at), 2), 0.1)
        values[at > START - 180, 0] = 0.5
        return Matrix(SHOPS, at, values)

    async def instant(self, query: str, at: Instant, within: float):  # pragma: no cover
        raise NotImplementedError

    async def earliest(self, query: str, now: Instant, history: float):  # pragma: no cover
        raise NotImplementedError

    async def metric_names(self) -> frozenset[str]:
        if self.down:
            raise Unavailable("gone")
        return frozenset({"kube_pod_info", "traces_service_graph_request_total"})

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        if "kube_pod_info" in query:
            return [((("node", "n1"), ("pod", "cart-6d4cf56db6-x2x9k")), 1.0)]
        return [((("server", "db"),), 1.0)]


async def test_the_past_is_asked_for_when_a_series_is_new() -> None:
    peer, made = Peer(), engine(LATENCY)
    recent = Recent(peer, Map)
    run = asyncio.create_task(recent.run())
    try:
        for i in range(2):
            recent.ticked(made.tick(Instant(START + 60 * i), {"slow": vector(dict.fromkeys(SHOPS, 0.1))}, 10))
            await asyncio.sleep(0.1)
        assert peer.asked == [LATENCY.query]
        found = recent.candidates(START - 240)
        assert found.level == pytest.approx([0.1, 0.1])
        assert len(found.at) == 6
        assert found.ids == [("slow", SHOPS[0]), ("slow", SHOPS[1])]
        assert diagnose(found, ("pay", "latency")).causes[0].entity == "cart"
    finally:
        run.cancel()


async def test_the_past_can_be_asked_for_as_it_was_then() -> None:
    found = await then(Peer(), {"slow": LATENCY}, START, 240.0, Map())
    assert found.entities == ["cart", "pay"]
    assert found.level == pytest.approx([0.1, 0.1])
    assert diagnose(found).causes[0].entity == "cart"


class Read(list[bytes]):
    """Keys that know which threads have read them."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        super().__init__(keys)
        self.threads: set[threading.Thread] = set()

    def __iter__(self) -> Iterator[bytes]:
        self.threads.add(threading.current_thread())
        return super().__iter__()


async def test_the_past_is_worked_out_beside_the_event_loop() -> None:
    keys = Read(SHOPS)

    class Reading(Peer):
        async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
            return (await super().range(query, start, end, step))._replace(keys=keys)

    assert len((await then(Reading(), {"slow": LATENCY}, START, 240.0, Map())).entities) == 2
    assert keys.threads
    assert threading.current_thread() not in keys.threads


async def test_what_runs_where_is_asked_and_stays_known_while_nobody_answers() -> None:
    peer = Peer()
    topology = Topology(peer)
    topology.adopt(CausesConfig(calls={"front": ("cart",)}))
    await topology.look(Instant(START))
    assert topology.map == Map((("front", "cart"),), (("cart", "node/n1"),), frozenset({"db"}))
    peer.down = True
    await topology.look(Instant(START))
    assert topology.map.hosts == (("cart", "node/n1"),)


@pytest.mark.parametrize(
    ("labels", "entity"),
    [
        ({"job": "shop", "instance": "a:1"}, "shop"),
        ({"pod": "cart-0", "namespace": "x", "service": "metrics"}, "cart"),
        ({"workload": "cart", "pod": "other-0"}, "cart"),
        ({"source_workload": "a", "destination_workload": "b"}, "a->b"),
        ({"source_service": "a.x.svc.cluster.local", "destination_service": "b.x.svc"}, "a->b"),
        ({"server": "db"}, "db"),
        ({"exported_pod": "cart-0", "pod": "kube-state-metrics-6d4cf56db6-x2x9k"}, "cart"),
        ({"zone": "a"}, None),
    ],
)
def test_whose_a_series_is(labels: dict[str, str], entity: str | None) -> None:
    found = place(LATENCY, labels)
    assert (found.entity if found else None) == entity


def test_a_series_far_calmer_than_its_peers_is_given_some_of_their_restlessness() -> None:
    random = np.random.default_rng(0)
    past = 10 + np.column_stack([np.zeros(100), *(5 * random.standard_normal(100) for _ in range(3))])
    alone = usual(past, ["cpu"] * 4, ["a", "b", "b", "b"])
    among = usual(past, ["cpu"] * 4, ["b"] * 4)
    assert alone.scale[0] == pytest.approx(0.5)
    assert among.scale[0] > 2


def test_slots_hold_two_hours_and_a_window() -> None:
    assert SLOTS * MINUTE >= 7200 + WINDOW


class Leaking(Peer):
    """A pool that has been filling up for three hours, as slowly as that."""

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        at = start + np.arange(round((end - start) / step) + 1) * step
        rng = np.random.default_rng(int(start))
        values = 0.45 + 0.02 * rng.standard_normal(len(at))
        values += np.clip(0.45 * (at - (START - 3 * 3600)) / (3 * 3600), 0, None)
        return Matrix(SHOPS[:1], at, values[:, None])


async def test_a_slow_leak_is_held_against_its_last_day() -> None:
    pool = watch("pool", "pool", 60.0, kind="saturation")
    for found in (
        await then(Leaking(), {"pool": pool}, START, 240.0, Map()),
        await _lately(Leaking(), pool),
    ):
        assert found.level == pytest.approx([0.45], abs=0.04)
        assert diagnose(found).causes[0].reasons[0].times > 1.5


async def _lately(peer: Peer, pool: Watch) -> Candidates:
    recent, made = Recent(peer, Map), engine(pool)
    run = asyncio.create_task(recent.run())
    recent.ticked(made.tick(START, {"pool": vector({SHOPS[0]: 0.9})}, 10))
    await asyncio.sleep(0.2)
    run.cancel()
    return recent.candidates(START - 240)


async def test_the_metrics_of_a_machine_that_belong_to_what_is_wrong() -> None:
    sizes = {"slow": 2, "calm": 2, "many": 100_000, "none": 0}
    watches = {name: watch(name, name, 60.0) for name in sizes}
    found = await parts_of(Uneven(), watches, sizes, "cart", START, 240.0)
    assert [(name, part.doublings > 1, part.probability) for name, part in found] == [("slow", True, 0.95)]
    assert await parts_of(Uneven(), watches, sizes, "nobody", START, 240.0) == []


class Uneven(Peer):
    """One metric of a job has changed in the last minutes, another has not."""

    async def range(self, query: str, start: Instant, end: Instant, step: float) -> Matrix:
        assert query in ("slow", "calm")
        at = start + np.arange(round((end - start) / step) + 1) * step
        values = 10 + np.random.default_rng(1).standard_normal((len(at), 2))
        if query == "slow":
            values[at > START - 500, 0] += 100
        return Matrix(SHOPS, at, values)


def test_units_and_the_way_that_does_harm_come_from_the_watch() -> None:
    """A machine's free memory does harm when it falls; before, only rises of memory were evidence."""
    query = "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"
    free = msgspec.structs.replace(watch("free", query, 60.0, kind="memory"), direction="down")
    made, ring, node = engine(free), Ring(60.0), key(instance="n1:9100")
    for i in range(150):
        left = (0.6 if i < 146 else 0.05) + 0.01 * np.sin(i)
        ring.follow(made.tick(Instant(START + 60 * i), {"free": vector({node: left})}, 100))
    recent = Recent(None, Map)  # type: ignore[arg-type]  # nothing is asked
    recent.rings[60.0] = ring
    c = recent.candidates(START + 60 * 146)
    assert (c.units, c.ways, c.queries) == (["share"], [-1], [query])
    found = diagnose(c, ("node/n1", "memory"))
    assert [cause.entity for cause in found.causes] == ["node/n1"]
    assert found.none < 0.05
