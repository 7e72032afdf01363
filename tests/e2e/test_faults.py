"""Whatever breaks on the way, no alert that Prometheus considers firing is lost, and none comes back to life."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.demo.peers import Stack
from tests.e2e.faults import ALONE, FAULTS, MODES, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_every_fault_in_both_modes(stack: Stack) -> None:
    """All at once, for a few seconds each; `make soak` breaks each for half a minute."""
    together = [[(fault, mode) for fault in FAULTS for mode in MODES]]
    alone = [[(fault, mode)] for fault in ALONE for mode in MODES]
    await asyncio.gather(*(run(stack, some, many=10, seconds=6.0, resend=5) for some in together + alone))
