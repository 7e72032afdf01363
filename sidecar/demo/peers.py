"""Runs the real Prometheus, Alertmanager, node_exporter and Promantis on free loopback ports, and ends them."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from sidecar.demo.binaries import Binaries

REPOSITORY = Path(__file__).resolve().parents[2]

Text = str | Callable[[str], str]
"""A config, or a function from the peer's own `host:port` to its config."""

NO_RECEIVER = "route: {receiver: none}\nreceivers: [{name: none}]\n"
"""An Alertmanager config that notifies nobody."""


def free_port() -> int:
    """A loopback port that nobody is given for the next minute, except who asks for it by number.

    A connection is opened to it and closed on its side, which leaves the port in TIME_WAIT: the kernel then
    hands it to nobody that asks for any port, while a server (SO_REUSEADDR) may still listen on it.
    """
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()
    return port


class Peer:
    """One running program: `url`, `folder`, `log`; it can be killed and started again on the same port."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        port: int,
        ready: str,
        *,
        place: Path = REPOSITORY,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.place = place
        self.folder = folder
        self.listen = f"127.0.0.1:{port}"
        self.url = f"http://{self.listen}"
        self.log = folder / f"{name}.log"
        self._ready = self.url + ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; RuntimeError when it is not started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start the process without waiting for it; apart from the terminal, whose Ctrl-C is for us alone."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    async def start(self, within: float = 60.0) -> Peer:
        """Start and wait until it answers that it is ready; RuntimeError with the end of its log if not."""
        self.spawn()
        until = time.monotonic() + within
        while self.alive and time.monotonic() < until:
            if await asyncio.to_thread(_answers, self._ready):
                return self
            await asyncio.sleep(0.05)
        state = f"not ready after {within:g} s" if self.alive else f"ended with {self.terminate()}"
        self.terminate(0.5)
        raise RuntimeError(f"{self.name}: {state}\n{' '.join(self.command)}\n{self.tail()}")

    def terminate(self, within: float = 10.0) -> int:
        """Ask it to end, wait, and end it if it does not; its exit code (negative: ended by that signal)."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once (SIGKILL), as a crash would."""
        if self._process is None:
            return 0
        self._process.kill()
        return self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def tail(self, lines: int = 20) -> str:
        """The last lines that it wrote."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Stack:
    """Starts peers below one folder and ends them all, the last one first. Use it with `with`."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.peers: list[Peer] = []

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started here."""
        while self.peers:
            self.peers.pop().terminate()

    async def prometheus(
        self, config: Text, rules: str = "", *flags: str, data: Path | None = None, port: int | None = None
    ) -> Peer:
        """Start a Prometheus; `rules` is loaded beside the config's own, `data` may hold blocks already."""
        folder, port = self._place("prometheus"), port or free_port()
        text = config if isinstance(config, str) else config(f"127.0.0.1:{port}")
        if rules:
            (folder / "rules.yml").write_text(rules, encoding="utf-8")
            text += "\nrule_files: [rules.yml]\n" if "rule_files:" not in text else ""
        (folder / "prometheus.yml").write_text(text, encoding="utf-8")
        command = [
            str(self.binaries.prometheus),
            f"--config.file={folder}/prometheus.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.tsdb.path={data or folder / 'data'}",
            "--web.enable-lifecycle",
            "--log.level=warn",
            *flags,
        ]
        return await self._start(
            Peer("prometheus", command, folder, port, "/-/ready", place=self.binaries.prometheus.parent)
        )

    async def alertmanager(self, config: Text = NO_RECEIVER, *flags: str, port: int | None = None) -> Peer:
        """Start an Alertmanager; it is no cluster unless a flag says so."""
        folder, port = self._place("alertmanager"), port or free_port()
        text = config if isinstance(config, str) else config(f"127.0.0.1:{port}")
        (folder / "alertmanager.yml").write_text(text, encoding="utf-8")
        command = [
            str(self.binaries.alertmanager),
            f"--config.file={folder}/alertmanager.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.path={folder}/data",
            *(() if any(flag.startswith("--cluster.") for flag in flags) else ("--cluster.listen-address=",)),
            *flags,
        ]
        return await self._start(
            Peer("alertmanager", command, folder, port, "/-/ready", place=self.binaries.alertmanager.parent)
        )

    async def node_exporter(self, *flags: str, port: int | None = None) -> Peer:
        """Start a node_exporter."""
        folder, port = self._place("node_exporter"), port or free_port()
        listen = f"--web.listen-address=127.0.0.1:{port}"
        quiet = (
            "--log.level=warn",
            "--no-collector.systemd",
            "--no-collector.textfile",
        )  # Debian turns both on
        command = [str(self.binaries.node_exporter), listen, *quiet, *flags]
        return await self._start(Peer("node_exporter", command, folder, port, "/"))

    async def promantis(
        self, config: Text = "", *flags: str, port: int | None = None, within: float = 60.0
    ) -> Peer:
        """Start `promantis run` from this source tree; its state is in `peer.folder / "state"`."""
        folder, port = self._place("promantis"), port or free_port()
        text = config if isinstance(config, str) else config(f"127.0.0.1:{port}")
        (folder / "promantis.yml").write_text(text, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "sidecar", "run"),
            f"--config.file={folder}/promantis.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.path={folder}/state",
            *flags,
        ]
        return await self._start(Peer("promantis", command, folder, port, "/-/ready"), within)

    async def program(
        self, name: str, *command: str, port: int | None = None, ready: str = "/", within: float = 60.0
    ) -> Peer:
        """Start any other program; `{listen}` in its arguments becomes its `host:port`."""
        folder, port = self._place(name), port or free_port()
        words = [word.replace("{listen}", f"127.0.0.1:{port}") for word in command]
        return await self._start(Peer(name, words, folder, port, ready), within)

    def _place(self, name: str) -> Path:
        folder = self.folder / f"{name}-{len(self.peers)}"
        folder.mkdir(parents=True)
        return folder

    async def _start(self, peer: Peer, within: float = 60.0) -> Peer:
        self.peers.append(peer)  # before it is ready: what fails half-way is ended too
        return await peer.start(within)
