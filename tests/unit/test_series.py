"""Rows of series: admission, budget, duplicates, freeing and giving away again."""

from __future__ import annotations

import pytest

from sidecar.signals.ingest import series
from sidecar.signals.ingest.series import Table
from tests.unit.made import key

A, B, C = key(i="a"), key(i="b"), key(i="c")


def test_rows_stay_whatever_the_order_of_an_answer() -> None:
    table = Table()
    assert table.place("w", [A, B], 10).rows.tolist() == [0, 1]
    again = table.place("w", [B, A, C], 10)
    assert (again.rows.tolist(), again.new) == ([1, 0, 2], [2])
    assert table.place("w", [B, A, C], 10).new == []
    assert table.find("w", [C, key(i="d")]).tolist() == [2, -1]
    assert len(table) == 3


def test_the_same_series_in_two_watches_has_two_rows() -> None:
    table = Table()
    table.place("v", [A], 10)
    assert table.place("w", [A], 10).rows.tolist() == [1]
    assert (table.rows("v").tolist(), table.rows("w").tolist()) == ([0], [1])
    assert table.rows("nothing").tolist() == []


def test_an_empty_answer_keeps_the_rows() -> None:
    table = Table()
    assert table.place("w", [], 10).rows.tolist() == []
    table.place("w", [A], 10)
    assert table.place("w", [], 10).rows.tolist() == []
    assert table.place("w", [A], 10).rows.tolist() == [0]


def test_what_does_not_fit_is_admitted_when_there_is_room() -> None:
    table = Table()
    placed = table.place("w", [A, B, C], 2)
    assert (placed.rows.tolist(), placed.over_budget) == ([0, 1, -1], 1)
    assert table.place("w", [A, B, C], -1).over_budget == 1
    assert table.place("w", [A, B, C], 1).rows.tolist() == [0, 1, 2]


def test_a_series_that_was_not_admitted_leaves_nothing_behind() -> None:
    table = Table()
    table.place("w", [key(__name__="x", i="a")], 0)
    placed = table.place("w", [key(__name__="y", i="a")], 1)  # another metric with its labels
    assert (placed.rows.tolist(), placed.duplicate) == ([0], 0)


def test_equal_labels_of_two_metrics_are_exported_once() -> None:
    table = Table()
    x, y = key(__name__="x", i="a"), key(__name__="y", i="a")
    placed = table.place("w", [x, y, x], 10)
    assert (placed.rows.tolist(), placed.duplicate) == ([0, -1, -1], 2)
    assert table.place("w", [y], 10).rows.tolist() == [0]  # the first is gone


def test_freed_rows_are_given_to_others_and_no_view_changes() -> None:
    table = Table()
    table.place("w", [A, B], 10)
    before = table.view()
    assert table.view() is before
    table.drop([0, 0])
    assert len(table) == 1
    assert table.view()[0] == (None, B)
    assert table.place("v", [C], 10).rows.tolist() == [0]
    assert before == ((A, B), ("w", "w"), {"w": (0, 1)})
    assert table.view() == ((C, B), ("v", "w"), {"v": (0,), "w": (1,)})
    assert table.place("w", [A, B], 10).rows.tolist() == [2, 1]


def test_a_watch_that_goes_frees_all_its_rows() -> None:
    table = Table()
    table.place("w", [A, B], 10)
    table.place("v", [A], 10)
    assert table.drop_watch("w") == [0, 1]
    assert table.watches() == ["v"]
    assert table.drop_watch("w") == []


def test_a_restored_table_goes_on() -> None:
    table, again = Table(), Table()
    table.place("w", [A, B, C], 10)
    table.drop([1])
    again.restore(list(table.keys), list(table.watch_of), list(table.zone_of), 3)
    assert again.view() == table.view()
    assert again.place("w", [C, A, B], 10).rows.tolist() == [2, 0, 1]


def test_workload_is_what_a_successor_shares() -> None:
    old, new = key(job="shop", pod="shop-1", instance="10.0.0.1:80"), key(job="shop", pod="shop-2")
    assert series.workload(old) == series.workload(new) == key(job="shop")
    named = key(__name__="x", exported_pod="shop-7d9f8b6c5-x2x9k", instance="10.0.0.1:80", job="shop")
    assert series.workload(named) == key(job="shop")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"replicaset": "shop-7d9f8b6c5"}, {"replicaset": "shop-86c57db685"}),
        ({"created_by_name": "shop-7d9f8b6c5-x2x9k"}, {"created_by_name": "shop-86c57db685-8hjk4"}),
        ({"revision": "db-5b8f6d7c9b", "i": "0"}, {"revision": "db-6c9b7d8f54", "i": "0"}),
        ({"job_name": "backup-28312345"}, {"job_name": "backup-28313785"}),
        ({"owner": "backup-28312345-bcd42"}, {"owner": "backup-28313785-zx9k7"}),
        ({"daemon": "fluentd-x2x9k"}, {"daemon": "fluentd-77b5z"}),
        ({"container_name": "web_3f2a9c1b7d5e"}, {"container_name": "web_0123456789ab"}),
        (
            {"name": "k8s_web_shop-7d9f8b6c5-x2x9k_ns_0b1c2d3e-1111-2222-3333-444455556666_0"},
            {"name": "k8s_web_shop-86c57db685-8hjk4_ns_9b1c2d3e-1111-2222-3333-444455556666_0"},
        ),
        ({"node": "n1", "pod": "shop-0"}, {"node": "n2", "pod": "shop-0"}),
    ],
)
def test_hashes_in_values_are_no_part_of_a_workload(one: dict[str, str], other: dict[str, str]) -> None:
    assert series.workload(key(**one)) == series.workload(key(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"node": "n1"}, {"node": "n2"}),
        ({"name": "sshd.service"}, {"name": "cron.service"}),
        ({"shard": "db-0"}, {"shard": "db-1"}),
        ({"device": "eth0"}, {"device": "eth1"}),
        ({"zone": "eu-west-1"}, {"zone": "eu-west-2"}),
        ({"scheme": "proxy-https"}, {"scheme": "proxy-plain"}),
        ({"text": '"pod":"a"'}, {"text": '"pod":"b"'}),
    ],
)
def test_what_tells_workloads_apart(one: dict[str, str], other: dict[str, str]) -> None:
    assert series.workload(key(**one)) != series.workload(key(**other))


def test_which_labels_are_of_the_instance_is_the_users_choice() -> None:
    one, other = key(job="shop", pod="a", shard="1"), key(job="shop", pod="a", shard="2")
    assert series.workload(one, ("shard",)) == series.workload(other, ("shard",)) == key(job="shop", pod="a")
    assert series.workload(one, ()) != series.workload(other, ())


def test_a_metric_with_a_new_name_keeps_its_row() -> None:
    table = Table()
    x, y = key(__name__="x", i="a"), key(__name__="y", i="a")
    table.place("w", [x], 10)
    placed = table.place("w", [y], 10)
    assert (placed.rows.tolist(), placed.new, placed.duplicate) == ([0], [], 0)
    assert table.view().keys == (y,)
    assert table.place("w", [x, y], 10).duplicate == 1


def test_labels_of_awkward_keys() -> None:
    assert series.labels(key(__name__="x", path='a"b\\c\n', empty="")) == (("path", 'a"b\\c\n'),)
    assert series.nameless(b'{"__name__":"up"}') == b"{}"
    assert series.nameless(b"{}") == b"{}"


def test_the_labels_of_a_series_are_kept_once() -> None:
    table = Table()
    table.place("w", [A], 1)
    table.place("w", [bytes(bytearray(A)), B], 1)  # as of another answer
    assert [mine is own for mine, own in zip(table._watched["w"].keys, table.keys, strict=True)] == [
        True,
        True,
    ]
