"""The relay's races in tee mode, and what both modes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from sidecar.alerts import aside, relay
from sidecar.alerts.relay import AlertsConfig
from sidecar.types import Alert, Instant
from tests.unit.relaying import (
    FIRING,
    NOW,
    RESOLVED,
    Peer,
    alert,
    known,
    refuse,
    running,
    sample,
    short,
    until,
)

__all__ = ["short"]


# ----------------------------------------------------------------------- tee


async def test_tee_sends_only_enriched_copies_firing_and_resolved() -> None:
    peer = Peer()
    async with running("tee", peer) as (it, telemetry):
        assert (await it.receive([alert(summary="mine")], NOW))[:2] == (True, "")
        assert peer.got == []
        await until(lambda: peer.got)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await until(lambda: len(peer.got) == 2)
    assert peer.words() == [(FIRING, "known"), (RESOLVED, "known")]
    assert peer.got[0].annotations == {"summary": "mine", "promantis_summary": "known"}
    assert sample(telemetry, "alerts_received_total") == 2
    assert sample(telemetry, "alerts_enriched_total") == 2
    assert sample(telemetry, "alerts_forwarded_total", alertmanager="am", outcome="ok") == 2
    assert sample(telemetry, "lane_alerts", alertmanager="am") == 0


async def test_tee_drops_a_copy_that_a_newer_message_has_overtaken() -> None:
    peer = Peer()
    async with running("tee", peer) as (it, _):
        await it.receive([alert()], NOW)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await until(lambda: peer.got)
        await asyncio.sleep(0.1)
    assert peer.words() == [(RESOLVED, "known")]


async def test_tee_late_enrichment_never_revives_a_resolved_alert() -> None:
    peer, started, go_on = Peer(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(alert: Alert, now: Instant) -> Mapping[str, str]:
        if alert.ends_at == FIRING:
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(2)
        return known(alert, now)

    async with running("tee", peer, enrich=slow) as (it, _):
        await it.receive([alert()], NOW)
        await started.wait()  # the firing copy is being enriched
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        go_on.set()
        await until(lambda: peer.got)
        await asyncio.sleep(0.1)
    assert peer.words() == [(RESOLVED, "known")]


async def test_tee_forgets_what_waits_for_a_peer_that_is_down_as_soon_as_newer_is_known() -> None:
    peer = Peer()
    peer.answer = refuse("down")
    async with running("tee", peer) as (it, telemetry):
        await it.receive([alert()], NOW)
        await until(lambda: sample(telemetry, "lane_alerts", alertmanager="am") == 1)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        peer.answer = None  # up again, before the resolved copy is ready
        await until(lambda: peer.got)
        await asyncio.sleep(0.1)
    assert peer.words() == [(RESOLVED, "known")]


async def test_tee_that_stood_still_reads_before_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slept while a copy waited; the end of the alert is in a socket that nobody has read yet."""
    monkeypatch.setattr(relay, "STOOD_STILL", 0.1)
    peer = Peer()
    async with running("tee", peer) as (it, _):
        await it.receive([alert()], NOW)
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: asyncio.ensure_future(it.receive([alert(ends_at=RESOLVED)], NOW)))
        await until(lambda: peer.got)
        await asyncio.sleep(0.1)
    assert peer.words() == [(RESOLVED, "known")]


async def test_tee_without_words_sends_nothing_but_the_end() -> None:
    peer = Peer()
    async with running("tee", peer, enrich=lambda alert, now: {}) as (it, _):
        await it.receive([alert()], NOW)
        await asyncio.sleep(0.15)
        assert peer.got == []
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await until(lambda: peer.got)
    assert peer.got == [alert(ends_at=RESOLVED)]


async def test_the_users_annotation_wins() -> None:
    peer = Peer()
    async with running("tee", peer) as (it, _):
        await it.receive([alert(promantis_summary="mine")], NOW)
        await until(lambda: peer.got)
    assert peer.words() == [(FIRING, "mine")]


@pytest.mark.parametrize("mode", ["inline", "tee"])
async def test_more_is_said_when_more_is_known(mode: str) -> None:
    peer, words = Peer(), "first"
    async with running(mode, peer, enrich=lambda a, n: {"promantis_summary": words}) as (it, telemetry):
        await it.receive([alert()], NOW)
        await until(lambda: peer.words()[-1:] == [(FIRING, "first")])
        words = "second"
        await it.again(alert().labels, NOW)
        await until(lambda: peer.words()[-1] == (FIRING, "second"))
        await it.again(alert("Unknown").labels, NOW)
        await it.again(alert().labels, NOW)
        await it.receive([alert(ends_at=RESOLVED)], NOW)  # what is newer is said instead
        await it.again(alert().labels, NOW)
        await until(lambda: peer.words()[-1] == (RESOLVED, "second"))
        assert sample(telemetry, "alerts_received_total") == 2
    firing = [said for ends, said in peer.words() if ends == FIRING and said]
    assert firing == ["first", "second"]
    assert peer.words("Unknown") == []


@pytest.mark.parametrize("mode", ["inline", "tee"])
async def test_words_that_were_not_found_are_looked_for_again(mode: str) -> None:
    peer, asked = Peer(), 0

    def failing_first(alert: Alert, now: Instant) -> Mapping[str, str]:
        nonlocal asked
        asked += 1
        if asked < 3 or alert.label("alertname") == "Never":
            raise ZeroDivisionError
        return known(alert, now)

    async with running(mode, peer, enrich=failing_first) as (it, _):
        await it.receive([alert()], NOW)
        await until(lambda: peer.words()[-1:] == [(FIRING, "known")])
        assert asked == 3
        await it.receive([alert("Never")], NOW)
        await until(lambda: asked == 6)
        await asyncio.sleep(0.1)
        assert asked == 6  # three times are enough


async def test_more_is_not_said_of_what_only_alertmanager_knows_to_be_over() -> None:
    """Prometheus had no patience with us when it told that the alert is over."""
    peer = Peer()
    async with running("tee", peer) as (it, _):
        await it.receive([alert()], NOW)
        await until(lambda: peer.words() == [(FIRING, "known")])
        await peer.send([alert(ends_at=RESOLVED)])
        await it.again(alert().labels, NOW)
        await asyncio.sleep(0.15)
    assert peer.words() == [(FIRING, "known"), (RESOLVED, "")]


async def test_enrichment_that_fails_costs_only_its_own_alert() -> None:
    peer = Peer()

    def failing(alert: Alert, now: Instant) -> Mapping[str, str]:
        if alert.label("alertname") == "B":
            raise ZeroDivisionError
        return known(alert, now)

    async with running("tee", peer, enrich=failing) as (it, telemetry):
        await it.receive([alert("A"), alert("B"), alert("C")], NOW)
        await until(lambda: len(peer.got) == 2)
    assert sorted(a.label("alertname") for a in peer.got) == ["A", "C"]
    assert sample(telemetry, "enrich_failures_total") >= 1


async def test_enrichment_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "ENRICH_WITHIN", 0.1)
    peer = Peer()

    def hanging(alert: Alert, now: Instant) -> Mapping[str, str]:
        if alert.label("alertname") == "Slow":
            time.sleep(0.4)
        return known(alert, now)

    async with running("inline", peer, enrich=hanging) as (it, telemetry):
        assert (await it.receive([alert("A"), alert("Slow"), alert("C")], NOW)).taken
        await until(lambda: peer.words("A") == [(FIRING, ""), (FIRING, "known")])
        assert sample(telemetry, "enrich_failures_total") >= 2
        assert peer.words("C") == [(FIRING, "")]
        await asyncio.sleep(0.4)
        await it.receive([alert("C")], NOW)
        await until(lambda: (FIRING, "known") in peer.words("C"))


# ----------------------------------------------------------------------- config


def test_config_defaults_are_right() -> None:
    assert list(AlertsConfig().problems()) == []
    assert list(AlertsConfig(external_url="http://localhost:9909/promantis/").problems()) == []


async def test_what_fires_is_listed_with_what_was_said_of_it() -> None:
    async with running("tee", Peer()) as (it, _):
        await it.receive([alert("A"), alert("B", RESOLVED), alert("C")], NOW)
        await until(lambda: all(one.words for one in it.firing(9)))
        assert [one.alert.label("alertname") for one in it.firing(9)] == ["C", "A"]
        assert [one.alert.label("alertname") for one in it.firing(1)] == ["C"]
        assert it.firing(1)[0].words == {"promantis_summary": "known"}
        over = it.received(alert("B").labels)
        assert over is not None
        assert not over.firing
        assert it.received(alert("D").labels) is None
