"""`explained_by`: what is left of a series when others have accounted for it is watched in a twin of its row.

The twin has the whole detector of a row (level, season, tail) but sees the target less what its regressors say, and
it is no series: nobody lists, counts or exports it. Once the curve has proved itself on the series' own past, the
twin's verdict and band are published for the target; forecasts and limits stay those of the target itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sidecar.signals.detect.accept import accept
from sidecar.signals.detect.belief import NONE, Beliefs
from sidecar.signals.detect.block import Block
from sidecar.signals.detect.heirs import begin_again
from sidecar.signals.ingest import series
from sidecar.signals.ingest.matching import partners
from sidecar.signals.ingest.series import View
from sidecar.signals.known.snapshot import COLUMNS, blank
from sidecar.signals.models import Array, conditional
from sidecar.signals.watch.watches import Watch
from sidecar.types import F64, I64, Bools

log = logging.getLogger(__name__)

NOBODY = np.empty(0, bool)
LARGEST, SMALLEST = 8192, 16  # rows of a panel
VERDICT = ("score", "raw", "confidence", "since", "why")
BAND = ("expected", "lower", "upper")
SILENT = tuple(name for name in COLUMNS if name not in ("observed", "age"))

Place = tuple[int, int]
"""Panel and row in it."""


class Panel:
    """Curves and twins of some targets with equally many regressors; -1: a free row, or no regressor now."""

    def __init__(self, regressors: int, rows: int, step: float, tz: str) -> None:
        self.step, self.kind = step, (regressors, tz)
        self.model, self.twin = conditional.of(regressors)(rows), Block(rows, step, tz)
        self.target = np.full(rows, -1, np.int64)
        self.regressors = np.full((regressors, rows), -1, np.int64)
        self.least, self.least_relative = np.zeros(rows), np.zeros(rows)
        self.low, self.high = np.full(rows, -np.inf), np.full(rows, np.inf)
        self.unsure = np.zeros(rows, bool)
        """Rows that inherited and have not been held against a sample yet."""
        self._out = {name: np.full(rows, np.nan, kind) for name, kind in COLUMNS.items()}

    def put(self, rows: I64, target: I64, regressors: I64, watch: Watch, belief: float) -> None:
        """Say which rows of the engine are meant, I64[rows] and I64[k, rows], and the watch's settings.

        A residual has both signs, and neither zero nor the bounds mean to it what they mean to the target.
        """
        self.target[rows], self.regressors[:, rows] = target, regressors
        low, high = watch.bounds
        life = self.twin.life
        life.up[rows], life.down[rows] = watch.direction != "down", watch.direction != "up"
        life.negative[rows], life.missed[rows], life.belief[rows] = True, False, belief
        self.least[rows], self.least_relative[rows] = watch.min_deviation, watch.min_relative_deviation
        self.low[rows] = -np.inf if low is None else low
        self.high[rows] = np.inf if high is None else high

    def tick(self, at: float, values: F64, trust: Bools, columns: Mapping[str, Array], missed: float) -> bool:
        """Score what is left, learn, and publish where the curve is believed; values f64[rows + 1], the last NaN.

        Whether all is as before: an heir whose first sample does not fit begins anew and has to be linked again.
        """
        with np.errstate(all="ignore"):
            y, curve = values[self.target], self.model.curve(values[self.regressors])
            self.twin.level.missed += np.float32(missed)
            least = np.maximum(self.least, self.least_relative * np.abs(curve.value))
            self.twin.life.least[:] = np.nan_to_num(np.maximum(least, curve.doubt) / curve.noise)
            # without a sample of each there is none here, but nothing is absent: the target's own row tells of that
            left = (y - curve.value) / curve.noise
            trusted = trust[self.target]
            self.twin.tick(at, left, np.isfinite(left), trusted, self._out)
            score = self._out["score"]
            strange = np.flatnonzero(self.unsure & (score >= 1))
            use = self.model.earned & np.isfinite(score)
            use[strange] = False
            self.unsure &= ~np.isfinite(score)
            self.model.learn(at, y, curve, trusted, self.step)
        self._publish(np.flatnonzero(use), curve, columns)
        self.model.forget(strange)
        self.twin.forget(strange)
        return not len(strange)

    def _publish(self, rows: I64, curve: conditional.Curve, columns: Mapping[str, Array]) -> None:
        to = self.target[rows]
        for name in VERDICT:
            columns[name][to] = self._out[name][rows]
        floor = np.where(columns["lower"][to] >= 0, np.maximum(self.low[rows], 0), self.low[rows])
        for name in BAND:
            value = np.maximum(self._out[name][rows] * curve.noise[rows] + curve.value[rows], floor)
            columns[name][to] = np.minimum(value, self.high[rows])

    def teach(self, at: float, values: F64, step: float) -> None:
        """Coarse history: curves, and the twins' profiles."""
        with np.errstate(all="ignore"):
            y, curve = values[self.target], self.model.curve(values[self.regressors])
            left = (y - curve.value) / curve.noise
            self.twin.teach(at, left, step, np.isfinite(left))
            self.model.learn(at, y, curve, np.ones(len(y), bool), step)

    def free(self, rows: I64) -> None:
        """Make rows fresh."""
        self.model.forget(rows)
        self.twin.forget(rows)
        self.target[rows], self.regressors[:, rows], self.unsure[rows] = -1, -1, False

    def copy_rows(self, to: I64, source: Panel, rows: I64) -> None:
        """Take over what another panel has learned."""
        self.model.copy_rows(to, source.model, rows)
        self.twin.copy_rows(to, source.twin, rows)


class Explained:
    """All panels of an engine or of a lesson, and which target lives where."""

    def __init__(self, step: float, per_instance: tuple[str, ...] = series.PER_INSTANCE) -> None:
        self.step, self.per_instance = step, per_instance
        self.panels: list[Panel] = []
        self._by: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, dict[bytes, Place]] = {}
        """Where each target of a watch lives."""
        self._free: list[list[int]] = []
        """Free rows of each panel."""
        self._linked: tuple[object, object, object] | None = None
        self._asleep: Bools = np.empty(0, bool)
        self._silent: I64 = np.empty(0, np.int64)
        self._told: set[str] = set()
        """Watches of which was said that some series have no match."""
        self._cache: dict[str, tuple[list[list[bytes]], list[list[int]]]] = {}
        """Keys of each watch and of what explains it, and how they belong together."""

    # ------------------------------------------------------------------ which row belongs to which

    def link(
        self,
        view: View,
        watches: Mapping[str, Watch],
        beliefs: Beliefs = NONE,
        asleep: Bools = NOBODY,
    ) -> None:
        """Follow the table: called before each tick, works only when one of these changed; `asleep` as in Rows."""
        now = (view, watches, beliefs)
        same = self._linked is not None and all(a is b for a, b in zip(now, self._linked, strict=True))
        if same and (not self._by or np.array_equal(asleep, self._asleep)):
            return
        self._linked, self._asleep = now, asleep
        away = set(np.flatnonzero(asleep).tolist())
        silent = [row for name, w in watches.items() if not w.told for row in view.rows.get(name, ())]
        self._silent = np.array(silent, np.int64)
        for name in [name for name, by in self._by.items() if by != _by(watches.get(name))]:
            self._drop(name, list(self._places.get(name, ())))
            del self._by[name]
            self._cache.pop(name, None)
        names = {(watch.query, watch.tz): name for name, watch in watches.items()}
        for name, watch in watches.items():
            if watch.explained_by:
                self._by[name] = _by(watch)
                by = [view.rows.get(names.get((query, watch.tz), ""), ()) for query in watch.explained_by]
                others = [[row for row in rows if row not in away] for rows in by]
                belief = beliefs.of(name, watch.kind)
                self._link(watch, view, view.rows.get(name, ()), others, belief)

    def _link(
        self, watch: Watch, view: View, mine: Sequence[int], others: Sequence[Sequence[int]], belief: float
    ) -> None:
        keys = [[view.keys[row] or b"{}" for row in rows] for rows in (mine, *others)]
        cached = self._cache.get(watch.name)
        if cached is None or cached[0] != keys:
            cached = self._cache[watch.name] = keys, [partners(keys[0], other) for other in keys[1:]]
        places = self._places.setdefault(watch.name, {})
        regressors = np.full((len(others), len(mine)), -1, np.int64)
        for found, rows, of in zip(regressors, others, cached[1], strict=True):
            if rows and mine:
                index = np.array(of)
                found[:] = np.where(index >= 0, np.array(rows)[index], -1)
        known = [key in places for key in keys[0]]
        new = [i for i in np.flatnonzero((regressors >= 0).all(0)).tolist() if not known[i]]
        donors = self._donors(places) if new else {}
        for i in new:
            places[keys[0][i]] = place = self._take((len(others), watch.tz))
            donor = donors.get(series.workload(keys[0][i], self.per_instance))
            if donor is not None:
                self._copy(place, self, donor)
                begin_again(self.panels[place[0]].twin, np.array([place[1]]))
                self.panels[place[0]].unsure[place[1]] = True
        at = np.array([places.get(key, (-1, -1)) for key in keys[0]], np.int64).reshape(-1, 2)
        for i in set(at[:, 0].tolist()) - {-1}:
            here = np.flatnonzero(at[:, 0] == i)
            self.panels[i].put(at[here, 1], np.array(mine)[here], regressors[:, here], watch, belief)
        self._drop(watch.name, list(places.keys() - set(keys[0])))
        alone = len(mine) - len(places)
        if alone and all(others) and watch.name not in self._told:
            self._told.add(watch.name)
            words = "watch %s: %d of %d series have no match in explained_by and are scored by themselves"
            log.warning(words, watch.name, alone, len(mine))

    def _donors(self, places: Mapping[bytes, Place]) -> dict[bytes, Place]:
        """Of each workload the target that is known for longest."""
        out: dict[bytes, Place] = {}
        for key, (panel, row) in sorted(
            places.items(), key=lambda of: self.panels[of[1][0]].model.age[of[1][1]]
        ):
            out[series.workload(key, self.per_instance)] = panel, row
        return out

    def _take(self, kind: tuple[int, str]) -> Place:
        """A free row of a panel with so many regressors, in this time zone."""
        for i, panel in enumerate(self.panels):
            if panel.kind == kind and self._free[i]:
                return i, self._free[i].pop()
        used = sum(len(panel.target) for panel in self.panels if panel.kind == kind)
        self._add(Panel(kind[0], min(max(SMALLEST, used // 2), LARGEST), self.step, kind[1]))
        return len(self.panels) - 1, self._free[-1].pop()

    def _add(self, panel: Panel) -> None:
        self.panels.append(panel)
        self._free.append(np.flatnonzero(panel.target < 0)[::-1].tolist())

    def _copy(self, to: Place, source: Explained, place: Place) -> None:
        theirs = source.panels[place[0]]
        self.panels[to[0]].copy_rows(np.array([to[1]]), theirs, np.array([place[1]]))

    def _drop(self, watch: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            panel, row = self._places[watch].pop(key)
            self.panels[panel].free(np.array([row]))
            self._free[panel].append(row)

    # ------------------------------------------------------------------ ticks

    def tick(
        self, at: float, values: F64, trust: Bools, columns: Mapping[str, Array], missed: float = 0.0
    ) -> None:
        """After the rows themselves: columns of explained rows are overwritten, silent ones say nothing."""
        if self.panels:
            values, trust = np.append(values, np.nan), np.append(trust, False)
        for panel in self.panels:
            if not panel.tick(at, values, trust, columns, missed):
                self._linked = None
        for name in SILENT if len(self._silent) else ():
            columns[name][self._silent] = np.nan

    def replay(self, at: F64, values: F64, step: float, trust: Bools) -> None:
        """Learn from history f64[times, rows] what is trusted bool[times, rows]; from a step coarser than our own,
        curves and profiles only."""
        if not self.panels:
            return
        out, _ = blank(values.shape[1])
        for now, x, taught in zip(at.tolist(), values, trust, strict=True):
            if step > self.step:
                known = np.append(np.where(taught, x, np.nan), np.nan)
                for panel in self.panels:
                    panel.teach(now, known, step)
            else:
                out["lower"][:] = np.nan
                self.tick(now, x, taught, out)

    def take(self, other: Explained, missed: float = 0.0) -> None:
        """What another has learned of targets that both know; `missed` ticks of ours it knows of already."""
        for name in self._by.keys() & other._by.keys():
            theirs = other._places.get(name, {}) if self._by[name] == other._by[name] else {}
            for key, place in self._places.get(name, {}).items():
                if (source := theirs.get(key)) is not None:
                    self._copy(place, other, source)
                    self.panels[place[0]].twin.level.missed[place[1]] -= np.float32(missed)

    def deployed(self, rows: Sequence[int], at: float) -> None:
        """Note that these rows of the engine belong to workloads that were deployed."""
        for panel in self.panels:
            panel.twin.life.changed[np.isin(panel.target, np.array(rows, np.int64))] = at

    def accept(self, at: float, watch: str, keys: Sequence[bytes]) -> None:
        """Take what these series are now for their new normal."""
        for place in (self._places.get(watch, {}).get(key) for key in keys):
            if place is not None:
                accept(self.panels[place[0]].twin, at, np.array([place[1]]))

    # ------------------------------------------------------------------ state

    def header(self) -> dict[str, Any]:
        """What is no array."""
        return {
            "panels": [[*panel.kind, len(panel.target)] for panel in self.panels],
            "by": self._by,
        }

    def state(self) -> Iterator[tuple[str, Array]]:
        """Array by array; targets are rows of the table."""
        for i, panel in enumerate(self.panels):
            yield f"explained{i}.target", panel.target
            for part, state in (("model", panel.model.state()), ("twin", panel.twin.state())):
                for name, array in state.items():
                    yield f"explained{i}.{part}.{name}", array

    def restore(self, header: Mapping[str, Any], arrays: Mapping[str, Array], view: View) -> None:
        """Take over what was saved with this table; ValueError or KeyError when it does not fit."""
        self._by = {name: tuple(by) for name, by in header["by"].items()}
        for i, (count, tz, rows) in enumerate(header["panels"]):
            panel = Panel(count, rows, self.step, tz)
            for part, model in (("model", panel.model), ("twin", panel.twin)):
                prefix = f"explained{i}.{part}."
                model.restore({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
            for row, target in enumerate(arrays[f"explained{i}.target"].tolist()):
                key = view.keys[target] if target >= 0 else None
                if key is None:
                    panel.free(np.array([row]))
                else:
                    panel.target[row] = target
                    self._places.setdefault(view.watch_of[target], {})[key] = i, row
            self._add(panel)


def _by(watch: Watch | None) -> tuple[str, ...]:
    """What makes a curve another one: its target, time zone and regressors."""
    return (watch.query, watch.tz, *watch.explained_by) if watch else ()
