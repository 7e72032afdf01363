"""`promantis backtest` looks neither ahead nor at labels: what is said of a row stays when later ones are cut off."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest

from sidecar.__main__ import main

RECORDED = Path(__file__).parent / "fixtures" / "node.npz"
CUTS = (40, 100, 170, 240)
COLUMNS = 6


def real(apart: float, seed: int) -> list[list[object]]:
    """Rows of a real node_exporter, six columns that move, with jitter, empty cells, doubled, missing and swapped
    rows; from the hundredth on they come so many times as seldom as before."""
    random = np.random.default_rng(seed)
    with np.load(RECORDED) as recorded:
        at, values = recorded["at"], recorded["values"]
    moving = np.flatnonzero(np.nan_to_num(values).std(0) > 0)[::9][:COLUMNS]
    values = values[:, moving]
    at = np.where(np.arange(len(at)) < 100, at, at[100] + (at - at[100]) * apart) + random.uniform(
        -1, 1, len(at)
    )
    rows = list[list[object]]()
    for t, x in zip(at, values, strict=True):
        cells = [f"{v:.6g}" if np.isfinite(v) and random.random() > 0.02 else "" for v in x]
        label, split = (int(random.integers(2)) for _ in range(2))
        rows += [[f"{t:.3f}", *cells, label, ("train", "test")[split]]] * int(
            random.choice([0, 1, 1, 1, 1, 2])
        )
    for i in set(random.choice(len(rows) - 1, 20, replace=False).tolist()) - {cut - 1 for cut in CUTS}:
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
    return rows


def said(folder: Path, name: str, rows: list[list[object]]) -> dict[str, list[list[str]]]:
    """Each output of the rows, without label and split."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["timestamp", *(f"m{i}" for i in range(COLUMNS)), "label", "split"], *rows]
        )
    assert main(["backtest", "--csv", str(path), "--out", str(folder / "out")]) == 0
    out = {}
    for written in sorted((folder / "out").glob(f"{name}.*.csv")):
        with written.open(newline="") as file:
            lines = list(csv.reader(file))
        out[written.name.removeprefix(name)] = [line[:2] + line[4:] for line in lines]
    return out


@pytest.mark.parametrize(("apart", "seed"), [(1.0, 1), (4.0, 2), (0.25, 3)])
def test_no_row_depends_on_later_ones(apart: float, seed: int, tmp_path: Path) -> None:
    rows = real(apart, seed)
    whole = said(tmp_path, "whole", rows)
    assert len(whole) == COLUMNS + 1
    assert all(any(line[2] for line in lines[1:]) for lines in whole.values())
    for cut in CUTS:
        part = said(tmp_path, f"cut{cut}", rows[:cut])
        for name, lines in part.items():
            assert lines == whole[name][: cut + 1], name


def test_labels_and_splits_change_nothing(tmp_path: Path) -> None:
    rows = real(1.0, 1)
    blind = [[*row[:-2], "", ""] for row in rows]
    turned = [[*row[:-2], 1 - int(str(row[-2])), "x"] for row in rows]
    a, b, c = (said(tmp_path, name, some) for name, some in (("a", rows), ("b", blind), ("c", turned)))
    for one, other in itertools.pairwise((a, b, c)):
        assert list(one.values()) == list(other.values())
