"""`promantis check --live` says where the real set-up contradicts the mode."""

from __future__ import annotations

import sys

import pytest

from sidecar.demo.peers import free_port
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

    async def said(mode: str, at: str, *peers: str) -> tuple[int | None, list[str]]:
        folder = prom.folder / "check.yml"
        urls = ", ".join(f"{{url: '{peer}'}}" for peer in peers)
        folder.write_text(f"alertmanagers: [{urls}]\nalerts: {{mode: {mode}}}\npresets: none\n")
        flags = (f"--config.file={folder}", f"--prometheus.url={prom.url}", f"--web.listen-address={at}")
        code, out = await run(sys.executable, "-m", "sidecar", "check", "--live", *flags)
        return code, [line for line in out.splitlines() if "alerts.mode: " in line]

    localhost = am.url.replace("127.0.0.1", "localhost")
    assert await said("tee", listen, localhost) == (0, [])
    assert await said("inline", listen, other.url) == (0, [])
    add = "in prometheus.yml"
    code, lines = await said("inline", listen, localhost)
    assert (code, len(lines)) == (1, 1)
    assert f"inline, but Prometheus sends to {localhost} itself too, so annotations come and go" in lines[0]
    code, lines = await said("tee", listen, am.url, other.url)
    assert (code, len(lines)) == (1, 1)
    assert f"tee, but Prometheus does not send to {other.url} itself, and neither does Promantis" in lines[0]
    assert await said("tee", "127.0.0.1:1", am.url) == (
        1,
        [
            "promantis: alerts.mode: Prometheus sends to nothing on port 1, so no alert is explained:"
            f" add Promantis to alerting.alertmanagers {add}"
        ],
    )
