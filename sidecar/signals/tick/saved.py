"""The state of an engine as it is saved, array by array, and taken over again after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.models import Array
from sidecar.signals.tick.rows import Rows
from sidecar.signals.watch.watches import Watch
from sidecar.types import Instant

VERSION = 6
STAYS = ("gone", "succeeded")  # the rest comes with the watches


def dump(rows: Rows) -> Iterator[tuple[str, Any]]:
    """Header, then array by array, so that saving needs no second copy of the state."""
    yield (
        "engine",
        {
            "version": VERSION,
            "step": rows.step,
            "at": rows.at or rows.taught,
            "learned": sorted(rows.learned),
            "queries": {name: watch.query for name, watch in rows.watches.items()},
            "tz": {name: watch.tz for name, watch in rows.watches.items()},
            "units": {name: watch.unit for name, watch in rows.watches.items()},
            "blocks": [block.rows for block in rows.blocks],
            "zones": [block.tz for block in rows.blocks],
            "explained": rows.explained.header(),
            "guests": rows.guests.header(),
            "record": list(rows.record.kept().rules),
        },
    )
    # names as arrays and block by block: one JSON of 100,000 keys would hold the interpreter lock for 50 ms
    number = {name: i for i, name in enumerate(rows.watches)}
    for i, (lo, hi, block) in enumerate(rows.spans()):
        keys = rows.table.keys[lo:hi]
        yield f"{i}.keys", np.frombuffer(b"".join(key or b"" for key in keys), np.uint8)
        yield f"{i}.lengths", np.array([-1 if key is None else len(key) for key in keys], np.int64)
        yield f"{i}.watch", np.array([number.get(w, -1) for w in rows.table.watch_of[lo:hi]], np.int64)
        for name in STAYS:
            yield f"{i}.stays.{name}", getattr(rows.stays, name)[lo:hi]
        for name, array in block.state().items():
            yield f"{i}.{name}", array
    for name, array in rows.pool.state().items():
        yield f"pool.{name}", array
    for part in ("crossings", "ledger", "record"):
        for name, array in getattr(rows, part).state().items():
            yield f"{part}.{name}", array
    yield from rows.explained.state()
    yield from rows.guests.state()


def fill(
    fresh: Rows, header: Mapping[str, Any], arrays: Mapping[str, Array], watches: Mapping[str, Watch]
) -> None:
    """Take over what `dump` wrote, with today's watches; ValueError or KeyError when it does not fit."""
    if header["version"] != VERSION:
        raise ValueError(f"state has version {header['version']}, this Promantis reads {VERSION}")
    fresh.at = Instant(header["at"])
    fresh.pool.restore({name: arrays[f"pool.{name}"] for name in fresh.pool.state()})
    for i, (count, tz) in enumerate(zip(header["blocks"], header["zones"], strict=True)):
        block = Block(count, fresh.step, tz, fresh.pool)
        block.restore(_of(f"{i}.", arrays))
        fresh.blocks.append(block)
    names, keys, watch_of = [*header["queries"], ""], list[bytes | None](), list[str]()
    zone_of = list[str]()
    for i, block in enumerate(fresh.blocks):
        text, at = arrays[f"{i}.keys"].tobytes(), 0
        for length in arrays[f"{i}.lengths"].tolist():
            keys.append(text[at : at + length] if length >= 0 else None)
            at += max(0, length)
        watch_of += [names[number] for number in arrays[f"{i}.watch"].tolist()]
        zone_of += [block.tz] * (len(keys) - len(zone_of))
    fresh.table.restore(keys, watch_of, zone_of, fresh.capacity)
    fresh.crossings.restore(_of("crossings.", arrays), keys)
    if "record" in header:  # else it was saved before there was one
        fresh.ledger.restore(_of("ledger.", arrays), len(arrays.get("crossings.line.row", ())))
        fresh.record.restore(header["record"], _of("record.", arrays))
    fresh.guests.restore(header.get("guests", ()), arrays)
    fresh.stays.grow(fresh.capacity)
    for name in STAYS:
        for i, (lo, hi, _) in enumerate(fresh.spans()):
            getattr(fresh.stays, name)[lo:hi] = arrays[f"{i}.stays.{name}"]
    fresh.asleep = np.zeros(fresh.capacity, bool)
    fresh.explained.restore(header["explained"], arrays, fresh.table.view())
    zones, units, by = header["tz"], header["units"], header["explained"]["by"]
    before = {
        (name, query, zones[name], units[name], *by.get(name, ())[2:])
        for name, query in header["queries"].items()
    }
    known = {name for name, w in watches.items() if (name, w.query, w.tz, w.unit, *w.explained_by) in before}
    for name in fresh.table.watches():
        if name not in known:
            fresh.forget(fresh.table.drop_watch(name))
    fresh.guests.keep(lambda who: who[0] in known)
    fresh.watches = {name: watches[name] for name in known}
    fresh.learned = known.intersection(header["learned"])
    fresh.watch(watches)


def _of(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
