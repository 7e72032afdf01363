"""What a chart of one series shows: its value, band, score and what was forecast of it, from Prometheus."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import msgspec
import numpy as np

from sidecar.signals.ingest.ports import Source
from sidecar.signals.watch.promql import narrowed
from sidecar.types import F64, Finding, Instant, Labels, PromantisError

POINTS = 240
SHORTEST = 15.0
"""Seconds between points."""
AHEAD, HOUR = 3600.0, ',horizon="60m"'
PATIENCE = 10.0
"""Seconds: while the past is read, others come first."""
OWN = {
    "promantis_expected": "expected",
    "promantis_lower": "lower",
    "promantis_upper": "upper",
    "promantis_anomaly_score": "score",
}
_read = msgspec.json.Decoder(dict[str, str]).decode


class Picture(NamedTuple):
    """Columns f64[points] at `at`; NaN where nothing is known."""

    at: F64
    value: F64
    expected: F64
    lower: F64
    upper: F64
    score: F64
    said: F64
    """What was forecast an hour before."""


def selector(finding: Finding, more: str = "") -> str:
    """The labels of a series' results, in PromQL.

    >>> nan = float("nan")
    >>> selector(Finding("w", "q", "other", (("job", 'a"b'),), Instant(0), nan, nan, nan, nan, nan, nan, None))
    '{watch="w",job="a\\\\"b"}'
    """
    return selector_of(finding.watch, finding.labels, more)


def selector_of(watch: str, labels: Labels, more: str = "") -> str:
    """The same of a watch and labels."""
    pairs = (("watch", watch), *labels)
    inner = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in pairs)
    return "{" + inner + more + "}"


async def pictured(source: Source, finding: Finding, now: Instant, span: float) -> Picture:
    """The last `span` seconds of a series; what Prometheus cannot say stays empty."""
    step = max(SHORTEST, round(span / POINTS / SHORTEST) * SHORTEST)
    start, end = Instant(now - span), now  # not rounded: a band may be known for seconds only
    own = selector(finding, f',__name__=~"{"|".join(OWN)}"')
    said = f"promantis_forecast{selector(finding, HOUR)} offset {AHEAD:.0f}s"
    value, mine = narrowed(finding.query, finding.labels), dict(finding.labels)
    if not all(f"{name}={json.dumps(text, ensure_ascii=False)}" in value for name, text in finding.labels):
        # it would answer with all of its series: a score stands for each, where it is exposed
        lately = f"last_over_time(promantis_anomaly_score{selector(finding)}[1h] @ end())"
        value = f"({value}) and ignoring (watch) {lately}"
    columns: dict[str, F64] = {}
    grid: F64 = start + np.arange(int(span / step + 1e-9) + 1, dtype=np.float64) * step

    async def ask(name: str, query: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await source.range(query, start, end, step)
        except (PromantisError, TimeoutError):
            return
        for i, key in enumerate(found.keys):
            labels = _read(key)
            own = OWN.get(labels.pop("__name__", ""), name)
            if own != "value" or labels == mine or len(found.keys) == 1:  # others have these labels and more
                columns.setdefault(own, found.values[:, i])

    await asyncio.gather(ask("own", own), ask("said", said), ask("value", value))
    blank: F64 = np.full(len(grid), np.nan)
    return Picture(grid, *(columns.get(name, blank) for name in Picture._fields[1:]))
