"""Which series are shown when there is not room for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidecar.signals.known.budget import STAYS, Budget, Shown
from sidecar.signals.known.snapshot import LimitLines, Snapshot
from sidecar.signals.watch.watches import Limit
from sidecar.types import Instant
from tests.unit.made import key, watch

NOW = Instant(1000.0)
LIMIT = Limit(">", 5.0, alertname="High")


def snapshot(
    scores: Sequence[float],
    chances: dict[int, float] | None = None,
    keys: Sequence[bytes | None] | None = None,
    step: float = 15.0,
) -> Snapshot:
    """Rows with these scores (NaN: says nothing), and a limit line for some of them."""
    keys = [key(i=str(i)) for i in range(len(scores))] if keys is None else keys
    chances = chances or {}
    score = np.array(scores, np.float32)
    return Snapshot(
        NOW, step, keys, ["" if k is None else "w" for k in keys], {}, {"w": watch(limits=(LIMIT,))},
        {"score": score, "confidence": np.where(np.isnan(score), np.nan, 0.5).astype(np.float32)},
        LimitLines(
            np.array(list(chances), np.int64), [LIMIT] * len(chances),
            np.tile(np.array(list(chances.values()), np.float32), (3, 1)), *np.zeros((3, len(chances)), np.float32),
        ),
        {},
    )  # fmt: skip


def chosen(budget: Budget, now: float, *snapshots: Snapshot) -> list[Shown]:
    return budget.choose(snapshots, Instant(now))


def test_below_the_budget_all_that_says_something_is_shown() -> None:
    (shown,) = chosen(Budget(1000, 12, 4), 0, snapshot([0.0, np.nan, 3.0], {0: 0.1, 2: 0.9}))
    assert shown.rows.tolist() == shown.detailed.tolist() == [0, 2]
    assert shown.lines.tolist() == [0, 1]
    assert shown.dropped == 0


def test_scores_come_first_then_breaches_then_bands() -> None:
    s = snapshot([0.1, 0.2, 2.0, 0.0], {0: 0.9, 1: 0.1})
    (shown,) = chosen(Budget(8, 12, 4), 0, s)
    assert (shown.rows.tolist(), shown.lines.tolist(), shown.detailed.tolist()) == ([0, 1, 2, 3], [], [])
    assert shown.dropped == 2 * 4 + 4 * 12
    (shown,) = chosen(Budget(8 + 4, 12, 4), 0, s)
    assert (shown.lines.tolist(), shown.detailed.tolist()) == ([0], [])  # the likely breach
    (shown,) = chosen(Budget(8 + 8 + 12, 12, 4), 0, s)
    assert shown.detailed.tolist() == [2]  # the odd row
    (shown,) = chosen(Budget(8 + 8 + 24, 12, 4), 0, s)
    assert shown.detailed.tolist() == [0, 2]
    (shown,) = chosen(Budget(5, 12, 4), 0, s)
    assert shown.rows.tolist() == [1, 2]


def test_one_budget_for_all_engines() -> None:
    a, b = chosen(Budget(4, 12, 4), 0, snapshot([0.1, 3.0]), snapshot([2.0, 0.2], step=60.0))
    assert (a.rows.tolist(), b.rows.tolist()) == ([1], [0])


def test_what_is_shown_stays_an_hour() -> None:
    budget = Budget(2, 12, 4)
    assert chosen(budget, 0, snapshot([0.5, 0.1]))[0].rows.tolist() == [0]
    assert chosen(budget, 60, snapshot([0.1, 0.5]))[0].rows.tolist() == [0]
    assert chosen(budget, 120, snapshot([0.1, 1.5]))[0].rows.tolist() == [1]  # but odd ones come first
    assert chosen(budget, 60 + STAYS, snapshot([0.4, 0.5]))[0].rows.tolist() == [1]
    assert chosen(budget, 121 + 2 * STAYS, snapshot([0.6, 0.5]))[0].rows.tolist() == [0]


def test_of_the_odd_ones_what_is_shown_stays() -> None:
    budget = Budget(2, 12, 4)
    assert chosen(budget, 0, snapshot([2.0, 1.5]))[0].rows.tolist() == [0]
    assert chosen(budget, 60, snapshot([2.0, 2.5]))[0].rows.tolist() == [0]


def test_a_row_that_changed_hands_is_held_no_more() -> None:
    budget = Budget(2, 12, 4)
    a, b, c = (key(i=i) for i in "abc")
    assert chosen(budget, 0, snapshot([0.5, 0.1], keys=[a, b]))[0].rows.tolist() == [0]
    assert chosen(budget, 60, snapshot([0.1, 0.5], keys=[c, b]))[0].rows.tolist() == [1]


def test_a_breach_that_is_shown_stays_when_lines_move() -> None:
    budget = Budget(2 * 3 + 4, 12, 4)
    assert chosen(budget, 0, snapshot([0, 0, np.nan], {1: 0.3}))[0].lines.tolist() == [0]
    # another row has limits now, so the line of row 1 is the second one
    shown = chosen(budget, 60, snapshot([0, 0, 0], {0: 0.4, 1: 0.3}, keys=[key(i=str(i)) for i in range(3)]))
    assert shown[0].lines.tolist() == [1]


def test_a_reload_that_changes_nothing_resets_no_hold() -> None:
    budget = Budget(2, 12, 4)
    chosen(budget, 0, snapshot([0.5, 0.1]))
    assert chosen(budget, 60, snapshot([0.1, 0.5], keys=[key(i="0"), key(i="1")]))[0].rows.tolist() == [0]


def test_a_clock_set_back_holds_nothing_for_longer() -> None:
    budget = Budget(2, 12, 4)
    chosen(budget, 1e6, snapshot([0.5, 0.1]))
    chosen(budget, 0, snapshot([0.5, 0.1]))
    assert chosen(budget, 1 + STAYS, snapshot([0.1, 0.5]))[0].rows.tolist() == [1]


def test_nothing_at_all() -> None:
    assert chosen(Budget(10, 12, 4), 0) == []
    (shown,) = chosen(Budget(10, 12, 4), 0, snapshot([]))
    assert (shown.rows.tolist(), shown.dropped) == ([], 0)
