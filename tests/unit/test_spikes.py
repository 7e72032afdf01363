"""What is usual at this hour: remembered by quarters, with trust only, and forgotten within days."""

from __future__ import annotations

import numpy as np

from sidecar.signals.models.spikes import CODES, NONE, Spikes, _decode, _encode, quarter
from sidecar.signals.models.tail import HOURLY

DAY, QUARTER = 86400.0, 900.0


def live(model: Spikes, days: int, spike_at: float, size: float, start: float = 0.0) -> list[np.ndarray]:
    """Two rows at a sample a quarter; the first one spikes once a day. `shade` at each quarter of the last day."""
    shades = []
    for i in range(days * 96):
        at = start + i * QUARTER
        model.turn(at)
        shades.append(model.shade[:, 0].copy())
        q = np.full((HOURLY, 2), 0.5, np.float32)
        q[:, 0] = size if quarter(at) == quarter(spike_at) else 0.5
        model.learn(np.log(q), np.ones(2, bool))
    return shades[-96:]


def test_a_daily_spike_is_divided_by_what_it_was_and_only_around_its_time() -> None:
    model = Spikes(2)
    shades = np.array(live(model, 6, 2 * 3600.0, 30.0))[:, 0]
    assert shades[6:11].min() > np.log(1 + 0.3 * 20)  # known from half an hour before to half an hour after
    assert np.delete(shades, range(6, 11)).max() < np.log(1.2)
    assert model.shade[0, 1] < np.log(1.2), "rows do not touch"


def test_what_was_once_is_forgotten_within_days() -> None:
    model = Spikes(2)
    live(model, 3, 7200.0, 30.0)
    known = model.memory[quarter(7200.0), 0, 0]
    live(model, 12, 7200.0, 0.5, start=3 * DAY)
    assert model.memory[quarter(7200.0), 0, 0] < known / 4


def test_a_quarter_without_samples_teaches_nothing() -> None:
    model = Spikes(2)
    live(model, 3, 7200.0, 30.0)
    before = model.memory.copy()
    for i in range(96):
        model.turn(3 * DAY + i * QUARTER)
        model.learn(np.full((HOURLY, 2), 5.0, np.float32), np.zeros(2, bool))
    model.turn(4 * DAY)
    changed = (model.memory != before).any(axis=(1, 2))
    assert not changed[:93].any()  # the last three of the third day were not yet remembered


def test_rows_of_another_quarter_keep_what_they_were_told_in_it() -> None:
    """A row that is moved in from a nursery whose clock stood elsewhere."""
    model, nursery = Spikes(2), Spikes(1)
    nursery.turn(0.0)
    nursery.learn(np.full((HOURLY, 1), np.log(np.float32(30))), np.ones(1, bool))
    model.turn(5 * QUARTER)
    assert model.now.tolist() == [5, 5]
    model.copy_rows(np.array([1]), nursery, np.array([0]))
    model.turn(6 * QUARTER)
    assert model.memory[0, 0, 1] > 0
    assert not model.memory[5].any()
    assert NONE not in model.now


def test_codes_are_exact_to_four_percent() -> None:
    q = np.geomspace(0.1, 4e4, 200).astype(np.float32)
    assert np.abs(np.log1p(_decode(_encode(q))) - np.log1p(q)).max() <= 0.5 / CODES + 1e-4
