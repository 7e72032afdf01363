"""POST /api/v2/alerts as bytes: Alertmanager's answers, and nothing lost that is good."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.alerts.times import instant
from sidecar.alerts.wire import Decoded, decode, encode
from sidecar.types import Alert, Instant

NOW = Instant(1764032400.0)  # 2025-11-25T01:00:00Z
GOOD = '{"labels":{"alertname":"Good"}}'


def read(text: str | bytes, content_type: str = "application/json") -> Decoded:
    return decode(text.encode() if isinstance(text, str) else text, content_type, NOW)


def test_prometheus_batch_keeps_every_byte_that_matters() -> None:
    body = (
        r'[{"annotations":{"summary":"v 1"},"endsAt":"2026-11-24T22:36:53.632Z","startsAt":"2026-11-24T22:36:21.632Z",'
        r'"generatorURL":"http://vm:19090/graph?g0.expr=vector%281%29\u0026g0.tab=1",'
        r'"labels":{"alertname":"Always","cluster":"c1","replica":"a","severity":"page"}}]'
    )
    decoded = read(body)
    assert decoded.answer == (200, b"")
    assert decoded.alerts == (
        Alert(
            (("alertname", "Always"), ("cluster", "c1"), ("replica", "a"), ("severity", "page")),
            {"summary": "v 1"},
            "2026-11-24T22:36:21.632Z",
            "2026-11-24T22:36:53.632Z",
            "http://vm:19090/graph?g0.expr=vector%281%29&g0.tab=1",
        ),
    )
    assert json.loads(encode(decoded.alerts)) == json.loads(body)


def test_what_was_not_sent_is_not_invented() -> None:
    decoded = read('[{"labels":{"b":"1","a":"","c":"2"},"annotations":{"x":""}}]')
    assert encode(decoded.alerts) == b'[{"annotations":{"x":""},"labels":{"b":"1","c":"2"}}]'


def test_a_bad_alert_never_takes_the_good_ones_with_it() -> None:
    for bad in (
        "{}",
        "null",
        '"x"',
        '{"labels":{"a":1}}',
        '{"labels":{"a":"b"},"startsAt":"soon"}',
        '{"labels":{"a":"b"},"generatorURL":"graph"}',
        '{"labels":{}}',
    ):
        decoded = read(f"[{GOOD},{bad},{GOOD}]")
        assert [alert.label("alertname") for alert in decoded.alerts] == ["Good", "Good"], bad
        assert decoded.refused == 1
        assert decoded.answer.status in (400, 422)


def test_the_answer_names_what_alertmanager_meets_first() -> None:
    unreadable, schemaless, empty = '{"labels":{"a":1}}', "{}", '{"labels":{}}'
    assert read(f"[{empty},{schemaless},{unreadable}]").answer == (
        400,
        b'{"code":400,"message":"parsing alerts body from \\"\\" failed, because json: '
        b'cannot unmarshal number into Go struct field Alert.labels of type string"}',
    )
    assert read(f"[{empty},{schemaless},{schemaless}]").answer == (
        422,
        b'{"code":602,"message":"1.labels in body is required"}',
    )
    assert read(f'[{empty},{{"labels":{{"":"x"}}}}]').answer == (
        400,
        b'"at least one label pair required\\ninvalid label set: invalid name \\"\\""\n',
    )


def test_time_without_end_is_compared_with_the_resolve_timeout() -> None:
    def starting(seconds: float) -> Decoded:
        at = Instant(NOW + seconds)
        return read(f'[{{"labels":{{"a":"b"}},"startsAt":"{_iso(at)}"}}]')

    assert starting(299).answer.status == 200
    assert starting(900).answer.status == 200  # by a clock that is not behind it may be right
    assert starting(3901).answer == (400, b'"start time must be before end time"\n')


def _iso(at: Instant) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-11-25T01:00:00Z", NOW),
        ("2025-11-25T01:00:00.250Z", NOW + 0.25),
        ("2025-11-25T01:00:00.123456789Z", NOW + 0.123456789),
        ("2025-11-25T02:30:00+01:30", NOW),
        ("2025-11-25", NOW - 3600),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert instant(text) == pytest.approx(seconds, abs=1e-6)


times = st.from_regex(
    r"-?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9:]{0,9}([.,][0-9]{0,12})?(Z|[+-][0-9:]{0,6})?)?"
)
urls = st.from_regex(
    r"([a-z]{0,5}:)?/{0,3}[\[\]a-z0-9:@%. \x01é-]{0,12}(/[%a-z0-9 ]{0,5})?([?#].{0,3})?", fullmatch=True
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | times | urls,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["labels", "annotations", "startsAt", "endsAt", "generatorURL", "", "a", "Labels"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@example(b'[{"labels":{"a":"\xff"}}]')
@example(b'[{"labels":{"a":"\\ud800"}}]')
@example(b"[" * 20_000)
@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_fuzz_only_documented_answers(body: bytes) -> None:
    decoded = read(body)
    assert decoded.answer.status in (200, 400, 422)
    if decoded.answer.status == 200:
        assert decoded.refused == 0
        assert decoded.answer.body == b""
    else:
        assert json.loads(decoded.answer.body)
    assert all(alert.labels for alert in decoded.alerts)
    again = read(encode(decoded.alerts))
    assert again.alerts == decoded.alerts
    assert again.answer.status == 200


@given(st.data(), st.binary(max_size=3))
def test_fuzz_damaged_batches(data: st.DataObject, rubbish: bytes) -> None:
    """What a broken sender or proxy makes of a good batch: read, or refused in documented words."""
    batch = encode([Alert((("alertname", "é"),), {"x": "\n"}, "2025-11-25T01:00:00Z", None, "http://p/")] * 2)
    at, cut = data.draw(st.integers(0, len(batch))), data.draw(st.integers(0, len(batch)))
    test_fuzz_only_documented_answers.hypothesis.inner_test(batch[:at] + rubbish + batch[cut:])


@given(st.text(max_size=40))
def test_fuzz_content_types(content_type: str) -> None:
    assert decode(b"[]", content_type, NOW).answer.status in (200, 400, 415)


def test_names_in_another_case_and_objects_that_come_twice_are_read_as_go_does() -> None:
    def read(text: bytes) -> Alert:
        return decode(text, "application/json", Instant(0)).alerts[0]

    one = read(b'[{"labels":{"a":"1"},"Annotations":{"x":"y"},"endsat":"2099-01-01T00:00:00Z"}]')
    assert (one.annotations, one.ends_at) == ({"x": "y"}, "2099-01-01T00:00:00Z")
    two = read(b'[{"labels":{"a":"2"},"labels":{"b":"3"},"annotations":{"x":"y"},"annotations":{"z":"w"}}]')
    assert (two.labels, two.annotations) == ((("a", "2"), ("b", "3")), {"x": "y", "z": "w"})
