"""Alertmanager's POST /api/v2/alerts: bytes to alerts and the answer it would give; alerts to bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from sidecar.alerts.times import instant
from sidecar.alerts.uri import is_request_uri
from sidecar.types import Alert, Instant, Labels, labels_of

RESOLVE_TIMEOUT = 300.0
"""Alertmanager's default `resolve_timeout`: how long an alert without endsAt fires."""


SKEW = 3600.0
"""Seconds by which our clock may be behind: below it Alertmanager judges an alert without endsAt by its own."""


MANY = 20_000
"""Sets of labels whose text is known: as many alerts as are kept."""


class Answer(NamedTuple):
    """Status and JSON body (empty for 200)."""

    status: int
    body: bytes = b""


class Decoded(NamedTuple):
    """The alerts that can go on, how many cannot, and Alertmanager's answer to the whole."""

    alerts: tuple[Alert, ...]
    refused: int
    answer: Answer


_NAMES = (
    ("annotations", "annotations"),
    ("ends_at", "endsAt"),
    ("starts_at", "startsAt"),
    ("generator_url", "generatorURL"),
    ("labels", "labels"),
)


class _Wire(msgspec.Struct, omit_defaults=True, rename=dict(_NAMES), forbid_unknown_fields=True):
    """One alert in the order in which Prometheus writes it; labels stay text, since they come again and again.

    What is unknown may be known in another case, as Go reads it.
    """

    annotations: dict[str, str] | None = None
    ends_at: str | None = None
    starts_at: str | None = None
    generator_url: str | None = None
    labels: msgspec.Raw = msgspec.Raw()


_Read = tuple[_Wire, Labels | None]
"""An alert and its labels; None: not given."""


class _Problem(NamedTuple):
    """Why one alert cannot go on. `kind` orders them as Alertmanager meets them."""

    kind: str  # "json": the body is not read, "schema": read but not valid, "content": valid but refused
    code: int
    words: str


_MERGED = (b'"labels"', b'"annotations"')
"""Objects that Go merges where an alert has several."""

_decoder = msgspec.json.Decoder(list[_Wire] | None)
_label_decoder = msgspec.json.Decoder(dict[str, str])
_encoder = msgspec.json.Encoder()


@lru_cache(maxsize=MANY)
def _labels(text: bytes) -> Labels:
    """What was read before is the same object again, which is also what makes looking it up cheap."""
    return labels_of(_label_decoder.decode(text))


@lru_cache(maxsize=MANY)
def _text(labels: Labels) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(dict(labels)))


def encode(alerts: Iterable[Alert]) -> bytes:
    """Write alerts as Prometheus does: no empty annotations, times as they came.

    >>> encode([Alert((("alertname", "A"),), {}, ends_at="2026-11-24T22:36:53.632Z")])
    b'[{"endsAt":"2026-11-24T22:36:53.632Z","labels":{"alertname":"A"}}]'
    """
    return _encoder.encode(
        [
            _Wire(
                dict(alert.annotations) or None,
                alert.ends_at,
                alert.starts_at,
                alert.generator_url,
                _text(alert.labels),
            )
            for alert in alerts
        ]
    )


def decode(body: bytes, content_type: str, now: Instant) -> Decoded:
    """Read a posted batch. Alerts that are wrong do not take the others with them.

    >>> decode(b"", "", Instant(0)).answer
    Answer(status=422, body=b'{"code":602,"message":"alerts in body is required"}')
    >>> decode(b'[{"labels":{"a":"b"}},{"labels":{}}]', "application/json", Instant(0))[1:]
    (1, Answer(status=400, body=b'"at least one label pair required"\\n'))
    """
    if not body:
        return Decoded((), 0, _coded(422, 602, "alerts in body is required"))
    refusal = _media_type(content_type)
    if refusal is not None:
        return Decoded((), 0, refusal)
    if not body.strip(b" \t\r\n"):
        return Decoded((), 0, _coded(422, 602, "alerts in body is required"))
    try:
        items: Sequence[_Read | _Problem] = _fast(body) or list(_careful(body))
    except _NotAlerts as error:
        return Decoded((), 0, _parse_error(str(error)))
    alerts, problems = [], []
    for i, item in enumerate(items):
        if isinstance(item, _Problem):
            problems.append(item)
            continue
        wire, labels = item
        if problem := _check(wire, labels, i, now):
            problems.append(problem)
            continue
        given = wire.annotations or {}
        alerts.append(Alert(labels or (), given, wire.starts_at, wire.ends_at, wire.generator_url))
    return Decoded(tuple(alerts), len(problems), _answer(problems))


def _fast(body: bytes) -> Sequence[_Read] | None:
    """What Prometheus sends; None when it has to be read carefully."""
    try:
        read = [(wire, _labels(bytes(wire.labels))) for wire in _decoder.decode(body) or ()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if any(body.count(name) > len(read) for name in _MERGED) else read


def _answer(problems: Sequence[_Problem]) -> Answer:
    """Alertmanager stops at the first alert it cannot read, then at the first that breaks its schema."""
    for kind in ("json", "schema"):
        for problem in problems:
            if problem.kind == kind:
                words = problem.words
                return _parse_error(words) if kind == "json" else _coded(422, problem.code, words)
    if problems:  # newline since errors.Join; 0.28 joined by "; "
        return Answer(400, _encoder.encode("\n".join(problem.words for problem in problems)) + b"\n")
    return Answer(200)


def _coded(status: int, code: int, message: str) -> Answer:
    return Answer(status, _encoder.encode({"code": code, "message": message}))


def _parse_error(words: str) -> Answer:
    return _coded(400, 400, f'parsing alerts body from "" failed, because {words}')


_PARAMETER = r'\s*;\s*[\w!#$&^.+*\'`|~%-]+\s*=\s*(?:[\w!#$&^.+*\'`|~%-]+|"(?:[^"\\]|\\.)*")'
_MEDIA = re.compile(rf"\s*([\w!#$&^.+*/\'`|~%-]+)(?:{_PARAMETER})*\s*;?\s*")


def _media_type(header: str) -> Answer | None:
    match = _MEDIA.fullmatch(header or "application/octet-stream")
    if match is None:
        return _coded(
            400, 400, f"parsing Content-Type header from {_quoted(header)} failed, because mime: invalid"
        )
    if match[1].lower() == "application/json":
        return None
    words = f"unsupported media type {_quoted(match[1].lower())}, only [application/json] are allowed"
    return _coded(415, 415, words)


def _check(wire: _Wire, labels: Labels | None, i: int, now: Instant) -> _Problem | None:
    try:
        ends, starts = instant(wire.ends_at), instant(wire.starts_at)
    except ValueError as error:
        return _Problem("json", 400, str(error))
    if wire.generator_url and not is_request_uri(wire.generator_url):
        words = f"{i}.generatorURL in body must be of type uri: {_quoted(wire.generator_url)}"
        return _Problem("schema", 601, words)
    if labels is None:
        return _Problem("schema", 602, f"{i}.labels in body is required")
    if starts is None:
        starts = now if ends is None else ends
    if (now + RESOLVE_TIMEOUT + SKEW if ends is None else ends) < starts:
        return _Problem("content", 400, "start time must be before end time")
    if labels and not labels[0][0]:  # they are sorted
        return _Problem("content", 400, 'invalid label set: invalid name ""')
    if not labels:
        return _Problem("content", 400, "at least one label pair required")
    if wire.annotations and "" in wire.annotations:
        return _Problem("content", 400, 'invalid annotations: invalid name ""')
    return None


# --------------------------------------------------------------------------- what the fast way cannot read


class _NotAlerts(ValueError):
    """The body as a whole is not a list of alerts; says why in Go's words where they are simple."""


def _no_constant(name: str) -> None:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")


class _Object(dict[str, object]):
    """A JSON object that remembers names that come twice."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


_json = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_Object)


def _careful(body: bytes) -> Iterator[_Read | _Problem]:
    """Read as Go does: one alert at a time, null as not given, bad UTF-8 replaced, what follows ignored."""
    try:
        value, _ = _json.raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))
    except json.JSONDecodeError as error:
        raise _NotAlerts(f"{error.msg}: character {error.pos}") from None
    except RecursionError:
        raise _NotAlerts("it is nested too deep") from None
    except ValueError as error:
        raise _NotAlerts(str(error)) from None
    if not isinstance(value, list | None):
        raise _NotAlerts(f"json: cannot unmarshal {_kind(value)} into Go value of type models.PostableAlerts")
    for item in value or ():
        yield _item(_Object([]) if item is None else item)  # null: Alertmanager 0.28 breaks the connection


def _item(item: object) -> _Read | _Problem:
    if not isinstance(item, _Object):
        return _mistyped(item, "value of type models.PostableAlert")
    attributes = {
        name.lower(): (attribute, name) for attribute, name in _NAMES
    }  # Go matches names in any case
    sets: dict[str, dict[str, str] | None] = {"labels": None, "annotations": None}
    wire = _Wire()
    for given, value in item.pairs:
        attribute, name = attributes.get(given.lower(), ("", ""))
        place = f"struct field {'Alert' if name in ('generatorURL', 'labels') else ''}.{name}"
        if not attribute:
            continue
        if name not in sets:
            if not isinstance(value, str | None):
                return _mistyped(value, f"{place} of type string")
            if value is not None:
                setattr(wire, attribute, whole(value))
            continue
        if not isinstance(value, _Object | None):
            return _mistyped(value, f"{place} of type models.LabelSet")
        for text in (value or {}).values():
            if not isinstance(text, str | None):
                return _mistyped(text, f"{place} of type string")
        texts = {whole(key): whole(str(text or "")) for key, text in (value or {}).items()}
        sets[name] = None if value is None else {**(sets[name] or {}), **texts}
    wire.annotations, labels = sets["annotations"], sets["labels"]
    return wire, None if labels is None else labels_of(labels)


def _mistyped(value: object, place: str) -> _Problem:
    return _Problem("json", 400, f"json: cannot unmarshal {_kind(value)} into Go {place}")


def _kind(value: Any) -> str:
    names = {str: "string", bool: "bool", _Object: "object", list: "array"}
    return names.get(type(value), "number")


def whole(text: str) -> str:
    """Replace lone surrogates, which no UTF-8 can carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _quoted(text: str) -> str:
    """Quote as Go's %q does.

    >>> print(_quoted('a"b' + chr(1)))
    "a\\"b\\x01"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", escaped) + '"'
