"""The closed loop with everything real, told in order: each test finds the world as the one before left it."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from grafana import build as dashboard
from sidecar.demo.peers import REPOSITORY, Stack, free_port
from tests.e2e.alerting import alert_at, get, until
from tests.e2e.loop import DISK_IN, SPREAD, STEP, Service, World, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(module_stack: Stack) -> AsyncIterator[World]:
    """Service, Prometheus, two Alertmanagers and Promantis; the start is paid once."""
    service = Service()
    async with service.open() as url:
        world = World(module_stack, service)
        await world.start(url)
        yield world
        module_stack.close()  # before the service that they ask is gone


def of(found: list[dict[str, Any]], watch: str, **labels: str) -> dict[str, Any]:
    """The one series of a watch with these labels."""
    (only,) = (s for s in found if s["watch"] == watch and labels.items() <= s["labels"].items())
    return only


async def test_rules_are_watched_with_a_band_at_the_first_tick(world: World) -> None:
    series, metrics = world.first
    assert metrics['promantis_tick_duration_seconds_count{step="2"}'] <= 2
    assert {s["watch"] for s in series} == {
        "QueueDeep", "NoOrders", "NoHeartbeat", "WorkHigh", "DiskFull", "PoolFull",
    }  # fmt: skip
    queue = of(series, "QueueDeep", pod="a")
    assert queue["expected"] == pytest.approx(100, abs=SPREAD)
    # the edge is where a value is worth a look: rarer than any of the past, and not far beyond
    assert 2.5 * SPREAD < queue["upper"] - 100 < 10 * SPREAD
    assert queue["score"] < 1
    assert queue["confidence"] >= 0
    forecast = queue["forecasts"]["15m"]
    assert forecast["lower"] < 100 < forecast["upper"]
    assert forecast["upper"] - forecast["lower"] < 12 * SPREAD


async def test_a_full_disk_is_foreseen(world: World) -> None:
    disk = of(world.first[0], "DiskFull")["breaches"][0]
    assert disk["eta_seconds"] == pytest.approx(DISK_IN, rel=0.3)
    assert disk["probability"]["60m"] > 0.8
    assert disk["probability"]["15m"] < 0.2


async def test_steps_zeros_and_absence_score_at_once(world: World) -> None:
    values = world.service.values
    values['queue_depth{pod="a"}'] = 200.0
    values['orders{pod="a"}'] = 0.0
    del values['heartbeats{pod="a"}']
    step = {"QueueDeep": lambda s: s["observed"] > 180, "NoOrders": lambda s: s["observed"] == 0,
            "NoHeartbeat": lambda s: s["observed"] is None}  # fmt: skip
    changed: dict[str, float] = {}
    seen: dict[str, float] = {}

    async def look() -> bool:
        for s in await world.series('{pod="a"}'):
            if step[s["watch"]](s):
                changed.setdefault(s["watch"], s["at"])
                if (s["score"] or 0) > 1:
                    seen.setdefault(s["watch"], s["at"])
        return len(seen) == 3

    await until(look, within=30)
    assert {watch: at - changed[watch] <= STEP for watch, at in seen.items()} == dict.fromkeys(step, True)
    other = of(await world.series(), "QueueDeep", pod="b")
    assert other["score"] < 1


async def test_scraped_with_honor_labels(world: World) -> None:
    score = await until(lambda: world.ask('promantis_anomaly_score{watch="QueueDeep",pod="a"} > 1'), 15)
    assert score[0][0] == {
        "__name__": "promantis_anomaly_score", "watch": "QueueDeep", "pod": "a",
        "job": "service", "instance": "service-1",
    }  # fmt: skip
    # no label of Promantis' own target where the source has none
    (summed,) = await world.ask('promantis_anomaly_score{watch="WorkHigh"}')
    assert summed[0] == {"__name__": "promantis_anomaly_score", "watch": "WorkHigh", "service": "api"}
    # two rules on one expression: one watch, two limits
    breaches = await world.ask('promantis_breach_probability{watch="WorkHigh",horizon="15m"}')
    assert sorted((at["source_alertname"], at["source_severity"], at["limit"]) for at, _ in breaches) == [
        ("WorkHigh", "warning", ">500"),
        ("WorkVeryHigh", "page", ">900"),
    ]
    infos = await world.ask('promantis_watch_info{watch="WorkHigh"}')
    assert {at["source_alertname"] for at, _ in infos} == {"WorkHigh", "WorkVeryHigh"}
    (queue,) = await world.ask('promantis_breach_probability{watch="QueueDeep",pod="b",horizon="15m"}')
    assert queue[0]["team"] == "shop"  # the rule's own label
    # what is about Promantis itself keeps its target's labels
    (info,) = await world.ask("promantis_build_info")
    assert (info[0]["job"], info[0]["pod"]) == ("promantis", "promantis-0")


async def test_promtool_finds_nothing_to_say(world: World) -> None:
    promtool = world.stack.binaries.promtool
    for accept in ("text/plain", "application/openmetrics-text"):
        command = f"curl -sf -H 'Accept: {accept}' {world.promantis.url}/metrics | '{promtool}' check metrics"
        if accept == "text/plain":
            assert await run("sh", "-c", command) == (0, "")
    code, out = await run(promtool, "check", "rules", REPOSITORY / "rules" / "promantis.rules.yml")
    assert code == 0, out


async def test_the_alert_is_explained_and_stays_the_same_alert(world: World) -> None:
    world.service.values['queue_depth{pod="a"}'] = 450.0

    async def explained() -> dict[str, Any] | None:
        alert = await world.alert("QueueDeep")
        said = alert["annotations"].get("promantis_summary", "") if alert else ""
        return alert if said.startswith("queue_depth is 4") else None  # the first words may be of a tick ago

    alert = await until(explained, 20)
    plain = await until(lambda: world.alert("QueueDeep", world.plain))
    for key in ("fingerprint", "labels", "startsAt", "generatorURL"):
        assert alert[key] == plain[key]
    words = alert["annotations"]
    assert {name: words[name] for name in plain["annotations"]} == plain["annotations"] | {
        "summary": words["summary"]
    }
    assert "normal now" in words["promantis_summary"]
    assert words["promantis_url"] == f"{world.promantis.url}/a/{alert['fingerprint']}"
    assert not [name for name in plain["annotations"] if name.startswith("promantis_")]


async def test_a_verdict_on_the_alert_is_kept_and_moves_confidence(world: World) -> None:
    alert = await world.alert("QueueDeep")
    assert alert is not None

    async def odds() -> float:
        sure = float(of(await world.series(), "QueueDeep", pod="a")["confidence"])
        return sure / (1 - sure)

    before = await odds()
    about = ("--fingerprint", alert["fingerprint"], "--comment", "a drill")
    code, out = await world.promantis_says("feedback", "not_real", *about)
    assert (code, out.splitlines()[0]) == (0, "not_real: 1 run"), out
    assert 'QueueDeep {instance="service-1", job="service", pod="a"}' in out
    runs = await get(world.promantis.url, "/api/v1/runs")
    (mine,) = (run for run in runs if run["watch"] == "QueueDeep")
    assert (mine["labels"]["pod"], mine["end"], mine["verdict"]) == ("a", None, "not_real")
    (said,) = await get(world.promantis.url, "/api/v1/feedback")
    assert (said["who"], said["comment"], said["runs"][0]["start"]) == ("admin", "a drill", mine["start"])

    async def moved() -> bool:
        return await odds() < 0.8 * before

    await until(moved)


async def test_a_silence_set_before_approval_blocks_the_action(world: World) -> None:
    case = await world.case("drain", "proposed")
    assert "QueueDeep" in await world.amtool("alert", "query", "alertname=QueueDeep")
    await world.amtool("silence", "add", "alertname=QueueDeep", "-c", "planned", "-a", "me", "-d", "1h")
    assert "QueueDeep" in await world.amtool("silence", "query", url=world.alertmanager.url)
    await until(lambda: suppressed(world))
    code, out = await world.promantis_says("approve", case["id"])
    assert code == 0, out
    refused = await world.case("drain", "refused")
    assert (refused["reason"], world.service.called) == ("suppressed", [])


async def suppressed(world: World) -> bool:
    alert = await world.alert("QueueDeep")
    return alert is not None and alert["status"]["state"] == "suppressed"


async def test_killed_between_action_and_verification(world: World) -> None:
    world.service.pool[0] = 19
    case = await world.case("bigger-pool", "proposed")
    code, out = await world.promantis_says("approve", case["id"])
    assert code == 0, out
    await world.case("bigger-pool", "verifying")
    assert world.service.called == ["/pool"]
    await until(lambda: world.ask('promantis_actions_total{policy="bigger-pool",outcome="done"} == 1'))
    before = len(world.promantis.log.read_text())
    world.promantis.kill()
    await world.promantis.start()
    series, metrics = await world.series(), await world.metrics()
    queue = of(series, "QueueDeep", pod="b")
    assert queue["expected"] == pytest.approx(100, abs=SPREAD)
    assert 2.5 * SPREAD < queue["upper"] - 100 < 10 * SPREAD
    assert metrics['promantis_tick_duration_seconds_count{step="2"}'] <= 2
    assert metrics["promantis_state_damaged_total"] == 0
    assert metrics['promantis_feedback_total{verdict="not_real"}'] == 1
    assert "a drill" in (await world.promantis_says("feedback"))[1]
    log = world.promantis.log.read_text()[before:]
    assert "restored 7 series" in log
    assert "caught up with 6 series of 5 watches" in log
    assert "learned the history" not in log
    fixed = await world.case("bigger-pool", "fixed", "failed", "unknown", "undone")
    assert (fixed["id"], fixed["stage"], world.service.called) == (case["id"], "fixed", ["/pool"])
    code, out = await world.promantis_says("cases")
    assert ("bigger-pool" in out, "drain" in out) == (True, True)
    await until(lambda: resolved(world, "PoolFull"))


async def resolved(world: World, name: str) -> bool:
    return (name, "resolved") in world.service.notified and await world.alert(name) is None


SERIES = 'watch="QueueDeep",pod="b",job="service",instance="service-1"'
AHEAD = {"15m": 900, "30m": 1800, "60m": 3600}
EMPTY = {
    query.replace("$__range", "5m")
    for query in dashboard.queries()
    if "breach_ahead" in query or '"announced|false"' in query
}
"""Means and shares of what does not happen here within the time: nothing by nothing."""


async def test_every_query_of_the_dashboard_returns_data(world: World) -> None:
    replaced = {"${series:raw}": SERIES, "${query:raw}": "queue_depth",
                "$__rate_interval": "20s", "$__range": "5m"}  # fmt: skip
    # of what was marked it is enough that it was there once; alerts on our metrics wait two minutes
    marked = {f"max_over_time(({q})[3m:1s])" for name, _, q, _ in dashboard.MARKS if name[:6] != "Alerts"}
    queries = {*dashboard.queries(), *marked}
    for variable, value in replaced.items():
        queries = {query.replace(variable, value) for query in queries}
    assert not [query for query in queries if "$" in query]

    async def answered() -> bool:
        for query in list(queries):  # what was forecast is looked at when it is due
            ahead = next((seconds for h, seconds in AHEAD.items() if query.endswith(f"offset {h}")), 0)
            found = await world.ask(query, time.time() + ahead)
            if [value for _, value in found if not math.isnan(value) or query in EMPTY]:
                queries.discard(query)
        return not queries

    try:
        await until(answered, 15)  # a rate needs two scrapes after the restart
    except AssertionError:
        pytest.fail(f"no data: {queries}")


async def test_reload_by_signal(world: World) -> None:
    good = world.configured()
    watch = "watches: [{name: configured, query: sum(work)}]\n"
    world.configure(good + watch)
    world.promantis.signal(signal.SIGHUP)
    await until(lambda: world.series('{watch="configured"}'), 15)
    assert (await world.metrics())["promantis_config_last_reload_successful"] == 1
    world.configure(good + "intervall: 5s\n")
    world.promantis.signal(signal.SIGHUP)
    await until(lambda: failed_reload(world))
    assert "config not reloaded: promantis.yml: unknown key `intervall`" in world.promantis.tail(200)
    assert await world.series('{watch="configured"}')
    world.configure(good + watch)
    world.promantis.signal(signal.SIGHUP)
    await until(lambda: failed_reload(world, 1))


async def failed_reload(world: World, value: float = 0) -> bool:
    return (await world.metrics())["promantis_config_last_reload_successful"] == value


async def test_killed_in_tee_mode_changes_nothing_but_the_words(world: World) -> None:
    world.service.values['queue_depth{pod="b"}'] = 500.0  # not silenced by name below
    await world.amtool("silence", "expire", *(await world.amtool("silence", "query", "-q")).split())
    told = world.service.notified

    def count(status: str) -> int:
        return told.count(("QueueDeep", status))

    await until(lambda: count("firing") == 2, 20)
    world.promantis.kill()

    async def raw() -> bool:
        alert = await world.alert("QueueDeep")
        assert alert is not None, "it fires all the time"
        return not any(name.startswith("promantis_") for name in alert["annotations"])

    await until(raw, 20)
    await asyncio.sleep(2 * STEP)
    assert (count("firing"), count("resolved")) == (2, 0)
    for pod in "ab":
        world.service.values[f'queue_depth{{pod="{pod}"}}'] = 100.0
    await until(lambda: count("resolved") == 2, 20)
    await asyncio.sleep(2 * STEP)
    assert (count("firing"), count("resolved")) == (2, 2)
    assert await world.alert("QueueDeep") is None


async def test_told_to_stop_it_saves_and_ends(world: World) -> None:
    await world.promantis.start()
    state = world.promantis.folder / "state" / "state" / "2.state"
    before = state.stat().st_mtime
    begin = time.monotonic()
    world.promantis.signal(signal.SIGTERM)
    world.promantis.signal(signal.SIGTERM)
    assert await asyncio.to_thread(world.promantis.terminate) == 0
    assert time.monotonic() - begin < 5
    assert state.stat().st_mtime > before
    log = world.promantis.log.read_text()
    assert log.endswith("msg=stopped\n")
    assert "Traceback" not in log
    assert [line.partition("msg=")[2] for line in log.splitlines() if "level=info" not in line] == [
        '"config not reloaded: promantis.yml: unknown key `intervall`: did you mean `interval`?"'
    ]


INLINE = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs: [{{job_name: p, static_configs: [{{targets: ["{own}"], labels: {{instance: p-1}}}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{promantis}"]}}]}}]}}
"""


async def test_inline(stack: Stack) -> None:
    manager, port = await stack.alertmanager(), free_port()
    rules = "groups: [{name: g, interval: 1s, rules: [{alert: Always, expr: up > 0}]}]"
    prometheus = await stack.prometheus(
        lambda own: INLINE.format(promantis=f"127.0.0.1:{port}", own=own),
        rules,
        "--rules.alert.resend-delay=1s",
    )
    side = await stack.promantis(
        f"interval: 1s\npresets: none\nprometheus: {{url: '{prometheus.url}'}}\n"
        f"alertmanagers: [{{url: '{manager.url}'}}]\nalerts: {{mode: inline}}\n",
        port=port,
    )

    async def explained() -> dict[str, Any] | None:
        alert = await alert_at(manager.url, "Always")
        return alert if alert and "promantis_summary" in alert["annotations"] else None

    alert = await until(explained, 20)
    assert alert["labels"] == {"alertname": "Always", "job": "p", "instance": "p-1"}
    assert alert["annotations"]["promantis_url"] == f"{side.url}/a/{alert['fingerprint']}"
