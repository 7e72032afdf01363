"""A new pod takes over what its workload's others taught, as soon as it looks like one of them.

A new series may begin with anything: a cold cache, a burst, another size of pod. So it inherits from a vanished
predecessor, or else from the sibling that is known for longest, at the first of a few looks at which its value lies
where the donor's would be ordinary; it is scored from that tick on. One that never does is a new series.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidecar.signals.detect import scales
from sidecar.signals.detect.block import Block
from sidecar.signals.models.tail import QUIET
from sidecar.types import F32, F64, I64

Span = tuple[int, int, Block]

LOOKS = (0, 1, 3, 7, 15, 31)  # ticks after its birth at which a series is held against a donor
SLICE = 1024  # heirs at once: their copies are small then
DOUBT = np.float32(0.9)  # of the donor's presence, and so of its confidence, for a day or so
AWAY = np.float32(1e6)  # ticks


def donors(workload: I64, gone: F32, known: F32, heirs: I64, look: I64) -> I64:
    """The donor of each heir, -1 for none: f32[rows] of how long each is gone and known (days; 0: no donor).

    Vanished ones come first, then those that are known for longest; at a later look another one is tried.
    """
    may = known > 0
    may[heirs] = False
    rows = np.flatnonzero(may)
    rows = rows[np.isin(workload[rows], workload[heirs])]
    rows = rows[np.lexsort((-known[rows], gone[rows] == 0, workload[rows]))]
    first = np.searchsorted(workload[rows], workload[heirs], side="left")
    count = np.searchsorted(workload[rows], workload[heirs], side="right") - first
    out = np.full(len(heirs), -1, np.int64)
    found = count > 0
    out[found] = rows[first[found] + look[found] % count[found]]
    return out


def inherit(spans: Sequence[Span], at: float, heirs: I64, givers: I64, values: F64) -> I64:
    """Copy what givers know to those heirs whose values (of all rows) fit; which these are."""
    taken = [heirs[:0]]
    for tz in {block.tz for _, _, block in spans}:
        mine = [span for span in spans if span[2].tz == tz]
        of = np.flatnonzero(np.any([(heirs >= lo) & (heirs < hi) for lo, hi, _ in mine], axis=0))
        for some in (of[lo : lo + SLICE] for lo in range(0, len(of), SLICE)):
            taken.append(heirs[some][_take(mine, at, heirs[some], givers[some], values[heirs[some]])])
    return np.concatenate(taken)


def _take(spans: Sequence[Span], at: float, heirs: I64, givers: I64, x: F64) -> I64:
    copies = Block(len(heirs), spans[0][2].step, spans[0][2].tz)
    for lo, hi, block in spans:
        mine = np.flatnonzero((givers >= lo) & (givers < hi))
        if len(mine):
            copies.copy_rows(mine, block, givers[mine] - lo)
    begin_again(copies, np.arange(len(heirs)))
    with np.errstate(all="ignore"):
        said = copies.score(at, scales.there(x, copies.life.unit), np.ones(len(heirs), bool))
        fits = np.flatnonzero((said.lower <= said.x) & (said.x <= said.upper) & np.isfinite(said.e))
    for lo, hi, block in spans:
        mine = fits[(heirs[fits] >= lo) & (heirs[fits] < hi)]
        if len(mine):
            block.copy_rows(heirs[mine] - lo, copies, mine)
            # what the donor said of the future is not held against the heir
            block.ahead.unsay(heirs[mine] - lo)
    return fits


def begin_again(copies: Block, rows: I64) -> None:
    """What was the donor's own and not its workload's: where it stood, which state or run it was in, its alarm."""
    copies.level.missed[rows] = AWAY
    copies.life.presence[rows] *= DOUBT
    copies.life.since[rows] = copies.life.doubted[rows] = np.nan
    copies.life.lately[rows] = -np.inf
    copies.rare.lasted[:, rows] = copies.lasting.lasted[rows] = 0
    copies.tail.below[:, rows], copies.tail.peak[:, rows] = QUIET, 0
