"""The week of scores that challengers are fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from sidecar.signals.detect.groups import Grouping
from sidecar.signals.ingest.series import View
from sidecar.signals.known.snapshot import LimitLines, Snapshot
from sidecar.signals.learn.past import Past
from sidecar.types import Instant
from tests.unit.made import START, key, watch

WATCHES = {"w": watch(group_by=("g",))}


def snapshot(at: float, raw: Mapping[bytes, float], grouping: Grouping, view: View) -> Snapshot:
    column = np.array([raw[k] for k in view.keys if k is not None], np.float32)
    nothing = LimitLines(
        np.empty(0, np.int64), [], np.empty((3, 0), np.float32), *np.empty((3, 0), np.float32)
    )
    return Snapshot(
        Instant(at), 60.0, view.keys, view.watch_of, view.rows, WATCHES, {"raw": column}, nothing, {},
        groups=grouping.score(view, WATCHES, column, 60.0),
    )  # fmt: skip


def view_of(keys: list[bytes]) -> View:
    return View(tuple(keys), ("w",) * len(keys), {"w": tuple(range(len(keys)))})


A = [key(g="a", i=str(i)) for i in range(3)]
B = [key(g="b", i=str(i)) for i in range(4)]
PAIR = [key(g="pair", i=str(i)) for i in range(2)]
ID_A, ID_B = ((("watch", "w"), (("g", g),)) for g in "ab")


def test_members_keep_their_past_while_others_come_and_go() -> None:
    past, grouping = Past(60.0), Grouping()
    first, second = view_of([*A, *PAIR, *B]), view_of([*B[1:], *A, key(g="b", i="new")])
    for i in range(4):
        view = first if i < 2 else second
        raw = {k: i + n / 8 for n, k in enumerate([*A, *B, *PAIR, key(g="b", i="new")])}
        assert past.due(START + 60 * i)
        past.keep(snapshot(START + 60 * i, raw, grouping, view))
    assert set(past.groups) == {ID_A, ID_B}  # two are too few
    kept = past.of(ID_A)
    assert [name for _, name in kept.members] == A
    np.testing.assert_array_equal(kept.scores, np.arange(4)[:, None] + np.arange(3) / 8)
    np.testing.assert_array_equal(kept.at, START + 60 * np.arange(4))
    kept = past.of(ID_B)
    assert [name for _, name in kept.members] == [*B[1:], key(g="b", i="new")]
    assert np.isnan(kept.scores[:2, -1]).all()
    assert np.isfinite(kept.scores[2:]).all()
    assert past.lately(ID_A, 2).tolist() == pytest.approx([2 + 3 / 16, 3 + 3 / 16], abs=0.03)


def test_a_row_a_minute_for_a_week_within_its_room() -> None:
    past, grouping, view = Past(15.0), Grouping(), view_of([*A, *B])
    raw = dict.fromkeys([*A, *B], 1.0)
    past.keep(snapshot(START, raw, grouping, view))
    assert not past.due(START + 45)
    assert past.due(START + 60)
    assert past.due(START - 3600)  # the clock was set back
    week = Past(3600.0, room=2 * 168 * 3)
    for i in range(200):
        week.keep(snapshot(START + 3600 * i, dict.fromkeys([*A, *B], float(i % 7)), grouping, view))
    assert week.groups == [ID_A]  # no room for the other
    assert week.kept == 168
    kept = week.of(ID_A)
    np.testing.assert_array_equal(kept.at, START + 3600 * np.arange(32, 200))
    np.testing.assert_array_equal(kept.scores[:, 0], np.arange(32, 200) % 7 % 7)
