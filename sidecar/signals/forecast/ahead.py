"""What comes next: the forecasts of some rows at three horizons, and how far they may be off.

Time is cut into blocks of five minutes (or of the step, if that is longer). What is learned is learned once per block,
at its last tick, from what was known one horizon before; forecasts are made at every tick. Season, experts, ridge and
intervals are each a model of their own; here is the order in which they work (research/forecast.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sidecar.signals.forecast import calibrate
from sidecar.signals.forecast.ensemble import BLOCK, GAP, Ensemble, Trend
from sidecar.signals.models import Array, Columns, f4, mixture, profile, together
from sidecar.signals.models.mixture import (
    AHEAD,
    DAY_AHEAD,
    MD25,
    MD60,
    NOW,
    WEEK,
    YESTERDAY,
    R,
)
from sidecar.signals.models.recent import PARTS, RING, SLOPE, STORED, Recent, S
from sidecar.signals.models.ridge import Pool, Ridge
from sidecar.signals.watch.calendar import hour_of, local
from sidecar.types import F32, F64, HORIZONS, I64, Bools

DAY = 86400.0
KNOWN = 5  # samples before an origin is judged
RESTS = np.array([R, MD25, MD60])
"""Features of now that say where a row rests, as `mixture.STAYS`."""
DAYS = 6e4  # usual deviations: what fits
TOLD = 0.3  # a trend believed less is not judged

Join = Callable[[F32], None]


class Said(NamedTuple):
    """Forecasts and the ends of their intervals f32[3, rows]."""

    value: F32
    lower: F32
    upper: F32


class Past(NamedTuple):
    """Of one block: yesterday and last week now and at the horizons f32[1 + 3, rows]; NaN: not known."""

    yesterday: F32
    week: F32


class Ahead:
    """Forecasts of some rows of one step and time zone. Times are unix seconds; values f32 relative to the origin."""

    def __init__(self, rows: int, step: float, tz: str, pool: Pool | None = None) -> None:
        """`pool` is shared by all blocks of a fleet."""
        self.rows, self.step, self.tz = rows, step, tz
        self.pool = Pool() if pool is None else pool
        self._day = max(1, math.floor(DAY / max(BLOCK, step)))
        self.width = DAY / self._day
        self.blocks = tuple(max(1, round(h / self.width)) for _, h in HORIZONS)
        self.ensemble, self.intervals = Ensemble(rows), calibrate.Intervals(rows)
        self.profile, self.recent = profile.of(self._day)(rows), Recent(rows)
        self.mixture, self.ridge = mixture.Mixture(rows), Ridge(rows)
        self.origins = np.full(RING, -1, np.int64)  # which block stands in each slot of the ring
        self.judged = np.full(sum(calibrate.PENDING), -1, np.int64)
        self.clock = np.full(3, -1, np.int64)
        """The block that lasts, its slot of local time, and that of the block before."""
        self._last_step: float | None = None
        """Step of the last sample; None: not known."""
        self.plain = True  # where the mixture has no skill, the best naive forecast is said
        self.trend = Trend(*np.zeros((5, rows), f4))
        """What was in what was said last."""
        self._window: F32 | None = None
        """What is usual from the block before on; None: it has to be looked up anew."""
        self._past = Past(np.empty((0, 0), f4), np.empty((0, 0), f4))

    @property
    def models(self) -> dict[str, Columns]:
        """All state of rows, by name."""
        return {
            "ensemble": self.ensemble,
            "intervals": self.intervals,
            "profile": self.profile,
            "recent": self.recent,
            "mixture": self.mixture,
            "ridge": self.ridge,
        }

    # ------------------------------------------------------------------ one tick

    def tick(
        self, at: float, x: F32, fresh: Bools, on: Bools, step: float, days: F32, join: Join = lambda _: None
    ) -> Said:
        """Take a sample f32[rows], judge what was said of it, and say what comes; what is not `on` is not learned.

        `days` f32[1 + 3, rows] is the detector's smooth day, now and at the horizons. `join` mixes what others say into
        the forecasts f32[3, rows], before intervals are put around them.
        """
        block = math.floor(at / self.width)
        if self._last_step not in (None, step):  # samples now lie elsewhere in a block: a ramp would seem off
            self.origins[:] = self.judged[:] = -1
        self._last_step = step
        ticks = max(1, round(self.width / step))
        phase = min(math.floor((at % self.width) / step), ticks - 1)
        last = phase == ticks - 1
        self._turn(at, block, x)
        self.pool.begin(block)
        season = self._season(x, at, step)
        slopes = self.ensemble.take(x, season, fresh, on, step, step == self.step)
        x = self.ensemble.last
        self.recent.part[phase * PARTS // ticks] = np.where(on, x, np.nan)
        if last:
            self.recent.close(x)
            self._learn(block, x, season, on)
        now = self._features(x, season, days[0])
        self.trend = self.ensemble.trend(x, slopes, step)
        value = self._say(now, season, at, step, days[1:])
        trends, below, above = self.trend.carry(value, x)
        value[:, self.ensemble.count == 0] = np.nan
        join(value)
        self._judge_intervals(at, block, phase, ticks, x, on, value)
        if last:
            slot = block % RING
            ring = self.recent.ring[slot]
            ring[:STORED], ring[S] = (
                now[:STORED],
                np.where(on & (self.ensemble.count > KNOWN), season, np.nan),
            )
            ring[SLOPE] = np.where(self.trend.believed > f4(TOLD), self.trend.slope, np.nan)
            self.recent.days[slot] = np.clip(
                (days[1:] - days[0]) / np.maximum(self.ensemble.scale, f4(1e-30)), -DAYS, DAYS
            )
            self.origins[slot] = block
        lower, upper = self.intervals.around(value, self.ensemble.scale)
        lower[:, trends] -= below
        upper[:, trends] += above
        return Said(value, lower, upper)

    def _features(self, x: F32, season: F32, day: F32) -> F32:
        """What is known now of each row: the first features of `mixture`."""
        out = np.empty((NOW, self.rows), f4)
        np.subtract(x, season, out=out[R])
        out[R + 1 : MD25] = self.ensemble.residuals
        middle = np.where(np.isnan(self.recent.middle), x, self.recent.middle)
        np.subtract(middle, season, out=out[MD25 : MD60 + 1])
        out[mixture.TREND] = self.recent.slope
        np.subtract(day, season, out=out[mixture.DAY_NOW])
        out[mixture.YESTERDAY_NOW] = _known(self._past.yesterday[0] - season)
        out[mixture.WEEK_NOW] = _known(self._past.week[0] - season)
        return out

    def _say(self, now: F32, season: F32, at: float, step: float, days: F32) -> F32:
        value: F32 = np.einsum("hfr,fr->hr", self.recent.coefficient[:, :NOW], now)
        young = np.flatnonzero(~self.recent.seasonal)
        ahead = np.empty_like(value)
        for hs in together(range(len(value)), self.rows):
            c, said, usual = self.recent.coefficient[hs], value[hs], ahead[hs]
            usual[:] = self._between(at, np.array(self.blocks[hs]), step)
            np.copyto(usual, season, where=np.isnan(usual))
            said += c[:, AHEAD] * (season - usual)
            said += c[:, YESTERDAY] * _known(self._past.yesterday[1:][hs] - usual)
            said += c[:, WEEK] * _known(self._past.week[1:][hs] - usual)
            said += c[:, DAY_AHEAD] * (days[hs] - usual)
            said += usual
        for h, row in enumerate(value):
            if self.plain:
                rows, naive = self.mixture.plain(h, season, ahead[h], now)
                row[rows] = naive
            rows, which = self.mixture.resting(h)
            row[rows] = season[rows] + now[RESTS[which], rows]
            if not len(young):
                continue
            # little is known of the first day: no farther than half as fast again as now
            x = season[young] + now[R, young]
            most = f4(1.5 * HORIZONS[h][1] / 3600) * np.abs(self.recent.slope[young])
            most += f4(1) * np.minimum(self.ensemble.scale[young], np.abs(row[young] - x))
            row[young] = np.minimum(np.maximum(row[young], x - most), x + most)
        return value

    def _learn(self, block: int, y: F32, season: F32, on: Bools) -> None:
        """Judge, with the truth of this block, what was known one horizon ago."""
        unit: F32 = np.reciprocal(np.maximum(self.ensemble.scale, f4(1e-9) * np.maximum(np.abs(y), f4(1e-3))))
        weights = list[tuple[slice, F32]]()
        yesterday, week = (_known(past[0] - season) for past in self._past)
        due = [h for h, wait in enumerate(self.blocks) if self.origins[(block - wait) % RING] == block - wait]
        for h in together(due, self.rows):
            waits = np.array(self.blocks[h])
            slots = (block - waits) % RING
            then = self.recent.ring[slots]
            was = then[:, S]
            good = on & ~np.isnan(was)
            # where no season is known the mean of then was what was said from, and not that of now
            base = np.where(self.recent.seasonal, season, was)
            target = y - base
            f = np.empty((len(slots), mixture.FEATURES, self.rows), f4)
            f[:, :STORED], f[:, YESTERDAY], f[:, WEEK] = then[:, :STORED], yesterday, week
            f[:, mixture.YESTERDAY_NOW] = _known(self.profile.get(self.clock[1] - waits - self._day) - was)
            ahead = np.subtract(was, base, out=f[:, AHEAD])
            days = self.recent.days[slots, range(h.start, h.stop)]
            f[:, DAY_AHEAD] = days * self.ensemble.scale + then[:, mixture.DAY_NOW] + ahead
            said = mixture.experts(h, f, self.pool.theta[h], self.ridge.own[h])
            mixed = np.einsum("hfr,hfr->hr", self.recent.coefficient[h], f)
            for i, (_, horizon) in enumerate(HORIZONS[h]):
                last, slope = said[i, mixture.LAST], then[i, SLOPE]
                self.ensemble.judge(horizon, target[i], last, slope, mixed[i], good[i])
            weights.append((h, self.mixture.learn(h, said, mixed, target, unit, good)))
            self.ridge.learn(h, f, target, unit, good, self.pool)
        self.ridge.sweep(self.pool)
        for h, weight in weights:
            self.recent.coefficient[h] = mixture.fold(h, weight, self.pool.theta[h], self.ridge.own[h])

    def _judge_intervals(
        self, at: float, block: int, phase: int, ticks: int, x: F32, on: Bools, value: F32
    ) -> None:
        # origin and truth share a phase, which rotates through the block
        now = [h for h, wait in enumerate(self.blocks) if phase == (block % wait * 2 + ticks - 1) % ticks]
        slots = {h: self.intervals.slot(h, block, self.blocks[h]) for h in now}
        due = [h for h in now if self.judged[slots[h]] == block - self.blocks[h]]
        for hs in together(due, self.rows):
            those = [slots[h] for h in range(hs.start, hs.stop)]
            hours = [hour_of(self.tz, at + horizon) for _, horizon in HORIZONS[hs]]
            self.intervals.learn(hs, those, x, on, hour_of(self.tz, at), hours)
        for h, slot in slots.items():
            self.intervals.said[slot] = np.where(on, value[h], np.nan), self.intervals.sigma[h]
            self.judged[slot] = block

    def skilled(self) -> Bools:
        """Which rows are foreseen better than naively, at any horizon, or have a trend that is believed."""
        return np.asarray((self.mixture.behind <= 0).any(0) | (self.trend.told > f4(TOLD)) | (not self.plain))

    # ------------------------------------------------------------------ the season

    def _turn(self, at: float, block: int, x: F32) -> None:
        """Begin another block, if it is one: store the last one, and look up what is usual from now on."""
        place = math.floor(local(self.tz, at) / self.width)
        if block == self.clock[0] and self._window is not None:
            return
        before = self.clock.tolist()
        if block != before[0]:
            self._store()
            self.clock[:] = block, place, before[1]
        last = 1 + self.blocks[-1] + 1
        if self._window is not None and before[1] + 1 == place:
            self._window[:-1] = self._window[1:]
            self._window[-1] = self.profile.usual(place + last - 1)
        else:
            self._window = np.stack([self.profile.usual(place + k) for k in range(-1, last)])
        here = place + np.array((0, *self.blocks))
        self._past = Past(*(self.profile.get(here - days * self._day) for days in (1, profile.DAYS)))
        x = np.where(np.isnan(x), self.ensemble.last, x)
        self.intervals.turn(x, [hour_of(self.tz, at + h) for _, h in HORIZONS])

    def _store(self) -> None:
        """The block that lasted is done; the one before it goes into the profile. Without samples it was as usual."""
        if self.clock[0] < 0:
            return
        recent, scale = self.recent, self.ensemble.scale
        with np.errstate(all="ignore"):
            if self.clock[2] >= 0:
                self.profile.put(int(self.clock[2]), recent.done, scale)
            recent.done[:] = profile.median(recent.part, profile.NET5)
            missing = np.isnan(recent.done)
            if missing.any():
                np.copyto(recent.done, self.profile.usual(int(self.clock[1])), where=missing)
        recent.part[:] = np.nan

    def flush(self) -> None:
        """Store all that waits."""
        for _ in range(2):
            self._store()
            self.clock[2] = self.clock[1]
        self.recent.done[:] = np.nan

    def _between(self, at: float, k: int | I64, step: float) -> F32:
        """What is usual k blocks after an instant (or each of some), between the middles of blocks."""
        assert self._window is not None
        if step >= self.width:
            return np.array(self._window[1 + k])
        part = (at % self.width + step / 2) / self.width - 0.5
        i = 1 + k + (0 if part >= 0 else -1)
        w = f4(part if part >= 0 else part + 1)
        out: F32 = self._window[i] * (f4(1) - w)
        out += self._window[i + 1] * w
        return out

    def _season(self, x: F32, at: float, step: float) -> F32:
        """What is usual now, the mean of the last 40 minutes where nothing is known; residuals go along."""
        recent, season = self.recent, self._between(at, 0, step)
        known = ~np.isnan(season)
        np.copyto(season, np.where(self.ensemble.count > 0, self.ensemble.means[3], x), where=~known)
        changed = np.flatnonzero((known != recent.seasonal) & ~np.isnan(recent.season))
        self.ensemble.residuals[:, changed] += (recent.season - season)[changed]
        recent.seasonal[:], recent.season[:] = known, season
        return season

    def before(self, days: int, blocks: int) -> F32:
        """What was so many days before the block that lies so many ahead f32[rows]; NaN: not known."""
        return self.profile.get(int(self.clock[1]) - days * self._day + blocks)

    # ------------------------------------------------------------------ rows

    def resume(self, at: float, x: F32, fresh: Bools, gap: F32) -> None:
        """Begin again after a gap of so many seconds f32[rows], as far as it was longer than what means hold."""
        rows = np.flatnonzero(fresh & (gap > f4(GAP)) & (self.ensemble.count > 0))
        if len(rows):
            self._turn(at, math.floor(at / self.width), x)
            season = self._between(at, 0, self.step)[rows]
            season = np.where(np.isnan(season), x[rows], season)
            self.ensemble.resume(rows, x[rows], season, gap[rows])
            self.recent.season[rows] = season
            self.recent.part[:, rows] = self.recent.medians[:, rows] = np.nan
            self.recent.middle[:, rows], self.recent.slope[rows] = np.nan, 0

    def settle(self, rows: I64) -> None:
        """Take the last sample for what is usual now: the profile passes through it, the means begin there."""
        ensemble, recent = self.ensemble, self.recent
        x = ensemble.last[rows]
        self.profile.offset[rows] += ensemble.residuals[0, rows]
        ensemble.means[:, rows], ensemble.residuals[:, rows] = x, 0
        recent.part[:, rows] = recent.medians[:, rows] = np.nan
        recent.middle[:, rows], recent.slope[rows] = np.nan, 0
        self._window = None

    def shift(self, rows: I64, by: F64) -> None:
        """Move the origin of rows by f64[rows]."""
        recent, ensemble = self.recent, self.ensemble
        for place in (
            ensemble.last,
            ensemble.means,
            recent.part,
            recent.done,
            recent.medians,
            recent.middle,
            recent.ring[:, S],
            recent.season,
            self.intervals.said[:, 0],
            self.profile.offset,
        ):
            place[..., rows] = place[..., rows] - by
        self._window = None

    def unsay(self, rows: I64) -> None:
        """What was said of the future is not held against these rows."""
        self.recent.ring[..., rows] = np.nan
        self.intervals.said[..., rows] = np.nan

    def copy_rows(self, to: I64, source: Ahead, rows: I64) -> None:
        """Move learned rows in; what they said of the future only where our own rings stand at the same blocks."""
        if (self.clock < 0).all():
            self.clock[:] = source.clock
        elif self.clock[0] != source.clock[0]:
            source.flush()
        for name, model in self.models.items():
            model.copy_rows(to, source.models[name], rows)
        for ours, theirs, ring in (
            (self.origins, source.origins, self.recent.ring),
            (self.judged, source.judged, self.intervals.said),
        ):
            if (ours < 0).all():  # nobody here has said anything yet
                ours[:] = theirs
            for slot in np.flatnonzero(ours != theirs):
                ring[slot][..., to] = np.nan
        self._window = None

    def forget(self, rows: I64) -> None:
        """Make rows fresh."""
        for model in self.models.values():
            model.forget(rows)
        self.recent.coefficient[..., rows] = mixture.first(self.pool.theta)
        self.ridge.own[..., rows] = self.pool.theta[..., None]
        if self._window is not None:
            self._window[:, rows] = np.nan
            self._past.yesterday[:, rows] = self._past.week[:, rows] = np.nan

    def state(self) -> dict[str, Array]:
        """What belongs to no row."""
        return {"origins": self.origins, "judged": self.judged, "clock": self.clock}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave."""
        for name, mine in self.state().items():
            mine[:] = state[name]
        self._window = None


def _known(x: F32) -> F32:
    """Nothing where nothing is known."""
    np.copyto(x, f4(0), where=np.isnan(x))
    return x
