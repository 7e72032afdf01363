"""What a new pod takes over from its workload's others, and what stays the donor's own."""

from __future__ import annotations

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.detect.heirs import AWAY, begin_again, donors
from sidecar.signals.ingest import stays
from sidecar.signals.models.tail import QUIET
from sidecar.types import I64
from tests.unit.test_stays import NEW, OLD, Pods, play, scores, shop


def chosen(look: int) -> I64:
    """The donor of row 5 at one of its looks: rows 0 to 4 are of its workload, or not known, or not its own."""
    workload = np.array([7, 7, 7, 8, 7, 7])
    gone = np.array([0, 60, 60, 60, 60, 0], np.float32)
    known = np.array([9, 2, 5, 9, 0, 3], np.float32)
    return donors(workload, gone, known, np.array([5]), np.array([look]))


def test_vanished_ones_give_first_then_who_is_known_for_longest() -> None:
    assert [chosen(look).tolist() for look in range(4)] == [[2], [1], [0], [2]]


def test_nobody_gives_to_a_workload_of_its_own() -> None:
    none = donors(
        np.array([7, 8]), np.zeros(2, np.float32), np.ones(2, np.float32), np.array([1]), np.array([0])
    )
    assert none.tolist() == [-1]


def test_alarm_and_run_of_the_donor_are_its_own() -> None:
    block = Block(2, 15.0)
    block.life.presence[:], block.life.since[:], block.life.doubted[:] = 1, 1e9, 1e9
    block.life.lately[:] = 4
    block.tail.below[:], block.tail.peak[:] = 0, 5
    block.level.missed[:] = 5
    block.rare.lasted[:], block.lasting.lasted[:] = 60, 60
    begin_again(block, np.array([1]))
    assert (block.tail.below[:, 0] == 0).all()
    assert block.life.since[0] == 1e9
    assert (block.tail.below[:, 1] == QUIET).all()
    assert (block.tail.peak[:, 1] == 0).all()
    assert np.isnan([block.life.since[1], block.life.doubted[1]]).all()
    assert block.life.presence.tolist() == [1, np.float32(0.9)]
    assert (block.rare.lasted[:, 1] == 0).all()
    assert block.life.lately.tolist() == [4, -np.inf]
    assert block.lasting.lasted[1] == 0
    assert block.level.missed.tolist() == [5, AWAY]


def test_pods_that_come_back_after_their_successors_are_scored_again() -> None:
    e = shop()
    play(e, 4, Pods(OLD))
    play(e, 30, Pods(NEW))
    assert np.isnan(scores(play(e, 1, Pods(NEW))[0], OLD)).all()
    assert np.isfinite(scores(play(e, 2, Pods(OLD))[-1], OLD)).all()
    assert not e.asleep[e.table.find("w", OLD)].any()


def test_who_may_be_absent_for_long_is_remembered_for_as_long() -> None:
    s = stays.Stays(0)
    s.grow(2)
    s.patience[:] = 40 * 86400.0, 300.0
    s.gone[:] = 30 * 86400.0
    assert s.ended(np.ones(2, bool), np.ones(2, bool), 100).tolist() == [1]
