"""Finding the real programs and starting them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sidecar.demo import binaries, peers


def test_a_free_port_is_given_once_and_can_be_listened_on() -> None:
    ports = [peers.free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", ports[0]))
        server.listen()


def test_programs_are_found_on_path_by_debians_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prometheus", "promtool", "prometheus-alertmanager", "amtool", "prometheus-node-exporter"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = binaries.find(fetch=False)
    assert found.alertmanager == tmp_path / "prometheus-alertmanager"
    assert found.node_exporter == tmp_path / "prometheus-node-exporter"


def test_without_programs_and_apt_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "promtool").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(binaries.PeersMissing) as error:
        binaries.find()
    assert str(error.value) == (
        "cannot find prometheus, alertmanager, amtool, node_exporter: it is not on PATH, and there is no "
        "apt-get here to fetch it. Install Prometheus, Alertmanager and node_exporter with your package "
        f"manager or from prometheus.io, and put them on PATH (or into {tmp_path}/cache/promantis/bin)"
    )


async def test_a_program_is_started_killed_and_started_again(tmp_path: Path) -> None:
    serve = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path))
    port = peers.free_port()
    none = binaries.Binaries(*[Path("none")] * 5)
    with peers.Stack(none, tmp_path) as stack:
        peer = await stack.program("files", *serve, str(port), port=port)
        first = peer.pid
        assert peer.alive
        assert peer.kill() == -9
        assert not peer.alive
        await peer.start()
        assert peer.pid != first
    assert not peer.alive


async def test_a_program_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    ends = (sys.executable, "-c", "print('no luck'); raise SystemExit(3)")
    with (
        peers.Stack(binaries.Binaries(*[Path("none")] * 5), tmp_path) as stack,
        pytest.raises(RuntimeError, match=r"failing: ended with 3\n.*\nno luck"),
    ):
        await stack.program("failing", *ends)
