"""A relay with stand-ins for Alertmanagers that answer when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.alerts import aside, lane, relay
from sidecar.alerts.relay import AlertsConfig, Relay
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Labels, Unavailable, labels_of

NOW = Instant(1764032400.0)  # 2025-11-25T01:00:00Z
FIRING, RESOLVED, PAST = "2025-11-25T01:04:00.000Z", "2025-11-25T01:00:00.000Z", "2025-11-25T00:59:59Z"


class Peer:
    """A stand-in for an Alertmanager: keeps what it got; `answer` may wait or raise."""

    def __init__(self, name: str = "am") -> None:
        self.name = name
        self.batches: list[list[Alert]] = []
        self.answer: Callable[[Sequence[Alert]], Any] | None = None

    async def send(self, alerts: Sequence[Alert]) -> None:
        if self.answer is not None:
            result = self.answer(alerts)
            if result is not None:
                await result
        self.batches.append(list(alerts))

    async def shows(self, labels: Labels) -> bool:
        said = [a for a in self.got if a.labels == labels]
        return bool(said) and said[-1].ends_at != RESOLVED

    @property
    def got(self) -> list[Alert]:
        return [alert for batch in self.batches for alert in batch]

    def words(self, name: str = "A") -> list[tuple[str | None, str]]:
        return [
            (a.ends_at, a.annotations.get("promantis_summary", ""))
            for a in self.got
            if a.label("alertname") == name
        ]


def alert(name: str = "A", ends_at: str | None = FIRING, **annotations: str) -> Alert:
    return Alert(labels_of({"alertname": name}), annotations, "2025-11-25T00:50:00.000Z", ends_at)


def known(alert: Alert, now: Instant) -> Mapping[str, str]:
    return {"promantis_summary": "known"}


def refuse(words: str) -> Callable[[Sequence[Alert]], None]:
    def answer(_: Sequence[Alert]) -> None:
        raise Unavailable(words)

    return answer


@asynccontextmanager
async def running(
    mode: str, *peers: Peer, enrich: aside.Enrich = known
) -> AsyncIterator[tuple[Relay, Telemetry]]:
    telemetry = Telemetry()
    it = Relay(AlertsConfig(mode=mode), peers, enrich, telemetry)
    task = asyncio.create_task(it.run())
    try:
        yield it, telemetry
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


def sample(telemetry: Telemetry, name: str, **labels: str) -> float:
    value = telemetry.registry.get_sample_value(f"promantis_{name}", labels)
    assert value is not None, f"{name}{labels} is not there"
    return value


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that a test can wait for."""
    monkeypatch.setattr(relay, "TEE_DELAY", 0.05)
    monkeypatch.setattr(relay, "RETRY_AFTER", 0.02)
    monkeypatch.setattr(lane, "BACKOFF", (0.02, 0.05))
    monkeypatch.setattr(lane, "CONFIRM_AFTER", 0.2)
