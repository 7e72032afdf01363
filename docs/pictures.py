"""Draws docs/pictures by the program itself: `python -m docs.pictures` (needs `pip install '.[plot]'`).

Each scene is a made series that `promantis backtest --plot` is taken through; what it says is what the pages show.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sidecar.__main__ import main
from sidecar.types import F64

FOLDER = Path(__file__).with_name("pictures")
DAY, STEP = 86400, 300
BEGIN, DAYS = 1_795_132_800, 14
"""A Friday of November 2026, and how many days a scene lasts."""


def _daily(at: F64, luck: np.random.Generator) -> F64:
    wave = 100 + 40 * np.sin(2 * np.pi * (at / DAY - 0.3))
    return np.asarray(wave + luck.normal(0, 4, len(at)))


def wave(at: F64, luck: np.random.Generator) -> F64:
    """An ordinary day, an hour of too much, and a night in which nothing comes."""
    value = _daily(at, luck)
    ago = (at[-1] - at) / DAY
    value[(ago < 1.52) & (ago > 1.48)] *= 1.6
    value[(ago < 0.62) & (ago > 0.55)] *= 0.05
    return value


def shift(at: F64, luck: np.random.Generator) -> F64:
    """A level that moves and stays: odd for three hours, then the new ordinary."""
    value = _daily(at, luck)
    value[(at[-1] - at) / DAY < 1.5] += 90
    return value


def fill(at: F64, luck: np.random.Generator) -> F64:
    """A disk that fills within a day or so and is cleaned, now and then only above its limit."""
    value, top, out = 30.0, 80.0, np.empty(len(at))
    for i in range(len(at)):
        value += luck.normal(0.2, 0.05)
        if value > top:
            value, top = luck.normal(30, 2), luck.choice([75.0, 95.0])
        out[i] = value
    return out


SCENES: dict[str, tuple[Callable[[F64, np.random.Generator], F64], tuple[str, ...]]] = {
    "wave": (wave, ()),
    "shift": (shift, ()),
    "fill": (fill, ("--limit", "90", "--bounds", "0,100")),
}
"""By name: the series, and more flags of the command."""


def draw(name: str) -> None:
    """One picture, from what the command says."""
    at = BEGIN + np.arange(0, DAYS * DAY, STEP, dtype=np.float64)
    made, flags = SCENES[name]
    value = made(at, np.random.default_rng(7))
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / f"{name}.csv"
        lines = (f"{t:.0f},{v:.3f}" for t, v in zip(at, value, strict=True))
        csv.write_text("timestamp,value\n" + "\n".join(lines) + "\n", encoding="utf-8")
        if main(["backtest", "--csv", str(csv), "--out", folder, "--plot", *flags]):
            sys.exit(f"{name} could not be drawn")
        shutil.copy(Path(folder) / f"{name}.png", FOLDER / f"{name}.png")


if __name__ == "__main__":
    for scene in SCENES:
        draw(scene)
