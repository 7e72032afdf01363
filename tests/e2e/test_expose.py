"""promtool reads what is exposed and finds nothing to say."""

from __future__ import annotations

import subprocess

import prometheus_client
import pytest

from sidecar.demo.binaries import Binaries
from sidecar.signals.known.expose import Exposition, ExpositionConfig, render
from sidecar.signals.watch.watches import Limit
from sidecar.telemetry import Telemetry
from sidecar.types import Instant
from tests.unit.made import START, engine, key, noisy, ticked, watch


@pytest.mark.e2e
def test_promtool_is_content(peers: Binaries) -> None:
    limits = (
        Limit(">", 5.0, 60.0, "High", "page", (("team.name", "shop"),)),
        Limit("<", -5.0, alertname="Low"),
    )
    keys = [key(job="a", watch="b", exported_watch="c"), key(**{"http.code": 'x"\\\n é', "2xx": "1"}), b"{}"]
    answer = noisy(keys)
    w = watch(step=60.0, limits=limits, alertnames=("High", "Low"), group_by=("job",))
    snapshot = ticked(engine(w), lambda i: {"w": answer(i)}, 300)
    body = b"".join(render(Exposition(ExpositionConfig()).prepare([snapshot], Instant(START))))
    own = prometheus_client.generate_latest(Telemetry().registry)
    said = subprocess.run(
        [peers.promtool, "check", "metrics"], input=own + body, capture_output=True, check=False
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")
