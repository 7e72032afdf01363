"""Replaying recorded metrics: one row out per row in, only the past is used, and what cannot be read is named."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from sidecar.__main__ import main
from sidecar.signals.backtest import Recording, pages, run

STEP, DAY = 300.0, 288


def wave(days: float, seed: int = 1, start: float = 1_700_000_100.0) -> Recording:
    rng = np.random.default_rng(seed)
    at = start + np.arange(int(days * DAY)) * STEP
    return Recording(
        "a", at, 50 + 10 * np.sin(at / 86400 * 2 * np.pi)[:, None] + rng.normal(0, 1, (len(at), 1))
    )


def test_a_row_knows_nothing_of_later_rows() -> None:
    whole = wave(6)
    half = Recording("a", whole.at[: 3 * DAY], whole.values[: 3 * DAY])
    one, two = run([whole], ["raw", "f60"])[0], run([half], ["raw", "f60"])[0]
    for name in one:
        np.testing.assert_array_equal(one[name][: 3 * DAY], two[name])


def test_files_of_one_step_run_together_as_they_would_alone() -> None:
    one, two = wave(3), wave(3, seed=2, start=1_700_000_100.0 + 5 * 604800)
    together = run([one, two], ["raw"])
    for alone, joined in zip((one, two), together, strict=True):
        np.testing.assert_allclose(joined["raw"], run([alone], ["raw"])[0]["raw"], rtol=1e-4, atol=1e-4)


def test_a_jump_pages_once() -> None:
    recording = wave(4)
    recording.values[900:906] += 60
    raw = run([recording], ["raw"])[0]["raw"][:, 0]
    found = pages(recording.at, recording.values[:, 0], raw, 2.0, STEP)
    assert [page.start for page in found] == [recording.at[900]]


def write(path: Path, rows: list[list[object]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_dirty_csv_in_one_row_out_for_each_row_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = wave(3)
    rows: list[list[object]] = [["timestamp", "cpu", "mem", "label", "split"]]
    rows += [[int(t), v, v * 2, 0, "train"] for t, v in zip(one.at, one.values[:, 0], strict=True)]
    rows[10], rows[11] = rows[11], rows[10]  # out of order
    rows.insert(20, rows[20])  # duplicated
    rows[30] = ["", 1, 1, 0, "train"]  # nobody knows when
    rows[40][1] = ""  # no value
    path = write(tmp_path / "vm.csv.gz", rows)
    assert main(["backtest", "--csv", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "vm.group" in capsys.readouterr().out
    for name in ("vm.cpu.csv", "vm.mem.csv", "vm.group.csv"):
        with (tmp_path / "out" / name).open() as handle:
            said = list(csv.DictReader(handle))
        assert len(said) == len(rows) - 2
        assert [float(r["timestamp"]) for r in said] == sorted(float(r["timestamp"]) for r in said)
        assert said[-1]["score"]
        assert {r["label"] for r in said} == {"0"}
    assert said[-1]["value"] == said[-1]["upper"] == ""


def test_wrong_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = ["timestamp", "value"]
    for rows, words in (
        ([head], "needs a header with timestamp and at least one value column, and rows"),
        ([head, ["yesterday", 1]], ":2: timestamp: not a time: 'yesterday'"),
        ([head, [1, "much"]], ": value: not a number: 'much' at 1"),
    ):
        path = write(tmp_path / "x.csv", rows)
        assert main(["backtest", "--csv", str(path), "--out", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err
    assert main(["backtest", "--csv", str(tmp_path / "none.csv"), "--out", str(tmp_path)]) == 2
    assert "none.csv: cannot be read: No such file or directory" in capsys.readouterr().err
