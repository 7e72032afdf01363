"""Stories in which a regressor is worth it: the real statsmodels, fitted to a past, beside the engine's own experts."""

from __future__ import annotations

import functools
import warnings
from typing import NamedTuple

import numpy as np
import pytest

from sidecar.signals.detect.block import Block
from sidecar.signals.forecast.calibrate import Intervals
from sidecar.signals.forecast.guestbook import Party
from sidecar.signals.forecast.modelling import Past, fit
from sidecar.signals.known.snapshot import FORECAST_OF
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models.fitted import AHEAD, GRID, WEEK
from sidecar.signals.models.week import DAY
from sidecar.signals.tick.engine import Engine, replay
from sidecar.signals.watch.calendar import Planned, Window
from sidecar.types import F64, Instant
from tests.unit.made import START, key, vector, watch

pytest.importorskip("statsmodels", reason="extra models is not installed")
KEY = key(service="shop")
PAST, LIVE = 5 * DAY, 200


class Story(NamedTuple):
    """What a series was and came to be, what it would be without noise, and the regressor f64[PAST + LIVE]."""

    values: F64
    truth: F64
    x: F64
    name: str

    @property
    def at(self) -> F64:
        return START + GRID * (np.arange(len(self.values)) - PAST)


def wave(n: int) -> F64:
    return 100 + 30 * np.sin(np.arange(n) / DAY * 2 * np.pi)


@functools.cache
def campaigns() -> Story:
    """Eight times in four days, at no hour of its own, a campaign doubles the traffic for an hour."""
    rng, n = np.random.default_rng(3), PAST + LIVE
    x = np.zeros(n)
    for begin in (*rng.integers(DAY, PAST - 40, 8), PAST + 30, PAST + 80, PAST + 130, PAST + 170):
        x[begin : begin + 12] = 1
    truth = wave(n) + 90 * x
    return Story(truth + rng.normal(0, 4, n), truth, x, "event:campaign")


@functools.cache
def load() -> Story:
    """Twice the load, under much noise; the load itself is measured well, and jumps."""
    rng, n = np.random.default_rng(4), PAST + LIVE
    x = 60 + np.repeat(rng.normal(0, 20, n // 40 + 1), 40)[:n]
    truth = 2 * x
    return Story(truth + rng.normal(0, 12, n), truth, x, "query:load")


def own(engine: Engine, at: float, h: int) -> float:
    """What its own experts said of the series at a tick."""
    return float(engine.guests._memory["ring"][Intervals.slot(h, round(at / GRID), AHEAD[h]), 0, 0])


def said(story: Story) -> tuple[F64, F64]:
    """Forecasts f64[times, horizons] while it is live, by an engine that knows the past: its own, and with a guest."""
    watches = {w.name: w for w in (watch(step=GRID, regressors=("load",)), watch("r", "load", GRID))}
    engine, trust = Engine(GRID), Trust(43200.0)
    engine.watch(watches)
    nursery, on = Block(2, GRID), np.ones((PAST, 2), bool)
    if story.name.startswith("event:"):
        edges = np.flatnonzero(np.diff(story.x, prepend=0, append=0)).reshape(-1, 2)
        windows = [
            Window(Instant(START + GRID * (a - PAST)), Instant(START + GRID * (b - PAST)))
            for a, b in edges.tolist()
        ]
        trust.plan(
            (
                Planned(
                    "campaign", (), lambda start, end: [w for w in windows if w.start < end and w.end > start]
                ),
            )
        )
        on[:, 0] = story.x[:PAST] == 0
    both = np.stack([story.values, story.x], axis=1)
    replay(nursery, story.at[:PAST], both[:PAST], GRID, trust=on)
    now = Instant(START - GRID)
    for i, name in enumerate(watches):
        engine.adopt(now, name, [KEY if name == "w" else key()], nursery, i, 10)
    engine.at = now
    slot = np.rint(story.at / GRID).astype(np.int64) % WEEK
    past = Past(story.at[:PAST], slot[:PAST], story.values[:PAST], (story.name,), story.x[:PAST, None])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tried = fit("arima", past, 100.0)
    assert tried.fitted is not None, tried.words
    engine.invite([Party(("w", KEY), "UTC", (tried.fitted,), now)], lambda *_: True)
    alone, joined = np.empty((LIVE, 3)), np.empty((LIVE, 3))
    for i in range(LIVE):
        x, load = both[PAST + i].tolist()
        answers = {"w": vector({KEY: x}), "r": vector({key(): load})}
        snapshot = engine.tick(Instant(START + i * GRID), answers, 10, trust)
        row = snapshot.rows_of("w")[0]
        alone[i] = [own(engine, START + i * GRID, h) for h in range(3)]
        joined[i] = [snapshot.columns[f][row] for f in FORECAST_OF.values()]
    return alone, joined


@pytest.mark.timeout(300)
def test_a_campaign_is_seen_coming_where_only_the_calendar_tells_of_it() -> None:
    story = campaigns()
    alone, joined = said(story)
    for h, ahead in enumerate(AHEAD):
        now = np.arange(LIVE - ahead)
        begins = (story.x[PAST + now] == 0) & (story.x[PAST + now + ahead] == 1)
        error = [np.abs(of[now, h] - story.values[PAST + now + ahead]) for of in (alone, joined)]
        assert error[0][begins].mean() > 75  # its own experts cannot know
        assert error[1][begins].mean() < 12
        assert error[1][~begins].mean() < error[0][~begins].mean()


@pytest.mark.timeout(300)
def test_a_load_that_is_measured_well_tells_where_a_noisy_series_is() -> None:
    story = load()
    alone, joined = said(story)
    now = np.arange(100, LIVE - AHEAD[0])
    error = [np.abs(of[now, 0] - story.truth[PAST + now + AHEAD[0]]).mean() for of in (alone, joined)]
    assert error[1] < 0.8 * error[0]
