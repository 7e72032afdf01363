"""All that users have said of runs, folded from the journal: what it teaches, and how honest confidence has been."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.signals.detect.belief import LEAST, Beliefs, Verdict, learned
from sidecar.signals.learn.runs import Run
from sidecar.types import F64, Instant, JsonObject, labels_of

REAL, NOT_REAL, EXPECTED, PLANNED = VERDICTS = ("real", "not_real", "expected_from_now", "planned")
EDGES = (0.0, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
BINS = tuple(f"{low:g}-{high:g}" for low, high in itertools.pairwise(EDGES))
"""Of confidence; each holds its lower edge, the last one its upper edge too."""
MOST = 1000  # runs that are learned from, and statements that are listed: the newest

Identity = tuple[str, tuple[tuple[str, str], ...], float]


class Spoken(msgspec.Struct, frozen=True):
    """A run that a statement is about, as it stood then."""

    watch: str
    kind: str
    labels: dict[str, str]
    start: float
    end: float
    peak: float
    confidence: float
    prior: float

    @classmethod
    def of(cls, run: Run) -> Spoken:
        """A run as the journal keeps it."""
        labels = dict(run.labels)
        return cls(run.watch, run.kind, labels, run.start, run.end, run.peak, run.confidence, run.prior)


class Statement(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a `feedback` fact."""

    verdict: str
    match: str = ""
    fingerprint: str = ""
    start: float | None = None
    end: float | None = None
    comment: str = ""
    runs: tuple[Spoken, ...] = ()
    series: tuple[tuple[str, dict[str, str]], ...] = ()
    """Watch and labels of what a fingerprint stood for."""


class Opinion(NamedTuple):
    """A statement, who made it and when."""

    at: Instant
    who: str
    said: Statement


class _Judged(NamedTuple):
    """The newest word on a run; prior and confidence are those before the first one."""

    verdict: str
    real: bool | None
    """None while only `expected_from_now` or `planned` was said, which says nothing of the page."""
    spoken: Spoken
    weight: float


class Reliability(NamedTuple):
    """How honest confidence was on the runs that were judged real or not real, of what was said before."""

    runs: Mapping[str, int]
    share: Mapping[str, float]
    """Share that was real, of bins that have runs."""
    brier: float
    """Mean squared error, lower is better; NaN without runs, as the gain is."""
    gain: float
    """Log loss of the prior minus that of what was said, in nats per run: above 0, feedback helps."""


class Opinions:
    """Folds statements; `add` each once, in order."""

    def __init__(self) -> None:
        self.last: deque[Opinion] = deque(maxlen=MOST)
        self._judged: dict[Identity, _Judged] = {}

    def add(self, at: Instant, who: str, data: JsonObject) -> Opinion:
        """One more fact; msgspec.ValidationError when it is none of ours."""
        opinion = Opinion(at, who, msgspec.convert(data, Statement))
        self.last.append(opinion)
        verdict, spoken = opinion.said.verdict, opinion.said.runs
        for run in spoken:
            before = self._judged.pop(_identity(run), None)
            real = verdict == REAL if verdict in (REAL, NOT_REAL) else before.real if before else None
            kept = before.spoken if before else run
            self._judged[_identity(run)] = _Judged(verdict, real, kept, _weight(run, spoken))
        while len(self._judged) > MOST:
            del self._judged[next(iter(self._judged))]
        return opinion

    def verdict(self, run: Run) -> str | None:
        """The newest word on a run."""
        found = self._judged.get((run.watch, run.labels, run.start))
        return found.verdict if found else None

    def of_alert(self, fingerprint: str) -> list[Opinion]:
        """What was said of an alert, the newest first."""
        return [one for one in reversed(self.last) if one.said.fingerprint == fingerprint]

    def beliefs(self) -> Beliefs:
        """What all of it teaches."""
        return learned(
            [
                Verdict(one.spoken.watch, one.spoken.kind, one.spoken.prior, one.real, one.weight)
                for one in self._judged.values()
                if one.real is not None
            ]
        )

    def planned(self, now: Instant) -> list[Statement]:
        """Statements of times, present and to come, whose samples are not to be trusted."""
        said = [opinion.said for opinion in self.last]
        return [one for one in said if one.verdict == PLANNED and one.end is not None and one.end > now]

    def reliability(self) -> Reliability:
        """Of the runs that are remembered."""
        judged = [one for one in self._judged.values() if one.real is not None]
        said, prior = (
            np.array([getattr(one.spoken, name) for one in judged], float) for name in ("confidence", "prior")
        )
        real = np.array([one.real for one in judged], float)
        place = np.minimum(np.searchsorted(EDGES, said, side="right") - 1, len(BINS) - 1)
        runs = {name: int((place == i).sum()) for i, name in enumerate(BINS)}
        share = {name: float(real[place == i].mean()) for i, name in enumerate(BINS) if runs[name]}
        if not judged:
            return Reliability(runs, share, np.nan, np.nan)
        gain = _log_loss(prior, real) - _log_loss(said, real)
        return Reliability(runs, share, float(np.mean((said - real) ** 2)), gain)


def _identity(run: Spoken) -> Identity:
    return run.watch, labels_of(run.labels), run.start


def _weight(run: Spoken, others: tuple[Spoken, ...]) -> float:
    """Runs of one watch at one time that are judged in one breath are one event."""
    same = [o for o in others if o.watch == run.watch and o.start <= run.end and run.start <= o.end]
    return 1 / len(same)


def _log_loss(p: F64, real: F64) -> float:
    p = np.clip(p, LEAST, 1 - LEAST)
    return float(-np.mean(np.log(np.where(real > 0, p, 1 - p))))
