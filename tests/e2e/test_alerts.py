"""The alert path against the real Alertmanager and Prometheus."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping

import pytest
import yarl
from aiohttp import web

from sidecar.adapters.alertmanager import Alertmanager, AlertmanagerConfig
from sidecar.demo.peers import NO_RECEIVER, Binaries, Peer
from sidecar.types import Alert, Instant, Rejected, Unavailable, labels_of
from tests.e2e.alerting import (
    WORDS,
    alert_at,
    alert_path,
    get,
    message,
    notifying,
    post,
    serving,
    stamp,
    until,
    webhook,
)
from tests.e2e.conftest import Start

pytestmark = pytest.mark.e2e

ENRICHED = {"summary": "raw", **WORDS}


async def test_inline_enriched_before_the_first_notification(alertmanager: Start) -> None:
    async with webhook() as (url, came):
        am = await alertmanager(notifying(url))
        async with alert_path("inline", am) as side:
            assert await post(side.url, [message("A")]) == 200
            assert await alert_at(am.url, "A")  # there before the answer
            await until(lambda: came)
            assert came[0]["alerts"][0]["annotations"] == ENRICHED
            assert await post(side.url, [message("A", ends_in=-0.001)]) == 200
            await until(lambda: came[-1]["status"] == "resolved")
    assert [group["status"] for group in came] == ["firing", "resolved"]
    assert came[-1]["alerts"][0]["annotations"] == ENRICHED


async def test_tee_late_enrichment_does_not_revive(alertmanager: Start) -> None:
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(alert: Alert, now: Instant) -> Mapping[str, str]:
        loop.call_soon_threadsafe(entered.set)
        time.sleep(0.5)
        return WORDS

    async with webhook() as (url, came):
        am = await alertmanager(notifying(url, group_wait="100ms"))
        async with alert_path("tee", am, enrich=slow) as side:
            firing = [message("A")]
            assert (await post(am.url, firing), await post(side.url, firing)) == (200, 200)
            await asyncio.wait_for(entered.wait(), 2)
            over = [message("A", ends_in=-0.001)]
            assert (await post(am.url, over), await post(side.url, over)) == (200, 200)
            await until(lambda: side.telemetry.registry.get_sample_value("promantis_alerts_enriched_total"))
            await until(lambda: came and came[-1]["status"] == "resolved")
            await asyncio.sleep(1.5)  # a group_interval: a revived alert would be notified now
            assert await alert_at(am.url, "A") is None
    assert [group["status"] for group in came] == ["firing", "resolved"]


async def test_tee_killed_changes_nothing_but_the_words(alertmanager: Start) -> None:
    async with webhook() as (url, came):
        am = await alertmanager(notifying(url, group_wait="600ms"))
        async with alert_path("tee", am) as side:
            firing = [message("A")]
            assert (await post(am.url, firing), await post(side.url, firing)) == (200, 200)
            before = await alert_at(am.url, "A")
            await until(lambda: came)
            during = await alert_at(am.url, "A")
        assert await post(am.url, [message("A")]) == 200  # Prometheus goes on without Promantis
        after = await alert_at(am.url, "A")
        await asyncio.sleep(1.5)
        assert before
        assert during
        assert after
        assert during["annotations"] == ENRICHED
        assert after["annotations"] == {"summary": "raw"}
        for key in ("fingerprint", "labels", "startsAt", "generatorURL"):
            assert before[key] == during[key] == after[key]
        assert [group["status"] for group in came] == ["firing"]
        assert await post(am.url, [message("A", ends_in=-0.001)]) == 200
        await until(lambda: came[-1]["status"] == "resolved")


async def test_down_and_up_again_delivers_once_up(alertmanager: Start) -> None:
    am = await alertmanager()
    async with alert_path("inline", am) as side:
        am.kill()
        assert await post(side.url, [message("A"), message("Old", ends_in=0.5)]) == 503
        await asyncio.sleep(0.6)
        await am.start()
        found = await until(lambda: alert_at(am.url, "A"))
        assert found["annotations"] == ENRICHED
        assert await alert_at(am.url, "Old") is None


async def test_one_of_two_that_hangs_delays_nothing(alertmanager: Start) -> None:
    good, hung = await alertmanager(), await alertmanager()
    async with alert_path("inline", hung, good) as side:
        hung.signal(signal.SIGSTOP)
        try:
            for i in range(3):
                begin = time.monotonic()
                assert await post(side.url, [message(f"A{i}")]) == 200
                assert time.monotonic() - begin < 2.5  # a hung one costs 5
            await until(lambda: alert_at(good.url, "A2"))
        finally:
            hung.signal(signal.SIGCONT)
        await until(lambda: alert_at(hung.url, "A0"), within=15)


async def test_no_alertmanager_answers(alertmanager: Start) -> None:
    am = await alertmanager()
    am.kill()
    async with alert_path("inline", am) as side:
        with pytest.raises(AssertionError, match=f"no Alertmanager answered: {am.listen} cannot be asked: "):
            await get(side.url)


async def test_what_only_alertmanager_refuses_costs_only_itself(alertmanager: Start) -> None:
    """Names that are not classic, where Alertmanager takes only those; and a start that is far off by its clock."""
    am = await alertmanager(NO_RECEIVER, "--enable-feature=classic-mode")
    odd = [
        {"labels": {"alertname": "Odd", "foo.bar": "x"}},
        {"labels": {"alertname": "Far"}, "startsAt": stamp(900)},
    ]
    async with alert_path("inline", am) as side:
        for bad in odd:
            assert await post(am.url, [bad]) == await post(side.url, [bad]) == 400
            assert await post(side.url, [message("A"), bad, message("B")]) == 400
        await until(lambda: alert_at(am.url, "B"))
        assert sorted(a["labels"]["alertname"] for a in await get(am.url)) == ["A", "B"]


async def test_questions_go_past_one_that_hangs(alertmanager: Start) -> None:
    hung, good = await alertmanager(), await alertmanager()
    async with alert_path("inline", hung, good) as side:
        assert await post(side.url, [message("A")]) == 200
        await until(lambda: alert_at(good.url, "A"))  # who has it already was enough for the answer
        hung.signal(signal.SIGSTOP)
        try:
            assert await get(side.url)  # after its 5 seconds
            took = []
            for _ in range(3):
                begin = time.monotonic()
                assert await alert_at(side.url, "A")
                took.append(time.monotonic() - begin)
            assert sorted(took)[1] < 4, "it is tried again now and then, but not each time"
        finally:
            hung.signal(signal.SIGCONT)


async def test_questions_go_past_one_that_is_busy(alertmanager: Start) -> None:
    """Alertmanager answers 503 to more questions at once than it allows."""

    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=503 if request.method == "GET" else 200)

    app, am = web.Application(), await alertmanager()
    app.add_routes([web.route("*", "/{path:.*}", busy)])
    async with (
        serving(app) as url,
        alert_path("inline", Peer("", [], am.folder, yarl.URL(url).port or 0, ""), am) as side,
    ):
        assert await post(side.url, [message("A")]) == 200
        await until(lambda: alert_at(side.url, "A"))
        am.kill()
        with pytest.raises(
            AssertionError, match=r"no Alertmanager answered: .* answered 503; .* cannot be asked"
        ):
            await get(side.url)


async def test_amtool_works_against_promantis(alertmanager: Start, peers: Binaries) -> None:
    am = await alertmanager()

    async def amtool(url: str, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(peers.amtool),
            f"--alertmanager.url={url}",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode().strip()

    async with alert_path("inline", am) as side:
        assert await post(side.url, [message("A", pod="shop-1"), message("B+ &=%", pod="shop-2")]) == 200
        await until(lambda: alert_at(am.url, "A"))
        assert await amtool(side.url, "alert", "query") == await amtool(am.url, "alert", "query")
        for query in ("pod=~shop-.*", 'alertname="B+ &=%"', "pod!=shop-1"):
            through = await amtool(side.url, "alert", "query", "-o", "extended", query)
            assert through == await amtool(am.url, "alert", "query", "-o", "extended", query)
            assert "shop-2" in through
        silence = await amtool(
            side.url, "silence", "add", "alertname=A", "-c", "test", "-a", "me", "-d", "10m"
        )
        assert silence in await amtool(am.url, "silence", "query")
        assert "A " not in await amtool(side.url, "alert", "query")
        await amtool(side.url, "silence", "expire", silence)
        assert silence not in await amtool(am.url, "silence", "query")
        assert "0.28" in await amtool(side.url, "cluster", "show") or await get(side.url, "/api/v2/status")


async def test_state_of_an_alert(alertmanager: Start) -> None:
    am = await alertmanager()
    it = Alertmanager(AlertmanagerConfig(url=am.url))
    odd = labels_of({"alertname": 'a "b" \\ c\nd', "foo.bar": "x", "é": "ü", "plus": "1+1 & 2=2 %41"})
    near = labels_of({**dict(odd), "more": "labels"})
    try:
        assert await it.state(odd) == ("absent", (), ())
        for labels in (odd, near):
            await it.send([Alert(labels, {}, stamp(-60), stamp(240))])
        assert await it.state(odd) == ("active", (), ())
        assert await it.shows(odd)
        silence = {
            "matchers": [{"name": "more", "value": "labels", "isRegex": False}],
            "startsAt": stamp(0),
            "endsAt": stamp(600),
            "createdBy": "me",
            "comment": "test",
        }
        status, _, body = await it.passthrough(
            "POST", "/api/v2/silences", {"Content-Type": "application/json"}, _json(silence)
        )
        assert status == 200
        state = await it.state(near)
        assert state.state == "suppressed"
        assert await it.shows(near)
        assert not await it.shows(labels_of({"alertname": "Other"}))
        assert state.silenced_by[0].encode() in body
        assert await it.state(odd) == ("active", (), ())
        with pytest.raises(Rejected, match=r'^400: "at least one label pair required"$'):
            await it.send([Alert((), {})])
        am.kill()
        with pytest.raises(Unavailable, match=f"^{am.listen} cannot be asked: "):
            await it.state(odd)
    finally:
        await it.close()


def _json(value: object) -> bytes:
    import json

    return json.dumps(value).encode()


RULES = """
groups:
  - name: g
    interval: 1s
    rules:
      - {alert: Always, expr: vector(1), labels: {severity: page}, annotations: {summary: "v {{ $value }}"}}
"""


async def test_real_prometheus_in_tee(alertmanager: Start, prometheus: Start) -> None:
    am = await alertmanager()
    async with alert_path("tee", am) as side:
        config = (
            "global: {evaluation_interval: 1s, external_labels: {cluster: c1}}\nalerting: {alertmanagers: ["
            f"{{static_configs: [{{targets: ['{am.listen}']}}]}},"
            f"{{static_configs: [{{targets: ['{side.url.partition('://')[2]}']}}]}}]}}\n"
        )
        await prometheus(config, RULES, "--rules.alert.resend-delay=1s")
        found = await until(lambda: _enriched(am.url, "Always"), within=20)
        assert found["labels"] == {"alertname": "Always", "cluster": "c1", "severity": "page"}
        assert found["annotations"] == {"summary": "v 1", **WORDS}
        assert len(await get(am.url)) == 1
        assert side.telemetry.registry.get_sample_value("promantis_alerts_invalid_total") == 0


async def _enriched(url: str, name: str) -> dict[str, object] | None:
    found = await alert_at(url, name)
    return found if found and "promantis_summary" in found["annotations"] else None
