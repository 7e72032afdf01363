"""Time zones: profiles follow the clock on the wall, also over its changes."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.known.snapshot import blank
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.calendar import local, offset
from sidecar.types import F64, Instant
from tests.unit.made import START, dumped, engine, key, learned, noisy, ticked, vector, watch

BERLIN = "Europe/Berlin"
DAY, STEP = 86400.0, 1800.0
A, B, C = key(i="a"), key(i="b"), key(i="c")


def instant(text: str, tz: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp()


@pytest.mark.parametrize(
    ("tz", "at", "hours"),
    [
        (BERLIN, instant("2026-10-25T00:59:59", "UTC"), 2),
        (BERLIN, instant("2026-10-25T01:00:00", "UTC"), 1),
        (BERLIN, instant("2027-03-28T00:59:59", "UTC"), 1),
        (BERLIN, instant("2027-03-28T01:00:00", "UTC"), 2),
        ("Asia/Kathmandu", START, 5.75),
        ("UTC", START, 0),
    ],
)
def test_offsets(tz: str, at: float, hours: float) -> None:
    assert offset(tz, at) == hours * 3600
    assert local(tz, at) == at + hours * 3600


def office(at: float) -> F64:
    """Two series that follow the clock in Berlin: busy from eight to six; the second one not at weekends."""
    now = datetime.fromtimestamp(at, ZoneInfo(BERLIN))
    hour = now.hour + now.minute / 60
    busy = 100.0 / (1 + np.exp(-2 * (hour - 8))) / (1 + np.exp(2 * (hour - 18)))
    return np.array([busy, busy if now.weekday() < 5 else busy / 5]) + 20


@pytest.mark.parametrize("change", ["2026-10-25T00:00:00", "2027-03-28T00:00:00"])
def test_a_change_of_the_clocks_is_no_news(change: str) -> None:
    midnight = instant(change)
    rng = np.random.default_rng(1)
    blocks = {tz: Block(2, STEP, tz) for tz in (BERLIN, "UTC")}
    most = {tz: np.zeros(2) for tz in blocks}
    missed = {tz: 0.0 for tz in blocks}
    yes = np.ones(2, bool)
    for at in np.arange(midnight - 17 * DAY, midnight + 2 * DAY, STEP).tolist():
        x = office(at) + rng.normal(0, 3, 2)
        for tz, block in blocks.items():
            out, _ = blank(2)
            block.tick(at, x, yes, yes, out)
            if at > midnight:
                most[tz] = np.fmax(most[tz], out["score"])
                error = np.abs(out["f60"] - office(at + 3600)).max()
                missed[tz] = max(missed[tz], float(error))
    assert (most[BERLIN] < 1).all()
    assert most["UTC"].max() > 1.5  # the same without the zone
    assert missed[BERLIN] < 0.7 * missed["UTC"]


def test_rows_lie_in_blocks_of_their_zone() -> None:
    e = engine(watch("w"), watch("v", "y", tz=BERLIN), watch("u", "z"))
    answer = noisy([A, B])
    many = noisy([key(i=str(i)) for i in range(70)])
    ticked(e, lambda i: {"w": answer(i), "v": many(i), "u": answer(i)}, 3)
    zone = [block.tz for _, _, block in e.spans() for _ in range(block.rows)]
    for name, tz in (("w", "UTC"), ("v", BERLIN), ("u", "UTC")):
        assert {zone[row] for row in e.table.rows(name)} == {tz}
    assert len(e.table) == 74
    assert len(e.blocks) == 2  # u took what w left
    again = Engine.load(*dumped(e), e.watches)
    answers = {"w": vector({C: 1.0}), "v": vector({A: 2.0}), "u": vector({})}
    one, two = (x.tick(Instant(x.at + 15), answers, 9) for x in (e, again))
    assert {*one.keys} == {*two.keys}
    assert [block.tz for block in again.blocks] == ["UTC", BERLIN]
    np.testing.assert_array_equal(*(np.sort(said.columns["observed"]) for said in (one, two)))


def test_a_watch_that_moves_to_another_zone_learns_its_history_again() -> None:
    e = engine(watch())
    e.adopt(START, "w", [A], learned(15.0, 1, lambda _: np.array([10.0]), 0.1), 0, 9)
    ticked(e, lambda _: {"w": vector({A: 10.0})}, 2)
    (_, header), *arrays = e.dump()
    moved = watch(tz=BERLIN)
    for made in (e, Engine.load(header, dict(arrays), {"w": moved})):
        made.watch({"w": moved})
        assert made.known_until(moved) is None  # so its history is asked for
        assert len(made.table) == 0
    assert Engine.load(header, dict(arrays), {"w": watch()}).known_until(watch()) == e.at
