"""Series to which nothing happens are quiet: at most two pages in a hundred days."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import pytest

from sidecar.config import calendar, parse
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.learn.trust import Trust
from sidecar.types import Instant
from tests.unit import made
from tests.unit.made import key, watch
from tests.unit.quiet import AIM, DAY, MONDAY, Calm, live, rates
from tests.unit.scenes import NOISE, season

pytestmark = pytest.mark.timeout(300)  # seconds of work, where other work is going on

COLD = {
    "nightly": 1.1,
    "office": 0.3,
    "heavy": 0.6,
    "weekly": 0.3,
    "bursty": 0.25,
    "backups": 0.3,
    "sparse": 0.2,
}
"""Shapes that page more often than AIM at five minutes from a cold start, and how often they may today."""
KNOWN = {"nightly": 1.7, "office": 0.4}
"""The same at one minute with a past."""


@pytest.fixture(scope="module")
def cold() -> Mapping[str, Calm]:
    """A week at five minutes, after two days of a cold start."""
    return live(300.0, 9.0)


@pytest.fixture(scope="module")
def known() -> Mapping[str, Calm]:
    """Friday to Monday noon at one minute, with nine days of past."""
    return live(60.0, 3.5, past=9.0, first=0.0, each=4, start=Instant(MONDAY + 4 * DAY))


def check(found: Mapping[str, Calm], above: Mapping[str, float]) -> None:
    rest = {name: calm for name, calm in found.items() if name not in above}
    assert rates(rest)[0] <= AIM, {name: calm for name, calm in rest.items() if calm.pages}
    for name, most in above.items():
        assert rates({name: found[name]})[0] <= most, (name, found[name])


def test_a_quiet_week_from_cold(cold: Mapping[str, Calm]) -> None:
    """After two days nothing ordinary pages; shapes that still do are named with how often."""
    check(cold, COLD)


def test_a_quiet_week(known: Mapping[str, Calm]) -> None:
    """Weekends, office hours, bursts, counts, steps and heavy tails are ordinary at one minute."""
    check(known, KNOWN)
    assert known["weekly"].pages == 0


def test_month_start() -> None:
    """The first of a month, with twice the load all day, is no news when it is in `events`; the day after never is."""
    text = "events: [{name: invoices, start: 2023-12-01T00:00:00Z, end: 2023-12-02T00:00:00Z}]"
    random, keys, first = np.random.default_rng(9), [key(i=str(i)) for i in range(8)], MONDAY + 11 * DAY
    expected, surprised = Trust(43200.0), Trust(43200.0)
    expected.plan(calendar(parse(text)))
    engines = {True: made.engine(watch(step=900.0))}  # until the day comes, one stands for both
    worst = {part: {True: 0.0, False: 0.0} for part in ("before", "on it", "after")}
    for at in np.arange(MONDAY, first + 2 * DAY, 900.0).tolist():
        part = "before" if at < first else "on it" if at < first + DAY else "after"
        if at == first:
            engines[False] = deepcopy(engines[True])
        load = season(np.array([at])) * (2 if part == "on it" else 1) + random.normal(0, NOISE, len(keys))
        for planned, engine in engines.items():
            trust = expected if planned else surprised
            said = engine.tick(Instant(at), {"w": Vector(keys, load)}, 100, trust).columns["score"]
            worst[part][planned] = max(worst[part][planned], float(np.nan_to_num(said[: len(keys)]).max()))
    assert worst["before"][True] < 1
    assert worst["on it"][True] < 1 < worst["on it"][False]
    assert max(worst["after"].values()) < 1
