"""What the user's own rules did, and whether it was announced: announced, missed or false, by rule and series.

An announcement is what a user sees of it: the alert `PromantisPredictedBreach` of rules/promantis.rules.yml begins to
fire. It counts for an hour, and longer while the condition of its rule holds that began within it: true when the rule
fires then, else false. A rule that fires without one is missed. Before it was quiet for an hour it is in the same
trouble: nothing is announced, and what fires is not counted again; nor is what was beyond its limit when it was first
seen, or after a time of which nothing is known. A rule on a series whose announcements hardly ever came true is silent:
its odds stay below those of an alert, while it is judged as before, until it has proved itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Array, Columns, Field, f4
from sidecar.signals.watch.watches import Limit
from sidecar.types import F32, F64, HORIZONS, I64, Bools, Instant, Labels

ODDS = np.array([0.5, 0.7, 0.9], f4)
LASTING = np.array([0.0, 300.0, 180.0, 60.0])
"""Tiers of `PromantisPredictedBreach`: from which odds on, and for how long; before them that of no alert."""
REACH = HORIZONS[-1][1]
AGAIN = 3600.0  # seconds without its condition, after which a rule is calm
LOST = 300.0  # seconds after which Prometheus takes what is not there for gone
LEAST_TRUE = 0.15  # of announcements: where fewer came true, nothing is announced
FIRST = (1.0, 3.0)  # true ones and all that are taken for known before any was seen
FADES = 0.98  # of what is known of announcements, per announcement
UNTOLD = f4(0.49)  # odds at most of what is not announced
ANNOUNCED, MISSED, FALSE = VERDICTS = ("announced", "missed", "false")
_ANNOUNCED, _MISSED, _FALSE = range(len(VERDICTS))

Rule = tuple[str, str, Labels]
"""Name, severity and static labels: what an alert on odds carries of its source."""


class Verdict(NamedTuple):
    """One announcement, or one firing of a rule."""

    rule: Rule
    verdict: str
    at: Instant
    ahead: float
    """Seconds from the announcement until the rule fired; NaN where there are not both."""


class Decided(NamedTuple):
    """All verdicts of one tick, as columns: which of `rules` each is of, which of VERDICTS it is, seconds ahead."""

    at: Instant = Instant(0.0)
    rules: Sequence[Rule] = ()
    rule: I64 = np.empty(0, np.int64)
    verdict: I64 = np.empty(0, np.int64)
    ahead: F64 = np.empty(0)

    def each(self) -> list[Verdict]:
        """One by one."""
        columns = (self.rule.tolist(), self.verdict.tolist(), self.ahead.tolist())
        return [Verdict(self.rules[r], VERDICTS[v], self.at, a) for r, v, a in zip(*columns, strict=True)]

    def counts(self) -> dict[str, F64]:
        """By name of the rule f64[4]: how many of each verdict, and all seconds ahead."""
        table = np.zeros((len(self.rules), len(VERDICTS) + 1))
        np.add.at(table, (self.rule, self.verdict), 1)
        np.add.at(table[:, -1], self.rule, np.nan_to_num(self.ahead))
        out: dict[str, F64] = {}
        for i in np.flatnonzero(table.any(axis=1)).tolist():
            name = self.rules[i][0]
            out[name] = out.get(name, np.zeros(table.shape[1])) + table[i]
        return out


class Standing(Columns):
    """How each rule stands on each of its series: here a "row" is such a pair."""

    fields: ClassVar = {
        "tier": Field(dtype=np.int8),
        "since": Field(dtype=np.float64),
        "said": Field(fresh=np.nan, dtype=np.float64),
        "last": Field(fresh=np.nan, dtype=np.float64),
        "calm": Field(dtype=np.bool_),
        "true": Field(),
        "made": Field(),
        "silent": Field(dtype=np.bool_),
    }
    tier: Array
    """Of the odds, since `since`."""
    since: F64
    said: F64
    """When what stands was announced; NaN: nothing does."""
    last: F64
    """When the condition held last; NaN: never yet."""
    calm: Bools
    """Whether it would be news that the rule fires."""
    true: F32
    """Announcements that came true, of those `made`, fading as others are made."""
    made: F32
    silent: Bools
    """Whether what stands was not told, because too few came true."""

    @property
    def troubled(self) -> Bools:
        """Which fired, and have not been calm since."""
        out: Bools = ~self.calm & ~np.isnan(self.last)
        return out

    def doubted(self, pairs: I64, least: float) -> Bools:
        """Of which of some pairs too small a share came true."""
        out: Bools = self.true[pairs] + f4(FIRST[0]) < f4(least) * (self.made[pairs] + f4(FIRST[1]))
        return out


class Ledger:
    """The rules on the limit lines of one engine; several lines of one rule and series are one alert."""

    def __init__(self, step: float, least: float = LEAST_TRUE) -> None:
        self.step, self.at, self.least = step, Instant(0.0), least
        """`least`: share of announcements that must come true so that others are told."""
        self.standing = Standing(0)
        self._rules: list[Rule] = []
        self._number = np.empty(0, np.int64)
        """Of each pair, which of `_rules`."""
        self._pair, self._hold = np.empty(0, np.int64), np.empty(0, f4)
        """Of each line."""
        self._live = np.zeros(0, bool)
        """Pairs that have to be looked at whatever their odds are."""

    def follow(self, limits: Sequence[Limit], rows: I64, was: I64) -> None:
        """Take a new limit table; `was` i64[lines] says which line of the one before each is, -1: a new one. Pairs keep
        how they stand."""
        rules: dict[Rule, int] = {}
        number = {
            id(limit): rules.setdefault((limit.alertname, limit.severity, limit.labels), len(rules))
            for limit in {id(limit): limit for limit in limits}.values()
        }
        of = np.fromiter((number[id(limit)] for limit in limits), np.int64, len(limits))
        _, first, pair = np.unique(rows * max(1, len(rules)) + of, return_index=True, return_inverse=True)
        standing, old = Standing(len(first)), was >= 0
        standing.copy_rows(pair[old], self.standing, self._pair[was[old]])
        self.standing, self._pair, self._rules, self._number = standing, pair, list(rules), of[first]
        self._hold = np.fromiter((limit.hold for limit in limits), f4, len(limits))
        self._live = np.ones(len(first), bool)

    def tick(self, at: Instant, odds: F32, known: Bools, began: F64) -> Decided:
        """What is decided now, from each line's odds of the longest horizon, 1 while its condition holds, which then
        `began`; of what is not `known` there is no value."""
        pause, self.at = at - self.at, at
        if not 0 < pause <= max(LOST, 3 * self.step):
            kept = self.standing.true.copy(), self.standing.made.copy()
            self.standing.forget(np.arange(self.standing.rows))
            self.standing.true[:], self.standing.made[:] = kept
            self._live[:] = True
        lines = np.flatnonzero((odds >= ODDS[0]) | self._live[self._pair])
        if not len(lines):
            return Decided()
        pairs, place = np.unique(self._pair[lines], return_inverse=True)
        s, n = self.standing, len(pairs)
        top, since, there, fires = np.zeros(n, f4), np.full(n, np.inf), np.zeros(n, bool), np.zeros(n, bool)
        np.maximum.at(top, place, np.nan_to_num(odds[lines]))
        over = odds[lines] >= 1
        np.minimum.at(since, place[over], began[lines[over]])
        there[place[known[lines]]] = True
        fires[place[over & (at - began[lines] >= self._hold[lines])]] = True

        held, last = np.isfinite(since), s.last[pairs]
        last[held] = at
        calm = s.calm[pairs] | (there & ~held & ~(at - last <= AGAIN))
        s.last[pairs], s.calm[pairs] = last, calm
        said = self._announce(at, pairs, top)
        false = (at - said > REACH) & ~(since <= said + REACH)
        self._count(pairs, false, fires & calm & ~false & ~np.isnan(said))
        said[false] = np.nan
        silent = s.silent[pairs]
        lost, event = np.flatnonzero(false & ~silent), np.flatnonzero(fires & calm)
        told = np.where(silent, np.nan, said)
        decided = Decided(
            at,
            self._rules,
            self._number[pairs[np.concatenate([lost, event])]],
            np.concatenate(
                [np.full(len(lost), _FALSE), np.where(np.isnan(told[event]), _MISSED, _ANNOUNCED)]
            ),
            np.concatenate([np.full(len(lost), np.nan), at - told[event]]),
        )
        said[fires] = np.nan
        s.said[pairs], s.calm[pairs] = said, calm & ~fires
        self._live[pairs] = (s.tier[pairs] > 0) | ~np.isnan(said) | ~s.calm[pairs]
        return decided

    def _announce(self, at: Instant, pairs: I64, top: F32) -> F64:
        """When what stands was announced f64[pairs], with what is announced now; the highest odds are `top`."""
        s = self.standing
        tier, was, said = np.searchsorted(ODDS, top, side="right"), s.tier[pairs], s.said[pairs]
        tier[(top >= 1) | s.troubled[pairs]] = 0
        begins = s.since[pairs] + LASTING[was]  # of the alert, if its odds stayed there so long
        new = (was > 0) & np.where(tier == was, begins <= at, begins < at) & np.isnan(said)
        said[new] = np.where(begins > at - self.step, begins, at)[new]
        s.silent[pairs[new]] = s.doubted(pairs[new], self.least)
        s.since[pairs], s.tier[pairs] = np.where(tier == was, s.since[pairs], at), tier
        return said

    def _count(self, pairs: I64, false: Bools, came: Bools) -> None:
        s, some = self.standing, pairs[false | came]
        s.true[some] = f4(FADES) * s.true[some] + came[false | came]
        s.made[some] = f4(FADES) * s.made[some] + f4(1)

    @property
    def silent(self) -> Bools:
        """Of which lines nothing is to be announced."""
        every = np.arange(self.standing.rows)
        out: Bools = (self.standing.troubled | self.standing.doubted(every, self.least))[self._pair]
        return out

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Array]:
        """What has to be saved, beside the limit table."""
        return {"at": np.array([self.at]), "pair": self._pair, **self.standing.state()}

    def restore(self, state: Mapping[str, Array], lines: int) -> None:
        """Take over what `state` gave, for a table of so many lines; ValueError or KeyError when it does not fit."""
        if state["pair"].shape != (lines,):
            raise ValueError(f"ledger: {len(state['pair'])} lines, where the limit table has {lines}")
        self._pair, self.standing = state["pair"].copy(), Standing(len(state["tier"]))
        fresh = self.standing.state()
        self.standing.restore({name: state.get(name, fresh[name]) for name in fresh})
        self.standing.tier[:] = 0  # nothing was said meanwhile
        self.at = Instant(float(state["at"][0]))
