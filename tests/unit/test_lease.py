"""One of several leads: taken over only after it fell silent, believed for less than that, given back at the end."""

from __future__ import annotations

import pytest

from sidecar.adapters.lease import Lease
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
