"""Prometheus' JSON answers -> columns."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters import decode
from sidecar.adapters.decode import NotAnAnswer


def answer(kind: str, result: object, **more: object) -> bytes:
    """As Prometheus writes it: compact."""
    whole = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return json.dumps(whole, separators=(",", ":")).encode()


VALUES = {
    "0": 0.0,
    "-1.5": -1.5,
    "1e-07": 1e-7,
    "NaN": np.nan,
    "+Inf": np.inf,
    "-Inf": -np.inf,
    "1.7976931348623157e+308": 1.7976931348623157e308,
}


def test_vector_values_and_raw_labels() -> None:
    result = [{"metric": {"i": str(i)}, "value": [1.5, text]} for i, text in enumerate(VALUES)]
    keys, values = decode.vector(answer("vector", result))
    assert keys == [b'{"i":"%d"}' % i for i in range(len(VALUES))]
    np.testing.assert_array_equal(values, list(VALUES.values()))
    assert values.dtype == np.float64


def test_scalar_is_a_vector_without_labels() -> None:
    keys, values = decode.vector(answer("scalar", [1.5, "+Inf"]))
    assert keys == [b"{}"]
    assert values.tolist() == [np.inf]


def test_empty_vector_and_warnings() -> None:
    keys, values = decode.vector(answer("vector", [], warnings=["PromQL warning"], infos=["x"]))
    assert keys == []
    assert values.shape == (0,)


def test_native_histograms_have_no_value() -> None:
    histogram = {"count": "2", "sum": "3", "buckets": [[0, "1", "2", "2"]]}
    result = [
        {"metric": {"a": "h"}, "histogram": [1, histogram]},
        {"metric": {"a": "f"}, "value": [1, "7"]},
    ]
    keys, values = decode.vector(answer("vector", result))
    assert (keys, values.tolist()) == ([b'{"a":"f"}'], [7.0])
    ranges = [
        {"metric": {"a": "h"}, "histograms": [[0, histogram]]},
        {"metric": {"a": "f"}, "values": [[0, "7"]]},
    ]
    assert decode.matrix(answer("matrix", ranges), 0, 0, 1).keys == [b'{"a":"f"}']


NASTY = '},{"metric":{"a":"b"},"value":[1,"2"]},"result":[ ,"+Inf"] \\ " \n é'


@pytest.mark.parametrize("size", [1, 40, 1000, 1 << 17])
def test_labels_that_look_like_borders(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(decode, "PIECE", size)
    result = [{"metric": {"le": "+Inf", "x": NASTY + "}" * i}, "value": [1, "+Inf"]} for i in range(20)]
    keys, values = decode.vector(answer("vector", result, warnings=[NASTY]))
    assert [json.loads(key) for key in keys] == [sample["metric"] for sample in result]
    assert np.isposinf(values).all()


@given(
    st.lists(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3), max_size=12),
    st.integers(1, 60),
    st.booleans(),
)
def test_any_labels_in_any_pieces(metrics: list[dict[str, str]], size: int, ascii_only: bool) -> None:
    result = [{"metric": metric, "value": [1, str(i)]} for i, metric in enumerate(metrics)]
    whole = {"status": "success", "data": {"resultType": "vector", "result": result}, "infos": ["{"]}
    body = json.dumps(whole, separators=(",", ":"), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    before, decode.PIECE = decode.PIECE, size
    try:
        keys, values = decode.vector(body)
    finally:
        decode.PIECE = before
    assert [json.loads(key) for key in keys] == metrics
    assert values.tolist() == list(range(len(metrics)))


@given(st.binary(max_size=200), st.integers(0, 200))
def test_rubbish_is_refused_never_a_crash(rubbish: bytes, at: int) -> None:
    good = answer("matrix", [{"metric": {"a": "b"}, "values": [[0, "1"], [15, "2"]]}])
    at %= len(good)
    for body in (rubbish, good[:at] + rubbish[:3] + good[at + 3 :]):
        with contextlib.suppress(NotAnAnswer):
            assert decode.matrix(body, 0, 30, 15).values.shape[0] == 3


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["+Inf", "1", "NaN", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metric", "value", "values", "a"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["vector", "matrix", "scalar", "string"]), anything, st.integers(1, 40))
def test_what_prometheus_would_never_say_is_refused_too(kind: str, result: object, size: int) -> None:
    """A proxy or an engine that is not quite compatible: whatever JSON it answers, never a crash."""
    before, decode.PIECE = decode.PIECE, size
    try:
        for decoded in (decode.vector, lambda body: decode.matrix(body, 0, 30, 15)):
            with contextlib.suppress(NotAnAnswer):
                decoded(answer(kind, result))
    finally:
        decode.PIECE = before


def test_pretty_printed_answers() -> None:
    result = [{"metric": {"a": "b"}, "value": [1, "+Inf"]}]
    body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}, indent=2)
    keys, values = decode.vector(body.encode())
    assert json.loads(keys[0]) == {"a": "b"}
    assert values.tolist() == [np.inf]


def test_matrix_on_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "PIECE", 60)
    result = [
        {"metric": {"a": "1"}, "values": [[100.001, "1"], [115.001, "NaN"], [130.001, "+Inf"]]},
        {"metric": {"a": "2"}, "values": [[130.001, "2"]]},
        {"metric": {"a": "3"}, "values": [[85, "8"], [160, "9"]]},  # outside: not asked for
    ]
    keys, at, values = decode.matrix(answer("matrix", result), 100.001, 145.0, 15)
    assert keys == [b'{"a":"1"}', b'{"a":"2"}', b'{"a":"3"}']
    assert at.tolist() == [100.001, 115.001, 130.001]
    nan = np.nan
    np.testing.assert_array_equal(values, [[1, nan, nan], [nan, nan, nan], [np.inf, 2, nan]])


def test_empty_matrix() -> None:
    assert decode.matrix(answer("matrix", []), 0, 30, 15).values.shape == (3, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "input data was truncated"),
        (b"<html>", "JSON is malformed: invalid character (byte 0)"),
        (b"null", "expected `object`, got `null`"),
        (b"{}", "object missing required field `status`"),
        (answer("vector", [{"metric": {}, "value": [1, "2"]}])[:-9], "input data was truncated"),
        (
            answer("vector", [{"metric": {}, "value": [1, "x"]}]),
            "expected `float`, got `str` - at `$[0].value[1]`",
        ),
        (answer("string", [1, "x"]), "expected a vector or a scalar, got a string"),
        (answer("matrix", []), "expected a vector or a scalar, got a matrix"),
        (b'{"status":"error","data":{"resultType":"","result":[]}}', "its status is 'error'"),
    ],
)
def test_refused_with_these_words(body: bytes, words: str) -> None:
    with pytest.raises(NotAnAnswer) as caught:
        decode.vector(body)
    assert str(caught.value).lower() == words.lower()


def test_truncated_in_a_later_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "PIECE", 10)
    body = answer("vector", [{"metric": {"i": str(i)}, "value": [1, "2"]} for i in range(5)])
    for cut in range(1, len(body)):
        with pytest.raises(NotAnAnswer):
            decode.vector(body[:cut])


def test_odd_points_are_refused() -> None:
    with pytest.raises(NotAnAnswer, match="a series has points that are not pairs"):
        decode.matrix(answer("matrix", [{"metric": {}, "values": [[1]]}]), 0, 1, 1)
    with pytest.raises(NotAnAnswer, match="expected a matrix, got a vector"):
        decode.matrix(answer("vector", []), 0, 1, 1)
