"""What was promised and what came true, day by day: verdicts by rule, and how often odds of a size were right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.known.ledger import Decided
from sidecar.signals.models import Array
from sidecar.types import F32, F64, HORIZONS, I64, Bools, Instant

DAY, KEPT = 86400.0, 28
EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
BINS = tuple(f"{low:g}-{high:g}" for low, high in itertools.pairwise(EDGES))
"""Of odds; each holds its lower edge."""
COUNT, SAID, CAME, SQUARES = range(4)
"""Of what was said in a bin: how often, the sum of it, how often it came true, the squared errors."""
_INNER = np.array(EDGES[1:-1])


class Kept(NamedTuple):
    """A record, frozen. By slot of a day: which one (in days since 1970, -1: none), sums of odds
    f64[days, horizons, bins, 4], and by rule f64[days, 4]: announced, missed, false, seconds ahead."""

    days: I64 = np.full(KEPT, -1)
    odds: F64 = np.zeros((KEPT, len(HORIZONS), len(BINS), 4))
    rules: Mapping[str, F64] = {}


class Record:
    """The last 28 days of one engine."""

    def __init__(self) -> None:
        self._days, self._odds = np.full(KEPT, -1), np.zeros((KEPT, len(HORIZONS), len(BINS), 4))
        self._rules: dict[str, F64] = {}
        self._kept: Kept | None = None

    def judge(self, decided: Decided) -> None:
        """Count what was decided."""
        for alertname, counts in decided.counts().items() if len(decided.rule) else ():
            self._rules.setdefault(alertname, np.zeros((KEPT, 4)))[self._slot(decided.at)] += counts

    def odds(self, at: Instant, sums: F64) -> None:
        """Add sums f64[horizons, bins, 4] of odds whose truth has come."""
        self._odds[self._slot(at)] += sums

    def _slot(self, at: Instant) -> int:
        self._kept, day = None, math.floor(at / DAY)
        slot = day % KEPT
        if self._days[slot] != day:
            self._days[slot], self._odds[slot] = day, 0
            for counts in self._rules.values():
                counts[slot] = 0
        return slot

    def kept(self) -> Kept:
        """All of it; the same object until something is added."""
        if self._kept is None:
            rules = {name: counts.copy() for name, counts in self._rules.items() if counts.any()}
            self._kept = Kept(self._days.copy(), self._odds.copy(), rules)
        return self._kept

    def state(self) -> dict[str, Array]:
        """What has to be saved beside the names of `kept().rules`."""
        days, odds, rules = self.kept()
        counts = np.array(list(rules.values())).reshape(len(rules), KEPT, 4)
        return {"days": days, "odds": odds, "rules": counts}

    def restore(self, names: Sequence[str], state: Mapping[str, Array]) -> None:
        """Take over what `state` gave; ValueError or KeyError when it does not fit."""
        for name, mine in (("days", self._days), ("odds", self._odds)):
            if state[name].shape != mine.shape:
                raise ValueError(f"record.{name}: {state[name].shape} does not fit")
            mine[:] = state[name]
        self._rules = {name: counts.copy() for name, counts in zip(names, state["rules"], strict=True)}
        self._kept = None


def sums(odds: F32, came: Bools) -> F64:
    """Sums f64[bins, 4] of odds f32[n], of which some came true.

    >>> sums(np.array([0.004, 0.95, 0.97], np.float32), np.array([False, True, False]))[[0, -1]].round(2).tolist()
    [[1.0, 0.0, 0.0, 0.0], [2.0, 1.92, 1.0, 0.94]]
    """
    place, p = np.searchsorted(_INNER, odds, side="right"), odds.astype(np.float64)
    each = (np.ones(len(p)), p, came, (p - came) ** 2)
    return np.stack([np.bincount(place, column, len(BINS)) for column in each], axis=1)


def total(parts: Iterable[Kept], since: Instant) -> tuple[F64, dict[str, F64]]:
    """Of some engines since the day of an instant: sums f64[horizons, bins, 4] of odds, and f64[4] by rule."""
    odds, rules, first = np.zeros((len(HORIZONS), len(BINS), 4)), dict[str, F64](), math.floor(since / DAY)
    for days, theirs, counts in parts:
        lately = days >= max(first, days.max() - KEPT + 1)
        odds += theirs[lately].sum(0)
        for name, mine in counts.items():
            rules[name] = rules.get(name, np.zeros(4)) + mine[lately].sum(0)
    return odds, {name: mine for name, mine in sorted(rules.items()) if mine.any()}
