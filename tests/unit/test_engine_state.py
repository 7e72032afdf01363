"""An engine keeps what it knows through dump and load, freed rows and watches that are gone included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidecar.signals.ingest.frame import Vector
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import Instant

START = 1_700_006_400.0
WATCHES = {
    "a": Watch(name="a", query="a", source="config", step=60.0, limits=(Limit(">", 60.0),)),
    "b": Watch(name="b", query="b", source="config", step=60.0),
}


def keys(count: int) -> list[bytes]:
    """Label objects, one of them not ASCII."""
    return [b'{"n":"%d"}' % i for i in range(count - 1)] + ['{"n":"ü"}'.encode()]


def ticked(engine: Engine, ticks: range, counts: Mapping[str, int], room: int = 1000) -> Snapshot:
    """Tick with the same noise whenever it is called for the same ticks."""
    snapshot = None
    for i in ticks:
        rng = np.random.default_rng(i)
        answers = {name: Vector(keys(n), 50 + rng.standard_normal(n)) for name, n in counts.items()}
        snapshot = engine.tick(Instant(START + 60.0 * i), answers, room)
    assert snapshot is not None
    return snapshot


def split(engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of a dump, as the state files give them back."""
    items = dict(engine.dump())
    return items.pop("engine"), {name: array.copy() for name, array in items.items()}


def test_what_was_dumped_goes_on_as_if_nothing_had_happened() -> None:
    engine = Engine(60.0)
    engine.watch(WATCHES)
    ticked(engine, range(80), {"a": 70, "b": 3})
    engine.watch({"a": WATCHES["a"]})  # its three rows are free now
    again = Engine.load(*split(engine), {"a": WATCHES["a"]})
    assert again.table.keys.count(None) == 3
    kept, loaded = (ticked(e, range(80, 100), {"a": 70}) for e in (engine, again))
    assert loaded.keys == kept.keys
    assert loaded.watch_of == kept.watch_of
    for name, column in kept.columns.items():
        np.testing.assert_array_equal(loaded.columns[name], column, name)
    np.testing.assert_array_equal(loaded.limits.probability, kept.limits.probability)


def test_a_watch_that_is_gone_is_not_loaded() -> None:
    engine = Engine(60.0)
    engine.watch(WATCHES)
    ticked(engine, range(3), {"a": 70, "b": 3})
    again = Engine.load(*split(engine), {"b": WATCHES["b"]})
    assert again.table.watches() == ["b"]
    assert len(again.table) == 3


def test_many_limit_lines_have_the_odds_that_each_has_alone() -> None:
    several = Watch(
        name="a",
        query="a",
        source="config",
        step=60.0,
        limits=(
            Limit(">", 51.0, 300.0, "high"),
            Limit("<", 49.0, 0.0, "low"),
            Limit("==", 50.0, 0.0, "same"),
        ),
    )
    whole, single = Engine(60.0), Engine(60.0)
    whole.watch({"a": several})
    single.watch({"a": Watch(name="a", query="a", source="config", step=60.0, limits=several.limits[:1])})
    all_lines, some = (ticked(e, range(60), {"a": 2000}, 2000) for e in (whole, single))
    assert len(all_lines.limits.row) == 6000 > 4096  # more than one slice
    first = np.array([limit == several.limits[0] for limit in all_lines.limits.limit])
    np.testing.assert_array_equal(all_lines.limits.row[first], some.limits.row)
    np.testing.assert_array_equal(all_lines.limits.probability[:, first], some.limits.probability)
    np.testing.assert_array_equal(all_lines.limits.eta[first], some.limits.eta)
    assert np.isfinite(some.limits.probability).any()
