"""Breach odds against what came true, beside `predict_linear`: limits are quantiles of each series' first half.

Judged are the ends of five-minute blocks of the second half at which the series has been within the limit for an hour.
A crossing is the first sample beyond the limit after such an hour. An announcement begins after such an hour, as by the
shipped rules, when the odds of the next one reach a threshold, counts for one crossing at most, that comes ten minutes
later or more, and dies after its hour. The threshold is the best one of the first half.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.breach.limits import Lines
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.ingest.series import View
from sidecar.signals.known.snapshot import Snapshot
from sidecar.signals.replay import backtest
from sidecar.signals.tick.engine import Engine
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import F32, F64, HORIZONS, Bools, Instant
from tests.quality.data import File

QUANTILES = ((">", 0.99), (">", 0.999), ("<", 0.01), ("<", 0.001))
WINDOWS = (900.0, 3600.0, 14400.0)
HOUR, LEAD, LEAST = 3600.0, 600.0, 100
EPISODE = 6 * HOUR  # origins of a line that lie in the same one are not independent
THRESHOLDS = np.array(
    [0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9]
)


class Line(NamedTuple):
    """One limit of one series, at the origins that are judged: `odds` f32[3, n], `came` bool[3, n], NaN odds count as
    none; `linear` bool[windows, 3, n] is what predict_linear says."""

    at: F64
    odds: F32
    came: Bools
    linear: Bools
    times: F32
    """f32[3, n]: the time that was said, and between which times four in five were to come; NaN: none was."""
    true_eta: F64
    """Seconds until the first sample beyond the limit; inf: none."""
    ends: F64
    """Times of all origins. Within an hour after a crossing nothing is announced, as by the shipped rules."""
    ends_odds: F32
    ends_linear: Bools
    crossings: F64
    middle: float
    """Where the second half begins."""


def limits(values: F64, clip: float = 0.5) -> list[Limit]:
    """Limits of a series from its first part; none where they are no limits."""
    first = values[: int(len(values) * clip)]
    first = first[np.isfinite(first)]
    out = list[Limit]()
    for op, q in QUANTILES if len(first) else ():
        value = float(np.quantile(first, q))
        beyond = (first > value) if op == ">" else (first < value)
        if 0 < beyond.mean() < 0.1 and all((op, value) != (known.op, known.value) for known in out):
            out.append(Limit(op, value, 0.0, f"{op}{q}"))
    return out


class _Fleet(Engine):
    """One watch over all series, since columns are cheap and watches are not, each with limits of its own."""

    def __init__(self, step: float, limits: Mapping[bytes, Sequence[Limit]]) -> None:
        self._of = {
            key.decode(): Watch(key.decode(), "", "config", step, limits=tuple(mine))
            for key, mine in limits.items()
        }
        super().__init__(step)
        self.watch({"all": Watch("all", "all", "config", step)})

    def ask(self, at: Instant, keys: Sequence[bytes], x: F64, asked: Bools) -> Snapshot:
        """One tick, at which only some series are asked."""
        frame = self.frame(at, {"all": Vector(keys, x)}, len(keys))
        rows = self.table.find("all", keys)
        frame.asked[rows] &= asked
        frame.values[rows[~asked]] = np.nan
        return self.advance(frame)

    def _lines(self, view: View) -> Lines:
        names = tuple((key or b"").decode() for key in view.keys)
        return Lines(view._replace(watch_of=names), self._of)


def run(files: list[File], of: list[list[list[Limit]]] | None = None) -> list[Line]:
    """Every limit of every series of some files of one step; `of` are the limits by file and series."""
    step = files[0].step
    of = of or [[limits(file.values[:, j]) for j in range(file.values.shape[1])] for file in files]
    recordings = [backtest.Recording(file.name, file.at, file.values) for file in files]
    base = math.floor(min(float(r.at[0]) for r in recordings) / backtest.WEEK) * backtest.WEEK
    ticks = [backtest._ticks(r, base, step, True) for r in recordings]
    first = np.concatenate([[0], np.cumsum([file.values.shape[1] for file in files])])
    keys = [b'{"n":"%d"}' % k for k in range(int(first[-1]))]
    engine = _Fleet(step, dict(zip(keys, itertools.chain(*of), strict=True)))
    at_row, x = [0] * len(files), np.full(len(keys), np.nan)
    odds = [np.full((3, len(file.at), file.values.shape[1], 4), np.nan, np.float32) for file in files]
    times = [np.full((3, len(file.at), file.values.shape[1], 4), np.nan, np.float32) for file in files]
    table: object = None
    place = np.empty((0, 3), np.int64)
    for tick in np.unique(np.concatenate(ticks)).tolist():
        here, asked = list[tuple[int, int]](), np.zeros(len(keys), bool)
        for i, file in enumerate(files):
            if at_row[i] < len(ticks[i]) and ticks[i][at_row[i]] == tick:
                row, mine = at_row[i], slice(first[i], first[i + 1])
                while at_row[i] < len(ticks[i]) and ticks[i][at_row[i]] == tick:
                    at_row[i] += 1
                here.append((i, row))
                x[mine], asked[mine] = file.values[row], True
        said = engine.ask(Instant(base + tick * step), keys, x, asked)
        if said.limits.limit is not table:  # which file, series and limit each line is of
            table = said.limits.limit
            places = list[tuple[int, int, int]]()
            for row, limit in zip(said.limits.row.tolist(), said.limits.limit, strict=True):
                k = keys.index(said.keys[row] or b"")
                i = int(np.searchsorted(first, k, side="right")) - 1
                places.append((i, k - int(first[i]), of[i][k - int(first[i])].index(limit)))
            place = np.array(places).reshape(-1, 3)
        for i, row in here:
            some = place[:, 0] == i
            odds[i][:, row, place[some, 1], place[some, 2]] = said.limits.probability[:, some]
            for h, column in enumerate(said.limits[3:]):
                times[i][h, row, place[some, 1], place[some, 2]] = column[some]
    return [
        _line(file, file.values[:, j], limit, odds[i][:, :, j, k], times[i][:, :, j, k])
        for i, file in enumerate(files)
        for j in range(file.values.shape[1])
        for k, limit in enumerate(of[i][j])
    ]


def _line(file: File, x: F64, limit: Limit, odds: F32, times: F32) -> Line:
    at, step = file.at, file.step
    sign = 1.0 if limit.op == ">" else -1.0
    over = np.nan_to_num(sign * x, nan=-np.inf) > sign * limit.value
    last = np.maximum.accumulate(np.where(over, at, -np.inf))
    calm = at - last >= min(HOUR, 3600) - 1e-6
    before = np.concatenate([[False], calm[:-1]])
    when = np.where(over, at, np.inf)
    coming = np.concatenate([np.minimum.accumulate(when[::-1])[::-1][1:], [np.inf]]) - at
    every = max(1, round(300 / step))
    ends = np.arange(every - 1, len(at), every)
    ends = ends[(at[ends] - at[0] >= 86400) & np.isfinite(x[ends])]
    linear = np.stack([_linear(at, x, limit.value, sign, ends, window) for window in WINDOWS])
    reach = np.array([h for _, h in HORIZONS])[:, None]
    judged = calm[ends] & ~over[ends] & (at[-1] - at[ends] >= HOUR)
    some = ends[judged]
    return Line(
        at[some], np.nan_to_num(odds[:, some]), coming[some] <= reach + 1e-6, linear[:, :, judged], times[:, some],
        coming[some], at[ends], np.where(calm[ends], np.nan_to_num(odds[2, ends]), 0), linear[:, 2] & calm[ends],
        at[over & before], float(at[0] + at[-1]) / 2,
    )  # fmt: skip


def _linear(at: F64, x: F64, limit: float, sign: float, ends: np.ndarray, window: float) -> Bools:
    """Whether predict_linear over a window is beyond the limit at each horizon, bool[3, ends]."""
    t, v = at - at[0], np.nan_to_num(x)
    good = np.isfinite(x).astype(float)
    sums = [np.concatenate([[0], np.cumsum(y)]) for y in (good, good * t, good * t * t, v, v * t)]
    lo = np.searchsorted(at, at[ends] - window, side="right")
    n, st, stt, sv, svt = (s[ends + 1] - s[lo] for s in sums)
    with np.errstate(all="ignore"):
        slope = (n * svt - st * sv) / (n * stt - st * st)
        level = (sv - slope * st) / n
        said = np.stack([sign * (level + slope * (t[ends] + h)) > sign * limit for _, h in HORIZONS])
    return said & (n >= 2)


class Verdict(NamedTuple):
    """Of one horizon: Brier skill against the base rate, calibration error in all, the largest of a tenth above a half,
    and by how much all above a half are too sure; both with a standard error. Neighbouring origins see the same
    crossing, so that counts episodes, not origins."""

    rate: float
    skill: float
    linear: float
    error: float
    worst: tuple[float, float]
    likely: tuple[float, float]


def verdict(lines: list[Line], h: int) -> Verdict:
    """Over the second halves."""
    late = [line.at >= line.middle for line in lines]
    p, y = (
        np.concatenate([getattr(line, name)[h, part] for line, part in zip(lines, late, strict=True)])
        for name in ("odds", "came")
    )
    episode = np.concatenate([
        (line.at[part] // EPISODE) * len(lines) + i for i, (line, part) in enumerate(zip(lines, late, strict=True))
    ])  # fmt: skip
    rate = y.mean()
    base = max(1e-12, rate * (1 - rate))
    skills = []
    for w in range(len(WINDOWS)):
        said = np.concatenate([line.linear[w, h, line.at >= line.middle] for line in lines])
        told = np.where(said, y[said].mean() if said.any() else 0, y[~said].mean())
        skills.append(1 - np.mean((told - y) ** 2) / base)
    bins = np.minimum((p * 10).astype(int), 9)
    errors = [(np.sum(bins == b), abs(p[bins == b].mean() - y[bins == b].mean())) for b in np.unique(bins)]
    above = [
        (float(e), _mean((p - y)[bins == b], episode[bins == b])[1])
        for b, (n, e) in zip(np.unique(bins), errors, strict=True)
        if b >= 5 and n >= LEAST
    ]
    return Verdict(
        float(rate), float(1 - np.mean((p - y) ** 2) / base), float(max(skills)),
        float(sum(n * e for n, e in errors) / len(p)), max(above, default=(math.nan, math.nan)),
        _mean((p - y)[bins >= 5], episode[bins >= 5]),
    )  # fmt: skip


def _mean(off: F64, episode: F64) -> tuple[float, float]:
    """Mean of what is alike within episodes, and its standard error."""
    _, of = np.unique(episode, return_inverse=True)
    if not len(of):
        return math.nan, math.nan
    return float(off.mean()), float(np.sqrt(np.sum(np.bincount(of, off - off.mean()) ** 2)) / len(off))


def _shown(value: tuple[float, float]) -> str:
    return "-" if math.isnan(value[0]) else f"{value[0]:.2f} +-{value[1]:.2f}"


def announced(at: F64, says: Bools, crossings: F64, since: float, until: float) -> tuple[int, int, int]:
    """Announcements, those that came true, and crossings in a span of time."""
    made, free = list[float](), -math.inf
    for t in at[says & (at >= since) & (at < until)].tolist():
        if t >= free:
            made.append(t)
            free = t + HOUR
    events = crossings[(crossings >= since) & (crossings < until)]
    true, used = 0, set[float]()
    for t in made:
        hit = [e for e in events.tolist() if LEAD <= e - t <= HOUR and e not in used]
        if hit:
            used.add(hit[0])
            true += 1
    return len(made), true, len(events)


def f1(counts: list[tuple[int, int, int]]) -> float:
    """Of announcements, true ones and crossings."""
    made, true, events = np.sum(counts, axis=0)
    return 2 * true / max(1, made + events)


def announcements(lines: list[Line]) -> tuple[float, float, float]:
    """F1 of ours at the threshold of the first half, of predict_linear over its best window, and the threshold."""

    def half(line: Line) -> tuple[tuple[float, float], tuple[float, float]]:
        return (-math.inf, line.middle), (line.middle, math.inf)

    def at(threshold: float, second: bool) -> float:
        return f1([
            announced(line.ends, line.ends_odds >= threshold, line.crossings, *half(line)[second])
            for line in lines
        ])  # fmt: skip

    best = max(THRESHOLDS.tolist(), key=lambda t: at(t, False))
    linear = max(
        f1(
            [
                announced(line.ends, line.ends_linear[w], line.crossings, line.middle, math.inf)
                for line in lines
            ]
        )
        for w in range(len(WINDOWS))
    )
    return at(best, True), linear, best


def table(found: dict[str, list[Line]]) -> list[tuple[str, ...]]:
    """One line per set and horizon."""
    out = [
        (
            "set",
            "h",
            "limits",
            "rate",
            "Brier skill",
            "predict_linear",
            "error",
            "worst >.5",
            "all >.5",
            "F1",
            "predict_linear",
            "at",
        )
    ]
    for name, lines in found.items():
        ours, linear, threshold = announcements(lines)
        for h, (horizon, _) in enumerate(HORIZONS):
            v = verdict(lines, h)
            last = (f"{ours:.2f}", f"{linear:.2f}", f"{threshold:.2f}") if h == 2 else ("", "", "")
            out.append((
                name, horizon, str(len(lines)), f"{v.rate:.3f}", f"{v.skill:.3f}", f"{v.linear:.3f}",
                f"{v.error:.4f}", _shown(v.worst), _shown(v.likely), *last,
            ))  # fmt: skip
    return out
