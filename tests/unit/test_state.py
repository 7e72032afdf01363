"""State on disk: whole or not at all, set aside when damaged, never fatal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sidecar.adapters.state import MAGIC, StateFiles, first_free
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit
from sidecar.types import ConfigError
from tests.unit.made import engine, key, noisy, ticked, vector, watch

A, B = key(i="a"), key(i="b")


LIMITED = watch(limits=(Limit(">", 20.0, alertname="High"),))
"""The odds of its limit are state too."""


def an_engine() -> Engine:
    e = engine(LIMITED)
    answer = noisy([A, B])
    ticked(e, lambda i: {"w": answer(i)}, 40)
    return e


def saved(folder: Path) -> Path:
    """A good file."""
    StateFiles(folder).save(15.0, an_engine().dump())
    return folder / "15.state"


def aside(folder: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Load nothing, and what was said about it."""
    with caplog.at_level(logging.WARNING):
        assert list(StateFiles(folder).load()) == []
    return [record.getMessage() for record in caplog.records]


def test_every_type_and_shape_comes_back(tmp_path: Path) -> None:
    arrays = {
        "f4": np.arange(6, dtype=np.float32).reshape(2, 3), "f8": np.array([1e300, np.nan, -np.inf]),
        "i8": np.array([[-1], [2**62]]), "u1": np.array([0, 255], np.uint8), "i1": np.array([-1, 5], np.int8),
        "f2": np.array([0.5, np.nan], np.float16), "i2": np.array([-300, 300], np.int16), "b1": np.array([True, False]),
        "none": np.empty((3, 0), np.float32), "turned": np.arange(6.0).reshape(2, 3).T,
    }  # fmt: skip
    StateFiles(tmp_path).save(7.5, iter([("engine", {"step": 7.5, "words": "é"}), *arrays.items()]))
    ((header, found),) = StateFiles(tmp_path).load()
    assert header == {"step": 7.5, "words": "é"}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


def test_an_engine_comes_back(tmp_path: Path) -> None:
    e = an_engine()
    StateFiles(tmp_path).save(15.0, e.dump())
    ((header, arrays),) = StateFiles(tmp_path).load()
    again = Engine.load(header, arrays, {"w": LIMITED})
    answers = {"w": vector({A: 11.0, B: 30.0})}
    at = e.at + 15
    one, two = ticked(e, lambda _: answers, 1, at), ticked(again, lambda _: answers, 1, at)
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], two.columns[name], err_msg=name)


def test_engines_without_series_come_back(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.save(15.0, Engine(15.0).dump())
    empty = an_engine()
    empty.step = 60.0
    empty.watch({})
    files.save(60.0, empty.dump())
    for header, arrays in files.load():
        assert len(Engine.load(header, arrays, {"w": watch()}).table) == 0


@pytest.mark.parametrize("cut", [0, 5, len(MAGIC), len(MAGIC) + 3, 1000, -1, -4, -5])
def test_a_truncated_file_is_set_aside(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    words = "not a state file of this version" if 0 <= cut < len(MAGIC) else "checksum does not match"
    assert aside(tmp_path, caplog) == [f"state file {path} set aside: {words}"]
    assert [p.name for p in tmp_path.iterdir()] == ["15.damaged"]
    saved(tmp_path)
    assert len(list(StateFiles(tmp_path).load())) == 1


@pytest.mark.parametrize("at", [30, 400, 5000, -2])
def test_one_flipped_bit_is_found(tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    assert aside(tmp_path, caplog) == [f"state file {path} set aside: checksum does not match"]


def test_another_version_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes().replace(MAGIC, b"promantis state 2\n"))
    assert aside(tmp_path, caplog) == [f"state file {path} set aside: not a state file of this version"]


def test_a_file_without_a_header_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StateFiles(tmp_path).save(15.0, iter([("x", np.zeros(3))]))
    assert aside(tmp_path, caplog) == [f"state file {tmp_path / '15.state'} set aside: no header in it"]


def test_the_good_ones_are_read_beside_a_bad_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path)
    (tmp_path / "5.state").write_bytes(b"rubbish")
    (tmp_path / "60.state").mkdir()  # cannot even be read
    with caplog.at_level(logging.WARNING):
        assert [header["step"] for header, _ in StateFiles(tmp_path).load()] == [15.0]
    assert len(caplog.records) == 2


CRASH = """
import os, sys
from pathlib import Path
import numpy as np
from sidecar.adapters.state import StateFiles
def dump():
    yield "engine", {"step": 15.0}
    for i in range(50):
        if i == 25:
            os.kill(os.getpid(), 9)
        yield str(i), np.ones(10000)
StateFiles(Path(sys.argv[1])).save(15.0, dump())
"""


def test_a_crash_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    before = saved(tmp_path).read_bytes()
    assert subprocess.run([sys.executable, "-c", CRASH, tmp_path], check=False).returncode == -9
    assert (tmp_path / "15.new").stat().st_size > 0
    assert (tmp_path / "15.state").read_bytes() == before
    assert len(list(StateFiles(tmp_path).load())) == 1
    saved(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["15.state"]


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    before = saved(tmp_path).read_bytes()

    def dump() -> Iterator[tuple[str, Any]]:
        yield "engine", {"step": 15.0}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        StateFiles(tmp_path).save(15.0, dump())
    assert (tmp_path / "15.state").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError) as wrong:
        StateFiles(tmp_path / "state")
    assert (
        str(wrong.value)
        == f"storage.path: {tmp_path / 'state'} is not writable: Permission denied; another folder by --storage.path"
    )


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, words in [("file", "File exists"), ("file/state", "Not a directory")]:
        with pytest.raises(ConfigError) as wrong:
            StateFiles(tmp_path / folder)
        assert (
            str(wrong.value)
            == f"storage.path: {tmp_path / folder} is not writable: {words}; another folder by --storage.path"
        )
    with pytest.raises(ConfigError) as wrong:
        StateFiles(Path("/proc/promantis"))
    assert (
        str(wrong.value)
        == "storage.path: /proc/promantis is not writable: No such file or directory; another folder by --storage.path"
    )


def test_replicas_that_share_a_volume_keep_their_states_apart(tmp_path: Path) -> None:
    first, second = (first_free(tmp_path / "state", 2) for _ in range(2))
    assert [one.folder.name for one in (first, second)] == ["state", "state-2"]
    with pytest.raises(ConfigError, match="and 1 more beside it are in use"):
        first_free(tmp_path / "state", 2)
    first.lock.close()
    again = first_free(tmp_path / "state", 2)
    assert again.folder == first.folder, "who begins again goes on with what is there"
    for one in (second, again):
        one.lock.close()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="cannot be locked"):
        first_free(file / "state")
