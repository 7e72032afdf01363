"""PromQL: one spelling for equal expressions, and the comparisons that an alert rests on."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.signals.watch.conditions import comparisons
from sidecar.signals.watch.kinds import KINDS, guess_kind
from sidecar.signals.watch.promql import DEEPEST, LONGEST, NoWatch, check, narrowed, normalise


@pytest.mark.parametrize(
    ("spellings", "normal"),
    [
        (["up", " up{} ", "(up)", "((up)) # comment"], "up"),
        (['x{b="2",a="1"}', "x{a='1',b=`2`,}"], 'x{a="1",b="2"}'),
        (["sum(x) by (b,a)", "sum by(a, b)(x)", "(sum  by (b,a) ((x)))"], "sum by (a, b) (x)"),
        (["rate(x[60s])/rate(y[1m])", "(rate(x[1m])) / (rate(y{}[1m]))"], "rate(x[1m]) / rate(y[1m])"),
        (["a-(b-c)"], "a - (b - c)"),
        (["a-b-c", "(a-b)-c"], "(a - b) - c"),
        (["-x^2"], "-(x ^ 2)"),
        (["(-x)^2"], "(-x) ^ 2"),
        (["x - -5"], "x - (-5)"),
        (["x offset -5m @ start()", "x @ start() offset -5m"], "x @ start() offset -5m"),
        (["x @ 1234.5"], "x @ 1234.5"),
        (["max_over_time((a/b)[1h:90s] offset 1d)"], "max_over_time((a / b)[1h:1m30s] offset 1d)"),
        (["max_over_time(rate(x[5m])[1h:])"], "max_over_time(rate(x[5m])[1h:])"),
        (["a == bool on(y,x) group_left(z) b"], "a == bool on (x, y) group_left (z) b"),
        (["a and ignoring(x) b or c"], "(a and ignoring (x) b) or c"),
        (["topk by (x) (5, y)", "topk(5,y)by(x)"], "topk by (x) (5, y)"),
        (['{"foo.bar",a="b"}'], '{__name__="foo.bar",a="b"}'),
        (['sum without ("a.b") (x)'], 'sum without ("a.b") (x)'),
        (["x > 1e-10"], "x > 1e-10"),
        (["x > Inf"], "x > Inf"),
    ],
)
def test_equal_expressions_have_one_spelling(spellings: list[str], normal: str) -> None:
    assert [normalise(spelling) for spelling in spellings] == [normal] * len(spellings)
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"10\\.0"', r"10\.0"),
        (r"`10\.0`", r"10\.0"),
        (r"'a\'b'", "a'b"),
        (r'"\"\n\t\u00e9"', '"\n\té'),
        (r'"\x01\\b"', "\x01\\b"),
        ('"# no comment `"', "# no comment `"),
    ],
)
def test_strings_keep_their_escapes(written: str, value: str) -> None:
    import promql_parser

    once = normalise(f"x{{a={written}}}")
    assert promql_parser.parse(once).matchers.matchers[0].value == value
    assert normalise(once) == once


@given(st.text())
def test_any_label_value_comes_back(value: str) -> None:
    import promql_parser

    text = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    try:
        promql_parser.parse(f"x{{a={text}}}")
    except ValueError:
        return
    once = normalise(f"x{{a={text}}}")
    assert promql_parser.parse(once).matchers.matchers[0].value == value


WHOLE, PART = True, False


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up == 0", [("up", "==", 0, WHOLE)]),
        ("x != 3", [("x", "!=", 3, WHOLE)]),
        ("0.9 < x", [("x", ">", 0.9, WHOLE)]),
        ("15 * 60 >= x", [("x", "<=", 900, WHOLE)]),
        ("x > 1 - 0.95", [("x", ">", 0.05, WHOLE)]),
        ("x > -(2 ^ 3) % 3", [("x", ">", -2, WHOLE)]),
        ("100 - x < 10", [("100 - x", "<", 10, WHOLE)]),
        ("(x) > bool (1)", [("x", ">", 1, WHOLE)]),
        ("a > b", [("a - b", ">", 0, WHOLE)]),
        ("a > on(x) group_left(y) (b+c)", [("a - on (x) group_left (y) (b + c)", ">", 0, WHOLE)]),
        ("a > bool ignoring(x) b", [("a - ignoring (x) b", ">", 0, WHOLE)]),
        ("x < time()", [("x - time()", "<", 0, WHOLE)]),
        ("x > scalar(y)", [("x - scalar(y)", ">", 0, WHOLE)]),
        ("a > 1 and b < 2", [("a", ">", 1, PART), ("b", "<", 2, PART)]),
        ("a > 1 or b < 2", [("a", ">", 1, WHOLE), ("b", "<", 2, WHOLE)]),
        ("a > 1 or absent(a)", [("a", ">", 1, WHOLE)]),
        ("a > 1 unless b < 2", [("a", ">", 1, PART)]),
        ("(a > 1 and b) or c == 1", [("a", ">", 1, PART), ("c", "==", 1, WHOLE)]),
        ("5 < x < 10", [("x", ">", 5, PART), ("x", "<", 10, PART)]),
        ("x > 5 < 10 != 7", [("x", ">", 5, PART), ("x", "<", 10, PART), ("x", "!=", 7, PART)]),
        ("(a > 1) * on(i) group_left(n) info", [("a", ">", 1, WHOLE)]),
        ("-(a > 1)", [("a", ">", 1, WHOLE)]),
        ("count by (j) (up == 0)", [("up", "==", 0, WHOLE)]),
        ("(a > bool 1) + (b > bool 2) > 1", [("(a > bool 1) + (b > bool 2)", ">", 1, WHOLE)]),
        ("sort(x > 1)", [("x", ">", 1, WHOLE)]),
        ('label_join(x > 1,"a","","b")', [('label_join(x, "a", "", "b")', ">", 1, WHOLE)]),
        ("x > 1 or x > 1", [("x", ">", 1, WHOLE)]),
    ],
)
def test_comparisons(expr: str, found: list[tuple[str, str, float, bool]]) -> None:
    assert [comparison[:4] for comparison in comparisons(expr)] == found


@pytest.mark.parametrize(
    ("expr", "also"),
    [
        ("a > 1 and b < 2", ["b < 2"]),
        ("a > 1 and on (x) (b < 2) and ignoring (y) 3 <= c", ["b < 2, c >= 3"]),
        ("5 < x < 10", ["x < 10"]),
        ("x > 5 < 10 != 7", ["x < 10, x != 7"]),
        ("(a > 1 and b < 2) or c == 1", ["b < 2", ""]),
        ("a > 1 and (b > 2 or c > 3)", ["b > 2", "c > 3"]),
        ("c > 3 and a > b", ["a - b > 0"]),
        ("sort(a > 1 and b < 2)", ["b < 2"]),
        # what has no number, or other labels than its query, is not told
        ("a > 1 and b", []),
        ("a > 1 unless b > 2", []),
        ("c > 1 and (a > on (x) b)", []),
        ("(a > on (x) b) and c > 1", []),
        ("a > 1 and (b > 2 and c > 3)", []),
        ("a > 1 and on (__name__) b > 2", []),
        ("(a > 1) * (b > 2)", []),
        ("sum by (x) (a > 1) and b > 2", []),
        ('label_join(a > 1 and b < 2,"a","","b")', []),
    ],
)
def test_what_must_hold_as_well(expr: str, also: list[str]) -> None:
    told = [", ".join(map(str, c.also)) for c in comparisons(expr) if c.whole or c.also]
    assert told == also


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        ("vector(1)", "it compares nothing: there is no limit to come near to"),
        ("x", "it compares nothing: there is no limit to come near to"),
        ("x unless y > 1", "it compares nothing: there is no limit to come near to"),
        ("1", "it compares nothing: there is no limit to come near to"),
        ("absent(x)", "absent() has no value that could be forecast"),
        ("absent(x) == 1", "absent() has no value that could be forecast"),
        ("absent_over_time(x[5m]) or absent(y)", "absent_over_time() has no value that could be forecast"),
        ("1 > bool 2", "it compares two constants"),
        ("vector(1) > 0", "it selects no metric"),
        ("hour() > 20", "it selects no metric"),
        ("x > Inf", "it compares with Inf"),
        ("x > 1 / 0", "it compares with NaN"),
        ("promantis_anomaly_score > 1", "it selects metrics of Promantis itself"),
        ("promantis:anomalies:count > 5", "it selects metrics of Promantis itself"),
        ("x > 1 unless rate(promantis_x[5m]) > 0", "it selects metrics of Promantis itself"),
        ('{__name__=~"promantis_.*"} > 1', "it selects metrics of Promantis itself"),
        ('{__name__="promantis_x"} > 1', "it selects metrics of Promantis itself"),
        ("count(ALERTS) > 1", "it selects ALERTS"),
        ("max_over_time(ALERTS_FOR_STATE[5m:1m]) > 1", "it selects ALERTS_FOR_STATE"),
        ("x >", "it cannot be parsed: invalid promql query"),
        ("", "it cannot be parsed: no expression found in input"),
        ('x{a="b" or c="d"} > 1', "it uses `or` between matchers, which Prometheus does not know"),
        ("x + on() fill(0) y > 1", "it uses fill modifiers, which are not supported"),
        ("x" * (LONGEST + 1), f"it is longer than {LONGEST} characters"),
        (
            "(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1),
            f"it has more than {DEEPEST} operators or nested parentheses",
        ),
        (
            "-" * (DEEPEST + 1) + "x > 1",
            f"it has more than {DEEPEST} operators or nested parentheses",
        ),
    ],
)
def test_what_cannot_be_watched(expr: str, reason: str) -> None:
    with pytest.raises(NoWatch) as caught:
        comparisons(expr)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "expr",
    [
        "(" * DEEPEST + "x" + ")" * DEEPEST + " > 1",
        "-" * (DEEPEST - 1) + "x > 1",
        "x" + " + x" * (DEEPEST - 1) + " > 1",
        " or ".join(["x > 1"] * (DEEPEST // 2)),
    ],
)
def test_deep_expressions_end_neither_parser_nor_stack(expr: str) -> None:
    assert comparisons(expr)


PIECES = st.sampled_from(
    [*"()[]{}<>=!~+-*/^,:@\"'`\\# ", "x", "up", "sum", "by", "and", "unless", "5m", "1", "rate"]
)


@given(st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(string.printable, max_size=40)))
def test_no_expression_raises_anything_else(text: str) -> None:
    try:
        for comparison in comparisons(text):
            assert normalise(comparison.query) == comparison.query
    except NoWatch:
        pass


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("x[5m]", "it gives ranges, not one value per series"),
        ("(x[5m:1m])", "it gives ranges, not one value per series"),
        ('"x"', "it gives a string, not numbers"),
        ("ALERTS", "it selects ALERTS"),
    ],
)
def test_what_cannot_be_asked_every_tick(query: str, reason: str) -> None:
    with pytest.raises(NoWatch) as caught:
        check(query)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("histogram_quantile(0.99, rate(http_request_duration_seconds_bucket[5m]))", "latency"),
        ("sum(rate(http_requests_total[5m]))", "traffic"),
        ('sum(rate(http_requests_total{code=~"5.."}[5m]))', "errors"),
        ('rate(haproxy_server_http_responses_total{code="5xx"}[1m])', "errors"),
        ('rate(x_requests_total{status=~"^5.."}[1m])', "errors"),
        ('rate(x_requests_total{le="5"}[1m])', "traffic"),
        ("rate(node_network_receive_errs_total[2m])", "errors"),
        ("room_temperature_celsius", "other"),
        ("rate(node_cpu_seconds_total[5m])", "cpu"),
        ("node_load1", "cpu"),
        ("node_memory_MemAvailable_bytes", "memory"),
        ("node_filesystem_avail_bytes / node_filesystem_size_bytes", "disk"),
        ("rate(node_network_receive_bytes_total[5m])", "network"),
        ("rabbitmq_queue_messages", "saturation"),
        ("sum by (consumergroup) (kafka_consumergroup_lag)", "saturation"),
        ("pg_replication_lag_seconds", "latency"),
        ('rate(x_requests_total{code!~"5.."}[1m]) / rate(x_requests_total[1m])', "errors"),
        ("up", "other"),
    ],
)
def test_kinds(query: str, kind: str) -> None:
    assert guess_kind(query) == kind
    assert kind in KINDS


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("x", 'x{a="1",pod="p"}'),
        ('{__name__=~"x|y"}[5m] offset 1h', '{__name__=~"x|y",a="1",pod="p"}[5m] offset 1h'),
        ("sum by (pod, path) (rate(x[5m]))", 'sum by (path, pod) (rate(x{pod="p"}[5m]))'),
        ("sum without (pod) (x)", 'sum without (pod) (x{a="1"})'),
        ("sum(x)", "sum(x)"),  # nothing of it may be left out
        ("topk(3, x)", "topk(3, x)"),
        ('count_values by (a) ("pod", x)', 'count_values by (a) ("pod", x)'),
        ("a / on (pod) b", 'a{pod="p"} / on (pod) b{pod="p"}'),
        ("a / ignoring (pod) b", 'a{a="1"} / ignoring (pod) b{a="1"}'),
        ("a and on (pod) b", 'a{a="1",pod="p"} and on (pod) b{pod="p"}'),
        ("a or on (pod) b", 'a{pod="p"} or on (pod) b{pod="p"}'),  # another a of this pod hides a b
        ("x * on (pod) group_left (a) y", 'x{pod="p"} * on (pod) group_left (a) y{pod="p"}'),
        ("x * on (pod) group_right () y", 'x{pod="p"} * on (pod) group_right () y{a="1",pod="p"}'),
        ("max_over_time((x > 3)[1h:1m])", 'max_over_time((x{a="1",pod="p"} > 3)[1h:1m])'),
        ('label_replace(x, "a", "$1", "b", "(.*)")', 'label_replace(x, "a", "$1", "b", "(.*)")'),
        ("absent_over_time(x[5m])", "absent_over_time(x[5m])"),
        ("broken((", "broken(("),
    ],
)
def test_a_question_is_narrowed_to_one_series_where_that_leaves_its_answer(asked: str, told: str) -> None:
    assert narrowed(asked, (("__name__", "x"), ("a", "1"), ("pod", "p"))) == told
