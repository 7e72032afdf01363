"""The relay's races in inline mode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sidecar.alerts import aside, lane, relay
from sidecar.alerts.identity import fingerprint
from sidecar.alerts.relay import AlertsConfig, Received, Relay
from sidecar.telemetry import Telemetry
from sidecar.types import Alert, Instant, Rejected
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


# ----------------------------------------------------------------------- inline


async def test_inline_sends_raw_first_and_the_words_after_and_then_always() -> None:
    peer = Peer()
    async with running("inline", peer) as (it, _):
        assert (await it.receive([alert()], NOW))[:2] == (True, "")
        assert peer.words()[0] == (FIRING, "")
        await until(lambda: len(peer.got) == 2)
        await it.receive([alert(ends_at="2025-11-25T01:05:15.000Z")], NOW)
        assert peer.words()[1:3] == [(FIRING, "known"), ("2025-11-25T01:05:15.000Z", "known")]


async def test_inline_says_the_same_only_once() -> None:
    peer = Peer()
    async with running("inline", peer) as (it, telemetry):
        for i in range(4):
            await it.receive([alert(ends_at=f"2025-11-25T01:0{4 + i}:00.000Z")], NOW)
            await until(lambda i=i: len(peer.got) == i + 2)  # type: ignore[misc]
        await asyncio.sleep(0.05)
        assert sample(telemetry, "alerts_enriched_total") == 4
    assert [words for _, words in peer.words()] == ["", "known", "known", "known", "known"]


@pytest.mark.parametrize("mode", ["inline", "tee"])
async def test_a_storm_of_resends_is_one_diagnosis(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(relay, "WORDS_FOR", 0.4)
    peer, asked = Peer(), 0

    def asking(alert: Alert, now: Instant) -> Mapping[str, str]:
        nonlocal asked
        asked += 1
        return {"promantis_summary": str(asked)}

    async with running(mode, peer, enrich=asking) as (it, _):
        for _ in range(3):
            await it.receive([alert()], NOW)
            await asyncio.sleep(0.1)
        assert asked == 1
        assert peer.words()[-1] == (FIRING, "1")
        await it.receive([alert(ends_at=RESOLVED)], NOW)  # another state has words of its own
        await until(lambda: peer.words()[-1] == (RESOLVED, "2"))
        await asyncio.sleep(0.45)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await until(lambda: peer.words()[-1] == (RESOLVED, "3"))
    assert len([words for _, words in peer.words() if words == "1"]) == 3


async def test_inline_words_of_firing_are_not_said_of_resolved() -> None:
    peer = Peer()
    async with running(
        "inline", peer, enrich=lambda alert, now: {"promantis_summary": str(alert.ends_at)}
    ) as (it, _):
        await it.receive([alert()], NOW)
        await until(lambda: len(peer.got) == 2)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await until(lambda: len(peer.got) == 4)
    assert peer.words() == [(FIRING, ""), (FIRING, FIRING), (RESOLVED, ""), (RESOLVED, RESOLVED)]


async def test_inline_one_at_a_time_so_that_nothing_overtakes() -> None:
    """The enriched firing copy is under way when the resolved message comes: it must arrive after."""
    peer, go_on = Peer(), asyncio.Event()

    def hold(alerts: Sequence[Alert]) -> Any:
        return go_on.wait() if "promantis_summary" in alerts[0].annotations else None

    peer.answer = hold
    async with running("inline", peer) as (it, _):
        await it.receive([alert()], NOW)
        await asyncio.sleep(0.05)  # the enriched copy hangs in the peer now
        over = asyncio.create_task(it.receive([alert(ends_at=RESOLVED)], NOW))
        await asyncio.sleep(0.05)
        assert not over.done()
        go_on.set()
        assert (await over).taken
        await until(lambda: peer.words()[-1] == (RESOLVED, "known"))
    order = [ends for ends, _ in peer.words()]
    assert order[:2] == [FIRING, FIRING]
    assert set(order[2:]) == {RESOLVED}


async def test_inline_one_that_hangs_delays_neither_the_other_nor_the_answer() -> None:
    good, hung = Peer("good"), Peer("hung")
    hung.answer = lambda _: asyncio.sleep(60)
    async with running("inline", hung, good) as (it, _):
        for _ in range(3):
            begin = time.monotonic()
            assert (await it.receive([alert()], NOW)).taken
            assert time.monotonic() - begin < 2  # a hung one costs 5
        await until(lambda: (FIRING, "known") in good.words())
    assert hung.got == []


async def test_inline_says_so_when_nobody_takes_it_and_delivers_when_one_is_up_again() -> None:
    peers = [Peer("a"), Peer("b")]
    for peer in peers:
        peer.answer = refuse(f"{peer.name} is down")
    async with running("inline", *peers) as (it, telemetry):
        assert (await it.receive([alert()], NOW))[:2] == (False, "a is down; b is down")
        assert sample(telemetry, "alerts_forwarded_total", alertmanager="a", outcome="failed") >= 1
        peers[0].answer = None
        await until(lambda: (FIRING, "known") in peers[0].words())
        assert sample(telemetry, "lane_alerts", alertmanager="b") == 1


async def test_inline_answers_in_time_when_all_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "ANSWER_WITHIN", 0.1)
    peer = Peer()
    peer.answer = lambda _: asyncio.sleep(60)
    async with running("inline", peer) as (it, _):
        assert (await it.receive([alert()], NOW))[:2] == (False, "am: no answer within 0.1 s")


async def test_inline_does_not_keep_prometheus_waiting_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first batch waits; the next ones are kept and answered, until the Alertmanager goes on."""
    monkeypatch.setattr(lane, "SEND_WITHIN", 0.3)
    monkeypatch.setattr(relay, "ANSWER_FAILING_WITHIN", 0.01)
    peer, go_on = Peer(), asyncio.Event()
    peer.answer = lambda _: go_on.wait()
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, _):
        assert not (await it.receive([alert()], NOW)).taken
        begin = time.monotonic()
        for name in "BCDE":
            assert (await it.receive([alert(name)], NOW))[:2] == (False, "am: no answer within 0.01 s")
        assert time.monotonic() - begin < 0.25
        go_on.set()
        await until(lambda: {a.label("alertname") for a in peer.got} == set("ABCDE"))
        peer.answer = None
        assert (await it.receive([alert("F")], NOW)).taken


async def test_a_message_that_expired_is_not_sent_any_more() -> None:
    peer = Peer()
    peer.answer = refuse("down")
    async with running("inline", peer) as (it, telemetry):
        soon = "2025-11-25T01:00:00.200Z"
        assert not (await it.receive([alert("A", soon), alert("B", None)], NOW)).taken
        await until(
            lambda: sample(telemetry, "alerts_forwarded_total", alertmanager="am", outcome="expired") == 1
        )
        peer.answer = None
        await until(lambda: peer.words("B"))
    assert peer.words("A") == []


async def test_one_refused_alert_does_not_take_the_batch_with_it() -> None:
    peer = Peer()

    def picky(alerts: Sequence[Alert]) -> None:
        if any(a.label("alertname") == "Bad" for a in alerts):
            raise Rejected("422: no", 422)

    peer.answer = picky
    async with running("inline", peer) as (it, telemetry):
        assert (await it.receive([alert("A"), alert("Bad"), alert("C")], NOW))[:2] == (False, "am: 422: no")
        await until(lambda: (FIRING, "known") in peer.words("C"))
        assert sample(telemetry, "alerts_forwarded_total", alertmanager="am", outcome="rejected") >= 1
        assert (await it.receive([alert("Bad")], NOW)).status == 422
    assert peer.words("A")[0] == (FIRING, "")
    assert peer.words("Bad") == []


async def test_answers_of_overlapping_batches_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deliveries of A are not a delivery of A and B."""
    monkeypatch.setattr(lane, "SLICE", 1)
    peer, first, last = Peer(), asyncio.Event(), asyncio.Event()

    def holding(alerts: Sequence[Alert]) -> Any:
        if alerts[0].label("alertname") == "B":
            return last.wait()
        return first.wait() if not peer.batches else None

    peer.answer = holding
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, _):
        tasks = []
        for batch in ([alert("A"), alert("B")], [alert("A")], [alert("B")]):
            tasks.append(asyncio.create_task(it.receive(batch, NOW)))
            await asyncio.sleep(0.02)
        first.set()  # the old A, then the new A, then the new B
        await until(lambda: len(peer.got) == 2)
        await asyncio.sleep(0.02)
        assert [task.done() for task in tasks] == [False, True, False]
        last.set()
        assert [(await task).taken for task in tasks] == [True, True, True]
    assert [a.label("alertname") for a in peer.got] == ["A", "A", "B"]


async def test_posts_are_slices() -> None:
    peer = Peer()
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, _):
        assert (await it.receive([alert(f"A{i}") for i in range(150)], NOW)).taken
    assert [len(batch) for batch in peer.batches] == [64, 64, 22]


async def test_what_prometheus_waits_for_goes_before_words_but_not_for_ever() -> None:
    peer, asked = Peer(), list[str]()
    it = lane.Lane(peer, Telemetry())

    def post(name: str, words: bool) -> lane.Message:
        told = alert(name, promantis_summary="known") if words else alert(name)
        return lane.Message(told, time.monotonic() + 300)

    for i in range(3 * lane.SLICE):
        it.put([post(f"words {i}", True)])
    ticket = lane.Ticket([alert("asked").labels])
    it.put([post("asked", False)], ticket)

    def next_one(alerts: Sequence[Alert]) -> None:
        asked.append(str(alerts[0].label("alertname")))
        if len(asked) < 2 * lane.FAIR:  # Prometheus' next batch comes as soon as this one is answered
            name = f"asked {len(asked)}"
            it.put([post(name, False)], lane.Ticket([alert(name).labels]))

    peer.answer = next_one
    run = asyncio.create_task(it.run())
    await asyncio.wait_for(it.idle(), 5)
    run.cancel()
    assert ticket.done.result() is None
    assert asked[0] == "asked"
    assert [one.split()[0] for one in asked[: 2 * lane.FAIR]].count("words") == 2
    assert len(peer.batches[0]) == 1
    assert len(peer.got) == 3 * lane.SLICE + 2 * lane.FAIR


async def test_words_are_looked_for_while_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding them stands back while a batch is on its way, and is done all the same where one always is."""
    monkeypatch.setattr(aside, "GIVE_WAY", 0.05)
    peer, go_on, found = Peer(), asyncio.Event(), list[float]()
    peer.answer = lambda alerts: go_on.wait() if alerts[0].label("alertname") == "B" else None

    def finding(alert: Alert, now: Instant) -> Mapping[str, str]:
        found.append(time.monotonic())
        return {"promantis_summary": "known"}

    async with running("inline", peer, enrich=finding) as (it, _):
        hangs = asyncio.create_task(it.receive([alert("B")], NOW))
        began = time.monotonic()
        await until(lambda: len(found) == 1)
        assert found[0] - began >= aside.WAYS * 0.05
        go_on.set()
        assert (await hangs).taken
        await it.receive([alert("C")], NOW)
        began = time.monotonic()
        await until(lambda: len(found) == 2)
        assert found[1] - began < aside.WAYS * 0.05


async def test_stop_sends_what_waits_and_takes_no_more() -> None:
    peer = Peer()
    telemetry = Telemetry()
    it = Relay(AlertsConfig(mode="tee"), [peer], known, telemetry)
    task = asyncio.create_task(it.run())
    await it.receive([alert()], NOW)
    it.stop()
    await asyncio.wait_for(task, 1)
    assert peer.words() == [(FIRING, "known")]
    assert (await it.receive([alert()], NOW))[:2] == (False, "Promantis is stopping")


async def test_stop_does_not_wait_for_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "DRAIN_WITHIN", 0.1)
    peer = Peer()
    peer.answer = lambda _: asyncio.sleep(60)
    it = Relay(AlertsConfig(mode="tee"), [peer], known, Telemetry())
    task = asyncio.create_task(it.run())
    await it.receive([alert()], NOW)
    it.stop()
    await asyncio.wait_for(task, 1)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LIMIT", 3)
    peer = Peer()
    peer.answer = refuse("down")
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, telemetry):
        await it.receive([alert(f"A{i}") for i in range(5)], NOW)
        assert sample(telemetry, "lane_alerts", alertmanager="am") == 3
        assert sample(telemetry, "alerts_forwarded_total", alertmanager="am", outcome="dropped") == 2
        peer.answer = None
        await until(lambda: len(peer.got) == 3)
    assert sorted(a.label("alertname") for a in peer.got) == ["A2", "A3", "A4"]


async def test_what_came_can_be_looked_up_by_fingerprint() -> None:
    async with running("tee", Peer()) as (it, _):
        assert it.alert(fingerprint(alert().labels)) is None
        await it.receive([alert(), alert("B")], NOW)
        assert it.alert(fingerprint(alert().labels)) == Received(alert(), True)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        assert it.alert(fingerprint(alert().labels)) == Received(alert(ends_at=RESOLVED), False)


async def test_what_was_given_up_but_stored_late_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POST that hangs longer than we wait may still be read, after the one that overtook it."""
    monkeypatch.setattr(lane, "SEND_WITHIN", 0.05)
    peer = Peer()

    async def hang(alerts: Sequence[Alert]) -> None:
        peer.answer = None
        asyncio.get_running_loop().call_later(0.15, peer.batches.append, list(alerts))
        await asyncio.sleep(60)

    peer.answer = hang
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, _):
        assert not (await it.receive([alert()], NOW)).taken
        assert (await it.receive([alert(ends_at=RESOLVED)], NOW)).taken
        await until(lambda: len(peer.got) == 3)
        assert peer.words() == [(RESOLVED, ""), (FIRING, ""), (RESOLVED, "")]
        await asyncio.sleep(0.25)
    assert len(peer.got) == 3  # once is enough


async def test_what_is_newer_is_not_undone_by_saying_again() -> None:
    peer = Peer()
    peer.answer = refuse("down")
    async with running("inline", peer, enrich=lambda a, n: {}) as (it, _):
        await it.receive([alert()], NOW)
        peer.answer = None
        await until(lambda: peer.got)
        await it.receive([alert(ends_at=RESOLVED)], NOW)
        await asyncio.sleep(0.3)
    assert peer.words() == [(FIRING, ""), (RESOLVED, "")]


async def test_a_lane_that_meets_the_unforeseen_goes_on() -> None:
    odd, good = Peer("odd"), Peer("good")

    def fail(_: Sequence[Alert]) -> None:
        odd.answer = None
        raise OSError("unforeseen")

    odd.answer = fail
    async with running("inline", odd, good) as (it, _):
        assert (await it.receive([alert()], NOW)).taken
        await until(lambda: odd.words() and good.words())


async def test_inline_without_alertmanagers_takes_nothing() -> None:
    async with running("inline") as (it, _):
        assert (await it.receive([alert()], NOW))[:2] == (False, "no Alertmanager is configured")


async def test_metrics_are_there_before_anything_happens() -> None:
    async with running("tee", Peer("one"), Peer("two")) as (_, telemetry):
        for name in ("one", "two"):
            for outcome in lane.OUTCOMES:
                assert sample(telemetry, "alerts_forwarded_total", alertmanager=name, outcome=outcome) == 0
            assert sample(telemetry, "lane_alerts", alertmanager=name) == 0
