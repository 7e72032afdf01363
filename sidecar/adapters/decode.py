"""Prometheus' JSON answers -> columns: no dictionary per series, and no long hold of the interpreter lock."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np

from sidecar.signals.ingest.frame import Matrix, Vector
from sidecar.types import F64

PIECE = 1 << 17
"""Bytes decoded by one call: about a millisecond of held interpreter lock."""

SCALAR = b"{}"
"""The key of a scalar, and of a series without labels."""


MALFORMED = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that are not the JSON it was told to expect."""


class NotAnAnswer(Exception):
    """The bytes are not what Prometheus answers to such a query; says why."""


class _Point(msgspec.Struct, array_like=True, gc=False):
    at: float
    value: float


class _Sample(msgspec.Struct, gc=False):
    metric: msgspec.Raw
    value: _Point | None = None  # absent for native histograms, which have no single value


class _Series(msgspec.Struct, gc=False):
    metric: msgspec.Raw
    values: msgspec.Raw = msgspec.Raw(b"[]")


class _Data(msgspec.Struct):
    kind: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: str
    data: _Data


_answer = msgspec.json.Decoder(_Answer)
# strict=False: Prometheus writes values as strings
_samples = msgspec.json.Decoder(list[_Sample], strict=False)
_point = msgspec.json.Decoder(_Point, strict=False)
_series = msgspec.json.Decoder(list[_Series])
_numbers = msgspec.json.Decoder(list[float], strict=False)

_START = b'"result":['
_BORDER = b'},{"metric":'
_PLUS_INF = re.compile(rb',\s*"\+Inf"\s*\]')


def vector(body: bytes) -> Vector:
    """Decode the answer of an instant query (vector or scalar); NotAnAnswer for anything else."""
    try:
        keys: list[bytes] = []
        columns: list[F64] = []
        for kind, piece in _pieces(body):
            if kind == "scalar":
                return Vector([SCALAR], np.array([_point.decode(_plain_inf(piece)).value]))
            if kind != "vector":
                raise NotAnAnswer(f"expected a vector or a scalar, got a {kind}")
            samples = [(s.metric, s.value) for s in _samples.decode(_plain_inf(piece))]
            keys += [bytes(metric) for metric, point in samples if point is not None]
            columns.append(np.array([point.value for _, point in samples if point is not None], np.float64))
    except MALFORMED as error:
        raise NotAnAnswer(str(error)) from None
    return Vector(keys, np.concatenate(columns))


def matrix(body: bytes, start: float, end: float, step: float) -> Matrix:
    """Decode the answer of a range query onto its grid: `values[i, j]` is series j at `start + i * step`."""
    at = start + np.arange(int((end - start) / step + 1e-9) + 1, dtype=np.float64) * step
    try:
        keys: list[bytes] = []
        columns: list[F64] = []
        for kind, piece in _pieces(body):
            if kind != "matrix":
                raise NotAnAnswer(f"expected a matrix, got a {kind}")
            for series in _series.decode(piece):
                flat = b"[" + _plain_inf(bytes(series.values)).translate(None, b"[]") + b"]"
                points = np.array(_numbers.decode(flat), np.float64)
                if len(points) % 2:
                    raise NotAnAnswer("a series has points that are not pairs")
                if not len(points):  # native histograms only
                    continue
                rows = np.rint((points[::2] - start) / step)
                inside = (rows >= 0) & (rows < len(at))
                column = np.full(len(at), np.nan)
                column[rows[inside].astype(np.int64)] = points[1::2][inside]
                keys.append(bytes(series.metric))
                columns.append(column)
    except MALFORMED as error:
        raise NotAnAnswer(str(error)) from None
    values = np.stack(columns, axis=1) if columns else np.empty((len(at), 0))
    return Matrix(keys, at, values)


def _pieces(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut the result array into JSON arrays of about PIECE bytes, each with the type of the result.

    A border can be found by its text alone: a quote inside a string is escaped, and a quote that ends a
    string is never followed by a letter, so `{"metric":` and `"result":[` are never part of a value. The
    last piece goes through the decoder inside the answer it came in, which checks all around it first.
    """
    first = body.find(_START) + len(_START)
    borders: list[int] = []  # where a piece begins
    if first >= len(_START):
        at = first
        while (border := body.find(_BORDER, at + PIECE)) >= 0:
            at = border + 2
            borders.append(at)
    answer = _answer.decode(body[:first] + body[borders[-1] :] if borders else body)
    if answer.status != "success":
        raise NotAnAnswer(f"its status is {answer.status!r}")
    for begin, end in zip([first, *borders], borders, strict=False):
        yield answer.data.kind, b"[" + body[begin : end - 1] + b"]"
    yield answer.data.kind, bytes(answer.data.result)


def _plain_inf(piece: bytes) -> bytes:
    """Write `+Inf` as the decoder reads it; a label's value is never followed by a bracket."""
    return _PLUS_INF.sub(b',"Inf"]', piece) if b'"+Inf"' in piece else piece
