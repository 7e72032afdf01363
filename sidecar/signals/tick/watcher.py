"""The loop that asks, ticks and swaps: one engine per step, numpy work in one worker thread."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sidecar.signals.detect.belief import NONE
from sidecar.signals.forecast.guestbook import Party, Stay
from sidecar.signals.forecast.guests import NOBODY, Seated
from sidecar.signals.ingest.changes import Change
from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.signals.ingest.ports import Source, Store
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.history import LearningConfig
from sidecar.signals.learn.runs import Runs
from sidecar.signals.learn.trust import Trust
from sidecar.signals.tick.engine import SET_BACK, Engine
from sidecar.signals.tick.lesson import Lesson, known_until, together
from sidecar.signals.watch.watches import Identity, Watch
from sidecar.telemetry import Telemetry
from sidecar.types import Instant, PromantisError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
Found = tuple[Watch, list[bytes], Instant]

DEADLINE = 0.8  # of a step: what has not been answered by then is not waited for
PATIENCE = 60.0  # seconds that the first tick waits for history
SAVE_EVERY = 300.0
LOOK = 1.0  # seconds between looks at what a reload changed
RETRY = 60.0  # seconds until a watch whose history could not be asked is tried again
CLASS = 2048  # series that are taught together: enough for numpy, few enough for memory


class Watcher:
    """Everything between the answers of Prometheus and the newest snapshots. `run()` until cancelled."""

    def __init__(
        self,
        source: Source,
        store: Store,
        known: Known,
        learning: LearningConfig,
        telemetry: Telemetry,
        clock: Callable[[], Instant],
    ) -> None:
        self.known = known
        self.errors: dict[str, str] = {}
        self.succeeded: dict[str, Instant] = {}
        self.watches: dict[str, Watch] = {}
        self.beliefs = NONE
        """What feedback has shown; taken up at the next tick."""
        self.runs = Runs()
        self.follower: Callable[[Snapshot], None] = lambda _: None
        """Told of each snapshot after it was published."""
        self.trust = Trust(learning.accept_new_normal)
        self._source, self._store, self._learning = source, store, learning
        self._telemetry, self._clock = telemetry, clock
        self._engines: dict[float, Engine] = {}
        self._failing: dict[float, dict[str, str]] = {}
        self._learned: set[Identity] = set()
        self._again: dict[Identity, float] = {}
        self._lessons = (0, 0)
        self._changed, self._taught, self._ticked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tick_thread = ThreadPoolExecutor(1, "tick")
        self._learn_thread = ThreadPoolExecutor(1, "learn")

    # ------------------------------------------------------------------ for the app

    @property
    def progress(self) -> float:
        """Share of the history that has been learned, 1 when done."""
        done, total = self._lessons
        return done / total if total else 1.0

    def missing(self) -> list[str]:
        """What still has to happen before the first scores; empty when ready."""
        if self._ticked.is_set():
            return []
        if not self._changed.is_set():
            return ["the watches are not known yet: Prometheus has not answered"]
        return [f"learning history: {self.progress if self._lessons[1] else 0:.0%}"]

    async def accept(self, series: Mapping[str, list[bytes]]) -> None:
        """Take what these series of each watch are now for their new normal."""
        for name, keys in series.items():
            for engine in [e for e in self._engines.values() if name in e.watches]:
                await self._run(self._tick_thread, engine.accept, name, keys)

    async def deployed(self, changes: Sequence[Change], at: Instant) -> None:
        """Believe the series of what was deployed less for a while, and learn them faster."""
        for engine in list(self._engines.values()):
            await self._run(self._tick_thread, engine.deployed, changes, at)

    async def invite(self, step: float, parties: Sequence[Party], stay: Stay) -> Seated:
        """Seat fitted models beside the experts of their series; who has some now."""
        engine = self._engines.get(step)
        return await self._run(self._tick_thread, engine.invite, parties, stay) if engine else NOBODY

    async def restore(self) -> None:
        """Take over saved state; what does not fit is set aside and learned anew."""
        self._engines.update(await self._run(self._tick_thread, self._restored))

    def _restored(self) -> dict[float, Engine]:
        by_step = self._by_step()
        out = {}
        for header, arrays in self._store.load():
            step = float(header["step"])
            if step not in by_step:
                continue
            try:
                labels = self._learning.per_instance_labels
                out[step] = self._told(Engine.load(header, arrays, by_step[step], labels))
            except (KeyError, ValueError, TypeError) as error:
                self._store.set_aside(step, str(error))
            else:
                rows, ago = len(out[step].table), self._clock() - out[step].at
                log.info("restored %d series of step %s, as of %.0f s ago", rows, _number(step), ago)
        self._telemetry.state_damaged.inc(self._store.damaged)
        return out

    def watch(self, watches: Iterable[Watch]) -> None:
        """Take a new set of watches; new ones learn their history."""
        before, self.watches = self.watches, {watch.name: watch for watch in watches}
        for name in before.keys() - self.watches.keys():
            self.errors.pop(name, None)
            self.succeeded.pop(name, None)
            for metric in (self._telemetry.watch_success, self._telemetry.watch_failures):
                metric.remove(name)
        for name in self.watches:
            self._telemetry.watch_failures.labels(name)
        self._learned &= {watch.identity for watch in self.watches.values()}  # gone is forgotten
        self._changed.set()
        if before != self.watches:
            self._taught.clear()

    async def run(self) -> None:
        """Tick, learn and save until cancelled."""
        await self._changed.wait()
        await self.restore()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_learning())
                group.create_task(self._keep_saving())
                group.create_task(self._keep_ticking(group))
        finally:
            await asyncio.shield(self._run(self._tick_thread, self._save))
            self._tick_thread.shutdown(wait=False)
            self._learn_thread.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ ticks

    async def _keep_ticking(self, group: asyncio.TaskGroup) -> None:
        """One loop per step that has watches, started and ended as the watches change."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._taught.wait()
        except TimeoutError:
            log.info("history takes long: ticking while it is learned")
        loops: dict[float, asyncio.Task[None]] = {}
        while True:
            by_step = self._by_step()
            for step in loops.keys() - by_step.keys():
                loops.pop(step).cancel()
                self._engines.pop(step, None)
                self.known.retire([step])
                self.runs.retire(step)
                self.trust.retire(step)
            for step in by_step.keys() - loops.keys():
                loops[step] = group.create_task(self._tick_loop(step))
            if not by_step:
                self._ticked.set()
            await asyncio.sleep(LOOK)

    async def _tick_loop(self, step: float) -> None:
        last = -math.inf
        while True:
            now = self._clock()
            at = math.floor(now / step) * step
            if at <= last <= at + max(SET_BACK, step):  # never twice the same instant
                await asyncio.sleep(max(0.01, min(step, last + step - now)))
                continue
            if at < last:
                log.warning("the clock was set back by %g s", last - at)
            last = at
            try:
                await self._tick(step, Instant(at))
            except Exception:
                log.exception("a tick of step %s failed: nothing is said of its series", _number(step))
                self.known.retire([step])

    async def _tick(self, step: float, at: Instant) -> None:
        watches = self._by_step().get(step, {})
        answers = await asyncio.gather(*(self._answer(watch, at) for watch in watches.values()))
        got = {name: answer for name, answer in zip(watches, answers, strict=True) if answer is not None}
        self._tell_failing(step, {n: self.errors[n] for n in watches if n in self.errors})
        engine = self._engines.setdefault(step, self._new(step))
        with self._telemetry.tick_duration.labels(_number(step)).time():
            snapshot = await self._run(self._tick_thread, self._advance, engine, watches, at, got)
        if self._engines.get(step) is not engine:
            return
        self.follower(self.known.publish(snapshot))
        self._ticked.set()
        self._telemetry.tick_lag.labels(_number(step)).set(self._clock() - at)

    def _advance(
        self, engine: Engine, asked: Mapping[str, Watch], at: Instant, got: Mapping[str, Vector]
    ) -> Snapshot:
        # the watches of now: a reload may have changed them while answers were on their way
        watches = self._by_step().get(engine.step, {})
        if watches != engine.watches:
            engine.watch(watches)
        if engine.beliefs is not self.beliefs:
            engine.believe(self.beliefs)
        fit = {n: v for n, v in got.items() if n in watches and watches[n].query == asked[n].query}
        snapshot = engine.tick(at, fit, self._room(), self.trust)
        for reason, rows in self.trust.counts().items():
            self._telemetry.series_distrusted.labels(reason).set(rows)
        self.runs.note(snapshot, engine.beliefs)
        for reason, count in engine.dropped.items():
            self._telemetry.series_dropped.labels(reason).inc(count)
            engine.dropped[reason] = 0
        self._telemetry.series.set(self._rows())
        return snapshot

    async def _answer(self, watch: Watch, at: Instant) -> Vector | None:
        """The watch's samples, or None with the reason kept."""
        within = watch.step * DEADLINE
        try:
            async with asyncio.timeout(within):
                answer = await self._source.instant(watch.query, at, within)
        except TimeoutError:
            why = f"no answer within {within:g} s: slow query, or more queries than max_queries_per_second allows"
        except PromantisError as error:
            why = str(error)
        else:
            if watch.name not in self.watches:
                return None  # a reload took it away
            self.errors.pop(watch.name, None)
            self.succeeded[watch.name] = at
            self._telemetry.watch_success.labels(watch.name).set(at)
            return answer
        if watch.name not in self.watches:
            return None
        self._telemetry.watch_failures.labels(watch.name).inc()
        self.errors[watch.name] = why
        return None

    def _tell_failing(self, step: float, failing: dict[str, str]) -> None:
        """Log what fails and what answers again: a line for an outage, not one for each watch."""
        before, self._failing[step] = self._failing.get(step, {}), failing
        fresh = [name for name in failing if name not in before]
        if fresh:
            others = f" and {len(fresh) - 1} others" if len(fresh) > 1 else ""
            log.warning("no answer for watch %s%s: %s", fresh[0], others, failing[fresh[0]])
        again = [name for name in before if name not in failing and name in self.watches]
        if again:
            others = f" and {len(again) - 1} others" if len(again) > 1 else ""
            log.info("watch %s%s answered again", again[0], others)

    # ------------------------------------------------------------------ history

    async def _keep_learning(self) -> None:
        while True:
            todo = [w for w in self.watches.values() if self._to_learn(w)]
            lessons: list[Lesson] = []
            for step in sorted({w.step for w in todo}):
                lessons += await self._plan(step, [w for w in todo if w.step == step])
            self._lessons = (0, sum(len(lesson.spans) for lesson in lessons))
            for lesson in lessons:
                await self._teach(lesson)
            self._telemetry.history_progress.set(self.progress)
            if lessons:
                await self._run(self._tick_thread, self._save)
            if not todo:
                self._taught.set()
                await asyncio.sleep(LOOK)

    async def _plan(self, step: float, watches: Sequence[Watch]) -> list[Lesson]:
        """Lessons of up to `CLASS` series, or of one watch; a watch that cannot be asked now learns later."""
        lessons: list[Lesson] = []
        engine = self._engines.get(step)
        for group in together(watches, self._by_step().get(step, {}).values()):
            since = await self._run(self._tick_thread, known_until, engine, group)
            found = await self._series_of(group, Instant(since + step) if since else None)
            many = sum(len(keys) for _, keys, _ in found)
            if not many:
                continue
            last, kind = lessons[-1] if lessons else None, (since is not None, group[0].tz)
            if last is None or last.series + many > CLASS or (last.resumed, last.tz) != kind:
                lessons.append(Lesson(step, *kind))
            for watch, keys, begin in found:
                lessons[-1].add(watch, keys, begin)
        for lesson in lessons:
            lesson.plan(self._clock(), self._learning)
            if lesson.resumed and engine:
                await self._run(self._tick_thread, lesson.resume, engine)
        return lessons

    async def _series_of(self, group: Sequence[Watch], since: Instant | None) -> list[Found]:
        """Series of watches that learn together, and since when; none when one has to wait for Prometheus."""
        found: list[Found] = []
        for watch in group:
            self._learned.add(watch.identity)
            now = self._clock()
            try:
                history = float(self._learning.history)
                begin = since or await self._source.earliest(watch.query, now, history)
                there = begin < now - watch.step
                keys = (await self._source.instant(watch.query, now, 30.0)).keys if there else []
            except PromantisError as error:
                log.warning("watch %s starts without history: %s", watch.name, error)
                if isinstance(error, Unavailable):
                    again = asyncio.get_running_loop().time() + RETRY
                    later = dict.fromkeys((w.identity for w in group), again)
                    self._again.update(later)
                    self._learned -= later.keys()
                    return []
                continue
            if keys:
                found.append((watch, keys[: max(0, self._learning.max_series)], begin))
        return found

    async def _teach(self, lesson: Lesson) -> None:
        lesson.plan(self._clock(), self._learning)  # other lessons took their time
        for span in lesson.spans:
            matrices: list[Matrix | None] = []
            for watch in lesson.watches:
                try:
                    matrices.append(await self._source.range(watch.query, span.start, span.end, span.step))
                except PromantisError as error:
                    log.warning("history of watch %s: %s", watch.name, error)
                    matrices.append(None)
            await self._run(self._learn_thread, lesson.replay, span, matrices, self.trust)
            done, total = self._lessons
            self._lessons = (min(done + 1, total), total)
            self._telemetry.history_progress.set(self.progress)
        if lesson.step in self._by_step():
            engine = self._engines.setdefault(lesson.step, self._new(lesson.step))
            await self._run(self._tick_thread, self._adopt, engine, lesson)
        did = "caught up with" if lesson.resumed else "learned the history of"
        log.info("%s %d series of %d watches", did, lesson.series, len(lesson.watches))

    def _to_learn(self, watch: Watch) -> bool:
        due = self._again.get(watch.identity, 0.0) <= asyncio.get_running_loop().time()
        return due and watch.identity not in self._learned

    def _adopt(self, engine: Engine, lesson: Lesson) -> None:
        engine.watch(self._by_step().get(lesson.step, {}))
        lesson.adopt(engine, self._clock(), self._room())

    # ------------------------------------------------------------------ state

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            await self._run(self._tick_thread, self._save)

    def _save(self) -> None:
        for step, engine in list(self._engines.items()):
            try:
                self._store.save(step, engine.dump())
            except (OSError, Unavailable) as error:
                log.error("state of step %s not saved: %s", _number(step), error)
            else:
                self._telemetry.state_saved.set(self._clock())

    # ------------------------------------------------------------------ helpers

    def _by_step(self) -> dict[float, dict[str, Watch]]:
        out: dict[float, dict[str, Watch]] = {}
        for watch in self.watches.values():
            out.setdefault(watch.step, {})[watch.name] = watch
        return out

    def _new(self, step: float) -> Engine:
        return self._told(Engine(step, self._learning.per_instance_labels))

    def _told(self, engine: Engine) -> Engine:
        learning = self._learning
        engine.ledger.least, engine.plain = learning.least_true_breaches, learning.naive_without_skill
        return engine

    def _room(self) -> int:
        return self._learning.max_series - self._rows()

    def _rows(self) -> int:
        return sum(engine.living for engine in list(self._engines.values()))

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def _number(step: float) -> str:
    return f"{step:g}"
