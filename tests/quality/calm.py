"""`python -m tests.quality.calm`: a quiet week of 195 series of 13 shapes, as a table of false pages.

Each cell holds pages (runs of any length) of a score of 1 and more, per series-day.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

from tests.unit.quiet import SHAPES, live, rates


class Run(NamedTuple):
    """How long series live, in days, and at which step."""

    step: float
    past: float
    days: float = 9.0
    first: float = 2.0
    """Of the days, not judged."""


RUNS = {
    "15 s": Run(15.0, 14.0),
    "1 min": Run(60.0, 14.0),
    "5 min": Run(300.0, 14.0),
    "5 min, cold": Run(300.0, 0.0),
    "15 s, first day": Run(15.0, 21.0, 1.0, 0.0),
    "1 min, first day": Run(60.0, 21.0, 1.0, 0.0),
}


def main(argv: list[str] | None = None) -> int:
    """Print pages and runs per series-day, by shape and run."""
    parser = argparse.ArgumentParser(prog="calm", description=__doc__)
    parser.add_argument("--each", type=int, default=15, help="series of each shape")
    args = parser.parse_args(argv)
    found = {}
    for name, run in RUNS.items():
        found[name] = live(run.step, run.days, run.past, run.first, args.each)
        print(f"{name}: {rates(found[name])[0]:.3f} pages per series-day", file=sys.stderr, flush=True)
    print(f"| shape | {' | '.join(RUNS)} |\n|---|{'---|' * len(RUNS)}")
    for shape in (*(s.__name__ for s in SHAPES), "all"):
        mine = (f if shape == "all" else {shape: f[shape]} for f in found.values())
        print(f"| {shape} | {' | '.join('{:.3f} ({:.3f})'.format(*rates(m)) for m in mine)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
