"""`promantis check --live` says where the real set-up contradicts the mode."""

from __future__ import annotations

import sys

import pytest

from sidecar.adapters.prometheus import Prometheus, PrometheusConfig
from sidecar.commands.way import contradictions
from sidecar.demo.peers import free_port
from sidecar.telemetry import Telemetry
from tests.e2e.chain import discovered
from tests.e2e.conftest import Start
from tests.e2e.loop import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


async def test_the_way_of_alerts(prometheus: Start, alertmanager: Start) -> None:
    am, other, listen = await alertmanager(), await alertmanager(), f"127.0.0.1:{free_port()}"
    prom = await prometheus(
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{am.listen}', '{listen}']}}]}}]}}"
    )
    await discovered(prom.url, 2)

    asked = Prometheus(PrometheusConfig(url=prom.url), Telemetry())
    theirs = await asked.alertmanagers()
    await asked.close()

    async def said(mode: str, at: str, *ours: str) -> list[str]:
        return list(await contradictions(mode, at, ours, theirs))

    localhost = am.url.replace("127.0.0.1", "localhost")
    assert await said("tee", listen, localhost) == []
    assert await said("inline", listen, other.url) == []
    assert await said("inline", "127.0.0.1:1") == []  # it knows none: alerts are not its business
    (words,) = await said("inline", listen, localhost)
    assert f"inline, but Prometheus sends to {localhost} itself too, so annotations come and go" in words
    assert await said("tee", "127.0.0.1:1", am.url) == [
        "alerts.mode: Prometheus sends to nothing on port 1, so no alert is explained:"
        " add Promantis to alerting.alertmanagers in prometheus.yml"
    ]
    (prom.folder / "check.yml").write_text(f"alertmanagers: [{{url: '{other.url}'}}]\npresets: none\n")
    flags = (f"--config.file={prom.folder}/check.yml", f"--prometheus.url={prom.url}")
    code, out = await run(
        *(sys.executable, "-m", "sidecar", "check", "--live", f"--web.listen-address={listen}"), *flags
    )
    assert code == 1
    assert (
        f"promantis: alerts.mode: tee, but Prometheus does not send to {other.url} itself, and neither does"
        " Promantis: add it to alerting.alertmanagers in prometheus.yml, or write mode: inline\n"
    ) in out
