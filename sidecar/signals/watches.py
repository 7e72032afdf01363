"""What to look at: the user's alert rules, presets and configured queries become watches."""

from __future__ import annotations

import msgspec

from sidecar.types import Duration, Labels, Section


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
    bounds: tuple[float | None, float | None] = (None, None)
    absent: str = "alarm"
    absent_for: Duration = Duration(300)
    interval: Duration | None = None


class RulesConfig(Section, frozen=True, kw_only=True):
    """Which alerting rules become watches: regular expressions over alert names."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Limit(msgspec.Struct, frozen=True):
    """A user's own alert condition on a watch's value: `value op limit`, true for `hold` seconds."""

    op: str
    value: float
    hold: float = 0.0
    alertname: str = ""
    severity: str = ""
    labels: Labels = ()
    """The rule's own static labels, without severity."""


class Watch(msgspec.Struct, frozen=True):
    """One distinct expression, asked every `step` seconds."""

    name: str
    query: str
    source: str
    """`rule`, `preset` or `config`."""
    step: float
    kind: str = "other"
    direction: str = "both"
    limits: tuple[Limit, ...] = ()
    min_deviation: float = 0.0
    min_relative_deviation: float = 0.0
    bounds: tuple[float | None, float | None] = (None, None)
    absent: str = "alarm"
    absent_for: float = 300.0
    alertnames: tuple[str, ...] = ()
    """Every rule that stands behind it."""


class Skipped(msgspec.Struct, frozen=True):
    """A rule that cannot be a watch, and why."""

    alertname: str
    expr: str
    reason: str


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
