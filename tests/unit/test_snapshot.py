"""What alerts, pages and remedies read: the series that an alert is about, the odd ones, the breaches ahead."""

from __future__ import annotations

import numpy as np
import pytest

from sidecar.signals.known.snapshot import Known
from sidecar.signals.watch.watches import Limit, Watch
from sidecar.types import labels_of
from tests.unit.made import engine, key, noisy, ticked, vector, watch

INSTANCES = ("a:9100", "b:9100")
FREE = [
    key(__name__="free", job="node", instance=i, mountpoint=m) for i in INSTANCES for m in ("/", "/<data>")
]


def known(*watches: Watch, **keys: list[bytes]) -> Known:
    """Everything of some noisy series by watch."""
    made, out = engine(*watches), Known()
    answers = {name: noisy(of) for name, of in keys.items()}
    out.publish(ticked(made, lambda i: {name: answer(i) for name, answer in answers.items()}))
    return out


def found(of: Known, limit: int = 1, **labels: str) -> list[dict[str, str]]:
    return [dict(finding.labels) for finding in of.near(labels_of(labels), limit)]


def disks() -> Known:
    limits = (Limit("<", 1.0, alertname="DiskFull"), Limit("<", 5.0, alertname="DiskFilling"))
    return known(watch("disk", alertnames=("DiskFilling", "DiskFull"), limits=limits), disk=FREE)


@pytest.mark.parametrize("alertname", ["DiskFull", "DiskFilling", "disk"])
def test_two_rules_on_one_expression_find_the_same_series(alertname: str) -> None:
    wanted = {"job": "node", "instance": "b:9100", "mountpoint": "/<data>"}
    assert found(disks(), alertname=alertname, severity="page", **wanted) == [wanted]


def test_replica_external_and_relabelled_labels_only_fail_to_match() -> None:
    wanted = {"job": "node", "instance": "a:9100", "mountpoint": "/"}
    on_top = {"cluster": "eu", "prometheus_replica": "1", "alertname": "DiskFull"}
    assert found(disks(), **on_top, **wanted) == [wanted]
    relabelled = {**wanted, "job": "machines"}
    assert found(disks(), **on_top, **relabelled) == [wanted]


def test_an_alert_of_fewer_labels_finds_every_series_that_it_may_be_about() -> None:
    assert len(found(disks(), 10, alertname="DiskFull", instance="a:9100")) == 2
    assert len(found(disks(), 10, alertname="DiskFull")) == 4
    assert len(found(disks(), 3, alertname="DiskFull")) == 3


def test_a_sum_by_a_label_is_found_by_it() -> None:
    of = known(watch("errors", alertnames=("Errors",)), errors=[key(service="shop"), key(service="cart")])
    assert found(of, alertname="Errors", service="cart", severity="page") == [{"service": "cart"}]
    whole = known(watch("errors", alertnames=("Errors",)), errors=[b"{}"])
    assert found(whole, alertname="Errors", team="x") == [{}]


def test_a_value_that_begins_like_another_is_another() -> None:
    of = known(watch("w", alertnames=("A",)), w=[key(pod="web"), key(pod="web-1"), key(xpod="web-2")])
    assert found(of, alertname="A", pod="web-1") == [{"pod": "web-1"}]
    assert found(of, alertname="A", pod='web"') != [{"pod": 'web"'}]


def test_keys_that_victoriametrics_escapes() -> None:
    of = known(watch("w", alertnames=("A",)), w=[rb'{"path":"/\u003cid>"}', rb'{"path":"/it\u0027s"}'])
    assert found(of, alertname="A", path="/<id>") == [{"path": "/<id>"}]
    assert found(of, alertname="A", path="/it's") == [{"path": "/it's"}]


def test_alerts_on_our_own_metrics_find_their_series() -> None:
    of = disks()
    wanted = {"job": "node", "instance": "b:9100", "mountpoint": "/"}
    assert found(of, alertname="PromantisPredictedBreach", source_alertname="DiskFull", **wanted) == [wanted]
    assert found(of, alertname="PromantisAnomaly", watch="disk", **wanted) == [wanted]


def test_other_alerts_find_nothing() -> None:
    assert found(disks(), alertname="Other", instance="a:9100") == []
    assert found(disks()) == []
    assert Known().near(labels_of({"alertname": "A"}), 5) == []


def test_of_equals_the_oddest_is_first() -> None:
    w = watch("w", alertnames=("A",))
    e, keys, of = engine(w), [key(i=str(i)) for i in range(3)], Known()
    answer = noisy(keys)
    ticked(e, lambda i: {"w": answer(i)}, 400)
    of.publish(ticked(e, lambda _: {"w": vector(dict(zip(keys, [10, 10, 60], strict=True)))}, 1, e.at + 15))
    assert found(of, 2, alertname="A")[0] == {"i": "2"}
    assert [dict(f.labels)["i"] for f in of.top(5)] == ["2", "0", "1"]
    assert [f.score for f in of.top(5)[1:]] == [0, 0]  # what is quite ordinary has a score too
    assert of.watched() == (1, 3, 3)
    (odd,) = of.top(1)
    assert odd.score > 1
    assert odd.since == e.at
    assert odd.lower <= odd.expected <= odd.upper < odd.observed == 60


def test_breaches_are_told_the_soonest_first() -> None:
    w = watch("w", step=60.0, limits=(Limit(">", 50.0, 60.0, "High", "page"),))
    e, of, keys = engine(w), Known(), [key(i="a"), key(i="b")]
    answer = noisy(keys)
    of.publish(ticked(e, lambda i: {"w": answer(i)}, 240))
    assert of.breaches(5) == []
    of.publish(ticked(e, lambda _: {"w": vector({keys[0]: 10.0, keys[1]: 60.0})}, 1, e.at + 60))
    (finding,) = of.breaches(5)
    (breach,) = finding.breaches
    assert (breach.alertname, breach.severity, breach.op, breach.value, breach.hold) == (
        "High",
        "page",
        ">",
        50,
        60,
    )
    assert (breach.eta, dict(breach.probability)) == (0, {"15m": 1, "30m": 1, "60m": 1})


def test_series_by_a_test_on_their_labels() -> None:
    of = disks()
    assert len(of.matching(lambda labels: labels["watch"] == "disk", 10)) == 4
    assert len(of.matching(lambda labels: labels.get("mountpoint") == "/", 1)) == 1
    assert of.matching(lambda labels: False, 10) == []


def test_nobody_can_change_what_was_published() -> None:
    w = watch("w", absent_for=30.0)
    e, keys = engine(w), [key(i=str(i)) for i in range(70)]
    answer = noisy(keys)
    snapshot = ticked(e, lambda i: {"w": answer(i)}, 40)
    before = {name: column.copy() for name, column in snapshot.columns.items()}
    said = (snapshot.keys, snapshot.watch_of, dict(snapshot.watches))
    ticked(e, lambda _: {"w": vector({keys[0]: 1e6, key(i="new"): 1.0})}, 300, e.at + 15)  # rows go and come
    e.watch({"v": watch("v")})
    e.tick(e.at, {"v": vector({keys[0]: 1.0})}, 1000)
    for name, column in snapshot.columns.items():
        np.testing.assert_array_equal(column, before[name], err_msg=name)
    assert (snapshot.keys, snapshot.watch_of, dict(snapshot.watches)) == said


def test_engines_that_are_no_more_are_forgotten() -> None:
    of = disks()
    of.retire([60.0])
    assert len(of.snapshots) == 1
    of.retire([15.0])
    assert of.top(5) == of.breaches(5) == of.near(labels_of({"alertname": "DiskFull"}), 5) == []


def test_a_series_that_came_since_is_found() -> None:
    w = watch("w", alertnames=("A",))
    e, of, old, new = engine(w), Known(), key(pod="old"), key(pod="new")
    of.publish(ticked(e, lambda _: {"w": vector({old: 1.0})}, 2))
    assert found(of, alertname="A", pod="new") == [{"pod": "old"}]  # the least unlike
    of.publish(ticked(e, lambda _: {"w": vector({old: 1.0, new: 1.0})}, 1, e.at + 15))
    assert found(of, alertname="A", pod="new") == [{"pod": "new"}]
