"""Storm: too much at once for anything to act alone; ends only after a while of calm; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.remedy.policy import not_promql
from sidecar.types import Duration, Instant, Section


class StormConfig(Section, frozen=True, kw_only=True):
    """What a storm is: many alerts fire, or a query of unhealthy targets says so. It ends at half of that."""

    alerts: int = 30
    """From so many firing alerts on nothing acts alone; it ends at half of that."""
    unhealthy: str = "count(up == 0)"
    """PromQL: unhealthy targets."""
    targets: int = 20
    """The same from so many on."""
    calm: Duration = Duration(600)
    """And only after so long a calm."""

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in ("alerts", "targets"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        yield from not_promql("unhealthy", self.unhealthy)


class Storm(NamedTuple):
    """Whether there is one, and since when it is calm."""

    words: str = ""
    """Why; empty: there is none."""
    calm_since: Instant | None = None


def after(storm: Storm, alerts: int, unhealthy: float | None, rules: StormConfig, now: Instant) -> Storm:
    """The storm after one more look; `unhealthy` None: nobody could say, which is no calm.

    >>> rules = StormConfig(alerts=10, calm=Duration(60))
    >>> began = after(Storm(), 10, 0.0, rules, Instant(0))
    >>> began.words
    '10 alerts fire, a storm begins at 10'
    >>> after(began, 6, 0.0, rules, Instant(100)).words == began.words
    True
    >>> calm = after(began, 4, 0.0, rules, Instant(100))
    >>> bool(calm.words), after(calm, 4, 0.0, rules, Instant(160)).words
    (True, '')
    """
    if alerts >= rules.alerts:
        return Storm(f"{alerts} alerts fire, a storm begins at {rules.alerts}")
    if unhealthy is not None and unhealthy >= rules.targets:
        return Storm(f"{unhealthy:g} targets are unhealthy, a storm begins at {rules.targets}")
    if not storm.words:
        return storm
    calm = alerts <= rules.alerts / 2 and unhealthy is not None and unhealthy <= rules.targets / 2
    if not calm:
        return Storm(storm.words)
    since = storm.calm_since if storm.calm_since is not None else now
    return Storm() if now - since >= rules.calm else Storm(storm.words, since)
