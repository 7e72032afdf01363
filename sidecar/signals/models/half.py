"""Numbers in two bytes: float32 of which the last sixteen bits are rounded away (bfloat16), as integers that have the
order of the numbers. Three digits and the whole range, infinities too; the largest of many is found without decoding.
"""

from __future__ import annotations

import numpy as np

from sidecar.types import F32

Halves = np.typing.NDArray[np.int16]


def code(x: F32) -> Halves:
    """Two bytes for each number; NaN is not kept.

    >>> codes = code(np.array([-np.inf, -2, 0, 1.5, np.inf], np.float32))
    >>> number(codes).tolist()
    [-inf, -2.0, 0.0, 1.5, inf]
    >>> bool((np.diff(codes) > 0).all())
    True
    """
    half = ((np.ascontiguousarray(x, np.float32).view(np.int32) + np.int32(0x8000)) >> 16).astype(np.int16)
    return _turned(half)


def number(codes: Halves) -> F32:
    """What they stand for.

    >>> float(number(code(np.array([100.2], np.float32)))[0])
    100.0
    """
    out: F32 = (_turned(codes).astype(np.int32) << 16).view(np.float32)
    return out


def _turned(half: Halves) -> Halves:
    """Negative numbers the other way round: sign and magnitude, or an integer."""
    out: Halves = half ^ ((half >> 15) & np.int16(0x7FFF))
    return out


LEAST = -32641
"""Of minus infinity."""
