"""Which series get fitted models, and when: the most valuable first, inside a share of one processor.

A series that has a limit gets the models of `learning.models` where something is known that acts on it, an event or a
regressor: without that its own experts are better (docs/accuracy.md). One whose watch names `models` gets those. Fits
run in a worker process on the past that Prometheus has, five minutes apart; what comes back is arrays
(models/fitted.py), that join the series' own experts at the next tick (guests.py). The likeliest breach comes first,
then the nearest limit.
Each series is fitted again every `learning.retrain`, and after a day on which its guests erred far more than they did.
A fit that fails or takes too long is dropped, with its reason in the journal and the metrics; so is a series' turn
while Prometheus does not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import numpy as np

from sidecar.signals.detect import scales
from sidecar.signals.forecast import modelling
from sidecar.signals.forecast.guestbook import Party, SeriesId, Stay
from sidecar.signals.forecast.guests import NOBODY, Seated
from sidecar.signals.forecast.hired import Hired, installed, process
from sidecar.signals.ingest import series
from sidecar.signals.ingest.changes import AFTER, Change, concerned
from sidecar.signals.ingest.frame import Matrix
from sidecar.signals.ingest.matching import partners
from sidecar.signals.ingest.ports import Source, Tell, telling
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.learn.history import LearningConfig, parts, room
from sidecar.signals.learn.trust import Trust
from sidecar.signals.models import fitted
from sidecar.signals.models.fitted import GRID, WEEK
from sidecar.signals.tick import outlook
from sidecar.signals.watch.calendar import Planned, local
from sidecar.signals.watch.watches import Watch
from sidecar.telemetry import Telemetry
from sidecar.types import F64, Instant, PromantisError

log = logging.getLogger(__name__)

DAY, MINUTE = 86400.0, 60.0
LONGEST = 28 * DAY
"""Seconds of past that models are fitted to."""
WITHIN, PATIENCE = 60.0, 900.0
"""Seconds of the processor that one fit may take, and of the clock that its worker may be silent."""
AT_ONCE = 8
"""Series of one watch that are fitted to one answer of Prometheus."""
AGAIN = 3600.0
"""Seconds until a watch is tried again whose past could not be asked."""


class Ticking(Protocol):
    """The watcher."""

    @property
    def watches(self) -> Mapping[str, Watch]: ...
    async def invite(self, step: float, parties: Sequence[Party], stay: Stay) -> Seated: ...

    @property
    def trust(self) -> Trust: ...


class Wanted(NamedTuple):
    """A series that is to have guests, and how much they are worth to it: what is smaller comes first."""

    step: float
    who: SeriesId
    models: tuple[str, ...]
    rank: tuple[float, float]


def wanted(snapshot: Snapshot, usual: tuple[str, ...], calendar: Sequence[Planned]) -> list[Wanted]:
    """The series of a snapshot that are to have guests: those with a limit that something is known to act on, and
    those whose watch asks for it."""
    if snapshot.step > GRID:
        return []
    out = []
    lines = snapshot.limits
    chance = np.nan_to_num(lines.probability[-1], nan=0.0)
    value = np.array([limit.value for limit in lines.limit])
    width = (snapshot.columns["f60_upper"] - snapshot.columns["f60_lower"])[lines.row]
    far = np.abs(snapshot.columns["observed"][lines.row] - value) / np.maximum(width, 1e-30)
    best: dict[int, tuple[float, float]] = {}
    for row, rank in zip(
        lines.row.tolist(), zip((-chance).round(2).tolist(), far.tolist(), strict=True), strict=True
    ):
        best[row] = min(best.get(row, rank), rank)
    for name, watch in snapshot.watches.items():
        models = usual if watch.models is None else watch.models
        if not models or not watch.told or (watch.models is None and not watch.limits):
            continue
        # of what is gone, or of which little is known, nothing is asked
        there = np.array(snapshot.rows_of(name), np.int64)
        rows = there[np.isfinite(snapshot.columns["f60"][there])].tolist()
        if watch.models is None:
            rows = [row for row in rows if row in best]
            keys = [snapshot.keys[row] or b"{}" for row in rows]
            told = {i for event in calendar for i in outlook.concerns(event, watch, keys).tolist()}
            rows = rows if watch.regressors else [row for i, row in enumerate(rows) if i in told]
        ranked = ((row, best.get(row, (0.0, np.inf))) for row in rows)
        out += [
            Wanted(snapshot.step, (name, snapshot.keys[row] or b"{}"), models, rank) for row, rank in ranked
        ]
    return out


class Inviting:
    """Follows the snapshots and keeps guests where they are wanted. `run()` until cancelled."""

    def __init__(
        self,
        watcher: Ticking,
        source: Source,
        learning: LearningConfig,
        telemetry: Telemetry,
        clock: Callable[[], Instant],
        tell: Tell,
        pool: Callable[[], Executor] = process,
    ) -> None:
        self._watcher, self._source, self._learning = watcher, source, learning
        self._telemetry, self._clock, self._tell = telemetry, clock, telling(tell)
        self._worker = Hired(pool)
        self._newest: dict[float, Snapshot] = {}
        self._tried: dict[SeriesId, float] = {}
        """When each series had its turn."""
        self._later: dict[str, float] = {}
        """When a watch may be asked again."""
        self._deployed: deque[tuple[float, Change]] = deque(maxlen=1000)
        self._missing = {model for model in fitted.MODELS if not _there(model)}
        if self._missing.issuperset(learning.models) and learning.models:
            log.info("no models are fitted to series: statsmodels is not installed (extra models)")

    def ticked(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of an engine."""
        self._newest[snapshot.step] = snapshot

    def deployed(self, changes: Iterable[Change], at: Instant) -> None:
        """Note what was deployed, for the fits to come."""
        self._deployed.extend((at, change) for change in changes)

    def known_deployed(self) -> Sequence[tuple[float, Change]]:
        """What was deployed since the start, and when, the oldest first."""
        return tuple(self._deployed)

    async def run(self) -> None:
        """Fit what is due, and rest so long that fits keep to their share of one processor."""
        try:
            while True:
                spent = await self.fit_due()
                if not spent:
                    self._worker.rest()
                await asyncio.sleep(max(spent * (1 / self._learning.fit_share - 1), 1.0) if spent else MINUTE)
        finally:
            self._worker.rest()

    async def fit_due(self) -> float:
        """Fit a few series of one watch, those that need it most; the seconds that it took, 0 when nothing is due."""
        now = self._clock()
        self._newest = {step: s for step, s in self._newest.items() if s.at > now - DAY}
        every = await asyncio.to_thread(self._ranked, list(self._newest.values()))
        most = self._learning.max_modelled
        stay = {
            one.who for one in every[: 2 * most]
        }  # who has guests keeps them while it is nearly as valuable
        seated = await self._follow(stay)
        free = most - len(seated.fitted)
        due = list[tuple[Wanted, str]]()
        for one in every[:most]:
            why = self._why(one, seated, now)
            if why and (one.who in seated.fitted or free > 0):
                free -= one.who not in seated.fitted
                due.append((one, why))
        if not due:
            return 0.0
        watch = due[0][0].who[0]
        mine = [pair for pair in due if pair[0].who[0] == watch][:AT_ONCE]
        return await self._fit(self._watcher.watches.get(watch), mine, stay)

    def _ranked(self, snapshots: Sequence[Snapshot]) -> list[Wanted]:
        """All that are to have guests, the most valuable first; of a large fleet that takes a while."""
        calendar, usual = self._watcher.trust.calendar, self._learning.models
        every = (one for snapshot in snapshots for one in wanted(snapshot, usual, calendar))
        every = (one._replace(models=tuple(m for m in one.models if m not in self._missing)) for one in every)
        return sorted((one for one in every if one.models), key=lambda one: one.rank)

    def _why(self, one: Wanted, seated: Seated, now: Instant) -> str:
        """Why a series is to be fitted now: `new`, `scheduled`, `drift`, or not at all."""
        last = self._tried.get(one.who, -np.inf)
        fitted = seated.fitted.get(one.who)
        if self._later.get(one.who[0], 0.0) > now or now - last < min(DAY, self._learning.retrain):
            return ""
        if fitted is None:
            return "new"
        if now - fitted >= self._learning.retrain:
            return "scheduled"
        return "drift" if one.who in seated.worn and now - fitted >= DAY else ""

    async def _follow(
        self, stay: set[SeriesId], parties: Sequence[Party] = (), at: float | None = None
    ) -> Seated:
        """Seat guests at an engine, and send away from all what need not stay."""
        found = [
            await self._watcher.invite(step, parties if step == at else (), lambda *who: who in stay)
            for step in list(self._newest)
        ]
        seated = NOBODY
        for one in found:
            seated = Seated(
                {**seated.fitted, **one.fitted}, seated.worn | one.worn, {**seated.shares, **one.shares}
            )
        self._telemetry.series_modelled.set(len(seated.fitted))
        for model, share in seated.shares.items():
            self._telemetry.model_weight.labels(model).set(share)
        return seated

    # ------------------------------------------------------------------ fits

    async def _fit(
        self, watch: Watch | None, due: Sequence[tuple[Wanted, str]], stay: set[SeriesId]
    ) -> float:
        now = self._clock()
        if watch is None:
            return 1.0
        try:
            pasts = await self._pasts(watch, [one.who[1] for one, _ in due])
        except PromantisError as error:
            log.warning("no models are fitted to watch %s now: %s", watch.name, error)
            self._later[watch.name] = now + AGAIN
            return 1.0
        spent = 0.0
        for (one, why), past in zip(due, pasts, strict=True):
            self._tried[one.who] = now
            trials = [await self._try(model, past) for model in one.models if model not in self._missing]
            spent += sum(trial.seconds for trial in trials)
            guests = tuple(trial.fitted for trial in trials if trial.fitted is not None)
            if guests:
                await self._follow(stay, [Party(one.who, watch.tz, guests, now)], one.step)
            await self._said(one, why, trials)
        return max(spent, 1.0)

    async def _try(self, model: str, past: modelling.Past) -> modelling.Tried:
        with self._telemetry.fit_duration.labels(model).time():
            trial = await self._worker.ask(PATIENCE, modelling.fit, model, past, WITHIN)
        if trial is None:  # it hangs where no alarm reaches it, or died: what waits gets another process
            self._worker.rest()
            trial = modelling.Tried(model, "failed", "the worker died or did not answer", WITHIN)
        self._telemetry.fits.labels(model, trial.outcome).inc()
        if trial.outcome == "missing":
            self._missing.add(model)
            log.warning("no %s for series: %s", model, trial.words)
        return trial

    async def _said(self, one: Wanted, why: str, trials: Sequence[modelling.Tried]) -> None:
        told = [
            {
                "model": trial.model,
                "outcome": trial.outcome,
                **({"reason": trial.words} if trial.words else {}),
                **(
                    {"regressors": list(trial.fitted.regressors)}
                    if trial.fitted and trial.fitted.regressors
                    else {}
                ),
                "seconds": round(trial.seconds, 2),
            }
            for trial in trials
        ]
        watch, key = one.who
        about = {"series": watch, "labels": dict(series.labels(key)), "why": why, "trials": told}
        await self._tell("fit.done", about)

    # ------------------------------------------------------------------ the past

    async def _pasts(self, watch: Watch, keys: Sequence[bytes]) -> list[modelling.Past]:
        """The past of some series of a watch, with what concerned them; Unavailable or Rejected."""
        end = np.floor(self._clock() / GRID) * GRID
        start = end - min(LONGEST, float(self._learning.history)) // GRID * GRID
        at = np.arange(start, end + 1, GRID)
        slot = np.array([round(local(watch.tz, t) / GRID) % WEEK for t in at.tolist()], np.int64)
        mine = await self._columns(watch, at, keys, lambda found: [_index(found, key) for key in keys])
        watches, queries = self._watcher.watches, dict[str, F64]()
        for name, other in outlook.named(watch, watches.values()).items():
            queries[name] = await self._columns(watches[other], at, keys, lambda found: partners(keys, found))
        out = []
        for i, key in enumerate(keys):
            x = outlook.events(self._watcher.trust.calendar, watch, key, at)
            since = [(t, t + AFTER) for t, change in self._deployed if concerned(change, watch.name, key)]
            if since:
                x[outlook.DEPLOYED] = outlook.during(since, at)
            x |= {name: columns[:, i] for name, columns in queries.items()}
            x = {name: column for name, column in x.items() if np.isfinite(column).any()}
            values = scales.there(mine[:, i], np.full(len(at), watch.unit, np.float32))
            matrix = np.stack(list(x.values()), axis=1) if x else np.empty((len(at), 0))
            out.append(modelling.Past(at, slot, values, tuple(x), matrix))
        return out

    async def _columns(
        self, watch: Watch, at: F64, keys: Sequence[bytes], which: Callable[[list[bytes]], Sequence[int]]
    ) -> F64:
        """Of each key the series f64[times, keys] of a watch that `which` tells, in as many answers as it takes."""
        out = np.full((len(at), len(keys)), np.nan)
        many = sum(len(snapshot.rows_of(watch.name)) for snapshot in self._newest.values())
        for span in parts(float(at[0]), float(at[-1]), GRID, room(many)):
            found: Matrix = await self._source.range(watch.query, span.start, span.end, GRID)
            when = np.rint((found.at - at[0]) / GRID).astype(np.int64)
            for column, i in enumerate(which(found.keys) if found.keys else ()):
                if i >= 0:
                    out[when, column] = found.values[:, i]
        return out


def _index(keys: list[bytes], key: bytes) -> int:
    return keys.index(key) if key in keys else -1


def _there(model: str) -> bool:
    return installed(modelling.NEEDS[fitted.MODELS[model]])
