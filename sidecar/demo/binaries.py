"""Finds the real Prometheus, Alertmanager and node_exporter on this machine, or brings Debian's.

`python -m sidecar.demo.binaries` brings what is missing and prints where everything is. Nothing is installed:
the packages are unpacked into a cache folder, so no service is started on ports 9090 and 9093.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class PeersMissing(RuntimeError):
    """A binary is neither here nor can it be fetched; the words say what to do."""


class Binaries(NamedTuple):
    """Where each program is."""

    prometheus: Path
    promtool: Path
    alertmanager: Path
    amtool: Path
    node_exporter: Path


_NAMES = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("promtool", "prometheus"),  # its own package since Debian 13
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool", "prometheus-alertmanager"),
    "node_exporter": ("prometheus-node-exporter", "prometheus-node-exporter"),
}
"""Program -> Debian's name for it, and the package that holds it."""

_PAGES = (
    *("libjs-bootstrap4", "libjs-eonasdan-bootstrap-datetimepicker", "libjs-jquery", "libjs-jquery-hotkeys"),
    *("libjs-moment", "libjs-moment-timezone", "libjs-mustache", "libjs-popper.js", "libjs-rickshaw"),
    *("libjs-d3", "fonts-glyphicons-halflings"),
)
"""What the graph page of Debian's Prometheus is made with."""

_INSTALLED = b"/usr/share/prometheus/"


def cache_folder() -> Path:
    """Where fetched binaries live: `$XDG_CACHE_HOME/promantis/bin` or `~/.cache/promantis/bin`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promantis" / "bin"


def find(*, fetch: bool = True) -> Binaries:
    """Look on PATH, then in the cache folder; fetch what is missing, PeersMissing when that cannot be."""
    found = {name: _look(name) for name in _NAMES}
    missing = [name for name, path in found.items() if path is None]
    if missing and fetch:
        _fetch(missing)
        found = {name: _look(name) for name in _NAMES}
        missing = [name for name, path in found.items() if path is None]
    if missing:
        raise PeersMissing(_words(missing, "it is neither on PATH nor in the cache folder"))
    return Binaries(**{name: path for name, path in found.items() if path is not None})


def _look(name: str) -> Path | None:
    for folder in (None, str(cache_folder())):
        for other in (name, _NAMES[name][0]):
            path = shutil.which(other, path=folder)
            if path:
                return Path(path)
    return None


def _words(missing: Sequence[str], why: str) -> str:
    return (
        f"cannot find {', '.join(missing)}: {why}. Install Prometheus, Alertmanager and node_exporter "
        f"with your package manager or from prometheus.io, and put them on PATH (or into {cache_folder()})"
    )


def _fetch(missing: Sequence[str]) -> None:
    """Unpack Debian's packages into the cache folder; each file appears there whole or not at all."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PeersMissing(_words(missing, "it is not on PATH, and there is no apt-get here to fetch it"))
    target = cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetch-") as name:
        folder = Path(name)
        print(f"fetching Debian's {', '.join(missing)} into {target}", file=sys.stderr)
        packages = dict.fromkeys(_NAMES[program][1] for program in missing)
        failed = _unpack(packages, folder)
        if not failed and "promtool" in missing and not (folder / "root/usr/bin/promtool").exists():
            failed = _unpack(["promtool"], folder)
        if failed:
            raise PeersMissing(_words(missing, f"apt-get could not fetch it:\n{failed}\n"))
        if "prometheus" in packages:
            _unpack(_PAGES, folder)  # without them only its graph page is bare
        shutil.copytree(folder / "root/usr/share", target / "share", symlinks=True, dirs_exist_ok=True)
        for program in missing:
            source = folder / "root/usr/bin" / _NAMES[program][0]
            if source.exists():
                _move_home(source)
                source.replace(target / program)


def _move_home(program: Path) -> None:
    """Let Debian's builds find their templates in `./share`, not in a folder that only an install fills.

    Alertmanager does not start without them. The path is a constant in the program: one of equal length takes
    its place, and the program is started in its own folder.
    """
    program.write_bytes(
        program.read_bytes().replace(_INSTALLED, b"./share/prometheus".ljust(len(_INSTALLED), b"/"))
    )


def _unpack(packages: Iterable[str], folder: Path) -> str:
    """Download packages as any user and unpack them below `root`; why it failed, or nothing.

    Where the system's package lists do not do (none yet, or too old), lists of our own are fetched.
    """
    lists = folder / "lists"
    options = ["-q", "-o", "APT::Sandbox::User=root"]  # root's temporary folder is closed to apt's own user
    own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={folder / 'cache'}"]
    if lists.exists():
        options += own
    done = _run(["apt-get", *options, "download", *packages], folder)
    if done.returncode and not lists.exists():
        (lists / "partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        _run(["apt-get", *options, *own, "update"], folder)
        done = _run(["apt-get", *options, *own, "download", *packages], folder)
    if done.returncode:
        return (done.stdout + done.stderr).strip()
    for archive in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(archive), str(folder / "root")], folder)
        archive.unlink()
    return ""


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)


def main() -> int:
    """Bring what is missing and print where everything is."""
    try:
        for name, path in find()._asdict().items():
            print(f"{name:14}{path}")
    except PeersMissing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
