"""Values on a logarithmic scale: twice as much is as far as half, whatever the size.

A row with a unit lives there with all its models, and what is said of it is said in values again. The logarithm begins
at the unit and is straight below it, sign(x) log(1 + |x| / unit): zero stays zero, and a sign a sign.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sidecar.signals.known.snapshot import FORECASTS
from sidecar.signals.models import Array, f4
from sidecar.types import F32, F64

BOUND = 1e30  # beyond it nothing is a sample: a float32 and its square times anything must stay finite
SAID = ("expected", "lower", "upper", *FORECASTS)


def there(x: F64, unit: F32) -> F64:
    """Values f64[rows] as their rows see them; a unit of 0 is a row on the linear scale.

    >>> there(np.array([0.0, 1.0, -3.0, 7.0]), np.array([1, 1, 1, 0], np.float32)).round(2).tolist()
    [0.0, 0.69, -1.39, 7.0]
    """
    rows = np.flatnonzero(unit)
    if not len(rows):
        return x
    out, mine = x.copy(), x[rows]
    seen = np.copysign(np.log1p(np.abs(mine) / unit[rows]), mine)
    out[rows] = np.where(np.abs(mine) < BOUND, seen, mine)
    return out


def back(y: F32 | F64, unit: F32) -> F64:
    """The other way round."""
    out = y.astype(np.float64)
    rows = np.flatnonzero(unit)
    if len(rows):
        mine, u = out[rows], unit[rows].astype(np.float64)
        size = np.minimum(np.abs(mine), np.log1p(BOUND / u))
        out[rows] = np.copysign(np.expm1(size) * u, mine)
    return out


def tell(out: Mapping[str, Array], x: F64, unit: F32) -> None:
    """Turn what was said of rows into values; `x` are those that were observed."""
    if unit.any():
        np.copyto(out["observed"], x, where=unit > 0)
        for name in SAID:
            out[name][:] = back(out[name], unit)


def slack(least: F32, relative: F32, expected: F32, unit: F32) -> F32:
    """How far f32[rows] a row may be from what it sees as expected until it is a deviation: `least`, or that share."""
    out = np.maximum(least, relative * np.abs(expected))
    rows = np.flatnonzero(unit)
    if len(rows):
        u, e = unit[rows].astype(np.float64), back(np.abs(expected[rows]), unit[rows])
        d = np.maximum(least[rows], relative[rows] * e)
        up, down = np.log1p(d / (e + u)), np.log1p(e / u) - np.log1p(np.maximum(e - d, 0) / u)
        out[rows] = np.maximum(up, down).astype(f4)  # the band is as wide both ways
    return out
