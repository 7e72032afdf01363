"""What is no longer needed goes back to the system: seen from outside, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.signals.models import APART

BEGIN = """
import ctypes, re, sys, threading
from pathlib import Path
import numpy as np
from sidecar.adapters import memory
from sidecar.signals.models import zeros

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def pools():
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return Path(sys.argv[1]).read_text().count("<heap ")

def in_turns(work, many=4):
    for _ in range(many):
        threads = [threading.Thread(target=work, args=(wait,)) for wait in [threading.Barrier(many)] * many]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
"""
POOL = """
def work(barrier):
    kept = [b"x" * 5000 for _ in range(1500)]
    barrier.wait()
    holes.append(kept[::50])
holes = []
memory.share()
before = resident()
in_turns(work)
memory.give_back()
print(resident() - before, pools())
"""
PAGES = f"""
before = resident()
kept = [zeros((100, {APART} // 400 + 1), np.float32) for _ in range(200)]
empty = resident() - before
for one in kept: one[...] = 1
full = resident() - before
assert all((one == 1).all() and one.flags.writeable for one in kept)
kept = kept[::100]
print(empty, full, resident() - before)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _said(script: str, folder: Path) -> list[float]:
    command = [sys.executable, "-c", BEGIN + script, str(folder / "malloc.xml")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def test_what_threads_freed_is_given_back(tmp_path: Path) -> None:
    """Four times four threads took 7 MiB each, and left a fiftieth."""
    more, pools = _said(POOL, tmp_path)
    assert more < 10
    assert pools == 1


def test_what_is_kept_long_costs_nothing_until_written_and_leaves_no_hole(tmp_path: Path) -> None:
    empty, full, after = _said(PAGES, tmp_path)
    assert empty < 2
    assert full > 24
    assert after < 4
