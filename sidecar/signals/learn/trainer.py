"""Challengers of the groups' champion: fitted, judged and asked in a worker process that starts when it is needed.

A group's champion is the score of groups.py. Every `learning.retrain`, or after a day on which the group paged
`DRIFT` times, models of pyod are fitted to what its members' scores were (past.py) and judged (fits.py). One that is
better joins the champion; otherwise whatever joined before leaves, since it was not better this time, as does at once
what has made `ALONE` pages that the champion would not have made. What is joined is asked once a tick in one batch; an
answer that comes late is dropped, as is everything while a fit runs, and then the champion's score stands. The past and
what was decided are saved; after a restart what had joined is fitted again first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

import numpy as np

from sidecar.signals.detect.groups import MOST, GroupId
from sidecar.signals.forecast.hired import Hired, installed, process
from sidecar.signals.ingest.ports import Store, Tell, telling
from sidecar.signals.known.snapshot import Known, Members, Snapshot
from sidecar.signals.learn import fits
from sidecar.signals.learn.past import MINUTE, WEEK, Decided, Kept, MemberId, Past
from sidecar.telemetry import Telemetry
from sidecar.types import I64, Instant, JsonObject

log = logging.getLogger(__name__)

DAY = 86400.0
DRIFT = 5  # pages of a group in a day: promised is one in ten days
SAVE_EVERY = 900.0  # seconds
ALONE = 2  # pages that a challenger makes and the champion does not, until it leaves
PATIENCE = 5.0  # seconds, or half a step, that an answer may take
EXTRAS: Mapping[str, Sequence[str]] = {"fits": ("pyod",), "deep": ("pyod", "torch", "tqdm")}
"""What the models of each extra import."""


class Adopted:
    """A challenger that joined a group, the members that it was fitted to, and the pages that only it made."""

    def __init__(self, joined: fits.Joined, members: tuple[MemberId, ...]) -> None:
        self.joined, self.members = joined, members
        self._alone, self._over = 0, False

    def overdone(self, champion: float, both: float) -> bool:
        """Take in the scores of a tick, alone and joined; whether it has now made as many pages alone as it may."""
        self._alone += both >= 1 > champion and not self._over
        self._over = both >= 1
        return self._alone >= ALONE


def worker() -> Executor:
    """One process with one thread, started at its first task."""
    return process(fits.settle)


class Trainer:
    """Follows the snapshots, keeps the groups' past, fits in turns, joins. `run()` until cancelled."""

    def __init__(
        self,
        known: Known,
        retrain: float,
        telemetry: Telemetry,
        clock: Callable[[], Instant],
        tell: Tell,
        pool: Callable[[], Executor] = worker,
        store: Store | None = None,
    ) -> None:
        """`store`: where the past survives."""
        self._known, self._retrain, self._telemetry, self._clock = known, retrain, telemetry, clock
        self._tell, self._store = telling(tell), store
        self._newest: dict[float, Snapshot] = {}
        self._news = asyncio.Event()
        self._pasts: dict[float, Past] = {}
        self._fitted: dict[tuple[float, GroupId], float] = {}
        self._models = [m for m in (*fits.MODELS, *fits.DEEP) if _there(m)]
        self._adopted: dict[tuple[float, GroupId], Adopted] = {}
        self._recalled: dict[tuple[float, GroupId], Decided] = {}
        """What had joined before a restart, and is to be fitted again."""
        self._sent: set[tuple[float, GroupId]] = set()
        self._worker = Hired(pool, self._sent.clear)
        self._places: dict[float, tuple[Members, Mapping[int, I64]]] = {}
        self._fitting = False
        self._one = asyncio.Lock()
        """Only one thread at a time reads or writes a past."""
        if not self._models:
            log.info("no models are fitted to groups: pyod is not installed (extra fits)")

    def ticked(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of an engine; called in the event loop."""
        if len(snapshot.groups.raw):
            self._newest[snapshot.step] = snapshot
            self._news.set()

    async def run(self) -> None:
        """Keep the past, join what is adopted, and fit what is due."""
        if not self._pasts:
            await asyncio.to_thread(self.restore)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_fitting())
                group.create_task(self._keep_saving())
                while True:
                    await self._news.wait()
                    self._news.clear()
                    newest, self._newest = self._newest, {}
                    for snapshot in newest.values():
                        await self._follow(snapshot)
        finally:
            self._worker.rest()
            async with self._one:
                await asyncio.to_thread(self.save)

    # ------------------------------------------------------------------ at each tick

    async def _follow(self, snapshot: Snapshot) -> None:
        snapshot = await self._join(snapshot)
        if not self._models:
            return
        past = self._pasts.get(snapshot.step)
        if past is None:
            past = self._pasts[snapshot.step] = Past(snapshot.step)
        if past.due(snapshot.at):
            async with self._one:
                await asyncio.to_thread(past.keep, snapshot)

    async def _join(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the joined scores, published if it still is the newest; else as it was."""
        places = self._placed(snapshot)
        if not places or self._fitting:
            return snapshot
        of, raw = snapshot.groups.of, snapshot.columns["raw"]
        ids = [(snapshot.step, (of.names[g], of.labels[g])) for g in places]
        joined_by = [self._adopted[id] for id in ids]
        batch = [
            fits.Asked(id, raw[rows], snapshot.step, None if id in self._sent else adopted.joined)
            for id, rows, adopted in zip(ids, places.values(), joined_by, strict=True)
        ]
        said = await self._worker.ask(min(snapshot.step / 2, PATIENCE), fits.answer, batch)
        score, left = snapshot.groups.raw.copy(), list[tuple[float, GroupId]]()
        for group, id, adopted, value in zip(places, ids, joined_by, said or [None] * len(ids), strict=True):
            if value is None:
                self._sent.discard(id)
            else:
                self._sent.add(id)
                alone, score[group] = float(score[group]), min(score[group] + value, MOST)
                if adopted.overdone(alone, float(score[group])) and self._adopted.get(id) is adopted:
                    left.append(id)
        joined = self._known.amend(snapshot, snapshot.groups._replace(raw=score)) if said else None
        if joined is None:
            self._telemetry.group_answers_late.inc()
        for id in left:
            await self._swapped(id[1], self._adopt(id, None), None)
        return joined or snapshot

    def _placed(self, snapshot: Snapshot) -> Mapping[int, I64]:
        """Of each joined group that has the members its model knows: their rows, in the model's order."""
        of = snapshot.groups.of
        found = self._places.get(snapshot.step)
        if found is None or found[0] is not of:
            places: dict[int, I64] = {}
            for g, id in enumerate(zip(of.names, of.labels, strict=True)):
                adopted = self._adopted.get((snapshot.step, id))
                if adopted is not None:
                    rows = of.rows[of.starts[g] : of.starts[g + 1]].tolist()
                    at = {(snapshot.watch_of[row], snapshot.keys[row]): row for row in rows}
                    if at.keys() == set(adopted.members):
                        places[g] = np.array([at[member] for member in adopted.members], np.int64)
            found = self._places[snapshot.step] = of, places
        return found[1]

    # ------------------------------------------------------------------ fits

    async def _keep_fitting(self) -> None:
        await self.fit_again()
        while True:
            await asyncio.sleep(MINUTE)
            await self.fit_due()

    async def fit_due(self) -> None:
        """Fit challengers of every group whose turn it is, one after the other."""
        self._forget()
        for step, past in list(self._pasts.items()):
            for group in past.groups:
                why = self._why((step, group), past)
                if not why:
                    continue
                async with self._one:
                    kept = await asyncio.to_thread(past.of, group)
                self._fitting = True
                try:
                    await self._fit((step, group), kept, past.stride, why)
                finally:
                    self._fitting = False
        if not self._adopted:
            self._worker.rest()

    async def fit_again(self) -> None:
        """What had joined before a restart joins again: fitted to the past that was saved, by the decision of then."""
        for id, decided in list(self._recalled.items()):
            step, group = id
            async with self._one:
                past = self._pasts[step]
                kept = await asyncio.to_thread(past.of, group) if group in past.groups else None
            self._fitting = True
            try:
                fit = fits.again, decided.model
                joined = await self._worker.ask(None, *fit, kept.scores, past.stride) if kept else None
            finally:
                self._fitting = False
            del self._recalled[id]
            if kept and joined:
                self._adopt(id, Adopted(joined, kept.members))
                log.info("group %s: %s joins its score again", group, decided.model)
            else:
                log.warning(
                    "group %s: %s, which had joined its score, cannot be fitted", group, decided.model
                )
                await self._swapped(group, decided.model, None)

    def _adopt(self, id: tuple[float, GroupId], adopted: Adopted | None) -> str | None:
        """Let a challenger join, or nothing; the name of what had joined before."""
        before = self._adopted.pop(id, None)
        if adopted:
            self._adopted[id] = adopted
        self._sent.discard(id)
        self._places.clear()
        self._telemetry.groups_joined.set(len(self._adopted))
        return before.joined.name if before else None

    def _why(self, id: tuple[float, GroupId], past: Past) -> str:
        """Why a group is to be fitted now: `scheduled`, `drift`, or not at all."""
        now = self._clock()
        last = self._fitted.get(id, now - self._retrain)
        grown = past.kept >= fits.ENOUGH and (past.kept + 1) * past.stride >= min(self._retrain, WEEK)
        if not grown or now - last < min(self._retrain, DAY):
            return ""
        if now - last >= self._retrain:
            return "scheduled"
        return "drift" if fits.runs(past.lately(id[1], round(DAY / past.stride)) >= 1) >= DRIFT else ""

    def _forget(self) -> None:
        """Engines and groups that are no more."""
        now = self._clock()
        self._pasts = {step: past for step, past in self._pasts.items() if past.last > now - DAY}
        there = {(step, group) for step, past in self._pasts.items() for group in past.groups}
        for of in (self._fitted, self._adopted):
            for id in of.keys() - there:
                of.pop(id)

    async def _fit(self, id: tuple[float, GroupId], kept: Kept, stride: float, why: str) -> None:
        self._fitted[id] = began = self._clock()
        trials = list[fits.Trial]()
        for name in list(self._models):
            with self._telemetry.fit_duration.labels(name).time():
                trial = await self._worker.ask(None, fits.trial, name, kept.scores, stride, int(began))
            trial = trial or fits.Trial(name, "failed")
            self._telemetry.fits.labels(name, trial.outcome).inc()
            trials.append(trial)
            if trial.outcome == "missing":
                self._models.remove(name)
                log.warning("no %s for groups: what it needs is not installed (extra %s)", name, _extra(name))
        best = max((t for t in trials if t.joined), key=lambda t: t.recall - t.champion, default=None)
        new = Adopted(best.joined, kept.members) if best is not None and best.joined is not None else None
        old = self._adopt(id, new)
        told = [
            {
                "model": t.model,
                "outcome": t.outcome,
                "champion": _share(t.champion),
                "joined": _share(t.recall),
            }
            for t in trials
        ]
        spent = self._clock() - began
        await self._tell("fit.done", {**_named(id[1]), "why": why, "seconds": spent, "trials": told})
        if old or new:
            await self._swapped(id[1], old, new.joined.name if new else None)

    async def _swapped(self, group: GroupId, old: str | None, new: str | None) -> None:
        log.info("group %s: %s joins its score, before %s", group, new or "nothing", old)
        await self._tell("fit.swapped", {**_named(group), "from": old, "to": new})

    # ------------------------------------------------------------------ state

    def restore(self) -> None:
        """Take over what was saved; what does not fit is set aside."""
        for header, arrays in self._store.load() if self._store and self._models else ():
            try:
                past, decided = Past.load(header, arrays)
            except (KeyError, ValueError) as error:
                if self._store:
                    self._store.set_aside(float(header["step"]), str(error))
                continue
            past.last = self._clock() - past.stride  # a row is due, and nothing is old yet
            self._pasts[past.step] = past
            for group, said in decided.items():
                self._fitted[past.step, group] = said.at
                if said.model:
                    self._recalled[past.step, group] = said
        self._telemetry.state_damaged.inc(self._store.damaged if self._store else 0)

    def save(self) -> None:
        """Write the past of each engine, and what was decided about its groups."""
        for step, past in list(self._pasts.items()) if self._store else ():
            decided = {group: self._decided((step, group), past) for group in past.groups}
            try:
                self._store.save(step, past.dump(decided)) if self._store else None
            except OSError as error:
                log.error("the past of groups of step %g is not saved: %s", step, error)

    def _decided(self, id: tuple[float, GroupId], past: Past) -> Decided | None:
        at, adopted = self._fitted.get(id), self._adopted.get(id)
        if at is None or id in self._recalled:
            return self._recalled.get(id)
        if adopted and set(adopted.members) == set(past.of(id[1]).members):  # others it does not know
            return Decided(at, adopted.joined.name)
        return Decided(at)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            async with self._one:
                await asyncio.to_thread(self.save)


def _named(group: GroupId) -> JsonObject:
    (by, name), labels = group
    return {by: name, "labels": dict(labels)}


def _there(model: str) -> bool:
    return installed(EXTRAS[_extra(model)])


def _extra(model: str) -> str:
    return "deep" if model in fits.DEEP else "fits"


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)
