"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

WIDE = 44


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


def short(name: str) -> str:
    """A name of at most `WIDE` letters, its middle left out.

    >>> short("a" * 50) == "a" * 20 + "..." + "a" * 21
    True
    """
    return name if len(name) <= WIDE else name[: WIDE // 2 - 2] + "..." + name[-(WIDE // 2 - 1) :]
