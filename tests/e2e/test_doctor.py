"""`promantis doctor` on real peers: one set-up that fits, and the same with four mistakes."""

from __future__ import annotations

import sys

import pytest

from sidecar.demo.peers import free_port
from tests.e2e.alerting import until
from tests.e2e.chain import discovered
from tests.e2e.conftest import Start
from tests.e2e.loop import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PROMETHEUS = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - {{job_name: prometheus, static_configs: [{{targets: ["{own}"]}}]}}
  - {{job_name: promantis, {honor}static_configs: [{{targets: ["{side}"], labels: {{team: sre, pod: p-0}}}}]}}
alerting: {{alertmanagers: [{{static_configs: [{{targets: [{peers}]}}]}}]}}
"""
RULES = """\
groups:
  - name: g
    rules: [{alert: Up, expr: 'prometheus_tsdb_head_series > 0.5', labels: {severity: page}}]
"""
ALERTMANAGER = """\
route: {{receiver: promantis, group_wait: 0s}}
receivers: [{{name: promantis, webhook_configs: [{{url: "http://{side}/api/v1/webhook"}}]}}]
"""
REMEDY = """\
remedies:
  - name: r
    match: ['alertname="Up"']
    action: {type: http, url: "http://127.0.0.1:9/x"}
    verify: {query: up}
"""


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
async def test_the_doctor(right: bool, prometheus: Start, alertmanager: Start, promantis: Start) -> None:
    port = free_port()
    side = f"127.0.0.1:{port}"
    am = await alertmanager(
        ALERTMANAGER.format(side=side) if right else "route: {receiver: n}\nreceivers: [{name: n}]"
    )
    honor = "honor_labels: true, " if right else ""
    peers = f'"{am.listen}", "{side}"' if right else f'"{am.listen}"'
    prom = await prometheus(
        lambda own: PROMETHEUS.format(own=own, honor=honor, side=side, peers=peers), RULES
    )
    blank = "exposition: {blank_labels: [pod, team]}\n" if right else ""
    config = (
        f"prometheus: {{url: '{prom.url}'}}\nalertmanagers: [{{url: '{am.url}'}}]\ninterval: 1s\npresets: none\n"
        f"{blank}{REMEDY}"
    )
    served = await promantis(config, port=port)
    await discovered(prom.url, 2 if right else 1)
    file = served.folder / "doctor.yml"
    file.write_text(config)
    flags = (
        f"--config.file={file}",
        f"--web.listen-address={side}",
        f"--storage.path={served.folder / 'state'}",
    )

    async def said(*flags: str) -> tuple[int | None, dict[str, str]]:
        code, out = await run(sys.executable, "-m", "sidecar", "doctor", *flags)
        lines = [line.split(None, 2) for line in out.splitlines() if not line.startswith(" ")]
        return code, {words[1]: words[0] for words in lines}

    wanted = dict.fromkeys(("scraped", "honor_labels", "labels", "alerts"), "ok" if right else "BAD")
    wanted |= {"alertmanager": "ok", "scraped": "ok", "clock": "ok", "watches": "ok"}
    wanted["webhook"] = "ok" if right else "?"  # so early it may still come

    last: dict[str, str | None] = {}

    async def settled() -> bool:
        code, states = await said(*flags)
        last.update({name: states.get(name) for name in wanted})
        return code == int(not right) and last == wanted

    try:
        await until(settled, 60)
    except AssertionError:
        pytest.fail(f"{last}")
    # minutes old, which is no fault
    assert (await said(*flags))[1]["history"] == "?"
    plain = f"--url=http://{side}", f"--prometheus.url={prom.url}", f"--alertmanager.url={am.url}"
    assert (await said(*plain, flags[-1]))[1]["alerts"] == wanted[
        "alerts"
    ]  # without a config, its port is the url's
