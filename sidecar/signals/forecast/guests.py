"""Fitted models beside the experts of a row, for the series that matter: what they say, and what it is worth.

A guest is asked at every tick, as if its next sample were the one of now, and goes on once per block of five minutes.
What a row's own experts say and what its guests say is mixed by Bernstein online aggregation once more (as in
models/mixture.py), per series and horizon: the row's own forecast is one of those that are weighed, and begins ahead.
What comes of it is said only while it has lately erred less than the row's own experts, by `GAIN` at least: so guests
do not cost much where they are worth nothing. Times at which a known event is on, or lies at the horizon, have weights
of their own: there the guests that know what an event does begin ahead. Rows without guests are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from sidecar.signals.forecast import guestbook
from sidecar.signals.forecast.calibrate import PENDING, Intervals
from sidecar.signals.forecast.guestbook import Party, SeriesId
from sidecar.signals.models import Array
from sidecar.signals.models.fitted import AHEAD, GRID, WEEK, Cells, Linears, bank, kind
from sidecar.signals.models.mixture import MEMORY, WILD
from sidecar.signals.watch.calendar import local
from sidecar.types import F32, F64, HORIZONS, I64, Bools

FIRST = 4.0  # regret: how far ahead those begin that are believed before anything came true
SMALL = 0.01  # a weight below this is none
RATE = 1 / 288  # per block: errors are of a day
GAIN, GAIN_RATES = 0.02, (RATE / 2, 1 / 24)  # of the usual error; in ordinary times and in those of events
DOUBTED = 144  # truths without any gain that are taken to have come before
LOST = 72  # blocks without a sample after which a state is worth nothing
WORN = 2.0  # times the error of its fit: a guest that errs so much over a day is to be fitted anew
TOLD = ("event:", "deployed")
"""How the names of regressors begin whose future is known."""
H, ORDINARY, EVENTFUL = len(HORIZONS), 0, 1


class Outlook(NamedTuple):
    """Regressors of each seat: `x` f64[1 + horizons, seats, names], now and at the horizons; NaN is not known."""

    names: tuple[str, ...]
    x: F64


class Seated(NamedTuple):
    """Who has guests: when they were fitted, whose are worn, and how much each model says."""

    fitted: Mapping[SeriesId, float]
    worn: Set[SeriesId]
    shares: Mapping[str, float]


NOBODY = Seated({}, frozenset(), {})


class Guests:
    """The guests of one engine. `look`, then `join` for each block, then `learn`, at every tick."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.parties: dict[SeriesId, Party] = {}
        self.rows: I64 = np.empty(0, np.int64)
        """Of each seat, -1 where its series is gone."""
        self._view: object = None
        self._arrange({})

    def __len__(self) -> int:
        return len(self.parties)

    # ------------------------------------------------------------------ who is there

    def invite(self, parties: Iterable[Party]) -> None:
        """Seat guests; those that a series had under the same name make room, and what is known of them stays."""
        self._replace({**self._alive(), **{party.who: party for party in parties if party.guests}})

    def keep(self, wanted: Callable[[SeriesId], bool]) -> None:
        """Send away the guests of series that are not wanted any longer."""
        if not all(map(wanted, self.parties)):
            self._replace({who: party for who, party in self._alive().items() if wanted(who)})

    def place(self, view: object, find: Callable[[str, list[bytes]], I64]) -> None:
        """Follow the table of rows, when it is another one than before."""
        if view is self._view:
            return
        self._view = view
        for i, (watch, key) in enumerate(self.parties):
            self.rows[i] = find(watch, [key])[0]

    def _alive(self) -> dict[SeriesId, Party]:
        """The parties with their guests as they are now."""
        states, out = self._states(), {}
        for i, (who, party) in enumerate(self.parties.items()):
            guests = (
                guest._replace(
                    core=guest.core._replace(state=states[self._number[i, place]]), at=self._time(i, place)
                )
                for place, guest in enumerate(party.guests)
            )
            out[who] = party._replace(guests=tuple(guests))
        return out

    def _time(self, seat: int, place: int) -> float:
        return float(self._known[self._number[seat, place]] + (self.step < GRID)) * GRID

    def _states(self) -> list[F64]:
        out = [np.empty(0)] * len(self._known)
        for mine, beside in self._banks:
            for i, state in zip(mine.tolist(), beside.state, strict=True):
                core = self._guests[i].core
                # padded states end in nothing: their 1 lies where the model's own size ends
                out[i] = state[: core.size].copy()
        return out

    def _replace(self, parties: dict[SeriesId, Party]) -> None:
        before, names, seat_of = self._memory, self._names, {who: i for i, who in enumerate(self.parties)}
        self._arrange(parties)
        for i, who in enumerate(parties):
            j = seat_of.get(who)
            if j is None:
                continue
            places = [(0, 0), (self._most, len(before["ring"][0]) - 1)]  # the row's own and what was said
            places += [(p, names[j].index(n)) for p, n in enumerate(self._names[i]) if p and n in names[j]]
            mine, theirs = (np.array(side) for side in zip(*places, strict=True))
            for name in ("regret", "spread"):
                self._memory[name][..., mine[mine < self._most], i] = before[name][
                    ..., theirs[mine < self._most], j
                ]
            self._memory["loss"][:, mine, i] = before["loss"][:, theirs, j]
            self._memory["ring"][:, mine, i] = before["ring"][:, theirs, j]
            self._memory["eventful"][:, i] = before["eventful"][:, j]
            for name in ("judged", "gain"):
                self._memory[name][..., i] = before[name][..., j]
        self._memory["origins"][:] = before["origins"]
        self._weigh()

    def _arrange(self, parties: dict[SeriesId, Party]) -> None:
        """Lay out columns for these parties, as if nothing were known of them."""
        self.parties, self._view, seats = parties, None, len(parties)
        self.rows = np.full(seats, -1, np.int64)
        self._guests = [guest for party in parties.values() for guest in party.guests]
        self._names = [("", *(guest.model for guest in party.guests)) for party in parties.values()]
        self._most = most = max(map(len, self._names), default=1)
        """Experts of a seat, the row's own first; behind them stands what was said."""
        self._number = np.full((seats, most), -1, np.int64)
        self._seat, self._place = np.empty(len(self._guests), np.int64), np.empty(len(self._guests), np.int64)
        number = 0
        for i, party in enumerate(parties.values()):
            for place in range(len(party.guests)):
                self._number[i, place] = number
                self._seat[number], self._place[number] = i, 1 + place
                number += 1
        self.names = tuple(sorted({name for guest in self._guests for name in guest.regressors}))
        """Every regressor that some guest knows."""
        self._beta = np.zeros((number, len(self.names)))
        for i, guest in enumerate(self._guests):
            for name, beta in zip(guest.regressors, guest.beta.tolist(), strict=True):
                self._beta[i, self.names.index(name)] = beta
        told = np.array([name.startswith(TOLD) for name in self.names], bool)
        self._told = np.zeros((seats, len(self.names)), bool)
        np.logical_or.at(self._told, self._seat, (self._beta != 0) & told)
        self._curve = np.array([guest.curve for guest in self._guests], np.float32).reshape(number, WEEK)
        self._scale = np.array([guest.scale for guest in self._guests])
        self._known = np.array([round(guest.at / GRID) for guest in self._guests], np.int64) - (
            self.step < GRID
        )
        """The block that each state has seen last."""
        kinds: dict[tuple[str, int], list[int]] = {}
        for i, guest in enumerate(self._guests):
            kinds.setdefault(kind(guest.core), []).append(i)
        self._banks: list[tuple[I64, Linears | Cells]] = [
            (np.array(mine), bank([self._guests[i].core for i in mine])) for mine in kinds.values()
        ]
        tzs = [party.tz for party in parties.values()]
        self._zones = [
            (tz, np.flatnonzero([tz == tzs[seat] for seat in self._seat])) for tz in dict.fromkeys(tzs)
        ]
        self._memory = self._fresh(seats)
        self._say = np.full((H, most, seats), np.nan)
        self._base = np.full((H, seats), np.nan)
        self._mixed = np.full((H, seats), np.nan)
        self._regime = np.zeros((H, seats), np.int64)
        self._after: list[F64] = []
        self._values = np.full(seats, np.nan)
        self._weigh()

    def _fresh(self, seats: int) -> dict[str, Array]:
        """Memory of what guests were worth."""
        most, pending = self._most, sum(PENDING)
        regret = np.zeros((2, H, most, seats))
        regret[ORDINARY, :, 0] = FIRST
        sure = np.zeros((most, seats), bool)
        sure[self._place, self._seat] = (self._beta != 0).any(axis=1) if len(self.names) else False
        regret[EVENTFUL] = np.where(sure, FIRST, 0)
        loss = np.full((H, most + 1, seats), np.nan)
        for i, guest in enumerate(self._guests):
            loss[:, self._place[i], self._seat[i]] = guest.error
        if seats:
            loss[:, [0, most]] = np.nanmin(loss[:, 1:most], axis=1)[:, None]
        return {
            "regret": regret,
            "spread": np.full((2, H, most, seats), 1e-2),
            "loss": loss,
            "judged": np.zeros((H, seats)),
            "gain": np.stack([np.zeros((H, seats)), np.ones((H, seats))]),
            "ring": np.full((pending, most + 1, seats), np.nan),
            "eventful": np.zeros((pending, seats), bool),
            "origins": np.full(pending, -1, np.int64),
        }

    # ------------------------------------------------------------------ one tick

    def look(self, at: float, values: F64, outlook: Outlook) -> None:
        """Ask every guest, of values f64[seats] as rows see them (scales.there), NaN where there is no sample."""
        block = math.floor(at / GRID)
        self._catch_up(block - 1)
        times = [at, *(at + horizon for _, horizon in HORIZONS)]
        usual = np.empty((len(times), len(self._guests)))
        for tz, mine in self._zones:
            for row, time in zip(usual, times, strict=True):
                place = local(tz, time) / GRID
                i, part = math.floor(place), place - math.floor(place)
                row[mine] = (1 - part) * self._curve[mine, i % WEEK] + part * self._curve[
                    mine, (i + 1) % WEEK
                ]
        self._regime[:] = ORDINARY
        if self.names:
            x = outlook.x[:, :, [outlook.names.index(name) for name in self.names]]
            usual += np.where(self._beta != 0, x[:, self._seat] * self._beta, 0).sum(axis=-1)
            on = (np.nan_to_num(x) != 0) & self._told
            self._regime[:] = np.where((on[0] | on[1:]).any(axis=-1), EVENTFUL, ORDINARY)
        self._values = values
        left = (values[self._seat] - usual[0]) / self._scale
        self._after = []
        for mine, beside in self._banks:
            after, ahead = beside.peek(left[mine])
            self._after.append(after)
            said = usual[1:, mine] + ahead * self._scale[mine]
            said[:, block - 1 - self._known[mine] > LOST] = np.nan
            self._say[:, self._place[mine], self._seat[mine]] = said

    def join(self, lo: int, hi: int, value: F32, origin: F64) -> None:
        """Mix what guests say into forecasts f32[horizons, rows] of the rows from `lo` to `hi`."""
        mine = np.flatnonzero((self.rows >= lo) & (self.rows < hi))
        if not len(mine):
            return
        rows = self.rows[mine] - lo
        base = value[:, rows] + origin[rows]
        said = self._say[:, :, mine]
        said[:, 0] = base
        weight = np.take_along_axis(self._weight[:, :, :, mine], self._regime[None, :, None, mine], axis=0)[0]
        weight = np.where(np.isfinite(said), weight, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = np.where(weight > 0, weight * said, 0).sum(axis=1) / weight.sum(axis=1)
        mixed = np.where(np.isfinite(mixed) & np.isfinite(base), mixed, base)
        self._base[:, mine], self._mixed[:, mine] = base, mixed
        gain = np.take_along_axis(self._memory["gain"][:, :, mine], self._regime[None, :, mine], axis=0)[0]
        value[:, rows] = np.where(gain > GAIN, mixed - origin[rows], value[:, rows])

    def learn(self, at: float, on: Bools) -> None:
        """At the end of a block: judge what was said by what came, where `on` bool[seats] is learned, and go on."""
        block, ticks = math.floor(at / GRID), max(1, round(GRID / self.step))
        if min(math.floor(at % GRID / self.step), ticks - 1) != ticks - 1:
            return
        for (mine, beside), after in zip(self._banks, self._after, strict=True):
            there = self._known[mine] == block - 1  # what is lost stays so
            beside.state[there] = after[there]
            self._known[mine[there]] = block
        m, y = self._memory, self._values
        on = np.isfinite(y) & (on | (self._regime == EVENTFUL).any(axis=0))
        for h, wait in enumerate(AHEAD):
            slot = Intervals.slot(h, block, wait)
            if m["origins"][slot] == block - wait:
                self._judge(h, m["ring"][slot], m["eventful"][slot].astype(np.int64), y, on)
            m["ring"][slot] = np.concatenate([self._say[h], self._mixed[h][None]])
            m["ring"][slot, 0] = self._base[h]
            m["eventful"][slot], m["origins"][slot] = self._regime[h] == EVENTFUL, block
        self._base[:] = self._mixed[:] = np.nan
        self._weigh()

    def _judge(self, h: int, said: F64, regime: I64, y: F64, on: Bools) -> None:
        m, seats = self._memory, np.arange(len(y))
        mixed, loss = said[-1], m["loss"][h]
        good = on & np.isfinite(mixed)
        off = np.abs(said - y)
        unit = 1 / np.maximum(np.nan_to_num(loss[-1]), 1e-9 * np.abs(y) + 1e-12)
        wild = off[:-1] > WILD * np.maximum(off[-1], loss[-1])
        count = m["judged"][h] = m["judged"][h] + good
        rate = np.maximum(RATE, 1 / (1 + count)) * good
        m["loss"][h] = loss + np.where(
            np.isfinite(off), rate * (off - np.where(np.isnan(loss), off, loss)), 0
        )
        rate = np.maximum(np.array(GAIN_RATES)[regime], 1 / (DOUBTED + count)) * good
        gained = np.clip((off[0] - off[-1]) * unit, -4, 4)
        m["gain"][regime, h, seats] += np.where(good, rate * (gained - m["gain"][regime, h, seats]), 0)
        regret = np.clip((mixed - said[:-1]) * np.sign(mixed - y) * unit, -4, 4)
        regret = np.where(wild, np.minimum(regret, 0), regret)
        regret = np.where(good & np.isfinite(regret), regret, 0)
        fade = np.where(good, MEMORY, 1.0)
        spread = m["spread"][regime, h, :, seats].T * fade + regret**2
        eta = _eta(spread, self._most)
        m["spread"][regime, h, :, seats] = spread.T
        m["regret"][regime, h, :, seats] = (
            m["regret"][regime, h, :, seats].T * fade + regret - eta * regret**2
        ).T

    def _weigh(self) -> None:
        eta = _eta(self._memory["spread"], self._most)
        there = np.zeros((self._most, len(self.parties)), bool)
        there[0] = True
        there[self._place, self._seat] = True
        z = np.where(there, eta * self._memory["regret"], -np.inf)
        w = eta * np.exp(z - z.max(axis=2, keepdims=True))
        w /= w.sum(axis=2, keepdims=True)
        w[w < SMALL] = 0
        self._weight = w / w.sum(axis=2, keepdims=True)

    def _catch_up(self, block: int) -> None:
        """States that have not seen the last blocks go on without samples, as far as that makes sense."""
        behind = block - self._known
        for mine, beside in self._banks:
            for n in range(1, min(int(behind[mine].max()), LOST) + 1):
                after, _ = beside.peek(np.full(len(mine), np.nan))
                late = (behind[mine] >= n) & (behind[mine] <= LOST)
                beside.state[late] = after[late]
                self._known[mine[late]] += 1

    # ------------------------------------------------------------------ what is known of them

    def losses(self) -> tuple[I64, F64]:
        """Rows, and the error of what was said of them lately as a share of their own experts' f64[horizons, rows]."""
        there = np.flatnonzero((self.rows >= 0) & (self._memory["judged"] > PENDING[-1]).all(axis=0))
        loss, gain = self._memory["loss"][:, :, there], self._memory["gain"][ORDINARY][:, there]
        return self.rows[there], np.where(gain > GAIN, loss[:, -1] / np.maximum(loss[:, 0], 1e-30), 1)

    def worn(self, at: float) -> set[SeriesId]:
        """Series whose guests err much more than they did when they were fitted, or have missed too much to go on."""
        loss, out = self._memory["loss"][1], set[SeriesId]()
        known = self._memory["judged"][1] > 1 / RATE
        behind = at / GRID - self._known > LOST + 1
        for i, (who, party) in enumerate(self.parties.items()):
            errs = [loss[1 + p, i] > WORN * guest.error[1] for p, guest in enumerate(party.guests)]
            if (known[i] and all(errs)) or behind[self._number[i, : len(party.guests)]].any():
                out.add(who)
        return out

    def shares(self) -> dict[str, float]:
        """How much each model says, on average over its series, half an hour ahead."""
        sums: dict[str, list[float]] = {}
        heard = self._memory["gain"][ORDINARY, 1] > GAIN
        for i, names in enumerate(self._names):
            for place, name in enumerate(names[1:], 1):
                sums.setdefault(name, []).append(float(self._weight[ORDINARY, 1, place, i] * heard[i]))
        return {name: float(np.mean(weights)) for name, weights in sums.items()}

    def seated(self, at: float) -> Seated:
        """All of that, at an instant."""
        return Seated(
            {who: party.fitted for who, party in self.parties.items()}, self.worn(at), self.shares()
        )

    # ------------------------------------------------------------------ state

    def header(self) -> list[dict[str, Any]]:
        """What is no array."""
        return guestbook.header(self._alive().values())

    def state(self) -> Iterator[tuple[str, Array]]:
        """Array by array."""
        yield from guestbook.arrays(self._alive().values())
        for name, array in self._memory.items() if self.parties else ():
            yield f"guests.{name}", array

    def restore(self, header: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> None:
        """Take over what was saved; ValueError or KeyError when it does not fit."""
        self._arrange({party.who: party for party in guestbook.parties(header, arrays)})
        for name, mine in self._memory.items() if self.parties else ():
            if arrays[f"guests.{name}"].shape != mine.shape:
                raise ValueError(f"guests.{name} does not fit")
            mine[...] = arrays[f"guests.{name}"]
        self._weigh()


def _eta(spread: F64, experts: int) -> F64:
    out: F64 = np.minimum(np.sqrt(math.log(max(2, experts)) / spread), 0.5)
    return out
