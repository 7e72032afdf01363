"""Which series an alert is about: looked up where some have all of its labels, else the least unlike of all."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.signals.ingest import alike as module
from sidecar.signals.ingest.alike import Alike, alike
from sidecar.types import labels_of

LABELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4)


@given(st.lists(LABELS, min_size=1, max_size=12), LABELS)
def test_the_nearest_are_those_that_a_comparison_with_all_finds(
    rows: list[dict[str, str]], labels: dict[str, str]
) -> None:
    of = read(rows)
    unlike = of.unlike(labels_of(labels))
    least, found = of.nearest(labels_of(labels))
    assert least == unlike.min()
    assert sorted(found) == of.rows[unlike == least].tolist()


def read(rows: list[dict[str, str]]) -> Alike:
    return alike(range(7, 7 + len(rows)), [json.dumps(row).encode() for row in rows])


def test_where_some_have_all_labels_the_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, str]] = [{"pod": str(i), "zone": "a" if i % 2 else "b"} for i in range(100)]
    of = read(rows)
    assert len(of.order) == 100

    def refuse(self: Alike, labels: Mapping[str, str]) -> None:
        raise AssertionError("it looks at all")

    monkeypatch.setattr(Alike, "unlike", refuse)
    assert of.nearest(labels_of({"pod": "5", "zone": "a", "alertname": "A"})) == (-2, np.array([12]))
    for labels in ({"pod": "5", "zone": "b"}, {"zone": "b"}, {"pod": "1000"}):
        with pytest.raises(AssertionError, match="looks at all"):
            of.nearest(labels_of(labels))


def test_many_alike_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 1)
    least, found = read([{"pod": "1", "le": "1"}, {"pod": "1", "le": "2"}]).nearest((("pod", "1"),))
    assert (least, found.tolist()) == (-1, [7, 8])
