"""Detection tables: recall inside budgets of false pages, and what one threshold for all sets gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tests.quality.measure import Result

BUDGETS = [0.01, 0.1, 0.5]
MEAN = 0.1  # false pages per series-day, mean of the sets, for the one threshold
DETECTORS = ("Promantis", "random", "1-day mean/std", "seasonal robust z", "IForest", "PCA")
CUSTOMARY = ("Promantis", "1-day mean/std", "seasonal robust z")
"""Those with a threshold of their own: a score of 1, or three deviations."""
FLOOR = {
    "nab": (0.53, 0.78, 0.21),
    "microsoft": (0.68, 0.90, 0.49),
    "asd": (0.64, 0.83, 0.50),
    "smd": (0.57, 0.71, 0.42),
}
"""Of the study's prototype (research/detection.md): recall @.1, @.5, VUS-PR."""
Line = tuple[str, ...]


class Judged(NamedTuple):
    """One detector's scores on one set, as `score.py` takes them, and its arguments."""

    series: list[Any]
    args: Any


class Judge:
    """`score.py` over results of every set."""

    def __init__(self, score: Any, results: Mapping[str, list[Result]]) -> None:
        self.score = score
        self.sets = {name: self._judged(mine) for name, mine in results.items()}

    def _judged(self, results: list[Result]) -> dict[str, Judged]:
        out = {}
        for detector in DETECTORS:
            series = [
                self.score.Series(r.file.name, r.file.at[t], r.file.label[t], r.scores[detector][t])
                for r in results
                if detector in r.scores
                for t in [r.file.test]
            ]
            args = self.score.args(["-", "--budgets", ",".join(map(str, BUDGETS))])
            self.score.prepare(series, args)
            if series:
                out[detector] = Judged(series, args)
        return out

    def at(self, name: str, detector: str, threshold: float) -> dict[str, Any]:
        """A detector on a set at a threshold."""
        mine = self.sets[name][detector]
        found: dict[str, Any] = self.score.summarise(mine.series, threshold, mine.args)
        return found

    def vus(self, name: str, detector: str) -> float:
        """VUS-PR: mean over series that hold an anomaly."""
        found = []
        for x in self.sets[name][detector].series:
            if x.y.any():
                found.append(self.score.vus(x.y, x.s, int(np.clip(round(3600 / x.step), 2, 200)))[1])
        return float(np.nanmean(found)) if found else math.nan

    def threshold(self, detector: str) -> float:
        """The threshold at which the mean of the sets' false pages is `MEAN`: from the strictest down, the last."""
        names = [name for name, mine in self.sets.items() if detector in mine]
        scores = np.concatenate([x.s for name in names for x in self.sets[name][detector].series])
        scores = np.sort(scores[np.isfinite(scores)])
        wide = np.quantile(scores, 1 - np.logspace(-math.log10(len(scores)), 0, 60))

        def calm(threshold: float) -> bool:
            pages = [self.at(n, detector, threshold)["false_alerts_per_series_day"] for n in names]
            return float(np.mean(pages)) <= MEAN

        high = low = float(scores[-1])
        for one in wide.tolist():
            low = one
            if not calm(low):
                break
            high = low
        for _ in range(12 if low < high else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if calm(middle) else (middle, high)
        return high


def budgets(judge: Judge) -> list[Line]:
    """One line per set and detector: the best that any threshold of its own gives."""
    lines: list[Line] = [("set", "series/events", "detector", "@.01", "@.1", "@.5", "delay@.1", "VUS-PR")]
    for name, mine in judge.sets.items():
        for detector, (series, args) in mine.items():
            swept = judge.score.sweep(series, args)
            recall = [_number(one.get("event_recall"), 2) for one in swept] or ["-"] * len(BUDGETS)
            delay = _seconds(swept[1].get("delay_median_s") if swept else None)
            size = f"{len(series)}/{sum(len(x.ev) for x in series)}"
            vus = _number(judge.vus(name, detector), 3)
            lines.append((name, size, detector, *recall, delay, vus))
        if name in FLOOR:
            tenth, half, vus = (f"{number:.2f}" for number in FLOOR[name])
            lines.append((name, "", "(prototype)", "", tenth, half, "", vus))
    return lines


def one_threshold(judge: Judge) -> list[Line]:
    """Every set at one threshold: the customary one, and the one with `MEAN` false pages in the mean of the sets."""
    head = ("detector", "threshold", "set", "recall", "false/day", "p95", "worst", "delay", "alert time")
    lines: list[Line] = [head]
    for detector in DETECTORS:
        names = [name for name, mine in judge.sets.items() if detector in mine]
        if len(names) < len(judge.sets):
            continue
        for threshold in ([1.0] if detector in CUSTOMARY else []) + [judge.threshold(detector)]:
            found = {name: judge.at(name, detector, threshold) for name in names}
            for name, one in found.items():
                lines.append((detector, f"{threshold:.3f}", name, *_cells(one)))
            lines.append((detector, f"{threshold:.3f}", "mean of sets", *_means(found.values())))
    return lines


def calm(judge: Judge) -> list[Line]:
    """Pages on series that hold no event, at the customary threshold."""
    lines: list[Line] = [("set", "detector", "series", "days", "pages", "a day", "worst")]
    for name, mine in judge.sets.items():
        for detector in (d for d in CUSTOMARY if d in mine):
            quiet = [x for x in mine[detector].series if not len(x.ev)]
            if quiet:
                found = judge.score.summarise(quiet, 1.0, mine[detector].args)
                days, pages = sum(x.days for x in quiet), found["false_pages"]
                worst = _number(found["fa_day_max_series"], 3)
                lines.append(
                    (name, detector, str(len(quiet)), f"{days:.0f}", str(pages), f"{pages / days:.3f}", worst)
                )
    return lines


def _cells(one: Mapping[str, Any]) -> Line:
    return (
        _number(one["event_recall"], 2),
        *(
            _number(one[key], 3)
            for key in ("false_alerts_per_series_day", "fa_day_p95_series", "fa_day_max_series")
        ),
        _seconds(one["delay_median_s"]),
        _number(one["false_alert_time"], 4),
    )


def _means(found: Iterable[Mapping[str, Any]]) -> Line:
    every = list(found)
    recall, false = (
        float(np.mean([one[key] for one in every])) for key in ("event_recall", "false_alerts_per_series_day")
    )
    p95, worst = (max(one[key] or 0.0 for one in every) for key in ("fa_day_p95_series", "fa_day_max_series"))
    return f"{recall:.2f}", f"{false:.3f}", f"<= {p95:.3f}", f"<= {worst:.3f}", "", ""


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"
