"""Series to which nothing happens are quiet: at most two pages in a hundred days."""

from __future__ import annotations

from collections.abc import Mapping

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

pytestmark = pytest.mark.timeout(120)  # seconds of work, where other work is going on

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


@pytest.mark.parametrize("planned", [True, False])
def test_month_start(planned: bool) -> None:
    """The first of a month, with twice the load all day, is no news when it is in `events`; the day after never is."""
    trust = Trust(43200.0)
    if planned:
        trust.plan(
            calendar(
                parse("events: [{name: invoices, start: 2023-12-01T00:00:00Z, end: 2023-12-02T00:00:00Z}]")
            )
        )
    random, keys, first = np.random.default_rng(9), [key(i=str(i)) for i in range(8)], MONDAY + 11 * DAY
    engine = made.engine(watch(step=900.0))
    worst = {"before": 0.0, "on it": 0.0, "after": 0.0}
    for at in np.arange(MONDAY, first + 2 * DAY, 900.0).tolist():
        part = "before" if at < first else "on it" if at < first + DAY else "after"
        load = season(np.array([at])) * (2 if part == "on it" else 1) + random.normal(0, NOISE, len(keys))
        said = engine.tick(Instant(at), {"w": Vector(keys, load)}, 100, trust)
        worst[part] = max(worst[part], float(np.nan_to_num(said.columns["score"][: len(keys)]).max()))
    assert worst["before"] < 1
    assert (worst["on it"] < 1) == planned
    assert worst["after"] < 1
