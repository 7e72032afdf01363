"""Made series with a limit: what fills, saw-teeth, leaks with restarts, pools that follow traffic.

`python -m tests.quality.fills [--series 8] [--days 6]` prints what `breach.table` prints, and how far the time of
breach is off within the hour (shapes as in research/forecast.md, section 5). What fills by chance arrives by chance:
beside ours stands the time of one who knows the rate of each fill, which nobody can beat by much.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sidecar.signals.watch.watches import Limit
from sidecar.types import F64
from tests.quality import breach
from tests.quality.__main__ import show
from tests.quality.data import File

MINUTE, DAY = 60.0, 1440
START = 1_700_006_400.0


class Made(NamedTuple):
    """Values f64[minutes], and by how much they rise a minute where that is known, else NaN."""

    values: F64
    rate: F64


def plain(rng: np.random.Generator, t: F64) -> Made:
    """Fills in a straight line, passes 90 and is cleaned up an hour and a half later."""
    return _filled(rng, t, lambda: 1.0, 0.005)


def disk(rng: np.random.Generator, t: F64) -> Made:
    """The same by amounts that differ from minute to minute."""
    return _filled(rng, t, lambda: rng.gamma(2, 0.5), 0.05)


def _filled(rng: np.random.Generator, t: F64, part: Callable[[], float], noise: float) -> Made:
    out, v, rate, over = np.empty(len(t)), rng.uniform(10, 80), rng.uniform(0.008, 0.05), 0
    rates = np.empty(len(t))
    for i in range(len(t)):
        v += rate * part()
        over = over + 1 if v > 90 else 0
        if over > 90 or v > 99:
            v, rate, over = rng.uniform(20, 40), rng.uniform(0.008, 0.05), 0
        out[i], rates[i] = v, rate
    return Made(out + rng.normal(0, noise, len(t)), rates)


def teeth(rng: np.random.Generator, t: F64) -> Made:
    """Rotates below the limit, save one time in fifty."""
    out, v, per, turn = np.empty(len(t)), rng.uniform(30, 60), rng.uniform(150, 500), 75 + rng.normal(0, 1)
    for i in range(len(t)):
        v += 45 / per
        if v > turn:
            v, turn = 30 + rng.normal(0, 1), 75 + rng.normal(0, 1) if rng.random() > 0.02 else 84.0
        out[i] = v
    return Made(out + rng.normal(0, 0.15, len(t)), np.full(len(t), 45 / per))


def leak(rng: np.random.Generator, t: F64) -> Made:
    """Leaks until it is restarted, at about 95 or by a daily deployment."""
    out, v, rate = np.empty(len(t)), rng.uniform(30, 60), rng.uniform(0.03, 0.12)
    deployed = rng.integers(0, DAY)
    for i in range(len(t)):
        v += rate * rng.gamma(1, 1)
        if v > 95 + rng.normal(0, 0.5) or i % DAY == deployed:
            v = 30 + rng.normal(0, 2)
        out[i] = v
    return Made(out + rng.normal(0, 0.4, len(t)), np.full(len(t), rate))


def pool(rng: np.random.Generator, t: F64) -> Made:
    """Follows the day's traffic, with a limit near its peak."""
    phase, wander = rng.uniform(0, DAY), np.empty(len(t))
    size = np.repeat(rng.normal(1, 0.06, len(t) // DAY + 1), DAY)[: len(t)]
    a = 0.0
    for i in range(len(t)):
        a = 0.985 * a + rng.normal(0, 0.5)
        wander[i] = a
    values = 50 + 30 * size * np.sin((t - phase) / DAY * 2 * np.pi) + wander + rng.normal(0, 0.5, len(t))
    return Made(values, np.full(len(t), np.nan))


def sudden(rng: np.random.Generator, t: F64) -> Made:
    """Quiet for most of a day, then a fill that takes half an hour to two; cleaned up half an hour after the limit."""
    out, rates, fill, rate, over = np.empty(len(t)), np.zeros(len(t)), 0.0, 0.0, 0
    begins = rng.integers(DAY // 2, DAY)
    for i in range(len(t)):
        if i == begins:
            rate = 60 / rng.uniform(30, 120)
        fill += rate
        out[i], rates[i] = 30 + 4 * np.sin(i / DAY * 2 * np.pi) + fill, rate
        over += out[i] > 90
        if over > 30:
            fill, rate, over, begins = 0.0, 0.0, 0, i + rng.integers(DAY // 2, DAY)
    return Made(out + rng.normal(0, 1, len(t)), rates)


SHAPES: dict[str, tuple[Callable[[np.random.Generator, F64], Made], float]] = {
    "plain": (plain, 90.0),
    "disk": (disk, 90.0),
    "saw-teeth": (teeth, 80.0),
    "leak": (leak, 90.0),
    "pool": (pool, 80.0),
    "sudden": (sudden, 90.0),
}


def _known(made: Made, at: F64, limit: float) -> F64:
    """Seconds until the limit at the rate that the fill really has."""
    i = np.round((at - START) / MINUTE).astype(np.int64)
    with np.errstate(divide="ignore"):  # nothing fills
        return (limit - made.values[i]) / made.rate[i] * MINUTE


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="fills", description=__doc__)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--days", type=int, default=6)
    args = parser.parse_args()
    rng, t, found = np.random.default_rng(1), np.arange(args.days * DAY, dtype=float), {}
    made = dict[str, list[Made]]()
    for name, (shape, limit) in SHAPES.items():
        made[name] = [shape(rng, t) for _ in range(args.series)]
        values = np.stack([one.values for one in made[name]], 1)
        none = np.zeros(len(t))
        file = File(name, name, START + t * MINUTE, values, none, none == 0, np.zeros(values.shape))
        found[name] = breach.run([file], [[[Limit(">", limit)]] * args.series])
    show("Made series: Brier skill, calibration error, F1 of announcements", breach.table(found))
    times = [
        ("shape", "within the hour", "with a time", "median off, minutes", "off by a tenth at most", "known rate",
         "came between", "minutes apart"),
    ]  # fmt: skip
    for name, lines in found.items():
        late = [line.at >= line.middle for line in lines]
        true = np.concatenate([line.true_eta[part] for line, part in zip(lines, late, strict=True)])
        said, soonest, latest = np.concatenate(
            [line.times[:, part] for line, part in zip(lines, late, strict=True)], axis=1
        )
        soon = true <= 3600
        told = soon & ~np.isnan(said)
        off = np.abs(said[told] - true[told])
        between = ((soonest <= true) & (true <= latest))[told].mean() if told.any() else np.nan
        apart = np.median((latest - soonest)[told]) / 60 if told.any() else np.nan
        tenth = (off <= 0.1 * true[told]).mean() if told.any() else np.nan
        known = np.concatenate(
            [
                _known(one, line.at[part], SHAPES[name][1])
                for one, line, part in zip(made[name], lines, late, strict=True)
            ]
        )
        best = (np.abs(known[told] - true[told]) <= 0.1 * true[told]).mean() if told.any() else np.nan
        share = told.sum() / max(1, soon.sum())
        median = np.median(off) / 60 if told.any() else np.nan
        times.append((
            name, str(soon.sum()), f"{share:.2f}", f"{median:.1f}", f"{tenth:.2f}", f"{best:.2f}",
            f"{between:.2f}", f"{apart:.1f}",
        ))  # fmt: skip
    show("Time of breach, where it came within the hour", times)


if __name__ == "__main__":
    main()
