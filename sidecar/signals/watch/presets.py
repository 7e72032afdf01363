"""Ready-made watches for well-known exporters, each chosen when the metrics of its query are there; pure."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec
import promql_parser as pq

from sidecar.signals.watch import promql
from sidecar.signals.watch.calendar import UTC
from sidecar.signals.watch.wanted import WatchConfig
from sidecar.signals.watch.watches import Watch, from_config
from sidecar.types import Section


class Preset(Section, frozen=True, kw_only=True):
    """One file of `sidecar/signals/watch/presets`."""

    name: str
    about: str
    """What it watches, in a few words."""
    watches: tuple[WatchConfig, ...]


def chosen(
    setting: str | tuple[str, ...],
    presets: Iterable[Preset],
    metric_names: Collection[str],
    interval: float,
    tz: str = UTC,
) -> list[Watch]:
    """The watches of the presets that the setting names (`auto`: of all) whose queries can have an answer.

    A query costs Prometheus something at every tick, also when nothing comes of it; so what is asked is decided
    by the names of the metrics that exist, which one cheap query tells for all. So is what explains a watch.
    """
    named = () if isinstance(setting, str) else setting  # else it is auto or none
    return [
        msgspec.structs.replace(
            made.watch, explained_by=tuple(q for q, e in made.regressors if answerable(e, metric_names))
        )
        for preset in presets
        if setting == "auto" or preset.name in named
        for made in _made(preset, interval, tz)
        if answerable(made.query, metric_names)
    ]


class _Made(NamedTuple):
    """A watch with its queries parsed."""

    watch: Watch
    query: pq.Expr
    regressors: tuple[tuple[str, pq.Expr], ...]


@functools.cache  # to parse some hundred queries holds the event loop for longer than an alert should wait
def _made(preset: Preset, interval: float, tz: str) -> tuple[_Made, ...]:
    return tuple(
        _Made(watch, promql.parse(watch.query), tuple((q, promql.parse(q)) for q in watch.explained_by))
        for watch in from_config(preset.watches, interval, "preset", tz)
    )


def answerable(expr: pq.Expr, metric_names: Collection[str]) -> bool:
    """Whether an expression can have an answer where these metrics are: both sides of an operation, one of `or`.

    >>> two = promql.parse("rate(a_total[5m]) / b or c")
    >>> [answerable(two, names) for names in ({"a_total", "b"}, {"c"}, {"a_total"})]
    [True, True, False]
    """
    match expr:
        case pq.VectorSelector():
            return expr.name in metric_names
        case pq.MatrixSelector():
            return expr.vector_selector.name in metric_names
        case pq.BinaryExpr():
            left = answerable(expr.lhs, metric_names)
            if str(expr.op) == "unless":
                return left
            right = answerable(expr.rhs, metric_names)
            return left or right if str(expr.op) == "or" else left and right
        case pq.Call():
            return all(answerable(argument, metric_names) for argument in expr.args)
        case pq.ParenExpr() | pq.UnaryExpr() | pq.AggregateExpr() | pq.SubqueryExpr():
            return answerable(expr.expr, metric_names)
        case _:
            return True
