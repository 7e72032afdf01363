"""Series that belong together are scored together: the metrics of one machine, the pods of one service.

A group's oddness is the mean of its two oddest members (research/detection.md: better than the one oddest, than the
mean of more, and than every model that was fitted to the members there), less what so many looks make likely. What
one incident does to its members shows minutes apart, so what a member was fades over half an hour.

**The threshold.** A member's E is -log10 of the pages that it would raise in a day. The more members and the more
ticks a day, the more often two of them are odd at once by chance, so the threshold follows from the looks at the group

    score = mean of the two largest scores - PER_DECADE * log10(members * ticks a day / FREE),      never raised

Were members independent the factor would be about 1 for members and -1 for ticks, as copies of one another 1 and 0;
what is true lies between and was measured: at equal false pages a day (.13) the mean of the two largest is 0.7, 0.8,
1.0, 1.0 for 4, 8, 16, 19 members of the ASD servers (5 minutes), and 0.7, 1.2, 1.5, 1.5, 1.8 for 4, 8, 16, 19, 38 of
the SMD machines (1 minute). Ticks are counted up to one a minute: shorter steps show no more incidents. Small groups
are not given a lower threshold, since members may be copies of one another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sidecar.signals.detect.block import CAP, THRESHOLD
from sidecar.signals.forecast import calibrate
from sidecar.signals.ingest import series
from sidecar.signals.known.snapshot import Groups, Members, Snapshot
from sidecar.signals.models import Array, f4
from sidecar.signals.watch.watches import Watch
from sidecar.types import F32, F64, I64, Labels

LEAST, MOST = (
    -3.0,
    CAP / THRESHOLD,
)  # a member's score is clipped to this; one that is not known is as quiet as can be
MANY_GONE = 1024  # groups that may be gone until their numbers are given up
FREE = 4000.0  # members times ticks a day up to which a group's threshold is that of one series
PER_DECADE = 0.6  # of score, for ten times as many
MINUTE = 1440.0  # ticks a day
FADES, FADES_FROM = 1800.0, 2.0  # seconds in which what a member was fades by a score of 1, from 2 at most


GroupId = tuple[tuple[str, str], Labels]
"""Its `("group" | "watch", name)`, and what its members share."""


class Grouping:
    """Who belongs to whom, made anew only when rows or watches changed."""

    def __init__(self) -> None:
        self._stamp: tuple[object, object] = (None, None)
        self._members = Members()
        self._numbers: dict[GroupId, int] = {}
        self._known: dict[tuple[str, str, tuple[str, ...]], dict[bytes | None, int]] = {}
        """Of a watch with its `group` and `group_by`: the number of each series' group; no key is read twice."""

    def members(self, view: series.View, watches: Mapping[str, Watch]) -> Members:
        """Groups of these rows; a label that a series lacks is empty, as in Prometheus."""
        if self._stamp[0] is not view or self._stamp[1] is not watches:
            self._stamp, self._members = (view, watches), self._made(view, watches)
        return self._members

    def score(self, view: series.View, watches: Mapping[str, Watch], raw: Array, step: float) -> Groups:
        """How odd each group is, from what its members were `lately` f32[rows], of ticks every `step` seconds."""
        of = self.members(view, watches)
        if not len(of.rows):
            return Groups(of)
        mine = raw[of.rows]
        top = oddest(mine, of.starts)
        odd = np.nan_to_num(np.minimum(np.maximum(mine, f4(0)), f4(MOST)))
        return Groups(of, combined(top, of.sizes, step), top, odd)

    def _made(self, view: series.View, watches: Mapping[str, Watch]) -> Members:
        before, self._known = self._known, {}
        rows, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for name, mine in view.rows.items():
            watch = watches[name]
            if not watch.group_by:
                continue
            own, at = (
                ("group", watch.group) if watch.group else ("watch", name),
                (name, watch.group, watch.group_by),
            )
            keys, known = [view.keys[row] for row in mine], before.get(at, {})
            found = [known.get(key, -1) for key in keys]
            for i in [i for i, number in enumerate(found) if number < 0]:
                shared = tuple(p for p in series.labels(keys[i] or b"{}") if p[0] in watch.group_by)
                found[i] = self._numbers.setdefault((own, shared), len(self._numbers))
            self._known[at] = dict(zip(keys, found, strict=True))
            rows.append(np.array(mine, np.int64))
            numbers.append(np.array(found, np.int64))
        all_of = np.concatenate(numbers)
        number, sizes = np.unique(all_of, return_counts=True)
        ids = list(self._numbers)
        names, labels = zip(*(ids[n] for n in number.tolist()), strict=True) if len(number) else ((), ())
        if len(ids) > 2 * len(number) + MANY_GONE:  # most of them are gone: number anew the next time
            self._numbers, self._known = {}, {}
        order = np.argsort(all_of, kind="stable")
        return Members(names, labels, np.concatenate(rows)[order], np.concatenate([[0], np.cumsum(sizes)]))


class Joint:
    """Makes one group of those whose members are asked at several steps: members of other steps count as they were
    at their last tick."""

    def __init__(self) -> None:
        self._met: dict[tuple[float, float], tuple[Members, Members, I64, I64]] = {}

    def __call__(self, snapshot: Snapshot, others: Mapping[float, Snapshot]) -> Snapshot:
        """The snapshot with the scores of its groups made anew, where others have members of them too."""
        mine = snapshot.groups
        top, sizes, steps = mine.top.copy(), mine.of.sizes, np.full(len(mine.raw), snapshot.step)
        shared = False
        for step, other in others.items() if len(mine.raw) else ():
            if step == snapshot.step or not len(other.groups.raw):
                continue
            here, there = self._meet(snapshot, other)
            if len(here):
                shared = True
                top[:, here] = _two(top[:, here], other.groups.top[:, there])
                sizes[here] += other.groups.of.sizes[there]
                steps[here] = np.minimum(steps[here], step)  # as many looks as the quicker one has
        if not shared:
            return snapshot
        return snapshot._replace(groups=mine._replace(raw=combined(top, sizes, steps)))

    def _meet(self, one: Snapshot, other: Snapshot) -> tuple[I64, I64]:
        """Numbers of the groups that both have, in each; looked up only when the groups changed."""
        of, theirs = one.groups.of, other.groups.of
        found = self._met.get((one.step, other.step))
        if found is None or found[0] is not of or found[1] is not theirs:
            number = {id: i for i, id in enumerate(zip(theirs.names, theirs.labels, strict=True))}
            pairs = [(i, number.get(id, -1)) for i, id in enumerate(zip(of.names, of.labels, strict=True))]
            met = np.array([pair for pair in pairs if pair[1] >= 0], np.int64).reshape(-1, 2)
            found = self._met[one.step, other.step] = of, theirs, met[:, 0], met[:, 1]
        return found[2], found[3]


def _two(one: F32, other: F32) -> F32:
    """The two oddest f32[2, groups] of two parts; what is not known is as quiet as can be, unless nothing is."""
    four = np.concatenate([one, other])
    unknown = np.isnan(four).all(0)
    out: F32 = -np.sort(-np.nan_to_num(four, nan=LEAST), axis=0)[:2]
    out[:, unknown] = np.nan
    return out


def together(raw: Array, starts: I64, step: float) -> F32:
    """Scores f32[groups] from members' unclipped scores f[members], those of group g from starts[g] to starts[g + 1].

    >>> together(np.array([1, 3, 2, np.nan, 5, np.nan]), np.array([0, 3, 5, 6]), 60.0).round(2)
    array([2.48, 1.  ,  nan], dtype=float32)
    """
    return combined(oddest(raw, starts), np.diff(starts), step)


def oddest(raw: Array, starts: I64) -> F32:
    """The scores, clipped, of the two oddest members f32[2, groups]; NaN where none is known, or no second."""
    first, sizes = starts[:-1], np.diff(starts)
    known = ~np.isnan(raw)
    e = np.where(known, np.minimum(np.maximum(raw, f4(LEAST)), f4(MOST)), f4(LEAST)).astype(f4)
    out = np.empty((2, len(first)), f4)
    np.maximum.reduceat(e, first, out=out[0])
    at = np.flatnonzero(e == np.repeat(out[0], sizes))
    group = np.repeat(np.arange(len(first)), sizes)[at]
    e[at[np.diff(group, prepend=-1) > 0]] = -np.inf  # the oddest of each, once
    np.maximum.reduceat(e, first, out=out[1])
    out[:, ~np.logical_or.reduceat(known, first)] = np.nan
    out[1, sizes == 1] = np.nan
    return out


def combined(top: F32, sizes: I64, step: float | F64) -> F32:
    """Score f32[groups] of groups of so many members, from their two oddest f32[2, groups]."""
    second = np.where(np.isnan(top[1]), top[0], top[1])
    return np.asarray((top[0] + second) * f4(0.5) - excess(sizes, step), f4)


def excess(sizes: I64, step: float | F64) -> F32:
    """What so many looks at so many members add to the score by chance f32[groups].

    >>> excess(np.array([1, 3, 19, 38, 200]), 60.0).round(2)
    array([0.  , 0.02, 0.5 , 0.68, 1.11], dtype=float32)
    """
    looks = sizes * np.minimum(86400.0 / step, MINUTE)
    return np.asarray(PER_DECADE * np.log10(np.maximum(looks / FREE, 1)), f4)


def lately(raw: Array, before: F32, seconds: float) -> F32:
    """How odd members are, or were lately, f32[members]: from scores now, NaN where none is known, and the same of so
    many seconds before.

    >>> lately(np.array([0.5, 4.0, np.nan]), np.float32([3.0, 3.0, 3.0]), 900.0).tolist()
    [1.5, 4.0, 1.5]
    """
    return np.fmax(np.minimum(before, f4(FADES_FROM)) - f4(seconds / FADES), raw.astype(f4))


def over_time(raw: Array, step: float) -> F32:
    """Score f32[times] of one group whose members' unclipped scores are f[times, members]."""
    times, members = raw.shape
    return together(raw.reshape(-1), np.arange(times + 1) * members, step)


def believed(score: Array, raw: Array, age: Array) -> F32:
    """Confidence f32[times] in scores of one group, which is as old as its members are: the mean age f[times, members]
    of those with a score in raw f[times, members]. Empty where the score is."""
    known = ~np.isnan(raw)
    mean = np.where(known, age, 0).sum(1) / np.maximum(known.sum(1), 1)
    odd = np.clip(score, 0, MOST).astype(f4)
    return calibrate.confidence(odd, mean.astype(f4), np.ones(len(odd), f4), calibrate.GROUP)
