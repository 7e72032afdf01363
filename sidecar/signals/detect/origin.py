"""Where a row's float32 numbers are counted from, and when that point moves.

Float32 keeps seven digits of the distance to the origin. So the origin moves when the values are far from it for good:
after a first sample that was none of this series, or when the distance swallows the usual move. And it moves when a
counter begins again: a series that only ever rose and falls to less than half goes on from where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sidecar.signals.detect.scales import BOUND
from sidecar.signals.forecast.ensemble import MOVES
from sidecar.signals.models import f4
from sidecar.types import F32, F64, I64, Bools

if TYPE_CHECKING:
    from sidecar.signals.detect.block import Block

FAR = 16.0  # times the value itself: there three bits are lost against counting from zero
SETTLED = 1e-3  # of the distance: what is so near has arrived
YOUNG = 4  # samples: of less there is nothing to lose
DIGITS = f4(2.0**-22)  # of the distance: a smaller usual move is swallowed
RISES, FELL = 50, 255  # rises that make a counter, and the mark of what is none


def follow(block: Block, x64: F64, live: bool) -> None:
    """Move origins where values f64[rows] ask for it, before they are scored; `live`: at the live step."""
    life, ensemble = block.life, block.ensemble
    known = (ensemble.count > 0) & (np.abs(x64) < BOUND)
    away = x64 - life.origin
    move = away.astype(f4) - ensemble.last
    again = _count_rises(life.rises, x64, life.origin + ensemble.last, move, known)
    if again.any():  # the line goes on with a usual move: only what is added to it changes
        on = ensemble.last[again] + (ensemble.stride[again] if live else f4(0))
        life.origin[again] = x64[again] - on
        away[again] = on
    away = np.abs(away)
    same = known & (np.abs(move) <= SETTLED * away)
    young = same & (ensemble.count < YOUNG) & (away > 0)
    if young.any():
        _begin(block, np.flatnonzero(young), x64)
    far = same & ~young & (away > FAR * np.abs(x64))
    far |= known & (ensemble.stride < DIGITS * away) & (ensemble.stride > 0) & (ensemble.moves > MOVES)
    if (
        far.any()
    ):  # only once it has arrived: the digits of where it usually is are worth more than those of a drop
        far &= np.abs(block.level.level + life.origin - x64) <= SETTLED * away
    if far.any():
        rows = np.flatnonzero(far)
        shift(block, rows, x64[rows] - life.origin[rows])


def counts(rises: np.typing.NDArray[np.uint8]) -> Bools:
    """Which rows only ever rose: they are counters.

    >>> counts(np.array([3, 50, FELL], np.uint8)).tolist()
    [False, True, False]
    """
    out: Bools = (rises >= RISES) & (rises < FELL)
    return out


def _count_rises(rises: np.typing.NDArray[np.uint8], x: F64, last: F64, move: F32, known: Bools) -> Bools:
    """Whether each row is a counter that begins again; counts rises, and marks what fell and is no counter."""
    fell = known & (move < 0)
    if fell.any():
        again: Bools = fell & counts(rises) & (x >= 0) & (x < last / 2)
        rises[fell & ~again] = FELL
    else:
        again = fell
    rises += known & (move > 0) & (rises < FELL - 1)
    return again


def _begin(block: Block, rows: I64, x: F64) -> None:
    """Forget the few samples of rows and count from here."""
    for name, model in block.detector.items():
        if name != "life":
            model.forget(rows)
    block.ahead.forget(rows)
    life = block.life
    life.age[rows] = life.seen[rows] = 0
    life.rises[rows], life.origin[rows] = 0, x[rows]


def shift(block: Block, rows: I64, by: F64) -> None:
    """Move the origin of rows by f64[rows]; everything that is said of them stays as it is."""
    block.life.origin[rows] += by
    block.ahead.shift(rows, by)
    level, season = block.level, block.season
    for place in (level.level, level.previous, season.day, season.week):
        place[..., rows] = place[..., rows] - by
