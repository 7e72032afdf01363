"""Fitted models as arrays: what they say from sample to sample, alone and side by side."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.models.fitted import AHEAD, Cell, Linear, bank, past

HALF = Linear(np.diag([0.5, 1.0]), np.array([0.5, 0]), np.array([1.0, 0]), np.array([0.0, 1]))
"""What is left halves with every sample, and each sample is believed wholly."""
DRIFT = Linear(
    np.array([[1.0, 1, 0], [0, 1, 0.25], [0, 0, 1]]),
    np.array([0.4, 0.1, 0]),
    np.array([1.0, 0, 0]),
    np.array([1.0, 2, 1]),
)
NET = Cell(
    *(
        np.random.default_rng(i).normal(0, 0.5, shape)
        for i, shape in enumerate(((8,), (8, 2), (8,), (3, 3), (4,)))
    )
)
LEFT = np.array([1.0, -2, 4, np.nan, 3])


def test_an_autoregression_says_what_a_hand_would() -> None:
    core, said = past(HALF, np.array([4.0, 8.0]))
    assert AHEAD == (3, 6, 12)
    assert said[:, 1].tolist() == [8 * 0.5**h for h in AHEAD]
    assert core.state.tolist() == [4, 1]


def test_a_sample_that_is_not_there_is_the_one_that_was_expected() -> None:
    core, said = past(HALF, np.array([8.0, np.nan]))
    assert core.state.tolist() == [2, 1]
    assert said[:, 1].tolist() == [4 * 0.5**h for h in AHEAD]


def test_a_constant_that_is_added_at_each_step_counts_up_to_the_horizon() -> None:
    _, said = past(DRIFT._replace(gain=np.zeros(3)), np.array([0.0]))
    level, slope = 1 + 2.0, 2 + 0.25
    for h, value in zip(AHEAD, said[:, 0].tolist(), strict=True):
        assert value == pytest.approx(level + sum(slope + 0.25 * k for k in range(h - 1)))


def test_models_side_by_side_say_what_each_says_alone() -> None:
    alone = [past(core, LEFT) for core in (HALF, DRIFT)]
    beside = bank([HALF, DRIFT])
    for i, value in enumerate(LEFT.tolist()):
        beside.state, said = beside.peek(np.array([value, value]))
        np.testing.assert_allclose(said, np.stack([one[1][:, i] for one in alone], axis=1))
    np.testing.assert_allclose(beside.state[0, :2], alone[0][0].state)


def test_a_net_says_what_torch_would() -> None:
    torch = pytest.importorskip("torch", reason="extra deep is not installed")
    cell = torch.nn.LSTM(1, 2, batch_first=True)
    with torch.no_grad():
        for name, value in zip(
            cell.state_dict(), (NET.into[:, None], NET.back, NET.bias, NET.bias * 0), strict=True
        ):
            cell.state_dict()[name].copy_(torch.tensor(value))
        x = torch.tensor(LEFT[:3].reshape(1, 3, 1), dtype=torch.float32)
        told = cell(x)[0].numpy()[0] @ NET.head[:, :2].T + NET.head[:, 2]
    _, said = past(NET._replace(state=np.zeros(4)), LEFT[:3])
    np.testing.assert_allclose(said.T, told, atol=1e-5)


def test_nets_side_by_side_say_what_each_says_alone() -> None:
    other = NET._replace(into=-NET.into)
    alone = [past(core, LEFT)[1] for core in (NET, other)]
    beside = bank([NET, other])
    for i, value in enumerate(LEFT.tolist()):
        beside.state, said = beside.peek(np.array([value, value]))
        np.testing.assert_allclose(said, np.stack([one[:, i] for one in alone], axis=1))
    assert not np.allclose(alone[0], alone[1])
