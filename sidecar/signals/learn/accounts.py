"""What was promised and what came true: told to the telemetry at each tick, and as a report of the last week."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from sidecar.signals.forecast.calibrate import COVERAGE
from sidecar.signals.known import record
from sidecar.signals.known.ledger import VERDICTS
from sidecar.signals.known.record import CAME, COUNT
from sidecar.signals.known.record import SAID as ODDS
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.learn.opinions import NOT_REAL, REAL, Opinions
from sidecar.signals.learn.opinions import VERDICTS as WORDS
from sidecar.signals.watch.watches import Watch, announced
from sidecar.telemetry import Telemetry
from sidecar.types import F32, F64, HORIZONS, Instant

DAYS = 7


class Accounts:
    """Tells the telemetry what each snapshot decided."""

    def __init__(self, known: Known, telemetry: Telemetry) -> None:
        self._known, self._telemetry = known, telemetry
        self._watches: list[Mapping[str, Watch]] = []
        self._records: list[record.Kept] = []
        self._rules: set[str] = set()

    def ticked(self, snapshot: Snapshot) -> None:
        """Take a new snapshot, once, after it was published."""
        every = self._known.snapshots.values()
        watches, records = [s.watches for s in every], [s.record for s in every]
        if [*map(id, watches)] != [*map(id, self._watches)]:
            self._watches = watches
            self._follow()
        for alertname, counts in snapshot.decided.counts().items() if len(snapshot.decided.rule) else ():
            for verdict, count in zip(VERDICTS, counts.tolist(), strict=False):
                self._telemetry.rule_breaches.labels(alertname, verdict).inc(count)
            self._telemetry.breach_ahead.labels(alertname).inc(counts[-1])
        if [*map(id, records)] != [*map(id, self._records)]:
            self._records = records
            self._tell(record.total(records, Instant(0))[0])

    def _follow(self) -> None:
        """A counter begins at zero when its rule comes, and ends when it goes."""
        every = (watch for watches in self._watches for watch in watches.values())
        rules = {limit.alertname for watch in every for limit in announced(watch.limits)}
        for verdict in VERDICTS:
            for alertname in rules - self._rules:
                self._telemetry.rule_breaches.labels(alertname, verdict)
                self._telemetry.breach_ahead.labels(alertname)
            for alertname in self._rules - rules:
                self._telemetry.rule_breaches.remove(alertname, verdict)
        for alertname in self._rules - rules:
            self._telemetry.breach_ahead.remove(alertname)
        self._rules = rules

    def _tell(self, odds: F64) -> None:
        for (horizon, _), bins in zip(HORIZONS, odds.tolist(), strict=True):
            for name, mine in zip(record.BINS, bins, strict=True):
                if mine[COUNT]:
                    self._telemetry.breach_odds.labels(horizon, name).set(mine[COUNT])
                    self._telemetry.breach_reliability.labels(horizon, name).set(mine[CAME] / mine[COUNT])


# --------------------------------------------------------------------------- the report


class Forecasts(msgspec.Struct, frozen=True):
    """Of one watch or of all, by horizon: skill (1 - our error / the best naive one's) and coverage; NaN: not known."""

    watch: str
    skill: dict[str, float]
    coverage: dict[str, float]


class Bin(msgspec.Struct, frozen=True):
    """Odds of a size: how many, their mean, and the share that came true."""

    bin: str
    count: int
    said: float
    came: float


class Odds(msgspec.Struct, frozen=True):
    """The odds of one horizon whose truth came: Brier skill against their base rate, and mean distance of what was
    said from what came true; NaN without any."""

    horizon: str
    count: int
    rate: float
    brier_skill: float
    calibration_error: float
    bins: tuple[Bin, ...]


class Account(msgspec.Struct, frozen=True):
    """What was said of one of the user's rules; `ahead_seconds` is the mean over what was announced, NaN without."""

    source_alertname: str
    announced: int
    missed: int
    false: int
    ahead_seconds: float


class Judged(msgspec.Struct, frozen=True):
    """What people said within the week: verdicts, and the share that was real of what they judged; NaN: of nothing."""

    verdicts: dict[str, int]
    precision: float


class Confidence(msgspec.Struct, frozen=True):
    """How honest confidence was on all runs that were judged and are remembered, as `opinions.Reliability`."""

    runs: Mapping[str, int]
    share: Mapping[str, float]
    brier: float
    gain: float


class Report(msgspec.Struct, frozen=True):
    """What was promised, and what came true."""

    since: float
    until: float
    nominal_coverage: float
    total: Forecasts
    watches: tuple[Forecasts, ...]
    odds: tuple[Odds, ...]
    rules: tuple[Account, ...]
    feedback: Judged
    confidence: Confidence


def report(known: Known, said: Opinions, now: Instant) -> Report:
    """The last seven days, in whole days of UTC; skill and coverage of forecasts fade over about as long."""
    since = Instant(math.floor(now / record.DAY) * record.DAY - (DAYS - 1) * record.DAY)
    odds, rules = record.total([s.record for s in known.snapshots.values()], since)
    skills = known.skills()
    return Report(
        since=since,
        until=now,
        nominal_coverage=COVERAGE,
        total=_total(skills),
        watches=tuple(_forecasts(*one) for one in skills),
        odds=tuple(_odds(name, bins) for (name, _), bins in zip(HORIZONS, odds, strict=True)),
        rules=tuple(_account(name, counts) for name, counts in rules.items()),
        feedback=_judged(said, since),
        confidence=Confidence(*said.reliability()),
    )


def _forecasts(watch: str, skill: F32, covered: F32) -> Forecasts:
    names = [name for name, _ in HORIZONS]
    return Forecasts(
        watch,
        dict(zip(names, skill.tolist(), strict=True)),
        dict(zip(names, covered.tolist(), strict=True)),
    )


def _total(skills: Sequence[tuple[str, F32, F32]]) -> Forecasts:
    """Each watch has one voice: the geometric mean of the errors' ratios, and the mean of the coverages."""
    if not skills:
        return _forecasts("", np.full(3, np.nan, np.float32), np.full(3, np.nan, np.float32))
    ratio = np.maximum(1 - np.stack([skill for _, skill, _ in skills]), 1e-6)
    known = np.isfinite(ratio)
    logs = np.log(ratio, where=known, out=np.zeros_like(ratio)).sum(0)
    with np.errstate(invalid="ignore"):
        return _forecasts("", 1 - np.exp(logs / known.sum(0)), np.stack([c for _, _, c in skills]).mean(0))


def _odds(horizon: str, bins: F64) -> Odds:
    count, _, came, squares = bins.sum(0).tolist()
    if not count:
        return Odds(horizon, 0, math.nan, math.nan, math.nan, ())
    rate = came / count
    base = rate * (1 - rate)
    return Odds(
        horizon=horizon,
        count=int(count),
        rate=rate,
        brier_skill=1 - squares / count / base if base else math.nan,
        calibration_error=float(np.abs(bins[:, ODDS] - bins[:, CAME]).sum() / count),
        bins=tuple(
            Bin(name, int(n), p / n, y / n)
            for name, (n, p, y, _) in zip(record.BINS, bins.tolist(), strict=True)
            if n
        ),
    )


def _account(alertname: str, counts: F64) -> Account:
    announced, missed, false, ahead = counts.tolist()
    mean = ahead / announced if announced else math.nan
    return Account(alertname, int(announced), int(missed), int(false), mean)


def _judged(said: Opinions, since: Instant) -> Judged:
    lately = [one.said for one in said.last if one.at >= since]
    verdicts = {word: sum(one.verdict == word for one in lately) for word in WORDS}
    judged = verdicts[REAL] + verdicts[NOT_REAL]
    return Judged(verdicts, verdicts[REAL] / judged if judged else math.nan)
