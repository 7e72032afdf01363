"""How likely each limit is crossed within the horizons: learned, over all limits of a fleet, from what came true.

What is asked is the first passage of the path, not where it ends: whether the condition will at any time have held for
its `for:`. Distances to the limit, in the forecast's own deviations, of the forecast, of now, of the last hours and of
what yesterday and last week did in the coming hour are the features; so are the odds of breach.py, which are also where
the coefficients begin: before anything came true it is those that are said (research/forecast.md, section 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sidecar.signals.breach import breach, straight
from sidecar.signals.breach.arrivals import Arrivals
from sidecar.signals.breach.joint import Joint, Together
from sidecar.signals.breach.marks import RING, marks_of
from sidecar.signals.breach.sight import Scale, Sight, look
from sidecar.signals.detect.block import Block
from sidecar.signals.known import record
from sidecar.signals.known.ledger import UNTOLD
from sidecar.signals.models import Array, f4, half, zeros
from sidecar.signals.models.bend import Bend
from sidecar.signals.models.logistic import Logistic
from sidecar.signals.watch.calendar import UTC, hour_of
from sidecar.types import F32, F64, HORIZONS, I64, Bools

LATELY, LONG = 1800.0, 21600.0  # seconds whose highest values are features
FITTED = 4096  # lines at most that the regression learns from
QUIET = 1.0  # hours within the limit after which a crossing is worth foreseeing
SHARED = 500.0  # origins for which the fleet's rate counts in a line's own
PRIOR = 30.0  # of the regression: the first crossing must not announce those of a whole fleet
LONE = 10.0  # the same of what is a line's own,
FADES = 0.9999  # and how much of what it knows it keeps, per origin
LIKELY = 0.5  # odds from which a time is said
NEAR = 3.0  # deviations: what is farther off is not worked out between blocks
TOLD = f4(0.3)  # a trend believed so far speaks for itself: hardly one of them was in what was learned
CHUNK = 2048  # lines that are worked out at once: their features stay in the processor's cache
RATE = np.tile([[1.0], [100.0]], (1, len(HORIZONS)))
"""Crossings and origins that are taken for known before any was seen."""
DISTANCES = 7
REST = 2 * DISTANCES
LINE = REST + 7
FEATURES = LINE + straight.FEATURES + 2
ODDS, ONE = FEATURES - 2, FEATURES - 1
H = len(HORIZONS)


class Crossings:
    """The limit lines of one engine over time."""

    def __init__(self, step: float) -> None:
        self.step, self.width = step, max(300.0, step)
        self.blocks = tuple(max(1, round(h / self.width)) for _, h in HORIZONS)
        first = np.zeros((H, FEATURES))
        first[:, ODDS] = 1.0
        self.model, self.bend = Logistic(first, PRIOR), Bend(H)
        self.rate = RATE.copy()
        """Crossings and origins of all lines."""
        self.judged = np.zeros((H, len(record.BINS), 4))
        """Sums of odds whose truth has come, until somebody takes them."""
        self.known: Bools = np.zeros(0, bool)
        """Of each line, whether there was a value,"""
        self.silent: Bools = np.zeros(0, bool)
        """and whether nothing is announced of it."""
        self._hashes = _NO_LINES, _NO_LINES
        """Of lines, ascending, and which lines they are: a dictionary of tuples weighs 300 bytes a line."""
        self._day = max(1, math.floor(86400 / self.width))
        self.arrivals = Arrivals(RING, step)
        self._pooled = self.model, self.bend, self.arrivals
        self.marks = marks_of(self._day)(0)
        self._block = -1
        self._names = _NO_LINES
        self._set(breach.NONE, Joint())

    def follow(self, limits: breach.Limits, of: Iterable[object], joint: Joint | None = None) -> I64:
        """Take a new limit table; `of` tells each line's series. Lines that were there before keep what they did: which
        ones they were i64[lines], -1 for those that are new."""
        joint = joint or Joint()
        names = np.zeros(len(limits.row), np.int64)
        names[joint.lines] = joint.names
        rows = (*(column.tolist() for column in limits), names.tolist())
        n = len(limits.row)
        hashes = np.fromiter(map(hash, zip(of, *rows, strict=True)), np.int64, n)
        named, first = np.unique(hashes, return_index=True)
        _, mine, before = np.intersect1d(named, self._hashes[0], assume_unique=True, return_indices=True)
        marks, was = marks_of(self._day)(n), np.full(n, -1)
        was[first[mine]] = self._hashes[1][before]
        marks.copy_rows(np.flatnonzero(was >= 0), self.marks, was[was >= 0])
        self._hashes, self.marks, self._names = (named, first), marks, names
        self._set(limits, joint)
        return was

    def _set(self, limits: breach.Limits, joint: Joint) -> None:
        self._limits, n = limits, len(limits.row)
        sign = breach.SIGN[limits.op]
        self._scale = Scale(limits.row, sign, limits.value)
        self.together = Together(joint) if len(joint.firsts) else None
        """Lines of rules that ask for several things at once."""
        self._sign = sign.copy()
        """Of what can be foreseen of lines, on the side of their limits."""
        if self.together:
            self._sign[joint.lines] = self.together.sign()
        self.arrivals.follow(n)
        whole = n > 0 and bool((np.diff(limits.row) == 1).all())
        # a slice needs no gathering
        self._rows = slice(int(limits.row[0]), int(limits.row[-1]) + 1) if whole else limits.row
        self._fit = np.arange(0, n, max(1, math.ceil(n / FITTED)))
        self._phi = zeros((RING, H, len(self._fit), FEATURES), f4)
        self._may = np.zeros((RING, n), bool)  # origins in the ring
        self._told = np.zeros((RING, H, len(self._fit)), f4)  # and what was said there,
        self._raw = np.zeros((RING, H, len(self._fit)))  # before it was put right
        self._past = np.full((2, H, n), -np.inf, f4)
        self._line = np.zeros((H, straight.FEATURES, n), f4)
        self.silent, self._near = np.zeros((2, n), bool)
        """Whether a line is near its limit."""
        self._strange = True
        self._lately: tuple[F32, ...] = ()
        """Highest values lately, and for long."""
        self._last = np.zeros((H, n), f4)
        """What was worked out last: for what is far off, when the block began."""

    # ------------------------------------------------------------------ one tick

    def tick(
        self,
        at: float,
        spans: Iterable[tuple[int, int, Block]],
        observed: F64,
        forecasts: F64,
        step: float | None = None,
    ) -> breach.Odds:
        """Odds of every line from all rows' values and f64[9, rows] of forecasts; learns what came true. `step` is that
        of the samples, if they are coarser than the live ones."""
        limits, n = self._limits, len(self._limits.row)
        x64, ahead = observed[self._rows], forecasts[:, self._rows].reshape(3, H, n)
        said = breach.odds(limits, x64, *ahead)
        self.known = ~np.isnan(x64)
        if not n:
            return said
        both, joint = self.together, self.together.of.lines if self.together else _NO_LINES
        with np.errstate(all="ignore"):
            over = breach.true_now(limits.op, limits.value, x64)
            if both:
                theirs, over[joint], self.known[joint] = both.take(observed, forecasts)
                for mine, other in zip(said, theirs, strict=True):
                    mine[..., joint] = other
            spans, block = list(spans), math.floor(at / self.width)
            new = block != self._block
            if new:
                self._turn(at, block)
            every = new or self._strange
            if every:
                self._survey(spans)
            x = self._scale.height(x64)
            if both:
                x[joint] = both.height()
            self._note(at, x, over, step or self.step)
            # between blocks only what may come is worked out anew
            lines = np.arange(n) if every else np.flatnonzero(self._near | (said.probability[-1] > 0))
            sight = look(spans, limits.row[lines], self._sign[lines])
            now = x[lines].astype(f4)
            path = np.stack([self._scale.height(one[lines], lines) for one in ahead[0]]).astype(f4)
            if both:
                place = np.searchsorted(lines, joint)
                path[:, place] = [both.height(one) for one in forecasts[:H]]
                sight.copy_rows(place, both.sight(spans), np.arange(len(joint)))
            out = self._work_out(at, lines, sight, now, path, said.probability[:, lines], new)
            if every:
                top = np.fmax(now, np.fmax.reduce(path, 0))
                self._near = (top > -f4(NEAR) * sight.sigma[-1]) & (self._sign != 0)
                self._near[joint] = True
            if new:
                may = ~over & (self.marks.quiet >= f4(QUIET)) & sight.known & (self._sign != 0)
                self._may[block % RING] = may & np.isfinite(x)
            for sooner, later in itertools.pairwise(out):
                np.maximum(sooner, later, out=later)
            np.minimum(out, f4(breach.AT_MOST), out=out)
            np.copyto(out, f4(0), where=(out < f4(1 - breach.AT_MOST)) | (limits.hold[lines] >= _ENDS))
            self._last[:, lines] = out
            fixed = np.isnan(said.probability) | over
            if new:
                told = np.where(fixed, said.probability, self._last)[:, self._fit]
                most = np.where(self.silent[self._fit], UNTOLD, f4(1))
                self._told[block % RING] = np.where(told < 1, np.minimum(told, most), told)
            likely = out[-1] >= LIKELY
            # pulled back by what happened before, the forecast need not cross though more often than not it does
            some = np.isnan(said.eta[lines]) & likely & (sight.slope > 0)
            on_line = np.clip(-now[some] / sight.slope[some] * f4(3600), 1, _ENDS[-1])
            said.eta[lines[some]] = on_line
            # and where a trend is believed it is that which crosses
            some = (sight.trend > 0) & (likely | (said.eta[lines] > 0)) & ~over[lines]
            some[np.searchsorted(lines, joint)] = False
            mine = lines[some]
            if len(mine):
                arrives = self._scale.arrival(spans, mine)
                said.eta[mine] = np.where(arrives <= _ENDS[-1], np.maximum(arrives, 1), said.eta[mine])
            self._between(said, lines, -now, sight.sigma, new)
        return said._replace(probability=np.where(fixed, said.probability, self._last))

    def _between(self, said: breach.Odds, lines: I64, away: F32, sigma: F32, new: bool) -> None:
        """Say how far the times may be off; those of an origin are kept until the truth comes."""
        some = np.flatnonzero(said.eta[lines] > 0)
        mine = lines[some]
        eta = said.eta[mine]
        said.soonest[mine], said.latest[mine], unit = self.arrivals.between(eta, away[some], sigma[:, some])
        if new:
            slot = self._block % RING
            may = self._may[slot, mine]
            self.arrivals.said(slot, mine[may], eta[may], unit[may])

    def _note(self, at: float, x: F64, over: Bools, step: float) -> None:
        marks = self.marks
        np.copyto(marks.began, at, where=over & ~(marks.began <= at))
        np.copyto(marks.began, np.nan, where=~over & np.isfinite(x))
        marks.fires |= over & (at - marks.began >= self._limits.hold)
        self.arrivals.note(at, over)
        np.fmax(marks.highest, x.astype(f4), out=marks.highest)
        marks.quiet += f4(step / 3600)
        np.copyto(marks.quiet, f4(0), where=over)

    def _turn(self, at: float, block: int) -> None:
        """A block has ended: learn what came of the origins before it."""
        marks, last = self.marks, self._block
        if last >= 0 and block != last + 1:  # nothing is known of what was between
            self._may[:] = False
            marks.top[[i % self._day for i in range(last + 1, min(block, last + self._day))]] = half.LEAST
            marks.fired[:] = False
        self._block = block
        self.arrivals.turn(at, block % RING, last >= 0 and block == last + 1)
        if last >= 0:
            marks.top[last % self._day], marks.fired[last % RING] = half.code(marks.highest), marks.fires
            usual = marks.share[hour_of(UTC, at - self.width)]
            usual += f4(0.2 * self.width / 3600) * ((marks.highest > 0) - usual)
            for h, wait in enumerate(self.blocks):
                if block == last + 1:
                    self._learn(h, block - wait, [(block - i) % RING for i in range(1, wait + 1)])
        marks.highest[:], marks.fires[:] = -np.inf, False

    def _survey(self, spans: list[tuple[int, int, Block]]) -> None:
        """What stays as it is for a block: where the limits are, what was lately, what earlier days did after now."""
        self._strange = False
        block, both = self._block, self.together
        self._scale.survey(spans)
        if both:
            both.survey(spans)
        self._lately = tuple(
            self._highest(range(block - max(1, round(s / self.width)), block)) for s in (LATELY, LONG)
        )
        yesterday = block - self._day + 1
        for h, wait in enumerate(self.blocks):
            self._past[0, h] = self._highest(range(yesterday, yesterday + wait))
        self._line = straight.features(self.marks.top, block, self.width)
        top = np.full(len(self._limits.row), -np.inf, f4)
        for ahead in range(1, self.blocks[-1] + 1):
            week = self._scale.week(spans, ahead)
            if both:
                week[both.of.lines] = both.week(spans, ahead)
            np.fmax(top, week, out=top)
            for h, wait in enumerate(self.blocks):
                if wait == ahead:
                    self._past[1, h] = top

    def _highest(self, blocks: range) -> F32:
        """Of the last day's blocks."""
        most = np.full(len(self.known), half.LEAST, np.int16)
        for block in blocks:
            np.maximum(most, self.marks.top[block % self._day], out=most)
        return half.number(most)

    def _learn(self, h: int, origin: int, since: list[int]) -> None:
        may: Bools = self._may[origin % RING]
        hit = np.logical_or.reduce(self.marks.fired[since], axis=0)
        self.marks.hits[h] += may & hit
        self.marks.origins[h] += may
        self.rate[:, h] += (may & hit).sum(), may.sum()
        fit = may[self._fit]
        told = self._told[origin % RING, h]
        shown = fit & ~np.isnan(told)
        self.judged[h] += record.sums(told[shown], hit[self._fit[shown]])
        lines, marks, phi = self._fit[fit], self.marks, self._phi[origin % RING, h, fit]
        self.bend.learn(h, self._raw[origin % RING, h, fit], hit[lines])
        off, seen = self.model.learn(h, phi, hit[lines], marks.own[h, lines])
        sure = f4(FADES) * marks.sure[h, lines] + seen
        marks.own[h, lines] = f4(FADES) * marks.own[h, lines] + off / (LONE + sure)
        marks.sure[h, lines] = sure

    def _work_out(self, at: float, lines: I64, sight: Sight, x: F32, f: F32, odds: F32, origin: bool) -> F32:
        """Probabilities f32[3, n] of some lines, from how far they are over the limit now f32[n] and ahead f32[3, n];
        as an `origin` their features are kept until the truth comes."""
        out, whole = np.empty((H, len(lines)), f4), len(lines) == len(self._limits.row)
        for lo in range(0, len(lines), CHUNK):
            part = slice(lo, min(lo + CHUNK, len(lines)))
            mine = part if whole else lines[part]  # a slice needs no gathering
            seen = Sight(0)
            seen.sigma, seen.slope, seen.trend = sight.sigma[:, part], sight.slope[part], sight.trend[part]
            self._work_out_some(at, mine, seen, x[part], f[:, part], odds[:, part], origin, out[:, part])
        return out

    def _work_out_some(
        self, at: float, lines: I64 | slice, sight: Sight, x: F32, f: F32, odds: F32, origin: bool, out: F32
    ) -> None:
        marks, n, path = self.marks, len(x), x
        short, long = (np.maximum(top[lines], marks.highest[lines]) for top in self._lately)
        quiet = np.minimum(marks.quiet[lines], f4(1e3))
        phi = np.empty((FEATURES, n), f4)  # a row per feature: to fill columns would cost twice as much
        z = np.empty((DISTANCES, n), f4)
        phi[REST + 2], phi[REST + 3], phi[ONE] = np.exp(quiet / f4(-3)), np.exp(quiet / f4(-24)), 1
        fit, kept = slice(0), _NO_LINES
        if origin and isinstance(lines, slice):
            fit = slice(*np.searchsorted(self._fit, (lines.start, lines.stop)).tolist())
            kept = self._fit[fit] - lines.start
        for h, (_, seconds) in enumerate(HORIZONS):
            path = np.fmax(path, f[h])
            z[0], z[1], z[4], z[5], z[2:4] = path, x, short, long, self._past[:, h, lines]
            np.add(x, sight.slope * f4(seconds / 3600), out=z[6])
            z *= f4(-1) / sight.sigma[h]
            np.copyto(z, f4(5), where=~np.isfinite(z))
            np.maximum(z, f4(-3), out=z)
            np.minimum(z, f4(40), out=z)
            np.log1p(np.maximum(z, f4(0)), out=phi[:DISTANCES])
            np.minimum(z, f4(1), out=phi[DISTANCES:REST])
            rate = self.rate[0, h] / self.rate[1, h]
            own = (marks.hits[h, lines] + f4(SHARED * rate)) / (marks.origins[h, lines] + f4(SHARED))
            there = marks.share[hour_of(UTC, at + seconds)][lines]
            p = np.fmax(odds[h], f4(1 - breach.AT_MOST))
            np.minimum(p, f4(breach.AT_MOST), out=p)
            np.maximum(f4(2) - z[0], f4(0), out=phi[REST])
            np.maximum(f4(4) - z[0], f4(0), out=phi[REST + 1])
            phi[REST + 4] = np.log(own / (f4(1) - own)) - f4(math.log(rate / (1 - rate)))
            usual = np.log((there + f4(0.1) * own) / (f4(1.1) * own))
            phi[REST + 5] = np.minimum(np.maximum(usual, f4(-3)), f4(3))
            np.minimum(self._limits.hold[lines] / f4(seconds), f4(1), out=phi[REST + 6])
            phi[LINE:ODDS] = self._line[h][:, lines]
            np.log(p / (f4(1) - p), out=phi[ODDS])
            p = self.model.say(h, phi.T, marks.own[h, lines])
            np.copyto(p, odds[h], where=(sight.trend > TOLD) & (odds[h] > p))
            out[h] = self.bend.say(h, p)
            if len(kept):
                slot = self._block % RING
                self._phi[slot, h, fit], self._raw[slot, h, fit] = phi[:, kept].T, p[kept]

    # ------------------------------------------------------------------ state

    def absorb(self, other: Crossings, rows: I64) -> None:
        """Take in what was learned apart, of limits of rows that are `rows` here (-1: none): of lines of which nothing
        is known yet what they did, and of all what they have in common, as if one had seen both."""
        if other._block < 0:
            return

        def names(one: Crossings, row: I64) -> list[tuple[object, ...]]:
            columns = (row, *one._limits[1:], one._names)
            return list(zip(*(column.tolist() for column in columns), strict=True))

        theirs = {name: i for i, name in enumerate(names(other, rows[other._limits.row]))}
        was = np.array([theirs.get(name, -1) for name in names(self, self._limits.row)], np.int64)
        mine = np.flatnonzero((was >= 0) & (self.marks.origins[-1] == 0))
        self.marks.copy_rows(mine, other.marks, was[mine])
        self.model.absorb(other.model)
        self.bend.absorb(other.bend)
        self.arrivals.absorb(other.arrivals)
        self.rate += other.rate - RATE
        self._block, self._strange = max(self._block, other._block), True

    def state(self) -> dict[str, Array]:
        """What has to be saved, each line's with the row and limit that it is of."""
        pooled = {name: array for one in self._pooled for name, array in one.state().items()}
        pooled["rate"] = self.rate
        if not len(self._limits.row):
            return pooled
        lines = {f"line.{name}": column for name, column in self._limits._asdict().items()}
        marks = {f"marks.{name}": array for name, array in self.marks.state().items()}
        lines["line.names"] = self._names
        return {**pooled, **lines, **marks}

    def restore(self, state: Mapping[str, Array], of: Sequence[object]) -> None:
        """Take over what `state` gave, with the series of each row; ValueError or KeyError when it does not fit."""
        for one in self._pooled:
            one.restore(state)
        self.rate[:] = state["rate"]
        if "line.row" not in state:  # there were no limits
            return
        limits = breach.Limits(*(state[f"line.{name}"].copy() for name in breach.Limits._fields))
        names = state.get("line.names", np.zeros(len(limits.row), np.int64))
        some = np.flatnonzero(names)
        self.follow(limits, [of[row] for row in limits.row.tolist()], Joint(some, names=names[some]))
        known = {name: state.get(f"marks.{name}", mine) for name, mine in self.marks.state().items()}
        self.marks.restore(known)


_ENDS = np.array([[h] for _, h in HORIZONS])
_NO_LINES = np.empty(0, np.int64)
