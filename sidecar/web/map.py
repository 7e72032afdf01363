"""Who calls whom, as a picture from callers on the left to callees on the right; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

BOX, TALL, ACROSS, DOWN, EDGE = 136, 34, 48, 12, 2
"""Width and height of a box, the room between columns and between rows, and around all."""
LETTERS = 16
"""Of a name that fit into a box."""


class Node(NamedTuple):
    """A service or machine."""

    name: str
    short: str
    x: int
    y: int
    blamed: str
    """How likely it is the cause; empty when it is none."""
    moved: bool
    """Something of it is out of its usual."""


class Map(NamedTuple):
    """Nodes, and edges as SVG writes paths."""

    width: int
    height: int
    nodes: Sequence[Node]
    edges: Sequence[str]


def mapped(
    calls: Sequence[tuple[str, str]], blamed: Mapping[str, str], moved: Collection[str] = ()
) -> Map | None:
    """A picture of calls; None where there are none.

    >>> picture = mapped([("web", "cart"), ("cart", "db")], {"db": "likely"})
    >>> [(n.name, n.x, n.y, n.blamed) for n in picture.nodes]
    [('web', 2, 2, ''), ('cart', 186, 2, ''), ('db', 370, 2, 'likely')]
    >>> picture.edges[0]
    'M138 19C162 19 162 19 186 19'
    """
    if not calls:
        return None
    depth = _depths(calls)
    columns: dict[int, list[str]] = {}
    for name in sorted(depth, key=lambda one: (one not in blamed, one)):
        columns.setdefault(depth[name], []).append(name)
    tallest = max(map(len, columns.values()))
    step = TALL + DOWN
    place = {
        name: (EDGE + column * (BOX + ACROSS), EDGE + row * step + (tallest - len(names)) * step // 2)
        for column, (_, names) in enumerate(sorted(columns.items()))
        for row, name in enumerate(names)
    }
    out = set(moved) | {one for edge in moved for one in edge.split("->")[1:]}
    nodes = [
        Node(name, name if len(name) <= LETTERS else name[: LETTERS - 1] + "…", x, y,
             blamed.get(name, ""), name in out)
        for name, (x, y) in place.items()
    ]  # fmt: skip
    edges = [_edge(place[a], place[b]) for a, b in calls if a != b]
    width = max(x for x, _ in place.values()) + BOX + EDGE
    return Map(width, tallest * step - DOWN + 2 * EDGE, nodes, edges)


def _depths(calls: Sequence[tuple[str, str]]) -> dict[str, int]:
    """How far each is from whoever nobody calls; a ring ends where it would go round."""
    depth = {one: 0 for pair in calls for one in pair}
    for _ in range(len(depth) - 1):
        deeper = {b: depth[a] + 1 for a, b in sorted(calls, key=lambda pair: depth[pair[0]]) if a != b}
        new = {one: max(of, deeper.get(one, 0)) for one, of in depth.items()}
        if new == depth or max(new.values()) >= len(depth):
            break
        depth = new
    return depth


def _edge(of: tuple[int, int], to: tuple[int, int]) -> str:
    x1, y1, x2, y2 = of[0] + BOX, of[1] + TALL // 2, to[0], to[1] + TALL // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
