"""What each line of a limit table did: how high over its limit it was for a day, when it held, how often it came."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np

from sidecar.signals.models import Columns, Field, half
from sidecar.types import F32, F64, HORIZONS, Bools

RING = 12  # blocks


class Marks(Columns):
    """What each line did: the "rows" are lines of the limit table. Heights are over the limit, on its side."""

    fields: ClassVar = {
        "began": Field(fresh=np.nan, dtype=np.float64),
        "quiet": Field(fresh=1e6),
        "highest": Field(fresh=-np.inf),
        "fired": Field((RING,), dtype=np.bool_),
        "fires": Field(dtype=np.bool_),
        "hits": Field((len(HORIZONS),)),
        "origins": Field((len(HORIZONS),)),
        "share": Field((24,)),
        "own": Field((len(HORIZONS),)),
        "sure": Field((len(HORIZONS),)),
    }
    began: F64
    """Since when the condition holds; NaN: it does not."""
    quiet: F32
    """Hours since it last held."""
    top: half.Halves
    """[blocks of a day, lines]: highest value of each, in two bytes; `highest` of the one that lasts."""
    highest: F32
    fired: Bools
    """Whether it had held for its `for:` in each of the last blocks; `fires` in the one that lasts."""
    fires: Bools
    hits: F32
    """Of so many `origins`, how many were followed by a crossing."""
    origins: F32
    share: F32
    """Of each hour of the day, in how much of it the condition held, fading over days."""
    own: F32
    """What is added to the line's log odds, since some limits are crossed more often than others that look the same."""
    sure: F32
    """How much was seen of it."""


@functools.cache
def marks_of(day: int) -> type[Marks]:
    """Marks of lines whose day has so many blocks."""
    fields = {**Marks.fields, "top": Field((day,), half.LEAST, np.int16)}
    return type("Marks", (Marks,), {"fields": fields})
