"""Series that are scored together: who belongs to whom, their score, its shares, and what is said of it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import presets
from sidecar.signals.detect.groups import (
    LEAST,
    MOST,
    Grouping,
    Joint,
    believed,
    excess,
    lately,
    over_time,
    together,
)
from sidecar.signals.forecast import calibrate
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.ingest.series import View
from sidecar.signals.known.expose import Exposition, ExpositionConfig, render
from sidecar.signals.known.snapshot import Known, Snapshot
from sidecar.signals.watch.watches import Watch
from sidecar.types import F32, F64, I64, Instant
from tests.unit.made import START, engine, key, learned, ticked, vector, watch

SCORE = st.one_of(st.floats(-20, 40, width=32), st.just(float("nan")))
GROUPS = st.lists(st.lists(SCORE, min_size=1, max_size=12), min_size=1, max_size=6)


STEP = 60.0


def flat(groups: list[list[float]]) -> tuple[F32, I64]:
    starts = np.cumsum([0, *map(len, groups)])
    return np.array([e for group in groups for e in group], np.float32), starts


def plainly(members: list[float], step: float = STEP) -> float:
    """The same in the words of the definition."""
    if all(np.isnan(members)):
        return np.nan
    e = sorted(LEAST if np.isnan(m) else min(max(m, LEAST), MOST) for m in members)[-2:]
    return sum(e) / len(e) - float(excess(np.array([len(members)]), step)[0])


@settings(deadline=None)
@given(GROUPS)
def test_the_score_is_the_mean_of_the_two_oddest_less_what_their_number_adds(
    groups: list[list[float]],
) -> None:
    want = [plainly(group) for group in groups]
    np.testing.assert_allclose(together(*flat(groups), STEP), want, rtol=1e-5, atol=1e-5)


def test_a_group_is_believed_as_groups_were_right_and_as_old_as_its_members_are() -> None:
    score = np.array([-2, 0, 0.5, 1, 3, 50, np.nan, 1])
    raw = np.ones((8, 3))
    raw[:, 2] = np.nan  # of a member without a score the age does not count
    raw[6] = np.nan
    age = np.tile([1.0, 3.0, 0.0], (8, 1))
    age[7] = 0.1
    said = believed(score, raw, age)
    one = np.ones(1, np.float32)
    assert said[3] == calibrate.confidence(one, one * 2, one, calibrate.GROUP)[0]
    assert said[3] > calibrate.confidence(one, one * 2, one)[0], "two that are odd together are rarely wrong"
    assert said[0] == said[1] == 0
    assert (np.diff(said[1:6]) > 0).all()
    assert np.isnan(said[6])
    assert said[7] < said[3]


@settings(deadline=None)
@given(GROUPS, st.randoms(use_true_random=False))
def test_groups_do_not_touch_and_the_order_of_members_does_not_matter(
    groups: list[list[float]], random
) -> None:  # type: ignore[no-untyped-def]
    said = together(*flat(groups), STEP)
    for i, group in enumerate(groups):
        np.testing.assert_array_equal(together(*flat([group]), STEP), said[i : i + 1])
    order = list(range(len(groups)))
    random.shuffle(order)
    mixed = [random.sample(groups[i], len(groups[i])) for i in order]
    np.testing.assert_array_equal(together(*flat(mixed), STEP), said[order])


def test_the_threshold_grows_with_members_and_ticks_a_day() -> None:
    """Of members with a twin each, E exponential as the tail promises: ten times as many page not much more often."""
    rng, ticks = np.random.default_rng(1), 50_000
    rates = []
    for n in (16, 160):
        alone = -np.log10(1 - rng.random((ticks, n // 2))) / 0.9 - 2
        rates.append((over_time(np.repeat(alone, 2, axis=1), STEP) >= 1).mean())
    assert rates[0] < rates[1] < 3 * rates[0]
    few = np.arange(1, 14)
    assert (excess(few, 300.0) == 0).all(), "at five minutes a group of 13 is as one series"
    assert excess(few, 60.0)[-1] > 0.3
    np.testing.assert_array_equal(excess(few, 15.0), excess(few, 60.0))


def grouped(keys: list[bytes], watches: dict[str, Watch], of: list[str]) -> dict[object, list[int]]:
    rows = {name: tuple(i for i, w in enumerate(of) if w == name) for name in watches}
    made = Grouping().members(View(tuple(keys), tuple(of), rows), watches)
    ends = zip(made.starts[:-1], made.starts[1:], strict=True)
    return {
        (*name, *labels): made.rows[lo:hi].tolist()
        for name, labels, (lo, hi) in zip(made.names, made.labels, ends, strict=True)
    }


def test_series_of_a_watch_are_grouped_by_their_labels_and_watches_by_the_name_they_share() -> None:
    keys = [key(instance=i, cpu=c) for i in "ab" for c in "01"] + [key(instance="a", disk="x"), key(job="j")]
    together, alone = {"group_by": ("instance",), "group": "node"}, {"group_by": ("instance",)}
    watches = {
        "cpu": watch("cpu", **together),
        "disk": watch("disk", **together),
        "rest": watch("rest", **alone),
    }
    assert grouped(keys, watches, ["cpu"] * 4 + ["disk", "rest"]) == {
        ("group", "node", ("instance", "a")): [0, 1, 4],
        ("group", "node", ("instance", "b")): [2, 3],
        ("watch", "rest"): [5],
    }
    assert grouped(keys, {"cpu": watch("cpu")}, ["cpu"] * 6) == {}


def test_who_belongs_to_whom_is_made_anew_only_when_rows_or_watches_changed() -> None:
    made, watches = Grouping(), {"w": watch(group_by=("a",))}
    view = View((key(a="1"),), ("w",), {"w": (0,)})
    first = made.members(view, watches)
    assert made.members(view, watches) is first
    assert made.members(View(*view), watches) is not first
    assert made.members(view, dict(watches)) is not first


def test_groups_that_come_and_go_are_forgotten() -> None:
    made, watches = Grouping(), {"w": watch(group_by=("a",))}
    for i in range(30):
        keys = (key(a="stays"), *(key(a=f"{i}.{n}") for n in range(100)))
        members = made.members(View(keys, ("w",) * 101, {"w": tuple(range(101))}), watches)
        assert set(members.labels) == {(("a", "stays"),), *((("a", f"{i}.{n}"),) for n in range(100))}
        assert sorted(members.rows.tolist()) == list(range(101))
    assert len(made._numbers) < 2000


KEYS = [key(instance=i, cpu=c) for i in ("a:9100", "b:9100") for c in "01"]


@functools.cache
def said_of_two_machines(odd: float) -> Snapshot:
    """A machine whose two series leap at the last tick, and one that stays calm."""
    rng = np.random.default_rng(3)

    def answer(i: int) -> dict[str, Vector]:
        x: F64 = 10 + rng.normal(0, 1, 4)
        return {"w": Vector(KEYS, x + (odd if i == 299 else 0) * np.array([1, 1, 0, 0]))}

    w = watch("w", "x", 60.0, group_by=("instance",), group="node")
    return ticked(engine(w), answer, 300)


def test_a_machine_that_leaps_is_said_with_the_shares_of_its_members() -> None:
    known = Known()
    known.publish(said := said_of_two_machines(60.0))
    odd, calm = known.groups(lambda labels: labels["group"] == "node", 10, 20)
    assert (odd.by, odd.name, odd.labels, odd.size) == ("group", "node", (("instance", "a:9100"),), 2)
    assert calm.labels == (("instance", "b:9100"),)
    assert calm.score < 1 < odd.score
    assert sum(member.share for member in odd.members) == pytest.approx(1)
    assert {dict(member.finding.labels)["instance"] for member in odd.members} == {"a:9100"}
    assert known.groups(lambda labels: labels["instance"] == "b:9100", 10, 20) == [calm]
    (finding,) = known.near((("alertname", "PromantisGroupAnomaly"), ("group", "node"), *odd.labels), 1)
    assert finding == odd.members[0].finding  # what the alert is about
    raw = said.columns["raw"]
    assert odd.score == pytest.approx(np.minimum(raw[said.groups.of.rows[:2]], MOST).mean())


def test_groups_are_exposed_within_the_budget_and_once_for_all_steps() -> None:
    made = said_of_two_machines(60.0)
    other = made._replace(
        step=15.0, at=made.at - 30, groups=made.groups._replace(raw=made.groups.raw[::-1].copy())
    )
    config = ExpositionConfig(blank_labels=())
    text = b"".join(render(Exposition(config).prepare([made, other], Instant(START)))).decode()
    lines = [line for line in text.splitlines() if line.startswith("promantis_group_anomaly_score{")]
    body = 'promantis_group_anomaly_score{{instance="{}:9100",job="",group="node"}} '
    assert [line.partition("} ")[0] + "} " for line in lines] == [body.format(i) for i in "ab"]
    said = [float(line.partition("} ")[2]) for line in lines]
    np.testing.assert_allclose(said, made.groups.score, rtol=1e-6)  # what was said last
    (few,) = Exposition(ExpositionConfig(max_series=1)).prepare([made], Instant(START))
    assert few.shown.groups.tolist() == [0]  # the odd one
    assert len(few.shown.rows) == 0


def part(step: float, at: float, members: list[list[float]], labels: list[str]) -> Snapshot:
    """Groups, with these labels and members' scores, of an engine of this step."""
    keys = [
        key(g=g, i=f"{step}.{i}") for g, some in zip(labels, members, strict=True) for i in range(len(some))
    ]
    watches = {"w": watch("w", "x", step, group_by=("g",), group="machine")}
    view = View(tuple(keys), ("w",) * len(keys), {"w": tuple(range(len(keys)))})
    raw = np.array([e for some in members for e in some], np.float32)
    made = said_of_two_machines(60.0)
    columns = {name: np.resize(column, len(keys)) for name, column in made.columns.items()} | {"raw": raw}
    return made._replace(
        at=Instant(at), step=step, keys=keys, watch_of=view.watch_of, rows=view.rows, watches=watches,
        columns=columns, groups=Grouping().score(view, watches, raw, step),
    )  # fmt: skip


@settings(deadline=None)  # other jobs on the machine
@given(st.lists(st.tuples(*[st.lists(SCORE, min_size=1, max_size=6)] * 2), min_size=1, max_size=4))
def test_members_of_several_steps_are_scored_as_if_they_were_of_one(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    known, names = Known(Joint()), [str(i) for i in range(len(pairs))]
    known.publish(part(15.0, START, [a for a, _ in pairs], names))
    known.publish(part(300.0, START, [[1.0], *(b for _, b in reversed(pairs))], ["alone", *reversed(names)]))
    said = known.publish(part(15.0, START + 15, [a for a, _ in pairs], names))
    want = [plainly(a + b, 15.0) for a, b in pairs]
    np.testing.assert_allclose(said.groups.raw, want, rtol=1e-5, atol=1e-5)
    slow = known.snapshots[300.0]
    at = [slow.groups.of.labels.index((("g", name),)) for name in names]
    np.testing.assert_allclose(slow.groups.raw[at], want, rtol=1e-5, atol=1e-5)
    told = {dict(group.labels)["g"]: group for group in known.groups(lambda _: True, 10, 20)}
    for name, (a, b) in zip(names, pairs, strict=True):
        assert told[name].size == len(a) + len(b)
        assert len(told[name].members) == sum(e > 0 for e in a + b)


def test_all_metrics_of_a_machine_are_one_group_of_the_node_preset() -> None:
    (node,) = (preset for preset in presets() if preset.name == "node")
    assert {(watch.group, watch.group_by) for watch in node.watches} == {
        ("node", ("cluster", "job", "instance"))
    }


def test_what_a_member_was_fades_over_half_an_hour_from_twice_the_threshold_at_most() -> None:
    said = np.float32([-np.inf] * 3)
    for raw in ([6.0, 1.0, np.nan], [0.5, 0.9, np.nan], [0.5, np.nan, 3.0]):
        said = lately(np.array(raw), said, 900.0)
    assert said.tolist() == [1.0, pytest.approx(0.4), 3.0]


def test_members_that_become_odd_minutes_apart_are_odd_together_until_half_an_hour_later() -> None:
    """The group counts what each member was lately; a series of its own does not."""
    keys = [key(instance="a", cpu=c) for c in "01"]
    e = engine(watch(step=STEP, group_by=("instance",)))
    random = np.random.default_rng(5)
    e.adopt(START, "w", keys, learned(STEP, 2, lambda t: 100 + random.normal(0, 2, 2)), 0, 10)
    joint, now = list[float](), list[float]()
    for i in range(90):
        x = 100 + random.normal(0, 2, 2) + np.array([300.0 * (i == 10), 300.0 * (i == 20)])
        samples = dict(zip(keys, x.tolist(), strict=True))
        said = e.tick(Instant(START + i * STEP), {"w": vector(samples)}, 10)
        joint.append(float(said.groups.score[0]))
        now.append(float(np.clip(said.columns["raw"][:2], LEAST, MOST).mean()))
    assert joint[10] == pytest.approx(now[10], abs=0.4)
    assert joint[20] > now[20] + 0.7
    assert max(joint[60:]) < 1
