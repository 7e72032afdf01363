"""What explains an alert: ranked causes, or none; deterministic, pure.

Latency and errors flow from callee to caller, so a service is charged with what its callees do not hand it, in seconds
(or errors) per second; its processor, memory, disk and pools, the network on its call edges and calls that it no longer
makes are charged to it as they are. Traffic explains and never accuses. Evidence is in doublings of each series' own
usual; "no cause found" is a candidate like all others, whose score grows with their number. The method is from a study
on PetShop and Nezha, of which `make quality ARGS="--only causes"` prints the figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sidecar.alerts.evidence import Evidence, evidence
from sidecar.types import Candidates

FLOWS = ("latency", "errors")
"""What a caller gets from what it calls."""
RESOURCES = ("saturation", "cpu", "memory", "disk")
COUNTED = (*RESOURCES, "other", "gap", "fanout", *FLOWS)
DOUBT = 0.3  # factor for what has a better explanation
ACCOUNT = 1.5  # worth of accounting for the whole alert
ITSELF = 3.0  # of being the resource that the alert is about, when it is out of its usual
DEPTH = 0.25  # power of that share: a quantile's excess does not add up as a mean's does
SAME = 0.5  # of another's excess per second: it may be the same
TEMPERATURE = 0.6  # of the softmax over scores
NONE, NONE_PER_DOUBLING = 2.0, 0.5
"""Score of "no cause found" among ten services, and for each doubling of them."""
LIKELY = ((0.9, "very likely"), (0.5, "likely"), (0.0, "possible"))
LOAD = "requests to "
_ASKED = re.compile(r"request|http|rpc|quer|call|hits|command|message|operation|transaction", re.I)


class Reason(NamedTuple):
    """One thing that speaks for a cause."""

    kind: str
    weight: float
    series: int
    """Which of the candidate series it is seen in."""
    times: float
    """How many times its usual range."""
    own: float = 1.0
    """Share that no callee hands over."""
    part: float = 0.0
    """Share of the alert that it accounts for."""
    edges: tuple[int, int] = (0, 0)
    """For the network: call edges on which the client waits, of so many."""


class Cause(NamedTuple):
    """A candidate and what speaks for it, the strongest first."""

    entity: str
    score: float
    probability: float
    reasons: tuple[Reason, ...]

    @property
    def likelihood(self) -> str:
        """In words; what the figures were measured to be worth."""
        return next(words for least, words in LIKELY if self.probability >= least)


class Diagnosis(NamedTuple):
    """Causes, the likeliest first, and the probability that it is none of them."""

    causes: tuple[Cause, ...]
    none: float
    among: int
    """Services that were looked at."""

    @property
    def found(self) -> bool:
        """Whether some cause is likelier than none."""
        return bool(self.causes) and self.causes[0].probability > self.none


def by_chance(found: Diagnosis) -> float:
    """What the best of ten services would have scored, where nothing is wrong with any."""
    best = found.causes[0].score if found.causes else 0.0
    return best - _more(found.among)


def _more(among: int) -> float:
    """What more candidates add to the best score of chance."""
    return NONE_PER_DOUBLING * max(0.0, float(np.log2(max(among, 1) / 10)))


def diagnose(
    c: Candidates,
    target: tuple[str, str] | None = None,
    least: float = 0.0,
    none: float = NONE,
    odd: bool = False,
    ev: Evidence | None = None,
) -> Diagnosis:
    """Rank what may explain an alert on `target` (entity and kind; None: on none of these).

    Latency and errors of a service with fewer than `least` requests per second count for nothing. `none` is the score
    that chance alone gives the best of ten services. `odd` says that the alert's own series is known to be out.
    `ev` is the evidence, where it was weighed already.
    """
    return _Case(c, evidence(c) if ev is None else ev, target, least, odd).ranked(none)


class _Case:
    """One alert; what is asked more than once is kept."""

    def __init__(
        self, c: Candidates, ev: Evidence, target: tuple[str, str] | None, least: float, odd: bool
    ) -> None:
        self.c, self.target, self.odd = c, target, odd
        self.doublings, self.delta, self.now = ev.doublings.tolist(), ev.delta.tolist(), ev.now.tolist()
        self.up, self.enough = ev.up.tolist(), ev.least.tolist()
        self.level = np.nan_to_num(c.level).tolist()
        self.down: dict[str, list[str]] = {}
        self.callers: dict[str, list[str]] = {}
        edges = (entity.partition("->") for entity in c.entities)
        calls = {*c.calls, *((caller, callee) for caller, arrow, callee in edges if arrow)}
        self.placed = {one for call in calls for one in call}
        """Services of which some call is known."""
        named = {entity for entity in c.entities if "->" not in entity} | self.placed
        hosts = {(one, host) for one, host in c.hosts if one in named and host in named}
        for caller, callee in sorted({*calls, *hosts}):
            if caller != callee:
                self.down.setdefault(caller, []).append(callee)
                self.callers.setdefault(callee, []).append(caller)
        self.first: dict[tuple[str, str], int] = {}
        self.best: dict[tuple[str, str], int] = {}
        for i, key in enumerate(zip(c.entities, c.kinds, strict=True)):
            self.first.setdefault(key, i)
            if self.doublings[i] > self.doublings[self.best.setdefault(key, i)]:
                self.best[key] = i
        self.services = sorted(named)
        self.load = {s: max(self._traffic(s, self.now), 0.0) for s in self.services}
        before = {s: max(self._traffic(s, self.level), 1e-9) for s in self.services}
        self.growth = {s: self.load[s] / before[s] for s in self.services}
        self.scarce = {s for s in self.services if (s, "traffic") in self.first and self.load[s] < least}
        self._excess: dict[tuple[str, str], float] = {}
        self._lost: dict[str, list[tuple[float, str]]] = {}
        """The two largest excesses per second of each kind."""

    def _traffic(self, s: str, of: list[float]) -> float:
        row = self.first.get((s, "traffic"))
        return 1.0 if row is None else of[row]

    # ------------------------------------------------------------------ what is out

    def out(self, entity: str, kind: str) -> float:
        """Doublings of the series that is furthest out."""
        row = self.best.get((entity, kind))
        return 0.0 if row is None or (kind in FLOWS and entity in self.scarce) else self.doublings[row]

    def rose(self, s: str) -> bool:
        """Whether more requests came than is usual."""
        return self.out(s, "traffic") > 0 and self.up[self.best[s, "traffic"]]

    def asked(self, s: str) -> bool:
        """Whether its traffic is what others ask of it, where queries say: mails that it sends are no load."""
        return not self.c.queries or _ASKED.search(self.c.query(self.best[s, "traffic"])) is not None

    def excess(self, s: str, kind: str) -> float:
        """In the kind's unit per request; 0 unless it is beyond its usual. Also what callers see the server work."""
        key = s, kind
        if key not in self._excess:
            seen = [key]
            if kind == "latency":
                seen += [(f"{caller}->{s}", "edge_server") for caller in self.callers.get(s, ())]
            found = [self.delta[self._said(one)] for one in seen if self.out(*one) > 0]
            self._excess[key] = max(found, default=0.0)
        return self._excess[key]

    def _said(self, key: tuple[str, str]) -> int:
        first = self.first[key]  # a mean comes first, which adds up along calls as a quantile does not
        return first if self.doublings[first] > 0 else self.best[key]

    def through(self, s: str, callee: str, kind: str) -> float:
        """The part of a callee's excess that reaches one caller, per request of that caller."""
        total = sum(self.load[one] for one in self.callers[callee] if one == s or self.excess(one, kind) > 0)
        edge = f"{s}->{callee}", "edge_client"
        excess = self.excess(callee, kind)
        if kind == "latency" and edge in self.first:
            excess = self.delta[self.best[edge]] if self.out(*edge) > 0 else 0.0
        return excess * self.load[callee] / total if total > 0 else 0.0

    def shadow(self, s: str, kind: str) -> bool:
        """A peer that only its callers see, beside one with metrics of its own which is out: what stands before it."""
        return s in self.c.outside and any(
            one not in self.c.outside and self.excess(one, kind) > 0
            for caller in self.callers.get(s, ())
            for one in self.down[caller]
        )

    def depth(self, s: str, kind: str) -> float:
        """Of a service whose calls are not known: its excess per second as a share of the largest of another's.

        What a callee loses is shared out among its callers, so that the deepest has lost the most; and of a service
        that alerts and another that lost as much, the alert is the consequence.
        """
        if s in self.placed:
            return 1.0
        if kind not in self._lost:
            lost = ((self.load[one] * self.excess(one, kind), one) for one in self.services)
            self._lost[kind] = sorted(lost, reverse=True)[:2]
        mine = self.load[s] * self.excess(s, kind)
        rival = max((lost for lost, one in self._lost[kind] if one != s), default=0.0)
        share = 1.0 if mine >= rival else float((mine / rival) ** DEPTH)
        alerts = self.target is not None and s == self.target[0]
        return share * (DOUBT if alerts and rival > SAME * mine else 1.0)

    def local(self, s: str) -> float:
        """What is wrong with a service itself, latency and errors aside."""
        return max(self.network(s).weight, self.fewer(s), *(self.out(s, kind) for kind in RESOURCES))

    def fewer(self, s: str) -> float:
        """How far its calls per request fell."""
        return max((self.out(f"{s}->{callee}", "fanout") for callee in self.down.get(s, ())), default=0.0)

    def network(self, s: str) -> Reason:
        """A slow network of one shows on every call edge that touches it."""
        edges = [f"{caller}->{s}" for caller in self.callers.get(s, ())]
        edges += [f"{s}->{callee}" for callee in self.down.get(s, ())]
        rows = [row for edge in edges if (row := self.best.get((edge, "gap"))) is not None]
        bad = [row for row in rows if self.doublings[row] > 0]
        weight = sum(self.doublings[row] for row in bad) / (len(rows) + 0.5)
        worst = max(bad, key=lambda row: self.doublings[row], default=-1)
        return Reason("gap", weight, worst, self._times(worst), edges=(len(bad), len(rows)))

    def _times(self, row: int) -> float:
        return float(2 ** self.doublings[row]) if row >= 0 else 0.0

    # ------------------------------------------------------------------ who is charged

    @cached_property
    def whole(self) -> float:
        """The alert's excess per second, at least the smallest that would have counted."""
        row = self.first.get(self.target) if self.target else None
        if self.target is None or row is None:
            return 0.0
        return float(self.load[self.target[0]] * max(self.excess(*self.target), self.enough[row]))

    def flow(self, s: str, kind: str) -> Reason | None:
        """Latency or errors of a service's own."""
        excess = self.excess(s, kind)
        if excess <= 0:
            return None
        callees = self.down.get(s, ())
        handed = sum(self.through(s, one, kind) for one in callees if not self.shadow(one, kind))
        own = 1.0 - min(1.0, handed / excess)
        weight = self.out(s, kind)
        if kind == "latency":
            weight = max(
                [weight, *(self.out(f"{one}->{s}", "edge_server") for one in self.callers.get(s, ()))]
            )
        weight *= own
        if self.rose(s):
            weight *= DOUBT
        if any((one, kind) not in self.first and self.local(one) > 1 for one in callees):
            weight *= DOUBT
        part = 0.0
        if self.target and self.target[1] == kind and self.whole > 0:
            part = min(1.0, own * self.load[s] * excess / self.whole)
            weight = weight * part**0.5 + ACCOUNT * part * (self.excess(*self.target) > 0)
        elif self.target and self.target[1] in FLOWS:
            weight *= DOUBT
        if self.shadow(s, kind):
            weight *= DOUBT
        weight *= self.depth(s, kind)
        row = self._said((s, kind)) if (s, kind) in self.first else -1
        if row < 0 or self.doublings[row] <= 0:
            seen = [
                self.best[edge]
                for one in self.callers.get(s, ())
                if (edge := (f"{one}->{s}", "edge_server")) in self.best
            ]
            row = max(seen, key=lambda r: self.doublings[r], default=row)
        return Reason(kind, weight, row, self._times(row), own, part)

    def reason(self, s: str, kind: str) -> Reason | None:
        """What one kind of evidence says against a service."""
        if kind in FLOWS:
            return self.flow(s, kind)
        if kind == "gap":
            return self.network(s)
        if kind == "fanout":
            weight = self.fewer(s)
            callees = self.down.get(s, ())
            if any(self.local(one) > 1 or self.excess(one, "errors") > 0 for one in callees):
                weight *= DOUBT
            rows = [row for one in callees if (row := self.best.get((f"{s}->{one}", "fanout"))) is not None]
            row = max(rows, key=lambda r: self.doublings[r], default=-1)
            return Reason(kind, weight, row, self._times(row))
        weight = self.out(s, kind)
        row = self.best.get((s, kind), -1)
        if (s, kind) == self.target and row >= 0 and (weight > 0 or self.odd):
            weight += ITSELF
        # as much more as its requests rose is no news
        if kind == "cpu" and self.growth[s] > 1 and row >= 0 and self.delta[row] > 0:
            weight *= 1.0 - min(1.0, (self.growth[s] - 1.0) * abs(self.level[row]) / self.delta[row])
        return Reason(kind, weight, row, self._times(row))

    def ranked(self, none: float) -> Diagnosis:
        """Every service by the sum of what speaks against it, against none."""
        near = _reachable(self.down, self.target[0]) if self.target and self.target[0] in self.down else None
        scores: dict[str, float] = {}
        why: dict[str, tuple[Reason, ...]] = {}
        for s in self.services:
            found = [r for kind in COUNTED if (r := self.reason(s, kind)) is not None and r.weight > 0]
            found.sort(key=lambda r: -r.weight)
            scores[s] = sum(r.weight for r in found) * (1.0 if near is None or s in near else DOUBT)
            why[s] = tuple(found)
        for s in self._entries():
            fell = self.target == (s, "traffic") and self.out(s, "traffic") > 0
            if (self.rose(s) or fell) and self.asked(s):  # more came in: then the load itself is a candidate
                row = self.best[s, "traffic"]
                scores[LOAD + s] = self.out(s, "traffic")
                why[LOAD + s] = (Reason("traffic", scores[LOAD + s], row, self._times(row)),)
        among = len(self.services if near is None else near)
        none += _more(among)
        order = sorted((s for s in scores if scores[s] > 0), key=lambda s: (-scores[s], s))
        chances = np.array([scores[s] for s in order] + [none])
        chances = np.exp((chances - chances.max()) / TEMPERATURE)
        chances /= chances.sum()
        causes = tuple(Cause(s, scores[s], p, why[s]) for s, p in zip(order, chances.tolist(), strict=False))
        return Diagnosis(causes, float(chances[-1]), among)

    def _entries(self) -> Iterable[str]:
        if self.target:
            return (self.target[0],)
        return [s for s in self.services if s in self.placed and s not in self.callers]


def _reachable(down: Mapping[str, Iterable[str]], start: str) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        new = [one for one in down.get(todo.pop(), ()) if one not in seen]
        seen.update(new)
        todo.extend(new)
    return seen
