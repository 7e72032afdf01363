"""What a user calls expected from now on: the present becomes the normal at once, instead of being learned slowly."""

from __future__ import annotations

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.models.rare import ACCEPT
from sidecar.signals.watch.calendar import local
from sidecar.types import I64


def accept(block: Block, at: float, rows: I64) -> None:
    """Move profiles so that they pass through the last sample, and start levels and means there.

    The shape of day and week and the scales stay: what changed is where the series is, not how it moves. A state that
    lasts (zero, absent) is taken for one that has lasted long enough.
    """
    season, ensemble, lasted = block.season, block.ensemble, block.rare.lasted
    x = ensemble.last[rows]
    day, week = season.at(local(block.tz, at), ensemble.means[2], block.step)
    season.day[:, rows] += x - day[rows]
    season.week[:, rows] += x - week[rows]
    block.level.settle(rows, x, x)
    block.lasting.forget(rows)
    block.life.lately[rows] = -np.inf
    block.ahead.settle(rows)
    lasted[:, rows] = (lasted[:, rows] > 0) * ACCEPT
