"""Which alert a message is about, and which message about it is the newest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

import msgspec

from sidecar.types import Alert, Labels

_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 0xFFFFFFFFFFFFFFFF


@lru_cache(maxsize=20_000)  # a byte at a time costs 20 us an alert, and the same alerts come every minute
def fingerprint(labels: Labels) -> str:
    """Alertmanager's fingerprint: FNV-1a 64 over the sorted pairs, 0xFF after each name and value.

    The first three were read from Alertmanager 0.28.1, the last is no alert (it needs a label).

    >>> fingerprint((("alertname", "A"),))
    'd2c6efc389df0927'
    >>> fingerprint((("a", "b"), ("c", "d")))
    '53997eba86e1c7f5'
    >>> fingerprint((("\U0001f600", "x"),))
    '135881a83c6ed9f8'
    >>> fingerprint(())
    'cbf29ce484222325'
    """
    value = _OFFSET
    for name, text in labels:
        for byte in b"%b\xff%b\xff" % (name.encode(), text.encode()):
            value = ((value ^ byte) * _PRIME) & _MASK
    return f"{value:016x}"


class Latest(msgspec.Struct, eq=False):
    """A message about one alert, the newest when it arrived."""

    alert: Alert
    expires: float
    resolved: bool
    enrichment: Mapping[str, str]
    """What was last said about it in the same state; empty when nothing was."""
    enriched_at: float
    """When that was found; times are the loop's."""
    newest: bool = True
    """Whether it still is: false as soon as something newer arrives, or it is forgotten."""


class Generations:
    """Tells which message about an alert arrived last, since that is the order Alertmanager merges by.

    A message is the newest while nothing later arrived about the same labels. An alert that is forgotten
    (expired, or the oldest of too many) has no newest message: what is late about it is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sweep = 0.0
        self._latest: dict[Labels, Latest] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def arrived(self, alert: Alert, resolved: bool, now: float, expires: float) -> Latest:
        """Note a message; what was said before is kept while the alert stays firing, or stays resolved."""
        labels = alert.labels
        new = Latest(alert, expires, resolved, {}, -math.inf)
        old = self._latest.pop(labels, None)
        if old is not None:
            old.newest = False
            if old.resolved == resolved and old.expires > now:
                new.enrichment, new.enriched_at = old.enrichment, old.enriched_at
        self._latest[labels] = new
        if len(self._latest) > self._limit:
            self._drop(next(iter(self._latest)))
        return new

    def get(self, labels: Labels) -> Latest | None:
        """The newest message about this alert."""
        return self._latest.get(labels)

    def find(self, wanted: str) -> Latest | None:
        """The newest message by its fingerprint, for the few who have nothing else: it looks at all."""
        found = (latest for labels, latest in self._latest.items() if fingerprint(labels) == wanted)
        return next(found, None)

    def newest_first(self, limit: int) -> list[Latest]:
        """What was heard of last."""
        return list(islice(reversed(self._latest.values()), limit))

    def forget(self, now: float) -> None:
        """Drop what has expired; looks through all of it once a minute at most."""
        if now < self._sweep:
            return
        self._sweep = now + 60
        for labels in [labels for labels, latest in self._latest.items() if latest.expires < now]:
            self._drop(labels)

    def _drop(self, labels: Labels) -> None:
        self._latest.pop(labels).newest = False
