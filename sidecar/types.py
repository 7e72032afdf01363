"""Words that every room shares: labels, durations, alerts, findings, errors. Frozen, no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NewType

import msgspec
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs: the identity of a series and of an alert."""

Instant = NewType("Instant", float)
"""Unix seconds; made at the edges, an argument everywhere else."""


def labels_of(mapping: Mapping[str, str]) -> Labels:
    """Sort a mapping into an identity; labels with an empty value are no labels.

    >>> labels_of({"job": "shop", "alertname": "High", "env": ""})
    (('alertname', 'High'), ('job', 'shop'))
    """
    pairs = sorted(mapping.items())
    return tuple(pairs if "" not in mapping.values() else [pair for pair in pairs if pair[1] != ""])


# --------------------------------------------------------------------------- errors


class PromantisError(Exception):
    """Root of what Promantis raises on purpose.

    PromantisError
      ConfigError   the user's file or flag is wrong: says where, never retried
      Unavailable   a peer did not answer, or asked to come again: retry later
      Rejected      a peer understood and said no: retrying will not help
    """


class ConfigError(PromantisError):
    """`where` names the place, e.g. ``promantis.yml: remedies[0].action.type``."""

    def __init__(self, where: str, words: str) -> None:
        super().__init__(f"{where}: {words}" if where else words)
        self.where = where
        self.words = words


class Unavailable(PromantisError):
    """A peer is down, slow, or answered 5xx or rubbish."""


class Rejected(PromantisError):
    """A peer answered that the request can never be right."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.status = status


# --------------------------------------------------------------------------- durations

_UNITS = {"y": 31536000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")


class Duration(float):
    """Seconds, written as Prometheus writes durations (``1h30m``, ``15s``, ``500ms``)."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read Prometheus' notation; ValueError otherwise.

        >>> Duration.parse("1h30m"), Duration.parse("0")
        (Duration('1h30m'), Duration('0s'))
        """
        if text == "0" or text == 0:
            return cls(0)
        match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
        if match is None:
            raise ValueError(f"not a valid duration: {text!r} (write 15s, 5m, 1h30m, 30d)")
        return cls(
            sum(
                int(n) * unit
                for n, unit in zip(match.groups(), _UNITS.values(), strict=True)
                if n is not None
            )
        )

    def __str__(self) -> str:
        rest, out = round(float(self) * 1000), ""
        for name, unit in _UNITS.items():
            n, rest = divmod(rest, round(unit * 1000))
            if n:
                out += f"{n}{name}"
        return out or "0s"

    def __repr__(self) -> str:
        return f"Duration('{self}')"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the config file; each lives beside the code that uses it."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What types cannot say, as (place below this section, words); overridden by the owner."""
        return iter(())


# --------------------------------------------------------------------------- what is known of a series

HORIZONS: tuple[tuple[str, float], ...] = (("15m", 900.0), ("30m", 1800.0), ("60m", 3600.0))
"""Label value and seconds of each forecast."""


class Forecast(msgspec.Struct, frozen=True):
    """What is expected at one horizon, with the interval of the configured coverage."""

    horizon: str
    value: float
    lower: float
    upper: float


class Breach(msgspec.Struct, frozen=True):
    """How near one of the user's limits is for one series."""

    alertname: str
    severity: str
    op: str
    value: float
    hold: float
    """The rule's `for:` in seconds."""
    probability: Mapping[str, float]
    """By horizon; 1 while the condition is true."""
    eta: float | None
    """Seconds until the expected first crossing; 0 while true, None when none is expected."""
    between: tuple[float, float] | None = None
    """When eight in ten of the crossings come that come within the hour; None where no time is said."""
    also: str = ""
    """What the rule asks for besides, as ` and b < 2`."""


class Finding(msgspec.Struct, frozen=True):
    """One series at one tick, for whoever explains it. NaN where nothing is known yet."""

    watch: str
    query: str
    kind: str
    labels: Labels
    at: Instant
    observed: float
    expected: float
    lower: float
    upper: float
    score: float
    confidence: float
    since: Instant | None
    """When the score last rose above 1 and stayed there."""
    forecasts: tuple[Forecast, ...] = ()
    breaches: tuple[Breach, ...] = ()
    why: str = ""
    """Which evidence makes the score, while it is 1 or more."""
    key: bytes = b""
    """Its raw label object, by which what is kept in memory knows it."""
    unit: str = ""
    """Of its values, as `narrate.amount` writes them; empty where names do not say."""


SHORT = 80
"""Characters of a query that fit into a sentence."""
_GROUPED = re.compile(r"\s*\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)\s*")


def spoken(query: str, watch: str) -> str:
    """What a series is called in a sentence: its query where that is short, if need be without its groups; its watch.

    >>> spoken("up", "w"), spoken("avg by (instance) (rate(x[5m]))" + " + y" * 15, "w"), spoken("x" * 81, "w")
    ('up', 'avg(rate(x[5m])) + y + y + y + y + y + y + y + y + y + y + y + y + y + y + y', 'w')
    """
    text = " ".join(query.split())
    if len(text) > SHORT:
        text = _GROUPED.sub("", text)
    return text if 0 < len(text) <= SHORT else watch


# --------------------------------------------------------------------------- what may explain an alert

HARM: Mapping[str, int] = {
    **dict.fromkeys(("latency", "errors", "saturation", "cpu", "memory", "disk"), 1),
    **dict.fromkeys(("edge_client", "edge_server", "gap"), 1),
    **dict.fromkeys(("traffic", "network", "other"), 0),
    "fanout": -1,
}
"""Which way a kind of series does harm, where its watch does not say: up, down, or (0) both. Kinds of call edges: what
the client waits, what the server works, the gap between the two, and calls per request of the caller."""

UNITS = {"errors": "share", **dict.fromkeys(("latency", "edge_client", "edge_server", "gap"), "s")}
"""In what kinds of series are counted, where nothing else is known."""

CONFIG = "config/"
"""Before the name of a configuration, which may be called as the service is that reads it."""

CHANGES = ("deployed", "configured", "fewer", "machine")
"""What may have happened to a service: `fewer` instances than before, trouble of a `machine` that it runs on."""

STOCKS = ("saturation", "memory", "disk")
"""Kinds that fill up slowly, and may be used up."""


class Candidates(msgspec.Struct, frozen=True):
    """Series that may explain an alert, columns of n; latencies in seconds, errors as a ratio, traffic per second."""

    entities: Sequence[str]
    """Whose it is: a service or a machine, or `caller->callee`."""
    kinds: Sequence[str]
    """Keys of HARM."""
    names: Sequence[str]
    """What it is called in words: its query where that is short, else its watch."""
    level: F64
    scale: F64
    """NaN where too little is known: such a series has no say."""
    usual: F64
    just: F64
    at: F64
    """Unix seconds f64[times] of the window that may be bad."""
    values: F64
    """f64[times, n], NaN where there is no sample."""
    calls: Sequence[tuple[str, str]] = ()
    """Caller and callee."""
    outside: frozenset[str] = frozenset()
    """Callees that are seen from their callers only."""
    hosts: Sequence[tuple[str, str]] = ()
    """A service and a machine that it runs on."""
    ids: Sequence[tuple[str, bytes]] = ()
    """Watch and key of each series."""
    before: Callable[[int], tuple[F64, F64]] = lambda row: (np.empty(0), np.empty(0))
    """Times and values of a series before the window, oldest first: since when it has been out."""
    units: Sequence[str] = ()
    """Of their values, as `narrate.amount` writes them; empty: those of their kinds."""
    ways: Sequence[int] = ()
    """Which way of each does harm, as in HARM; empty: that of its kind."""
    queries: Sequence[str] = ()
    """What each is the value of; empty: its name."""

    @property
    def harm(self) -> I64:
        """Which way of each does harm: 1 up, -1 down, 0 both."""
        return np.array(self.ways or [HARM[kind] for kind in self.kinds], np.int64)

    def way(self, row: int) -> int:
        """Which way of one series does harm."""
        return self.ways[row] if self.ways else HARM[self.kinds[row]]

    def unit(self, row: int) -> str:
        """Of the values of one series."""
        return self.units[row] if self.units else UNITS.get(self.kinds[row], "")

    def query(self, row: int) -> str:
        """What one series is the value of, or at least its name."""
        return self.queries[row] if self.queries else self.names[row]


# --------------------------------------------------------------------------- alerts


class Alert(msgspec.Struct, frozen=True):
    """An alert as it travels. Times and generatorURL stay the strings that arrived (None: not sent)."""

    labels: Labels
    annotations: Mapping[str, str]
    starts_at: str | None = None
    ends_at: str | None = None
    generator_url: str | None = None

    def label(self, name: str) -> str:
        """Value of a label, empty when it has none."""
        return next((value for key, value in self.labels if key == name), "")


OURS = "promantis_kind"
"""Label that alerts on Promantis' own metrics have."""


JsonObject = dict[str, Any]
