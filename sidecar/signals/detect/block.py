"""Up to some 20,000 rows with all that is known of them: score, then learn what is trusted, then look ahead.

Rows live in blocks so that a tick's work stays in the processor's cache, growth copies nothing, and history can teach
rows apart in a block of its own (a nursery) before they are moved to their places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sidecar.signals.detect import belief, origin, scales
from sidecar.signals.detect.life import Life
from sidecar.signals.detect.scales import BOUND
from sidecar.signals.forecast import calibrate
from sidecar.signals.forecast.ahead import Ahead, Said
from sidecar.signals.ingest import changes
from sidecar.signals.known import why
from sidecar.signals.known.snapshot import FORECASTS
from sidecar.signals.models import Array, Columns, f4
from sidecar.signals.models.lasting import HALF, REMEMBERS, Lasting, Stand
from sidecar.signals.models.level import DIFF, MEAN, MISSED, SEASON, SLOW, Level, Residuals
from sidecar.signals.models.rare import ABSENT, STATES, ZERO, Rare
from sidecar.signals.models.ridge import Pool
from sidecar.signals.models.season import Season
from sidecar.signals.models.spikes import Spikes
from sidecar.signals.models.spread import FLOOR, Spread, SpreadTail, evidence
from sidecar.signals.models.still import Still
from sidecar.signals.models.tail import CHANNELS, GRADED, HOURLY, Tail, start
from sidecar.signals.watch.calendar import local
from sidecar.types import F32, F64, HORIZONS, I64, Bools

THRESHOLD = 0.95  # E at which the score is 1: one page in nine days
# what creeps away, or is off for a while, is wrong more often than its tail says: so much E is taken from it
SLOWER, MEANT = 1.0, 0.2
PROFILED = 2.0  # days until it is seen
CAP = 6.0  # of the exported score
WARM = 30  # live ticks before a verdict
# no scale is taken for smaller than this share of a usual move, or of the first one: it is nothing where little moves
QUANTUM, FIRST = 0.2, 0.05
GROWN, CAUTION = 4.0, 1.0  # days until the threshold is no longer raised, and by how much E it starts raised
CARRIED = 1.0  # days of scales at the live step that those of coarse history count for
FINER = 0.5  # added to u of moves between two samples for each factor of e in samples a day
KNOWN = 0.5  # days until a level is known well enough to miss it
FORMER = 0.5  # E of a level that was just accepted; it fades to nothing while the former one is remembered
TAKEN = np.zeros((CHANNELS, 1), f4)
"""What is taken from the E of each channel."""
TAKEN[MEAN], TAKEN[SLOW] = MEANT, SLOWER


class Scored(NamedTuple):
    """One tick's verdict and what learning needs of it."""

    x: F32
    fresh: Bools
    asked: Bools
    expected: F32
    lower: F32
    upper: F32
    e: F32
    """-log10(expected pages per day) f32[rows]; NaN: no verdict."""
    kinds: F32
    """The same of each kind of evidence (why.py) f32[kinds, rows], before caution and what was held before."""
    day: F32
    week: F32
    residuals: Residuals
    size: F32
    z: F32
    t: F32
    wide: tuple[F32, F32, F32]
    """The log ratio of spreads f32[1, rows], and z and t of its tail."""
    same: Bools
    """Which values repeat the last one."""
    states: Bools
    stand: Stand
    back: Bools
    """Which rows of `stand` are in their band of before."""


class Block:
    """Models of some rows of one step and time zone. `at` is unix seconds; x f64[rows], NaN = no sample."""

    def __init__(self, rows: int, step: float, tz: str = "UTC", pool: Pool | None = None) -> None:
        """`pool` is what the forecasts of a fleet's blocks share."""
        self.rows, self.step, self.tz = rows, step, tz
        self.life, self.season, self.level, self.tail = Life(rows), Season(rows), Level(rows), Tail(rows)
        self.spikes, self._start = Spikes(rows), f4(start(86400 / step))
        self.rare, self.lasting, self.still = Rare(rows), Lasting(rows), Still(rows)
        self.spread, self.spread_tail = Spread(rows), SpreadTail(rows)
        self.ahead = Ahead(rows, step, tz, pool)
        self.ensemble, self.intervals = self.ahead.ensemble, self.ahead.intervals
        self._coarse = 0.0  # the step of the history that taught it, until it is carried to the live one

    @property
    def detector(self) -> dict[str, Columns]:
        """State of what scores, by name."""
        return {
            "life": self.life,
            "season": self.season,
            "level": self.level,
            "tail": self.tail,
            "spikes": self.spikes,
            "rare": self.rare,
            "lasting": self.lasting,
            "still": self.still,
            "spread": self.spread,
            "spread_tail": self.spread_tail,
        }

    @property
    def models(self) -> dict[str, Columns]:
        """All state of rows, by name."""
        return self.detector | self.ahead.models

    # ------------------------------------------------------------------ one tick

    def tick(
        self,
        at: float,
        x: F64,
        asked: Bools,
        trust: Bools,
        out: Mapping[str, Array],
        join: Callable[[F32, F64], None] | None = None,
    ) -> None:
        """Score, learn what is trusted, forecast; fills the columns of `out` (views of these rows).

        `join` mixes what others say into forecasts f32[3, rows], relative to origins f64[rows].
        """
        self._carry()
        with np.errstate(all="ignore"):
            seen = scales.there(x, self.life.unit)
            origin.follow(self, seen, True)
            self.spikes.turn(local(self.tz, at))
            scored = self.score(at, seen, asked)
            self._publish(at, seen, scored, out)
            gap = self.level.missed * f4(self.step)
            self.learn(at, seen, scored, trust, self.step)
            self.ahead.resume(at, scored.x, scored.fresh, gap)
            self._forecast(at, scored, trust & scored.fresh, out, join)
            scales.tell(out, x, self.life.unit)

    def score(self, at: float, x64: F64, asked: Bools, step: float | None = None) -> Scored:
        """How odd each row is, at the live step unless told; changes nothing."""
        life, step = self.life, step or self.step
        fresh = np.abs(x64) < BOUND
        start = np.where(self.ensemble.count > 0, life.origin, x64)
        x = (x64 - start).astype(f4)
        np.copyto(x, self.ensemble.last, where=~fresh)
        level, previous = self.level.now(x)
        day, week = self.season.at(local(self.tz, at), level, step)
        res = self.level.residuals(x, level, previous, week, step)
        least = np.abs(x64).astype(f4)
        least += f4(1)
        least *= f4(1e-9)
        np.copyto(least, f4(1e-9), where=~fresh)
        stride = self.ensemble.stride
        first = f4(FIRST) * np.abs(x - self.ensemble.last)
        np.maximum(least, np.where(stride > 0, f4(QUANTUM) * stride, first), out=least)
        size = np.abs(res.r)
        both = life.up.all() and life.down.all()
        sided = size if both else np.maximum(res.r * life.up, res.r * -life.down)
        less = np.full((len(size), self.rows), self._start)
        less[:HOURLY] += self.spikes.shade
        e, z, t = self.tail.score(sided, least, less)
        e -= TAKEN
        np.copyto(e[SLOW], f4(-np.inf), where=life.age < f4(PROFILED))
        caution = f4(CAUTION) * (f4(1) - np.minimum(life.age / f4(GROWN), f4(1)))
        edge = self.tail.edge(caution + f4(THRESHOLD) + TAKEN, least, less)
        np.copyto(edge[SLOW], f4(np.inf), where=life.age < f4(PROFILED))
        expected = res.centre[SEASON]
        slack = scales.slack(life.least, life.least_relative, expected + start.astype(f4), life.unit)
        edge /= res.gain
        # what is expected lies always inside, also after a jump, when no value would be ordinary
        upper = np.maximum((res.centre + edge).min(0), expected + slack)
        lower = np.minimum((res.centre - edge).max(0), expected - slack)
        ratio = self.spread.ratio()
        wide = self.spread_tail.score(
            np.maximum(ratio, f4(0)), np.full(1, FLOOR, f4), np.full(1, self._start, f4)
        )
        same = fresh & (x == self.ensemble.last) & (self.ensemble.count > 0)
        kinds = np.empty((why.KINDS, self.rows), f4)
        kinds[:CHANNELS], kinds[why.SPREAD] = e, evidence(wide[0], life.age)
        np.copyto(kinds[: why.STILL], f4(-1), where=np.abs(x - expected) < slack)
        kinds[why.STILL] = self.still.score(same, life.age, step)
        np.copyto(kinds[: why.ZERO], f4(-np.inf), where=~fresh)
        # whichever way is harm: a dead exporter and lost traffic look like zero on every kind of metric
        zero = fresh & (x64 == 0) & life.missed & (life.origin + self.level.level != 0)
        states = np.empty((STATES, self.rows), bool)
        # zero is odd only where it lies off the usual range, and no counter that begins again
        zero &= (size[SLOW] > f4(3) * self.tail.scale[SLOW]) & ~origin.counts(life.rises)
        states[ZERO], states[ABSENT] = zero, asked & ~fresh & (life.age > 0)
        inside = states.copy()
        inside[ABSENT] &= self.rare.lasted[ABSENT] > 0  # one missed answer is not yet an absence
        kinds[why.ZERO :] = self.rare.score(inside, life.age)
        verdict = kinds.max(0) - caution
        stand = self.lasting.stand(x, week, fresh)
        rows, back = stand.rows, np.zeros(len(stand.rows), bool)
        if len(rows):
            half = np.maximum(edge[SEASON, rows], slack[rows])
            accepted = self.lasting.lasted[rows] < 0
            # a band that has widened meanwhile may hold both levels
            near = np.minimum(half, f4(HALF) * np.abs(self.lasting.far[rows]))
            back = (np.abs(stand.home) < near) & (accepted | (stand.home != stand.off))
            verdict[rows[back]] = np.minimum(verdict[rows[back]], f4(0))
            new = rows[accepted & ~back & (np.where(stand.home > 0, life.up[rows], life.down[rows]) > 0)]
            fades = f4(FORMER) * (f4(1) + self.lasting.lasted[new] / f4(REMEMBERS))
            verdict[new] = np.fmax(verdict[new], fades)
            holds = stand.away & ~back & (np.abs(stand.off) >= slack[rows])
            held, half = rows[holds], half[holds]
            verdict[held] = np.fmax(verdict[held], f4(THRESHOLD))
            expected[held] = week[held] + self.lasting.kept[held]
            upper[held], lower[held] = expected[held] + half, expected[held] - half
        unknown = (life.seen < WARM) | (self.tail.graded < GRADED) | ~(fresh | inside[ABSENT])
        np.copyto(verdict, f4(np.nan), where=unknown)
        return Scored(
            x, fresh, asked, expected, lower, upper, verdict, kinds, day, week, res, size, z, t,
            (ratio, wide[1], wide[2]), same, states, stand, back,
        )  # fmt: skip

    def learn(self, at: float, x64: F64, s: Scored, trust: Bools, step: float) -> None:
        """Teach the detector's models what is trusted."""
        life = self.life
        on = s.fresh & trust
        np.copyto(life.origin, x64, where=s.fresh & (self.ensemble.count == 0))
        limit = np.where(life.seen >= WARM, f4(3) * self.tail.scale, f4(np.inf))
        warm = on & (life.seen >= WARM)
        usual = on.copy()
        usual[s.stand.rows[s.stand.away]] = False  # an incident is not what this hour usually is
        self.season.learn(local(self.tz, at), s.x, s.day, s.week, limit[SLOW], life.age, usual, step)
        part = changes.share(life.changed, at)
        pace = 1.0 if part is None else changes.pace(part)
        odd = (s.e >= f4(THRESHOLD)) & (life.age >= f4(KNOWN))
        if part is not None:
            odd &= part >= 1  # what was just deployed may be elsewhere from now on
        off = s.residuals.r[SEASON]
        odd &= np.where(off > 0, life.up, life.down) > 0
        normal = self.lasting.learn(s.stand, s.back, odd, self.level.shift, off, on, step)
        self.level.learn(s.x, s.residuals, limit, s.fresh, on, step, pace)
        self.level.settle(normal, s.x[normal], s.week[normal])
        self.spikes.learn(s.t[:HOURLY] + self.spikes.shade + self._start, warm & (self.tail.graded > GRADED))
        self.still.learn(s.same, s.fresh, step)
        ratio, z, t = s.wide
        settled = warm & (life.age > f4(KNOWN / 2))
        self.spread_tail.learn(np.abs(ratio), z, t, life.seen * settled, settled, settled, 86400.0 / step)
        self.spread.learn(s.z[DIFF], life.seen, warm, step)
        self.tail.learn(s.size, s.z, s.t, life.seen, on, warm, 86400.0 / step, pace, self.lasting.lasted < 0)
        self.rare.learn(s.states, s.asked, step)
        life.negative |= on & (x64 < 0)
        life.seen += on
        life.age += on * f4(step / 86400.0)
        life.presence += s.asked * f4(min(1.0, step / 86400.0)) * (s.fresh - life.presence)

    def teach(
        self, at: float, x: F64, step: float, asked: Bools, out: Mapping[str, Array] | None = None
    ) -> None:
        """Learn from history that is coarser than the live step: all of it, since `_carry` comes before that.

        Of `out` only what was observed and forecast is filled.
        """
        self._coarse = step
        with np.errstate(all="ignore"):
            seen = scales.there(x, self.life.unit)
            origin.follow(self, seen, False)
            self.spikes.turn(local(self.tz, at))
            scored = self.score(at, seen, asked, step)
            self.learn(at, seen, scored, scored.fresh, step)
            days = self._days(at, scored.day, step)
            said = self.ahead.tick(at, scored.x, scored.fresh, scored.fresh, step, days)
            if out is not None:
                out["observed"][:] = x
                self._foretell(said, scored.fresh, step, out)
                scales.tell(out, x, self.life.unit)

    def _carry(self) -> None:
        """From the step of history to the live one: what has no dimension stays, what counts samples begins again."""
        if not self._coarse:
            return
        ticks, per_day, self._coarse = self._coarse / self.step, 86400.0 / self.step, 0.0
        np.minimum(self.life.seen * f4(ticks), f4(CARRIED * per_day), out=self.life.seen)
        self.level.missed[:] = MISSED + 1
        self.lasting.forget(np.arange(self.rows))
        self.tail.carry(ticks, per_day)
        self.spread_tail.carry(ticks, per_day)
        self.tail.threshold[DIFF] += f4(
            FINER * math.log(ticks)
        )  # what moves between two of more samples is seldomer

    # ------------------------------------------------------------------ forecasts

    def _forecast(
        self,
        at: float,
        s: Scored,
        on: Bools,
        out: Mapping[str, Array],
        join: Callable[[F32, F64], None] | None,
    ) -> None:
        life, days = self.life, self._days(at, s.day, self.step)
        own = (lambda value: join(value, life.origin)) if join else (lambda value: None)
        self._foretell(self.ahead.tick(at, s.x, s.fresh, on, self.step, days, own), s.fresh, self.step, out)

    def _foretell(self, ahead: Said, fresh: Bools, step: float, out: Mapping[str, Array]) -> None:
        """Fill the columns of forecasts."""
        life, (value, lower, upper) = self.life, ahead
        floor = np.where(life.negative, life.low, np.maximum(life.low, f4(0)))
        low, stale = floor - life.origin, ~(fresh & (life.seen >= WARM))
        some_stale = stale.any()
        for i, (name, horizon) in enumerate(HORIZONS):
            key = f"f{name[:-1]}"
            for column, kind in ((value[i], ""), (lower[i], "_lower"), (upper[i], "_upper")):
                said = out[key + kind]
                if horizon < step:
                    said[:] = np.nan  # within one step nothing can be said
                    continue
                np.maximum(column, low, out=said)
                said += life.origin
                if some_stale:
                    np.copyto(said, np.nan, where=stale)

    def _days(self, at: float, now: F32, step: float) -> F32:
        """What the day profile says of now, and of each horizon: the same as now where nothing is known."""
        hours = [local(self.tz, at + h) for _, h in HORIZONS]
        return np.stack([now, *(self.season.day_at(hour, now, step) for hour in hours)])

    def bound(self, out: Mapping[str, Array]) -> None:
        """Hold forecasts below what the value cannot pass (or has passed); after the odds, since the way to a limit is
        told by where the line would go."""
        rows = np.flatnonzero(self.life.high < np.inf)
        if len(rows):
            most = np.fmax(scales.back(self.life.high[rows], self.life.unit[rows]), out["observed"][rows])
            for name in FORECASTS:
                out[name][rows] = np.minimum(out[name][rows], most)

    # ------------------------------------------------------------------ what is said

    def _publish(self, at: float, x: F64, s: Scored, out: Mapping[str, Array]) -> None:
        life = self.life
        raw, score = out["raw"], out["score"]
        np.divide(s.e, f4(THRESHOLD), out=raw)
        np.minimum(np.maximum(raw, f4(0)), f4(CAP / THRESHOLD), out=score)
        out["observed"][:] = x  # also what cannot be scored: a limit may be met by infinity
        grown = life.seen >= WARM
        confidence = out["confidence"]
        np.copyto(confidence, np.where(s.asked & (life.seen > 0), f4(0), f4(np.nan)))
        odd = np.flatnonzero((score > 0) & ~np.isnan(confidence))  # of what is ordinary nothing is believed
        out["why"][:] = why.NONE
        out["why"][odd] = s.kinds[:, odd].argmax(0)
        prior = calibrate.confidence(score[odd], life.age[odd], life.presence[odd])
        confidence[odd] = belief.moved(prior, life.belief[odd])
        part = changes.share(life.changed, at)
        if part is not None:
            confidence *= changes.belief(part)
        known = s.fresh & grown
        floor = np.where(life.negative, life.low, np.maximum(life.low, f4(0)))
        for name, column in (
            ("expected", s.expected),
            ("lower", s.lower),
            ("upper", s.upper),
        ):
            said = np.add(column, life.origin, out=out[name])
            np.maximum(said, floor, out=said)
            np.minimum(said, life.high, out=said)
            np.copyto(said, np.nan, where=~known)
        high = score >= 1
        np.copyto(life.since, np.nan, where=~high & s.asked)
        np.copyto(life.since, at, where=high & ~(life.since <= at))  # not in the future: clocks are set back
        out["since"][:] = life.since
        out["age"][:] = life.age

    # ------------------------------------------------------------------ rows

    def forget(self, rows: I64) -> None:
        """Make rows fresh."""
        for model in self.detector.values():
            model.forget(rows)
        self.ahead.forget(rows)

    def copy_rows(self, to: I64, nursery: Block, rows: I64) -> None:
        """Move learned rows in."""
        nursery._carry()
        for name, model in self.detector.items():
            model.copy_rows(to, nursery.detector[name], rows)
        self.ahead.copy_rows(to, nursery.ahead, rows)

    def state(self) -> dict[str, Array]:
        """Every array by a path such as `tail.scale`."""
        out = {f"{name}.{key}": a for name, m in self.models.items() for key, a in m.state().items()}
        return out | {f"ahead.{name}": array for name, array in self.ahead.state().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` gave; ValueError or KeyError when it does not fit."""
        for name, model in self.models.items():
            model.restore({key: state[f"{name}.{key}"] for key in model.fields})
        self.ahead.restore({name: state[f"ahead.{name}"] for name in self.ahead.state()})
