"""Which range queries teach a watch its past: how far back, at which step, in which chunks; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.signals.ingest.series import PER_INSTANCE
from sidecar.signals.known.ledger import LEAST_TRUE
from sidecar.signals.models.fitted import MODELS
from sidecar.types import Duration, Instant, Section

POINTS = 11_000  # Prometheus' own limit per series
SAMPLES = 100_000  # per query: what is asked, read and taught at once takes some hundred bytes of memory each
FEWEST = 64  # points of a query all the same: each costs Prometheus a look at every series
MOST = 1_000_000  # but no more samples than this
LIVE_TICKS = 2880
COARSE = 300.0


class LearningConfig(Section, frozen=True, kw_only=True):
    """How much history is read, how many series are learned at all, and what makes them copies of one workload."""

    history: Duration = Duration(30 * 86400)
    """How far back the past is read, where it is there."""
    max_series: int = 100_000
    """Budget of watched series."""
    retrain: Duration = Duration(7 * 86400)
    """How often models are fitted to groups and judged, where `promantis[fits]` is installed; `promantis[deep]`
    brings an auto-encoder too, and a worker of 500 MB."""
    models: tuple[str, ...] = ("arima",)
    """Models that are fitted, where `promantis[models]` is installed, to each series with a limit that something is
    known to act on: an event of `events`, or `regressors` of its watch. `arima`, `ets`, `uc`, and with their extras
    `prophet` and `lstm`; `[]`: none."""
    max_modelled: int = 300
    """Series that have such models at most; the likeliest breaches, then the nearest limits come first."""
    fit_share: float = 0.1
    """Share of one processor that these fits may take."""
    per_instance_labels: tuple[str, ...] = PER_INSTANCE
    """Labels that tell copies of one workload apart: a new series inherits from one that differs in nothing
    else; hashes of ReplicaSets, Jobs and containers inside other values never count, nor does `node` beside a
    pod."""
    accept_new_normal: Duration = Duration(12 * 3600)
    """How long an alert or a silence keeps a series from being learned: then what it shows is its new normal."""

    least_true_breaches: float = LEAST_TRUE
    """A rule on a series is no longer announced where a smaller share of its announcements came true: its odds stay
    below .5, until as many of those that are not told would have come true. 0: all are announced."""
    naive_without_skill: bool = True
    """A series whose forecasts have lately erred more than the best naive one (the last value, the usual of this hour,
    or that and how far off it is now) exports that one; its rules are not announced while this is so of all horizons,
    unless a trend that is believed leads there."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What types cannot say."""
        if not 0 <= self.least_true_breaches < 1:
            yield "least_true_breaches", f"must be at least 0 and below 1, got {self.least_true_breaches}"
        if self.retrain < 86400:
            yield "retrain", f"must be at least 1d, got {self.retrain}"
        for i, model in enumerate(self.models):
            if model not in MODELS:
                yield f"models[{i}]", f"{model!r} is not one of {', '.join(MODELS)}"
        if not 0 < self.fit_share <= 1:
            yield "fit_share", f"must be above 0 and at most 1, got {self.fit_share:g}"
        if self.max_modelled < 0:
            yield "max_modelled", f"must be 0 or more, got {self.max_modelled}"


class Span(NamedTuple):
    """One range query: start and end included."""

    start: Instant
    end: Instant
    step: float


def spans(now: Instant, earliest: Instant, learning: LearningConfig, step: float, series: int) -> list[Span]:
    """Coarse ranges as far back as there is data, then the last 2,880 ticks at the live step; oldest first."""
    coarse = max(COARSE, step)
    last = math.floor(now / step) * step
    begin = max(now - learning.history, earliest)
    live = max(last - (LIVE_TICKS - 1) * step, math.ceil(begin / step) * step)
    out: list[Span] = []
    most = room(series)
    for start, end, width in (
        (math.ceil(begin / coarse) * coarse, live - step, coarse),
        (live, last, step),
    ):
        out += parts(start, end, width, most)
    return out


def room(series: int) -> int:
    """Points of one range query of so many series at most.

    >>> room(10), room(1_000), room(10_000), room(100_000), room(2_000_000)
    (10000, 100, 64, 10, 1)
    """
    series = max(1, series)
    return max(1, min(POINTS, max(SAMPLES // series, min(FEWEST, MOST // series))))


def parts(start: float, end: float, step: float, most: int) -> Iterator[Span]:
    """One range after the other, of so many points at most.

    >>> [(one.start, one.end) for one in parts(0.0, 50.0, 10.0, 4)]
    [(0.0, 30.0), (40.0, 50.0)]
    """
    at = start
    while at <= end:
        points = math.floor((min(end, at + (most - 1) * step) - at) / step)
        yield Span(Instant(at), Instant(at + points * step), step)
        at += (points + 1) * step
