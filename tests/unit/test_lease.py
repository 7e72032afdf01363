"""One of several leads: taken over only after it fell silent, believed for less than that, given back at the end."""

from __future__ import annotations

import pytest

from sidecar.adapters.lease import Lease
from sidecar.remedy.actions.words import Ref
from sidecar.types import JsonObject
from tests.unit.lab import REAL, Fault, Lab

pytestmark = pytest.mark.timeout(60 if REAL else 30)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidates(lab: Lab, clock: Clock) -> tuple[Lease, Lease]:
    a, b = (Lease(lab.cluster, lab.namespace, "promantis", 10.0, name, clock) for name in "ab")
    return a, b


async def test_one_leads_and_the_other_takes_over_when_it_is_silent(lab: Lab) -> None:
    clock = Clock()
    a, b = candidates(lab, clock)
    assert await a.attempt()
    assert not await b.attempt()
    assert (a.held(), b.held(), b.holder) == (True, False, "a")
    clock.now += 6
    assert await a.attempt(), "renewed"
    clock.now += 6
    assert not await b.attempt(), "it saw the renewal only now"
    clock.now += 1.1
    assert not a.held(), "it stops to believe before anybody may take over"
    clock.now += 8
    assert not await b.attempt()
    clock.now += 1
    assert await b.attempt()
    assert not await a.attempt()
    assert (a.held(), b.held(), a.holder) == (False, True, "b")


async def test_two_at_once_are_one(lab: Lab) -> None:
    a, b = candidates(lab, Clock())
    lab.proxy.faults.append(Fault("GET", "/leases/", 404))
    lab.proxy.faults.append(Fault("GET", "/leases/", 404))
    assert [await a.attempt(), await b.attempt()] == [True, False], "both believed that there was none"
    clock = Clock()
    a, b = candidates(lab, clock)
    lab.proxy.faults.append(Fault("PUT", "/leases/", 409))
    assert not await a.attempt(), "somebody was faster"
    assert not a.held()


async def test_an_api_that_is_away_ends_it_in_time(lab: Lab) -> None:
    clock = Clock()
    a, b = candidates(lab, clock)
    assert await a.attempt()
    lab.proxy.down = True
    clock.now += 6.9
    assert await a.attempt(), "not lost yet"
    clock.now += 0.2
    assert not await a.attempt()
    lab.proxy.down = False
    assert await a.attempt(), "still its own, as nobody took it"
    await a.release()
    assert not a.held()
    assert await b.attempt(), "given back: nobody has to wait"


async def test_who_stands_by_waits_as_long_as_the_holder_says(lab: Lab) -> None:
    clock = Clock()
    long, short = (Lease(lab.cluster, lab.namespace, "promantis", s, f"{s}", clock) for s in (20.0, 10.0))
    assert await long.attempt()
    assert not await short.attempt()
    clock.now += 13
    assert long.held()
    assert not await short.attempt(), "the holder's duration counts, not its own"
    clock.now += 7
    assert await short.attempt()


async def test_what_the_renewal_took_is_not_believed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    a, _ = candidates(lab, clock)
    get = lab.cluster.get

    async def slow(ref: Ref) -> JsonObject:
        clock.now += 5
        return await get(ref)

    monkeypatch.setattr(lab.cluster, "get", slow)
    assert await a.attempt()
    clock.now += 1.9
    assert a.held()
    clock.now += 0.2
    assert not a.held(), "it counts from when the renewal began"


async def test_what_another_took_is_not_given_back(lab: Lab) -> None:
    clock, ahead = Clock(), Clock()
    (a, _), (_, b) = candidates(lab, clock), candidates(lab, ahead)
    assert await a.attempt()
    assert not await b.attempt()
    ahead.now += 10
    assert await b.attempt(), "by its clock nobody renewed it"
    assert a.held()
    await a.release()
    c = Lease(lab.cluster, lab.namespace, "promantis", 10.0, "c", clock)
    assert not await c.attempt()
    assert c.holder == "b"
