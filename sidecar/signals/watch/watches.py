"""What to look at: the user's alert rules, presets and configured queries become watches; pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import chain

import msgspec

from sidecar.signals.watch import promql
from sidecar.signals.watch.calendar import UTC
from sidecar.signals.watch.conditions import Comparison, Other, comparisons
from sidecar.signals.watch.kinds import guess_bounds, guess_kind
from sidecar.signals.watch.wanted import RulesConfig, WatchConfig
from sidecar.types import Labels

SMALLEST = 1e-9  # where a logarithmic scale begins without `min_deviation`
Identity = tuple[str, str, float, str, float, tuple[str, ...]]


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
    also: tuple[Other, ...] = ()
    """What it asks for besides, where that is all."""

    @property
    def together(self) -> str:
        """What is asked for besides, as it follows in a rule.

        >>> Limit(">", 1.0, also=(Other("b", "<", 2.0, False, ()),)).together
        ' and b < 2'
        """
        return "".join(f" and {other}" for other in self.also)


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
    regressors: tuple[str, ...] = ()
    """Queries that fitted models take into account; each is a watch of the same step."""
    models: tuple[str, ...] | None = None
    """Models that are fitted to each of its series; None: to those with a limit the usual ones."""
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
            regressors=tuple(promql.normalise(query) for query in config.regressors),
            models=config.models,
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
        for query in (*watch.explained_by, *watch.regressors):
            key = query, watch.step, watch.tz
            if key not in asked:
                name = f"regressor_{_hash(' '.join(map(str, key)))}"
                out[key] = Watch(name, query, "regressor", watch.step, absent="ignore", tz=watch.tz)
    return list(out.values())


def announced(limits: Iterable[Limit]) -> list[Limit]:
    """Limits that are the whole of their rule, or its part together with others; of those whose breaches have equal
    labels, the one true first."""
    out: dict[object, Limit] = {}
    for limit in sorted(limits, key=lambda limit: limit.hold):
        if limit.whole or limit.also:
            key = limit.alertname, limit.severity, limit.labels, limit.op, limit.value, limit.together
            out.setdefault(key, limit)
    return list(out.values())


def _of_rule(rule: Rule, found: Comparison, step: float, tz: str) -> Watch:
    static = {name: value for name, value in rule.labels if "{{" not in value}
    severity = static.pop("severity", "")
    limit = Limit(
        found.op,
        found.value,
        rule.hold,
        rule.alertname,
        severity,
        tuple(static.items()),
        found.whole,
        found.also,
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
            regressors=old.regressors or new.regressors,
            models=new.models if old.models is None else old.models,
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
