"""Where remedies meet Prometheus' past: what each action changed, against firings that nothing was done for."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import msgspec
import numpy as np

from sidecar.adapters.prometheus import Prometheus
from sidecar.remedy import compare
from sidecar.remedy.compare import Due, Firing, Row
from sidecar.remedy.measure import read
from sidecar.remedy.regress import NEEDED, study
from sidecar.remedy.runner import Runner
from sidecar.signals.learn.trainer import worker
from sidecar.types import F64, Instant, JsonObject, Labels, PromantisError, Rejected

log = logging.getLogger(__name__)

MINUTE = 60.0
LOOK = 28 * 86400.0
"""Seconds of past that firings are looked for in,"""
POINTS, ASKED = 10_000, 5
"""in so many queries of so many points at most: Prometheus gives 11,000."""
SERIES = 100
"""Alerts of one rule that are looked at; of a rule with more, only the alert itself."""
PATIENCE = 120.0
"""Seconds that the worker may take."""
_labels = msgspec.json.Decoder(dict[str, str]).decode


class Effects:
    """`run()` until cancelled: each case that is over is compared once, beside everything else."""

    def __init__(
        self,
        prometheus: Prometheus,
        runner: Runner,
        clock: Callable[[], Instant],
        pool: Callable[[], Executor] = worker,
    ) -> None:
        self._prometheus, self._runner, self._clock, self._pool = prometheus, runner, clock, pool

    async def run(self) -> None:
        """Look once a minute for a case to compare; what Prometheus refuses now is asked again."""
        while True:
            await asyncio.sleep(MINUTE)
            await self.look()

    async def look(self) -> None:
        """Compare every case whose time has come."""
        for case in self._runner.cases():
            due = compare.due(
                case, self._runner.case(case.id)[1], self._runner.policy(case.policy), self._clock()
            )
            if due is not None:
                try:
                    await self._runner.tell(case.id, "effect.compared", await self._compared(due))
                except PromantisError as error:
                    log.warning("not compared yet case=%s reason=%s", case.id, error)

    async def _compared(self, due: Due) -> JsonObject:
        case, step = due.case, compare.step_of(due.within)
        since, seen = await self._seen(case.labels, due.at + due.within + 2 * step, step)
        found = compare.firings(seen, step, due.at + due.within)
        mine = compare.own(found, case.labels, due.at)
        if mine is None:
            log.info("not compared: Prometheus does not know of this firing case=%s", case.id)
            return compare.plain([]) | {"policy": {}, "rows": [], "within": due.within}
        acted = [(one.labels, one.intent_at) for one in self._runner.cases() if one.intent_at is not None]
        past = compare.comparable(found, mine, due.at, due.within, acted, since + 3 * step)
        rows = [await self._row(due, one, due.at - mine.began) for one in past]
        rows.insert(0, self._own(due, mine))
        before = [
            msgspec.convert(row, Row)
            for one in self._runner.cases()
            if (one.policy, one.policy_hash) == (case.policy, case.policy_hash) and one.compared
            for row in one.compared["rows"]
        ]
        told = compare.plain(rows) | {"policy": compare.paired([*before, *rows])}
        told |= await self._by_regression(rows, [*before, *rows], told)
        lasted = [one.ended - one.began for one in past]
        told["lasted"] = float(np.median(lasted)) if lasted else None
        told["moved"] = rows[0].move
        return told | {"within": due.within, "in_time": rows[0].ended, "rows": msgspec.to_builtins(rows)}

    async def _seen(self, alert: Labels, end: float, step: float) -> tuple[float, dict[Labels, F64]]:
        """Since when, and the times at which each alert of the rule was seen to fire."""
        since = max(end - LOOK, end - ASKED * POINTS * step)
        times: dict[Labels, list[F64]] = {}
        query = compare.selector(alert, own=await self._many(alert, end))
        start = since
        while start < end:
            until = min(end, start + (POINTS - 1) * step)
            found = await self._prometheus.range(query, Instant(start), Instant(until), step)
            for i, key in enumerate(found.keys):
                at = found.at[np.isfinite(found.values[:, i])]
                times.setdefault(compare.alert_of(_labels(key)), []).append(at)
            start = until + step
        return since, {labels: np.concatenate(parts) for labels, parts in times.items()}

    async def _many(self, alert: Labels, end: float) -> bool:
        """Whether the rule has more alerts than are looked at; also where that is too much to ask."""
        query = f"count(last_over_time({compare.selector(alert)}[{LOOK:.0f}s]))"
        try:
            found = await self._prometheus.ask(query, Instant(end))
        except Rejected:
            return True
        return bool(found) and found[0][1] > SERIES

    def _own(self, due: Due, mine: Firing) -> Row:
        case = due.case
        before = compare.level(read(case.before), case.labels) if case.before else None
        moved = case.effect["target"] if case.effect else None
        after = before + moved if before is not None and moved is not None else None
        ended = mine.ended - due.at <= due.within
        return Row(case.id, str(mine.labels), mine.began, True, ended, before, after)

    async def _row(self, due: Due, one: Firing, lasted: float) -> Row:
        """What became of a firing that was left alone, from where it had lasted as long."""
        start = Instant(one.began + lasted)
        before = after = None
        if due.query and due.took:
            found = await self._prometheus.range(due.query, start, Instant(start + due.took), due.took)
            labels = [tuple(sorted(_labels(key).items())) for key in found.keys]
            at = [list(zip(labels, row.tolist(), strict=True)) for row in found.values]
            before, after = compare.level(at[0], one.labels), compare.level(at[-1], one.labels)
        ended = one.ended - start <= due.within
        return Row(due.case.id, str(one.labels), one.began, False, ended, before, after)

    async def _by_regression(
        self, rows: Sequence[Row], of_policy: Sequence[Row], told: JsonObject
    ) -> JsonObject:
        """What takes the place of the plain differences, where the library is there; a process that ends again."""
        if importlib.util.find_spec(NEEDED) is None:
            return {}
        pool = self._pool()
        try:
            future = asyncio.wrap_future(pool.submit(study, rows, of_policy))
            await asyncio.wait({future}, timeout=PATIENCE)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        error = future.exception() if future.done() else TimeoutError("no answer in time")
        if error is not None:  # whatever the library finds wrong with the numbers
            log.warning("no regression, plain differences stay reason=%s: %s", type(error).__name__, error)
            future.cancel()
            return {}
        case, policy = future.result()
        return (case or {}) | {"policy": told["policy"] | policy}
