"""Both modes beside an Alertmanager that Prometheus feeds itself: the same alerts, at the same time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sidecar.alerts.identity import fingerprint
from sidecar.demo.peers import Peer, free_port
from sidecar.types import labels_of
from tests.e2e.alerting import get, webhook
from tests.e2e.chain import (
    RULES,
    alarms,
    delays,
    discovered,
    named,
    prometheus_config,
    recorder,
    same,
    told,
    users,
)
from tests.e2e.conftest import Start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

MANY = 1000


def notifying(url: str) -> str:
    return (
        "route: {receiver: hook, group_by: [alertname, name], group_wait: 2s, group_interval: 1s}\n"
        f"receivers: [{{name: hook, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}]\n"
    )


def sidecar(mode: str, prometheus: str, *alertmanagers: str) -> str:
    peers = ", ".join(f"{{url: 'http://{peer}'}}" for peer in alertmanagers)
    return (
        f"prometheus: {{url: '{prometheus}'}}\nalertmanagers: [{peers}]\npresets: none\n"
        f"alerts: {{mode: {mode}, external_url: 'https://promantis.example.org'}}\n"
    )


def shown_by(alertmanager: Peer) -> Callable[[], Any]:
    """What an Alertmanager shows of each alert, without what Promantis added."""

    async def shown() -> list[Any]:
        keys = ("labels", "startsAt", "endsAt", "generatorURL", "fingerprint")
        return sorted(
            (
                [{k: a[k] for k in keys}, users(a["annotations"]), a["status"]["state"]]
                for a in await get(alertmanager.url)
            ),
            key=lambda one: one[0]["fingerprint"],
        )

    return shown


def lives(notifications: Sequence[dict[str, Any]]) -> dict[Any, list[tuple[str, str]]]:
    """By alert, the states in the order in which they were notified, each once."""
    out: dict[Any, list[tuple[str, str]]] = defaultdict(list)
    for group in notifications:
        for alert in group["alerts"]:
            state = (alert["status"], alert["startsAt"])
            if out[named(alert["labels"])][-1:] != [state]:
                out[named(alert["labels"])].append(state)
    return dict(out)


async def test_both_modes_beside_a_direct_alertmanager(
    prometheus: Start, alertmanager: Start, promantis: Start
) -> None:
    async with (
        alarms() as (target, alarm),
        webhook() as (hook_direct, to_direct),
        webhook() as (hook_inline, to_inline),
        webhook() as (hook_tee, to_tee),
        recorder() as (sent_to, sent),
        recorder() as (inline_to, by_inline),
        recorder() as (tee_to, by_tee),
    ):
        direct, inline, tee = [await alertmanager(notifying(h)) for h in (hook_direct, hook_inline, hook_tee)]
        ports = [free_port(), free_port()]
        peers = [direct.listen, sent_to, tee.listen, *(f"127.0.0.1:{port}" for port in ports)]
        config = prometheus_config(target, peers)
        prom = await prometheus(config, RULES, "--rules.alert.resend-delay=2s")
        await asyncio.gather(
            promantis(sidecar("inline", prom.url, inline.listen, inline_to), port=ports[0]),
            promantis(sidecar("tee", prom.url, tee.listen, tee_to), port=ports[1]),
        )
        await discovered(prom.url, len(peers))

        alarm.set("Steady", range(3), True)
        for step in range(5):  # of four seconds: two evaluations
            alarm.set("Flapping", range(5), step % 2 == 0)
            alarm.set("Refiring", range(2), step in (0, 3, 4))
            alarm.set("Resolving", range(2), step < 2)
            alarm.set("Many", range(MANY), step in (1, 2))
            if step in (2, 4):
                shown = await same(*(shown_by(am) for am in (direct, inline, tee)))
                for one, _, _ in shown:
                    assert fingerprint(labels_of(one["labels"])) == one["fingerprint"]
            await asyncio.sleep(4)
        alarm.set("Flapping", range(5), False)
        await asyncio.sleep(4)

    # every message of Prometheus, exactly as it was, in its order, and at once
    assert len(sent) > 3 * MANY
    said_direct = told(sent)
    assert told(by_inline) == said_direct
    late = sorted(delays(sent, by_inline))
    assert late[len(late) // 2] < 0.25
    assert late[-1] < 2.0  # measured: 0.04
    # a copy of each that was not overtaken, and nothing that Prometheus did not say
    for key, said in told(by_tee).items():
        whole = iter(said_direct[key])
        assert all(message in whole for message in said), "another order, or another message"
    assert len(delays(sent, by_tee)) > 0.95 * len(delays(sent, sent))
    # people are told the same, and the first time they are told why
    direct_lives = lives(to_direct)
    assert lives(to_inline) == direct_lives
    assert lives(to_tee) == direct_lives
    assert [state for state, _ in direct_lives["Alarm", "Refiring", "0"]] == ["firing", "resolved", "firing"]
    for notifications in (to_inline, to_tee):
        seen = set()
        for group in notifications:
            for one in group["alerts"]:
                if one["status"] == "firing" and one["fingerprint"] not in seen:
                    seen.add(one["fingerprint"])
                    expected = f"https://promantis.example.org/a/{one['fingerprint']}"
                    assert one["annotations"].get("promantis_url") == expected
        assert len(seen) == MANY + 3 * 2 + 5 + 2 + 2
