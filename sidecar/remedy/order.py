"""Which alternative has its turn: as written, or the likeliest to help with some curiosity (Thompson); pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from sidecar.remedy.case import Case
from sidecar.remedy.past import Odds


def turn(
    names: Sequence[str], cases: Mapping[str, Case], order: str, odds: Mapping[str, Odds], seed: str
) -> str | None:
    """One of `names`, the alternatives of a policy as written; None while one is under way or none is left.

    `cases` are those of the episode by name, `seed` makes the draw the same for every look at it.

    >>> turn(["a", "a/2"], {}, "given", {}, "x"), turn([], {}, "given", {}, "x")
    ('a', None)
    >>> draws = [turn(["a", "a/2"], {}, "best", {"a": Odds(1, 3), "a/2": Odds(3, 1)}, str(n)) for n in range(500)]
    >>> 400 < draws.count("a/2") < 500
    True
    """
    tried = [name for name in names if name in cases and cases[name].stage != "refused"]
    left = [name for name in names if name not in tried]
    if not left or not all(cases[name].escalates for name in tried):
        return None
    if order == "given":
        return left[0]
    dice = random.Random(f"{seed}/{len(tried)}")
    return max(left, key=lambda name: _draw(dice, odds.get(name, Odds(0, 0))))


def _draw(dice: random.Random, odds: Odds) -> float:
    return dice.betavariate(*odds.belief)
