"""What several peers say together; what one of them does not say forbids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from sidecar.adapters.targets import Targets
from sidecar.remedy.actions.words import World
from sidecar.remedy.eyes import Eyes
from sidecar.remedy.guard import AlertState, GuardConfig, Look
from sidecar.types import Instant, Labels, Unavailable
from tests.unit.desk import ALERT, POLICY


class Standing(NamedTuple):
    state: AlertState


class Peer(NamedTuple):
    """An Alertmanager, and a Prometheus without a result; None: it does not answer."""

    stands: AlertState | None = "active"
    fires: tuple[str, ...] | None = ()

    async def ask(self, query: str, at: Instant) -> list[tuple[Labels, float]]:
        return []

    async def state(self, labels: Labels) -> Standing:
        if self.stands is None:
            raise Unavailable("down")
        return Standing(self.stands)

    async def firing(self, matcher: str) -> Sequence[str]:
        if self.fires is None:
            raise Unavailable("down")
        return self.fires


async def look(*peers: Peer, **rules: tuple[str, ...]) -> Look:
    eyes = Eyes(Peer(), peers, World(Targets(list)), bool, lambda labels, now: "", lambda: Instant(0))
    return await eyes.look(ALERT, POLICY, GuardConfig(**rules), closely=False)


@pytest.mark.parametrize(
    ("states", "together"),
    [
        (("active", "suppressed"), "suppressed"),
        (("absent", "active"), "active"),
        ((None, "active"), "active"),
        ((None, "suppressed"), "suppressed"),
        (("absent", None), None),
        (("absent", "absent"), "absent"),
        ((), None),
    ],
)
async def test_how_an_alert_stands(
    states: tuple[AlertState | None, ...], together: AlertState | None
) -> None:
    assert (await look(*map(Peer, states))).alert == together


@pytest.mark.parametrize(
    ("fires", "blocking"),
    [
        (((), ()), ""),
        (((), ("Deploy", "Backup")), "Deploy"),
        (((), None), None),
        ((("Deploy",), None), None),
    ],
)
async def test_what_blocks(fires: tuple[tuple[str, ...] | None, ...], blocking: str | None) -> None:
    peers = [Peer(fires=names) for names in fires]
    assert (await look(*peers, block_while=('alertname=~"Deploy|Backup"',))).blocking == blocking
    assert (await look(*peers)).blocking == "", "nobody is asked"
