"""Snapshot -> Prometheus text / OpenMetrics, inside a cardinality budget.

The label part of a line is made once per series; a column's numbers are formatted all at once; what comes out are
slices of some thousand lines, so that whoever writes them to a socket never holds the event loop for long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from sidecar.signals.ingest import series
from sidecar.signals.known.budget import Budget, Shown
from sidecar.signals.known.snapshot import FORECAST_OF, Snapshot
from sidecar.signals.models import Array
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import HORIZONS, I64, Instant, Labels, Section

SLICE = 4096  # lines
_LOST = ("watch", "horizon", "limit", "source_alertname", "source_severity", "__name__")
_BAD_NAME = re.compile(r"^(?=[0-9])|[^a-zA-Z0-9_]")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class ExpositionConfig(Section, frozen=True, kw_only=True):
    """How much is exported, and which target labels are written as empty where the source lacks them."""

    max_series: int = 20000
    """Budget of output series; scores come first."""
    blank_labels: tuple[str, ...] = ("namespace", "pod", "container", "service", "endpoint", "node")
    """Written as empty where the source lacks them, as `job` and `instance` are."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.max_series < 1:
            yield "max_series", f"must be at least 1, got {self.max_series}"
        for i, name in enumerate(self.blank_labels):
            if not _NAME.fullmatch(name) or name in _LOST:
                yield f"blank_labels[{i}]", f"{name!r} cannot be the name of a target's label"


class Family(NamedTuple):
    """One metric family: its columns, each with the label that tells it apart."""

    name: str
    help: str
    columns: tuple[tuple[str, bytes], ...]


def _by_horizon(kind: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((f + kind, b',horizon="%s"' % name.encode()) for name, f in FORECAST_OF.items())


SCORES = (
    Family(
        "promantis_anomaly_score",
        "How odd the series is now: 0 ordinary, 1 worth a look, above 1 rarer.",
        (("score", b""),),
    ),
    Family(
        "promantis_anomaly_confidence",
        "Probability that what the score shows is real; low with little or gappy history.",
        (("confidence", b""),),
    ),
)
GROUP = Family(
    "promantis_group_anomaly_score",
    "How odd the members of a group are together: 0 ordinary, 1 worth a look, above 1 rarer.",
    (),
)
DETAILS = (
    Family("promantis_expected", "Value expected now.", (("expected", b""),)),
    Family("promantis_lower", "Lower edge of what is ordinary now.", (("lower", b""),)),
    Family("promantis_upper", "Upper edge of what is ordinary now.", (("upper", b""),)),
    Family("promantis_forecast", "Value expected at the horizon.", _by_horizon("")),
    Family("promantis_forecast_lower", "Lower end of the forecast's interval.", _by_horizon("_lower")),
    Family("promantis_forecast_upper", "Upper end of the forecast's interval.", _by_horizon("_upper")),
)
PROBABILITY = Family(
    "promantis_breach_probability",
    "Probability that the user's own alert condition becomes true within the horizon; 1 while it is true, and below "
    "0.5 within an hour after the rule fired or where announcements hardly ever came true.",
    (),
)
ETA = Family(
    "promantis_breach_eta_seconds", "Seconds until the expected first breach; 0 while it is true.", ()
)
SOONEST = Family(
    "promantis_breach_eta_lower_seconds",
    "Seconds until the soonest of eight in ten breaches that come within the hour.",
    (),
)
LATEST = Family(
    "promantis_breach_eta_upper_seconds",
    "Seconds until the latest of eight in ten breaches that come within the hour.",
    (),
)
INFO = Family("promantis_watch_info", "Which rules and expressions stand behind a watch.", ())
SKILL = Family(
    "promantis_forecast_skill", "1 - error / error of the best naive forecast, over the watch's series.", ()
)
COVERAGE = Family(
    "promantis_forecast_coverage",
    "Share of truths that fell inside the forecast's interval, fading over a week.",
    (),
)
FAMILIES = (*SCORES, GROUP, *DETAILS, PROBABILITY, ETA, SOONEST, LATEST, INFO, SKILL, COVERAGE)
PER_ROW = sum(len(f.columns) for f in DETAILS)
PER_LINE = len(HORIZONS) + 3


class Prepared(NamedTuple):
    """One snapshot, what of it is shown, and the label parts of its rows, detailed rows, limit lines and groups."""

    snapshot: Snapshot
    shown: Shown
    rows: list[bytes]
    detailed: list[bytes]
    lines: list[bytes]
    groups: list[bytes]


class Exposition:
    """Renders snapshots; remembers the label parts and what was shown. `prepare` is not thread-safe."""

    def __init__(self, config: ExpositionConfig) -> None:
        self._blank = ("job", "instance", *config.blank_labels)
        self._budget = Budget(config.max_series, PER_ROW, PER_LINE)
        self._last: dict[float, Prepared] = {}
        self._bodies: dict[tuple[str, bytes], bytes] = {}
        self._line_bodies: dict[tuple[str, bytes, Limit], bytes] = {}

    def prepare(self, snapshots: Sequence[Snapshot], now: Instant) -> list[Prepared]:
        """Choose what is shown and make label parts that are new; may take long, so call it off the event loop."""
        out = []
        for snapshot, shown in zip(snapshots, self._budget.choose(snapshots, now), strict=True):
            last = self._last.get(snapshot.step)
            if last is not None and _same(last, snapshot, shown):
                out.append(last._replace(snapshot=snapshot, shown=shown))
            else:
                rows, detailed = self._of_rows(snapshot, shown.rows), self._of_rows(snapshot, shown.detailed)
                lines = self._of_lines(snapshot, shown.lines)
                groups = self._of_groups(snapshot, shown.groups)
                out.append(Prepared(snapshot, shown, rows, detailed, lines, groups))
        self._last = {p.snapshot.step: p for p in out}
        if len(self._bodies) + len(self._line_bodies) > SLICE + 2 * sum(
            len(p.rows) + len(p.lines) for p in out
        ):
            self._bodies.clear()  # most of them belong to series that are gone
            self._line_bodies.clear()
        return out

    # ------------------------------------------------------------------ labels

    def _of_rows(self, snapshot: Snapshot, rows: I64) -> list[bytes]:
        out = []
        for row in rows.tolist():
            at = (snapshot.watch_of[row], snapshot.keys[row] or b"{}")
            body = self._bodies.get(at)
            if body is None:
                body = self._bodies[at] = self.body(series.labels(at[1]), (("watch", at[0]),))
            out.append(body)
        return out

    def _of_lines(self, snapshot: Snapshot, lines: I64) -> list[bytes]:
        out = []
        for line in lines.tolist():
            row, limit = int(snapshot.limits.row[line]), snapshot.limits.limit[line]
            at = (snapshot.watch_of[row], snapshot.keys[row] or b"{}", limit)
            body = self._line_bodies.get(at)
            if body is None:
                body = self._line_bodies[at] = self.body(series.labels(at[1]), limit_labels(at[0], limit))
            out.append(body)
        return out

    def _of_groups(self, snapshot: Snapshot, groups: I64) -> list[bytes]:
        of = snapshot.groups.of
        return [self.body(of.labels[group], (of.names[group],)) for group in groups.tolist()]

    def body(self, source: Labels, own: Labels) -> bytes:
        """The label part of a line: the source's labels, blanks for what a scrape would attach, and our own.

        >>> Exposition(ExpositionConfig(blank_labels=())).body((("job", "a"), ("watch", "w")), (("watch", "x"),))
        b'job="a",exported_watch="w",instance="",watch="x"'
        """
        mine = dict(own)
        theirs = {_plain(name): value for name, value in source}
        out: dict[str, str] = {}
        for name, value in theirs.items():
            if name in mine or name in _LOST:
                name = f"exported_{name}"
                while name in theirs or name in mine:
                    name = f"exported_{name}"
            out[name] = value
        for name in self._blank:
            if name not in mine:
                out.setdefault(name, "")
        out.update(own)
        return ",".join(f'{name}="{_escape(value)}"' for name, value in out.items()).encode()


def _same(last: Prepared, snapshot: Snapshot, shown: Shown) -> bool:
    """Whether the label parts of the last time still fit."""
    return (
        last.snapshot.keys is snapshot.keys
        and last.snapshot.limits.limit is snapshot.limits.limit
        and last.snapshot.groups.of is snapshot.groups.of
        and all(np.array_equal(a, b) for a, b in zip(last.shown[:4], shown[:4], strict=True))
    )


def render(prepared: Sequence[Prepared]) -> Iterator[bytes]:
    """Text of all families, in slices of some thousand lines."""
    for family in SCORES:
        yield head(family)
        for p in prepared:
            for column, tail in family.columns:
                yield from _lines(family.name, p.rows, tail, p.snapshot.columns[column][p.shown.rows])
    yield head(GROUP)
    yield from _group_lines(prepared)
    for family in DETAILS:
        yield head(family)
        for p in prepared:
            for column, tail in family.columns:
                yield from _lines(family.name, p.detailed, tail, p.snapshot.columns[column][p.shown.detailed])
    yield head(PROBABILITY)
    for p in prepared:
        for i, (name, _) in enumerate(HORIZONS):
            chance = p.snapshot.limits.probability[i, p.shown.lines]
            yield from _lines(PROBABILITY.name, p.lines, b',horizon="%s"' % name.encode(), chance)
    for family, column in ((ETA, "eta"), (SOONEST, "soonest"), (LATEST, "latest")):
        yield head(family)
        for p in prepared:
            seconds: Array = getattr(p.snapshot.limits, column)
            yield from _lines(family.name, p.lines, b"", np.rint(seconds[p.shown.lines]))
    yield from _watch_families([p.snapshot for p in prepared])


def _group_lines(prepared: Sequence[Prepared]) -> Iterator[bytes]:
    """Lines of the groups; of one that has members at several steps, what was said last."""
    said: dict[bytes, float] = {}
    for p in sorted(prepared, key=lambda p: p.snapshot.at):
        for body, score in zip(p.groups, p.snapshot.groups.score[p.shown.groups].tolist(), strict=True):
            said[body] = score
    yield from _lines(GROUP.name, list(said), b"", np.array(list(said.values()), np.float32))


def limit_labels(watch: str, limit: Limit) -> Labels:
    """Labels that tell a breach line apart beside the source's own."""
    return (
        *((_plain(name), value) for name, value in limit.labels if _plain(name) not in _LOST),
        ("watch", watch),
        ("source_alertname", limit.alertname),
        ("source_severity", limit.severity),
        ("limit", f"{limit.op}{limit.value:.10g}{limit.together}"),
    )


def head(family: Family) -> bytes:
    """HELP and TYPE of a family."""
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n".encode()


def _lines(name: str, bodies: list[bytes], tail: bytes, column: Array) -> Iterator[bytes]:
    """Lines of one column; what is not finite is not said."""
    lead, tail = name.encode() + b"{", tail + b"} "
    for lo in range(0, len(bodies), SLICE):
        values = column[lo : lo + SLICE]
        known = np.isfinite(values)
        part = bodies[lo : lo + SLICE]
        if not known.all():
            values = values[known]
            part = [body for body, ok in zip(part, known.tolist(), strict=True) if ok]
        if not part:
            continue
        pieces = [lead] * (5 * len(part))
        pieces[1::5] = part
        pieces[2::5] = [tail] * len(part)
        pieces[3::5] = orjson.dumps(_rounded(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        pieces[4::5] = [b"\n"] * len(part)
        yield b"".join(pieces)


def _rounded(values: Array) -> Array:
    """Nine significant digits: all that anyone reads, and half the bytes of a float64 in full."""
    if values.dtype == np.float32:
        return np.ascontiguousarray(values)
    with np.errstate(divide="ignore"):
        digits = 8 - np.floor(np.log10(np.abs(values)))
    unit = 10.0 ** np.clip(np.where(np.isfinite(digits), digits, 0), -300, 300)
    return np.rint(values * unit) / unit


def _watch_families(snapshots: Sequence[Snapshot]) -> Iterator[bytes]:
    watches: dict[str, Watch] = {name: w for s in snapshots for name, w in s.watches.items() if w.told}
    yield head(INFO)
    for name, watch in sorted(watches.items()):
        for alertname in watch.alertnames or ("",):
            labels = {
                "watch": name,
                "query": watch.query,
                "source": watch.source,
                "source_alertname": alertname,
            }
            yield _line(INFO.name, labels, 1)
    skills = {name: skill for s in snapshots for name, skill in s.skill.items() if name in watches}
    for family in (SKILL, COVERAGE):
        yield head(family)
        for name, skill in sorted(skills.items()):
            for i, (horizon, _) in enumerate(HORIZONS):
                ours, naive = float(skill.loss[i, 0]), float(skill.loss[i, 1:].min())
                value = float(skill.covered[i])
                if family is SKILL:
                    value = 1 - ours / naive if naive > 0 else 0.0
                yield _line(family.name, {"watch": name, "horizon": horizon}, round(value, 4))


def _line(name: str, labels: Mapping[str, str], value: float) -> bytes:
    inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}\n".encode()


def _plain(name: str) -> str:
    """A label name that every Prometheus can read.

    >>> _plain("http.status"), _plain("2xx")
    ('http_status', '_2xx')
    """
    return _BAD_NAME.sub("_", name)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
