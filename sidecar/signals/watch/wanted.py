"""What a user wants watched: the sections `watches` and `rules` of the config; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from sidecar.signals.models.fitted import MODELS
from sidecar.signals.watch import promql
from sidecar.signals.watch.calendar import zone_problem
from sidecar.signals.watch.conditions import COMPARE
from sidecar.signals.watch.kinds import KINDS
from sidecar.types import Duration, Section

DIRECTIONS = ("up", "down", "both")
ABSENT = ("alarm", "ignore", "zero")
SCALES = ("linear", "log")
MOST_REGRESSORS = 8


class LimitConfig(Section, frozen=True, kw_only=True):
    """A limit of a configured watch."""

    op: str = ">"
    """`>`, `>=`, `<`, `<=`, `==` or `!=`."""
    value: float
    """The limit."""
    hold: Duration = msgspec.field(name="for", default=Duration(0))
    """How long before it counts."""
    name: str = "limit"
    """Value of `source_alertname`."""
    severity: str = ""
    """Value of `source_severity`."""


class WatchConfig(Section, frozen=True, kw_only=True):
    """One entry of `watches:`."""

    name: str
    """Value of the `watch` label."""
    query: str
    """PromQL, an instant vector."""
    kind: str = "other"
    """`latency`, `errors`, `traffic`, `saturation`, `cpu`, `memory`, `disk`, `network` or `other`; of calls
    between services `edge_client`, `edge_server`, `gap` or `fanout`."""
    direction: str = "both"
    """Which way is bad: `up`, `down` or `both`."""
    limits: tuple[LimitConfig, ...] = ()
    min_deviation: float = 0.0
    """A smaller distance from what is expected is never odd."""
    min_relative_deviation: float = 0.0
    """The same as a share of what is expected."""
    scale: str = "linear"
    """`log`: factors count, not differences, so that half is as far as twice; for what goes over several sizes,
    such as latencies and queues. It begins at `min_deviation`; not with `explained_by`. Another one learns its
    history again."""
    bounds: tuple[float | None, float | None] = (None, None)
    """Values that cannot be exceeded, for forecasts."""
    absent: str = "alarm"
    """What a vanished series means: `alarm`, `ignore` or `zero`."""
    absent_for: Duration = Duration(300)
    """How long a vanished series keeps its score."""
    interval: Duration | None = None
    """Between two queries; default: `interval`."""
    explained_by: tuple[str, ...] = ()
    """Up to 8 queries whose values explain this one's (CPU by request rate): what they account for is not odd."""
    models: tuple[str, ...] | None = None
    """Models that are fitted to each of its series, with a limit or without, beside what forecasts every series:
    `arima`, `ets`, `uc` (`promantis[models]`), `prophet` (`promantis[prophet]`), `lstm` (`promantis[deep]`); `null`:
    as `learning.models` says."""
    regressors: tuple[str, ...] = ()
    """Up to 8 queries that these models take into account, e.g. a flag that is up after a deployment."""
    group_by: tuple[str, ...] = ()
    """Labels whose series are scored together too, as one group for each of their values."""
    group: str | None = None
    """Name of a group that all watches that give it share, e.g. all metrics of a machine."""
    tz: str | None = None
    """Time zone of this watch; default: `tz`. Another one learns its history again."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Names, the query, and words that must be one of a few."""
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", self.name):
            yield "name", f"{self.name!r} is not a name such as api_latency ([a-zA-Z_][a-zA-Z0-9_]*)"
        try:
            promql.check(self.query)
        except promql.NoWatch as error:
            yield "query", str(error)
        for key, value, known in (
            ("kind", self.kind, KINDS),
            ("direction", self.direction, DIRECTIONS),
            ("absent", self.absent, ABSENT),
            ("scale", self.scale, SCALES),
        ):
            if value not in known:
                yield key, f"{value!r} is not one of {', '.join(known)}"
        for i, limit in enumerate(self.limits):
            if limit.op not in COMPARE:
                yield f"limits[{i}].op", f"{limit.op!r} is not one of {', '.join(COMPARE)}"
            if not math.isfinite(limit.value):
                yield f"limits[{i}].value", "must be a finite number"
        for key, number in (
            ("min_deviation", self.min_deviation),
            ("min_relative_deviation", self.min_relative_deviation),
        ):
            if not 0 <= number < math.inf:
                yield key, "must be a number of 0 or more"
        low, high = self.bounds
        if low is not None and high is not None and not low < high:
            yield "bounds", "the first must be below the second"
        if self.interval is not None and self.interval <= 0:
            yield "interval", "must be greater than 0s"
        for i, label in enumerate(self.group_by):
            if not re.fullmatch(r"[^\s{}=,\"]+", label) or label == "__name__":
                yield f"group_by[{i}]", f"{label!r} is not the name of a label"
        if self.group is not None and not (self.group and self.group_by):
            yield "group", "needs a name and group_by: the labels that its members share"
        if self.tz is not None and (words := zone_problem(self.tz)):
            yield "tz", words
        if self.scale == "log" and self.explained_by:
            yield "scale", "log does not go with explained_by: what others leave of a value has two signs"
        for i, model in enumerate(self.models or ()):
            if model not in MODELS:
                yield f"models[{i}]", f"{model!r} is not one of {', '.join(MODELS)}"
        yield from self._regressor_problems("explained_by", self.explained_by)
        yield from self._regressor_problems("regressors", self.regressors)

    def _regressor_problems(self, key: str, queries: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if len(queries) > MOST_REGRESSORS:
            yield key, f"at most {MOST_REGRESSORS} queries, got {len(queries)}"
        seen: list[str] = []
        for i, query in enumerate(queries):
            try:
                promql.check(query)
                seen.append(promql.normalise(query))
                if seen[-1] in seen[:-1]:
                    yield f"{key}[{i}]", f"it is {key}[{seen.index(seen[-1])}] once more"
                elif seen[-1] == promql.normalise(self.query):
                    yield f"{key}[{i}]", "it is the watch's own query"
            except promql.NoWatch as error:
                yield f"{key}[{i}]", str(error)


class RulesConfig(Section, frozen=True, kw_only=True):
    """Which alerting rules become watches: regular expressions over whole alert names."""

    include: tuple[str, ...] = ()
    """Only alerts whose name matches one of these expressions; empty: all."""
    exclude: tuple[str, ...] = ()
    """Never these."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Each must be a regular expression."""
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            for i, pattern in enumerate(patterns):
                try:
                    re.compile(pattern)
                except re.error as error:
                    yield f"{key}[{i}]", f"not a regular expression: {error}"

    def wants(self, alertname: str) -> bool:
        """Whether a rule is to be watched: included (all are by default) and not excluded."""
        included = not self.include or any(re.fullmatch(p, alertname) for p in self.include)
        return included and not any(re.fullmatch(p, alertname) for p in self.exclude)
