"""One line of the table: a figure, the peer's, their ratio, and whether the aim is met."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """`aim` is words; `met` None where there is none."""

    what: str
    ours: str
    peer: str
    figure: str
    aim: str
    met: bool | None

    @classmethod
    def ratio(cls, what: str, ours: float, peer: float, named: str, unit: str, least: float) -> Row:
        """How many times faster than a peer we are."""
        times = peer / ours
        return cls(
            what,
            f"{ours:,.0f} {unit}",
            f"{named} {peer:,.0f} {unit}",
            f"{times:.1f}x",
            f">= {least:g}x",
            times >= least,
        )

    @classmethod
    def below(cls, what: str, value: float, unit: str, most: float, note: str = "") -> Row:
        """A figure that is not to exceed an aim."""
        return cls(what, f"{value:,.1f} {unit}", note, "", f"<= {most:g} {unit}", value <= most)


def show(rows: Iterable[Row]) -> str:
    """The table as text."""
    lines = [("what", "Promantis", "peer", "ratio", "aim", "")]
    lines += [
        (r.what, r.ours, r.peer, r.figure, r.aim, {True: "ok", False: "MISSED", None: ""}[r.met])
        for r in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def interleaved(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each work, run in turns so that a busy machine slows all alike."""
    spent: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, spent, strict=True):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in spent]
