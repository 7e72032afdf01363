"""Who sits where: a series with its fitted models, and the arrays in which that is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.signals.models import Array
from sidecar.signals.models.fitted import Cell, Fitted, Linear

SeriesId = tuple[str, bytes]
"""Watch and key of a series."""
Stay = Callable[[str, bytes], bool]
"""Whether a series, by watch and key, is to keep its guests."""
CORES: Mapping[str, type[Linear] | type[Cell]] = {"Linear": Linear, "Cell": Cell}
ARRAYS = ("curve", "beta", "error")


class Party(NamedTuple):
    """One series with its guests, and when they were fitted."""

    who: SeriesId
    tz: str
    guests: tuple[Fitted, ...]
    fitted: float


def header(parties: Iterable[Party]) -> list[dict[str, Any]]:
    """What is no array."""
    return [
        {
            "watch": party.who[0],
            "key": party.who[1].decode(),
            "tz": party.tz,
            "fitted": party.fitted,
            "guests": [
                {
                    "model": guest.model,
                    "at": guest.at,
                    "regressors": list(guest.regressors),
                    "scale": guest.scale,
                    "core": type(guest.core).__name__,
                }
                for guest in party.guests
            ],
        }
        for party in parties
    ]


def arrays(parties: Iterable[Party]) -> Iterator[tuple[str, Array]]:
    """Array by array."""
    for i, guest in enumerate(guest for party in parties for guest in party.guests):
        for name in ARRAYS:
            yield f"guests.{i}.{name}", getattr(guest, name)
        for name in guest.core._fields:
            yield f"guests.{i}.core.{name}", getattr(guest.core, name)


def parties(header: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> Iterator[Party]:
    """What these two gave; ValueError or KeyError when it does not fit."""
    i = 0
    for one in header:
        guests = []
        for said in one["guests"]:
            kind, of = CORES[said["core"]], f"guests.{i}."
            curve, beta, error = (arrays[of + name] for name in ARRAYS)
            core = kind(*(arrays[f"{of}core.{name}"] for name in kind._fields))
            names, scale = tuple(said["regressors"]), float(said["scale"])
            guests.append(Fitted(said["model"], said["at"], curve, names, beta, scale, error, core))
            i += 1
        yield Party((one["watch"], one["key"].encode()), one["tz"], tuple(guests), one["fitted"])
