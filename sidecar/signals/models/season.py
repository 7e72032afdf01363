"""What this time of the day and of the week usually is: interpolated knots, robustly updated.

A day of 96 knots and a week of 168, bucket-major, NaN where never visited; the week falls back to the day and the day
to the level. A visit moves the two knots around now by a clipped residual, at the rate of a running mean that forgets
after two weeks (day) or four visits (week).
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

from sidecar.signals.models import Columns, Field, f4
from sidecar.types import F32, Bools

DAY, WEEK = 86400.0, 604800.0
DAY_KNOTS, WEEK_KNOTS = 96, 168
DAY_MEMORY = 14.0  # days
WEEK_MEMORY = 4.0  # visits
PRIOR = 0.25  # visits that a known day stands for


class Knots(NamedTuple):
    """Where an instant lies between two knots: their indices, and the weight of the second."""

    left: int
    right: int
    weight: float
    visits: float
    """Ticks that one visit of a knot lasts."""
    ticks: float
    """How many ticks this visit has lasted already."""


def knots(at: float, period: float, count: int, step: float) -> Knots:
    """Place an instant on a circle of knots.

    >>> knots(3600.0 * 3 + 450, DAY, DAY_KNOTS, 15.0)[:3]
    (12, 13, 0.5)
    """
    width = period / count
    position = (at % period) / width  # this order is exact on the hour
    left = math.floor(position)
    if step >= width:  # one tick is a whole visit: nothing to interpolate
        return Knots(left % count, left % count, 0.0, 1.0, 0.0)
    part = position - left
    return Knots(left % count, (left + 1) % count, part, width / step, math.floor(part * width / step))


class Season(Columns):
    """Daily and weekly profile of each row, relative to its origin."""

    fields: ClassVar = {
        "day": Field((DAY_KNOTS,), np.nan),
        "week": Field((WEEK_KNOTS,), np.nan),
    }
    day: F32
    week: F32

    def at(self, at: float, level: F32, step: float) -> tuple[F32, F32]:
        """Day and week profile at an instant, f32[rows] each; `level` where nothing is known."""
        d = self.day_at(at, level, step)
        w = _between(self.week, knots(at, WEEK, WEEK_KNOTS, step))
        np.copyto(w, d, where=np.isnan(w))
        return d, w

    def day_at(self, at: float, level: F32, step: float) -> F32:
        """The day profile alone."""
        d = _between(self.day, knots(at, DAY, DAY_KNOTS, step))
        np.copyto(d, level, where=np.isnan(d))
        return d

    def learn(
        self, at: float, x: F32, day: F32, week: F32, limit: F32, age: F32, on: Bools, step: float
    ) -> None:
        """Move the knots around `at` towards x, by at most `limit`; `age` in days, `day` and `week` as from `at()`."""
        whole = np.floor(age)
        weeks = np.floor(whole / f4(7)) + f4(PRIOR) * (whole >= 1)
        for table, said, known, period, count, memory in (
            (self.day, day, whole, DAY, DAY_KNOTS, DAY_MEMORY),
            (self.week, week, weeks, WEEK, WEEK_KNOTS, WEEK_MEMORY),
        ):
            k = knots(at, period, count, step)
            rate = np.maximum(f4(1) / (known * f4(k.visits) + f4(k.ticks + 1)), f4(1.0 / (k.visits * memory)))
            move = np.minimum(np.maximum(x - said, -limit), limit)
            move *= rate
            move *= on
            for knot, weight in ((k.left, 1 - k.weight), (k.right, k.weight))[
                : 1 if k.left == k.right else 2
            ]:
                if weight > 0:
                    row = table[knot]
                    row += f4(weight) * move
                    fresh = np.isnan(row)
                    if fresh.any():
                        # a known day stands for visits of the week: an incident must not be usual while it lasts
                        np.copyto(
                            row, x if table is self.day else np.where(whole < 1, x, day), where=fresh & on
                        )


def _between(table: F32, k: Knots) -> F32:
    if k.weight == 0:
        alone: F32 = table[k.left].copy()
        return alone
    left, right = table[k.left], table[k.right]
    out: F32 = np.multiply(left, f4(1 - k.weight))
    out += f4(k.weight) * right
    if np.isnan(out).any():  # one end not visited yet: the other one speaks alone
        np.copyto(out, left, where=np.isnan(right))
        np.copyto(out, right, where=np.isnan(left))
    return out
