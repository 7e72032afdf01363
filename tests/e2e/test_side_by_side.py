"""Both modes beside an Alertmanager that Prometheus feeds itself: the same alerts, at the same time."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from sidecar.alerts.identity import fingerprint
from sidecar.demo.peers import Peer, free_port
from sidecar.types import labels_of
from tests.e2e.alerting import get, webhook
from tests.e2e.chain import (
    RULES,
    Posted,
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


def as_the_contract_says(sent: Sequence[Posted]) -> None:
    """What Prometheus sends, at intervals of 2 s and a resend delay of 2 s: what both modes count on."""
    by_name = defaultdict(list)
    for posted in sent:
        by_name[posted.alert["labels"]["alertname"], posted.alert["labels"]["name"]].append(posted)
        assert posted.kind == "application/json"
        assert 1 <= posted.batch <= 256
        for time in ("startsAt", "endsAt"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", posted.alert[time])
    assert all("annotations" not in posted.alert for posted in by_name["Plain", "Steady"])
    assert not any(alertname == "Pending" for alertname, _ in by_name)
    steady = [posted for posted in by_name["Alarm", "Steady"] if posted.alert["labels"]["i"] == "0"]
    for one, other in itertools.pairwise(steady):  # the first evaluation later than the delay
        apart = instant(other.alert["endsAt"]) - instant(
            one.alert["endsAt"]
        )  # of evaluations, not of arrivals
        assert 3 < apart < 5.5  # and not 2, and not 6
        assert one.alert["startsAt"] == other.alert["startsAt"]
    lasts = max(instant(posted.alert["endsAt"]) - posted.at for posted in steady)  # of what came soonest
    assert 7 < lasts < 8.1  # four times the longer of interval and delay
    over = [posted for posted in by_name["Alarm", "Resolving"] if posted.alert["labels"]["i"] == "0"]
    ended = [posted for posted in over if instant(posted.alert["endsAt"]) < posted.at]
    assert len(ended) >= 2  # at once, and again
    assert len({posted.alert["endsAt"] for posted in ended}) == 1


def instant(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


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
        for step in range(4):  # of four seconds: two evaluations
            if step >= 2:
                shown = await same(*(shown_by(am) for am in (direct, inline, tee)))
                for one, _, _ in shown:
                    assert fingerprint(labels_of(one["labels"])) == one["fingerprint"]
            alarm.set("Flapping", range(5), step % 2 == 0)
            alarm.set("Refiring", range(2), step != 1)
            alarm.set("Resolving", range(2), step < 1)
            alarm.set("Many", range(MANY), step == 1)
            await asyncio.sleep(4)
        await asyncio.sleep(3)

    as_the_contract_says(sent)
    # every message of Prometheus, exactly as it was, in its order, and at once
    assert len(sent) > 2 * MANY
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
