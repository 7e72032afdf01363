"""The data folder's sets as arrays."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd

from sidecar.types import F64, Bools

SETS = ("nab", "microsoft", "asd", "smd")
PATTERNS = {
    "nab": "nab/*.csv",
    "microsoft": "microsoft_cloud/*.csv",
    "asd": "asd_servers/omi-*.csv.gz",
    "smd": "smd_machines/machine-*.csv.gz",
}
GROUPS = ("asd", "smd")


class File(NamedTuple):
    """One file: `values` f64[times, members]; `real[:, j]` is 1 where member j itself is anomalous, NaN unknown."""

    set: str
    name: str
    at: F64
    values: F64
    label: F64
    test: Bools
    """What is judged: all of a single series, the test split of a group."""
    real: F64

    @property
    def step(self) -> float:
        """Seconds between samples."""
        return float(np.median(np.diff(self.at)))


def scorer(data: Path) -> ModuleType:
    """`score.py`, which lies beside the data folder."""
    path = data.parent / "score.py"
    spec = importlib.util.spec_from_file_location("promantis_score", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(data: Path, name: str) -> list[File]:
    """Every file of a set."""
    paths = sorted(data.glob(PATTERNS[name]))
    return [_group(name, path) if name in GROUPS else _single(name, path) for path in paths]


def _single(name: str, path: Path) -> File:
    table = pd.read_csv(path).sort_values("timestamp", kind="stable")
    label = table["label"].to_numpy(float)
    at = table["timestamp"].to_numpy(float)
    values = table["value"].to_numpy(float)[:, None]
    return File(name, path.name, at, values, label, np.ones(len(at), bool), label[:, None])


def _group(name: str, path: Path) -> File:
    table = pd.read_csv(path)
    members = [column for column in table if column.startswith("m")]
    at, label = table["timestamp"].to_numpy(float), table["label"].to_numpy(float)
    real = np.where(label[:, None] > 0, np.nan, 0.0) * np.ones(len(members))
    events = pd.read_csv(path.with_name(path.name.replace(".csv.gz", ".events.csv")))
    for event in events.itertuples():
        during = (at >= event.start) & (at <= event.end)
        for member in str(event.root_metrics).replace(";", " ").replace(",", " ").replace("|", " ").split():
            if member in members:
                real[during, members.index(member)] = 1.0
    test = (table["split"] == "test").to_numpy()
    return File(name, path.name, at, table[members].to_numpy(float), label, test, real)
