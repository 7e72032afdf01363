"""The scene of an alert: what moved when, and who calls whom around it; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np

from sidecar.alerts import because
from sidecar.alerts.evidence import Evidence
from sidecar.types import Candidates, Instant

MOVED, NODES = 8, 10
"""Series, and services or machines, that are shown."""


class Moved(msgspec.Struct, frozen=True):
    """A series that left its usual."""

    entity: str
    """A service or machine, or `caller->callee`."""
    kind: str
    name: str
    now: str
    usual: str
    """As people write them: 120 ms, 24 %."""
    since: Instant | None
    watch: str
    key: bytes
    """Its raw label object."""


def moved(c: Candidates, ev: Evidence, around: frozenset[str], most: int = MOVED) -> tuple[Moved, ...]:
    """The series of these services, machines and the calls between them that are furthest out, in order of time."""
    if not c.ids:
        return ()
    out: list[int] = []
    for row in np.argsort(-ev.doublings, kind="stable").tolist():
        if len(out) == most or not ev.doublings[row] > 0:
            break
        if math.isfinite(because.latest(c, row)) and around.issuperset(c.entities[row].split("->")):
            out.append(row)
    out.sort(key=lambda row: (math.inf if math.isnan(ev.since[row]) else ev.since[row], -ev.doublings[row]))
    return tuple(
        Moved(
            c.entities[row],
            c.kinds[row],
            c.names[row],
            because.amount(c, row, because.latest(c, row)),
            because.amount(c, row, c.level[row]),
            None if math.isnan(ev.since[row]) else Instant(float(ev.since[row])),
            *c.ids[row],
        )
        for row in out
    )


def calls_around(c: Candidates, involved: Iterable[str], most: int = NODES) -> tuple[tuple[str, str], ...]:
    """Who calls whom, or runs where, among those involved and the next beside them, at most so many in all.

    >>> import numpy as np
    >>> nothing, of = np.zeros(0), [("web", "cart"), ("cart", "db"), ("ads", "tracker")]
    >>> c = Candidates([], [], [], *[nothing] * 5, np.zeros((0, 0)), of, frozenset(), [("db", "node/a")])
    >>> calls_around(c, ["cart"]), calls_around(c, ["cart"], 2), calls_around(c, ["db"])
    ((('cart', 'db'), ('web', 'cart')), (('cart', 'db'),), (('cart', 'db'), ('db', 'node/a')))
    """
    edges = (entity.partition("->") for entity in c.entities if "->" in entity)
    there = sorted({*c.calls, *c.hosts, *((a, b) for a, _, b in edges)})
    first = dict.fromkeys(one for one in involved if one)
    beside = (one for pair in there if not first.keys().isdisjoint(pair) for one in pair)
    chosen = set(list(dict.fromkeys((*first, *beside)))[:most])
    return tuple(pair for pair in there if chosen.issuperset(pair))
