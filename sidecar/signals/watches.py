"""What to look at: the user's alert rules, presets and configured queries become watches; pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain

import msgspec

from sidecar.signals import promql
from sidecar.signals.calendar import UTC, zone_problem
from sidecar.signals.conditions import COMPARE, Comparison, comparisons
from sidecar.signals.kinds import KINDS, guess_bounds, guess_kind
from sidecar.types import Duration, Labels, Section

DIRECTIONS = ("up", "down", "both")
ABSENT = ("alarm", "ignore", "zero")
SCALES = ("linear", "log")
SMALLEST = 1e-9  # where a logarithmic scale begins without `min_deviation`
MOST_REGRESSORS = 8
Identity = tuple[str, str, float, str, float, tuple[str, ...]]


class LimitConfig(Section, frozen=True, kw_only=True):
    """A limit of a configured watch."""

    op: str = ">"
    value: float
    hold: Duration = msgspec.field(name="for", default=Duration(0))
    name: str = "limit"
    severity: str = ""


class WatchConfig(Section, frozen=True, kw_only=True):
    """One entry of `watches:`."""

    name: str
    query: str
    kind: str = "other"
    direction: str = "both"
    limits: tuple[LimitConfig, ...] = ()
    min_deviation: float = 0.0
    min_relative_deviation: float = 0.0
    scale: str = "linear"
    bounds: tuple[float | None, float | None] = (None, None)
    absent: str = "alarm"
    absent_for: Duration = Duration(300)
    interval: Duration | None = None
    explained_by: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    group: str | None = None
    tz: str | None = None

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
        yield from self._regressor_problems()

    def _regressor_problems(self) -> Iterator[tuple[str, str]]:
        if len(self.explained_by) > MOST_REGRESSORS:
            yield "explained_by", f"at most {MOST_REGRESSORS} queries, got {len(self.explained_by)}"
        seen: list[str] = []
        for i, query in enumerate(self.explained_by):
            try:
                promql.check(query)
                seen.append(promql.normalise(query))
                if seen[-1] in seen[:-1]:
                    yield f"explained_by[{i}]", f"it is explained_by[{seen.index(seen[-1])}] once more"
                elif seen[-1] == promql.normalise(self.query):
                    yield f"explained_by[{i}]", "it is the watch's own query"
            except promql.NoWatch as error:
                yield f"explained_by[{i}]", str(error)


class RulesConfig(Section, frozen=True, kw_only=True):
    """Which alerting rules become watches: regular expressions over whole alert names."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

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


class Limit(msgspec.Struct, frozen=True):
    """A user's own alert condition on a watch's value: `value op limit`, true for `hold` seconds."""

    op: str
    value: float
    hold: float = 0.0
    alertname: str = ""
    severity: str = ""
    labels: Labels = ()
    """The rule's own static labels, without severity."""
    whole: bool = True
    """False when the rule asks for more than this (`and`, `unless`): necessary, not sufficient."""


class Watch(msgspec.Struct, frozen=True):
    """One distinct expression, asked every `step` seconds."""

    name: str
    query: str
    source: str
    """`rule`, `preset`, `config`, or `regressor` when it is asked only because others are explained by it."""
    step: float
    kind: str = "other"
    direction: str = "both"
    limits: tuple[Limit, ...] = ()
    min_deviation: float = 0.0
    min_relative_deviation: float = 0.0
    scale: str = "linear"
    bounds: tuple[float | None, float | None] = (None, None)
    absent: str = "alarm"
    absent_for: float = 300.0
    alertnames: tuple[str, ...] = ()
    """Every rule that stands behind it."""
    explained_by: tuple[str, ...] = ()
    """Queries whose values explain this one's; each is a watch of the same step."""
    group_by: tuple[str, ...] = ()
    """Series that share these labels are scored together too: those of this watch,"""
    group: str = ""
    """or those of all watches that name this group."""
    tz: str = UTC
    """Whose days and weeks its values follow."""

    @property
    def told(self) -> bool:
        """Whether anything is said of it: a watch that only explains others is silent."""
        return self.source != "regressor"

    @property
    def identity(self) -> Identity:
        """What makes a watch another one, with a history of its own to learn."""
        return self.name, self.query, self.step, self.tz, self.unit, self.explained_by

    @property
    def unit(self) -> float:
        """Where a logarithmic scale begins; 0: the scale is linear."""
        return (self.min_deviation or SMALLEST) if self.scale == "log" else 0.0


class Skipped(msgspec.Struct, frozen=True):
    """A rule that cannot be a watch, and why."""

    alertname: str
    expr: str
    reason: str

    @property
    def own(self) -> bool:
        """Whether it is about Promantis itself, and so is not meant to be watched."""
        return self.reason == promql.ITS_OWN


class Plan(msgspec.Struct, frozen=True):
    """All watches, names and queries unique, and the rules that could not be turned."""

    watches: tuple[Watch, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """An alerting rule as Prometheus tells it."""

    alertname: str
    expr: str
    hold: float = 0.0
    """Its `for:` in seconds."""
    labels: Labels = ()


class RuleGroup(msgspec.Struct, frozen=True):
    """The alerting rules of one group, evaluated together every `interval` seconds."""

    name: str
    file: str
    interval: float
    rules: tuple[Rule, ...]


def from_rules(
    groups: Iterable[RuleGroup], config: RulesConfig, interval: float, tz: str = UTC
) -> tuple[list[Watch], list[Skipped]]:
    """Turn each rule's comparisons into watches; equal expressions become one, with the limits of all."""
    watches: list[Watch] = []
    skipped: list[Skipped] = []
    for group in groups:
        for rule in group.rules:
            if not config.wants(rule.alertname):
                continue
            try:
                found = comparisons(rule.expr)
            except promql.NoWatch as error:
                skipped.append(Skipped(rule.alertname, rule.expr, str(error)))
            else:
                watches += [_of_rule(rule, c, _step(group.interval, interval), tz) for c in found]
    return _named(_merged(watches)), skipped


def from_config(
    configs: Iterable[WatchConfig], interval: float, source: str = "config", tz: str = UTC
) -> list[Watch]:
    """Turn configured (or a preset's) watches, already checked by `problems()`, into watches."""
    return [
        Watch(
            name=config.name,
            query=promql.normalise(config.query),
            source=source,
            step=_step(config.interval or interval, interval),
            kind=config.kind,
            direction=config.direction,
            limits=tuple(
                Limit(limit.op, limit.value, float(limit.hold), limit.name, limit.severity)
                for limit in config.limits
            ),
            min_deviation=config.min_deviation,
            min_relative_deviation=config.min_relative_deviation,
            scale=config.scale,
            bounds=config.bounds,
            absent=config.absent,
            absent_for=float(config.absent_for),
            explained_by=tuple(promql.normalise(query) for query in config.explained_by),
            group_by=config.group_by,
            group=config.group or "",
            tz=config.tz or tz,
        )
        for config in configs
    ]


def plan(
    configured: Iterable[Watch],
    from_rules: Iterable[Watch],
    presets: Iterable[Watch] = (),
    skipped: Iterable[Skipped] = (),
) -> Plan:
    """Join what is watched: equal expressions once; settings and names of the config before those of rules,
    those of rules before those of presets. A name that is taken gets a hash of its expression behind it.
    What explains a watch is watched too, silently where it is not watched anyhow."""
    told = _merged(chain(configured, from_rules, presets))
    return Plan(tuple(_named([*told, *_regressors(told)])), tuple(skipped))


def _regressors(watches: Iterable[Watch]) -> list[Watch]:
    """Silent watches of what explains others, at their step and in their time zone: values of one tick have to meet,
    and what is learned together lives by one clock."""
    asked = {(watch.query, watch.step, watch.tz) for watch in watches}
    out: dict[tuple[str, float, str], Watch] = {}
    for watch in watches:
        for query in watch.explained_by:
            key = query, watch.step, watch.tz
            if key not in asked:
                name = f"regressor_{_hash(' '.join(map(str, key)))}"
                out[key] = Watch(name, query, "regressor", watch.step, absent="ignore", tz=watch.tz)
    return list(out.values())


def announced(limits: Iterable[Limit]) -> list[Limit]:
    """Limits that are the whole of their rule; of those whose breaches have equal labels, the one true first."""
    out: dict[object, Limit] = {}
    for limit in sorted(limits, key=lambda limit: limit.hold):
        if limit.whole:
            out.setdefault((limit.alertname, limit.severity, limit.labels, limit.op, limit.value), limit)
    return list(out.values())


def _of_rule(rule: Rule, found: Comparison, step: float, tz: str) -> Watch:
    static = {name: value for name, value in rule.labels if "{{" not in value}
    severity = static.pop("severity", "")
    limit = Limit(
        found.op, found.value, rule.hold, rule.alertname, severity, tuple(static.items()), found.whole
    )
    return Watch(
        name=rule.alertname,
        query=found.query,
        source="rule",
        step=step,
        kind=guess_kind(found.query),
        direction=_direction((limit,)),
        bounds=guess_bounds(found.query),
        limits=(limit,),
        alertnames=(rule.alertname,),
        tz=tz,
    )


def _direction(limits: tuple[Limit, ...]) -> str:
    """Where the limits are; both ways when they are on both sides, or to be met exactly."""
    sides = {limit.op[0] for limit in limits}
    return {">": "up", "<": "down"}.get(sides.pop(), "both") if len(sides) == 1 else "both"


def _merged(watches: Iterable[Watch]) -> list[Watch]:
    """Equal expressions become the first of them, with the limits and alert names of all, asked as often as
    the most frequent; a rule's watch is named after the first of its alerts in the alphabet."""
    by_query: dict[str, Watch] = {}
    for new in watches:
        old = by_query.get(new.query, new)
        limits = tuple(dict.fromkeys((*old.limits, *new.limits)))
        names = tuple(sorted({*old.alertnames, *new.alertnames}))
        by_query[new.query] = msgspec.structs.replace(
            old,
            name=names[0] if old.source == "rule" and old is not new else old.name,
            step=min(old.step, new.step),
            limits=limits,
            direction=_direction(limits) if old.source == "rule" else old.direction,
            alertnames=names,
            explained_by=old.explained_by or new.explained_by,
            group_by=old.group_by or new.group_by,
            group=old.group if old.group_by else new.group,
        )
    return list(by_query.values())


def _named(watches: list[Watch]) -> list[Watch]:
    """Make names unique; the hash keeps a name the same whatever stands before it in the files."""
    taken: set[str] = set()
    out: list[Watch] = []
    for watch in watches:
        name = watch.name
        if name in taken:
            name = f"{name}_{_hash(watch.query)}"
        taken.add(name)
        out.append(watch if name == watch.name else msgspec.structs.replace(watch, name=name))
    return out


def _hash(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:8]


def _step(wanted: float, interval: float) -> float:
    """The smallest multiple of the interval that is not shorter than wanted.

    >>> _step(60, 15), _step(10, 15), _step(20, 15)
    (60.0, 15.0, 30.0)
    """
    return float(interval * max(1, math.ceil(wanted / interval - 1e-9)))
