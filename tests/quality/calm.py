"""`python -m tests.quality.calm`: a quiet week of 195 series of 13 shapes at three steps, as a table of false pages."""

from __future__ import annotations

import argparse
import sys

from tests.unit.quiet import SHAPES, live, rates

RUNS = {"15 s": (15.0, 14.0), "1 min": (60.0, 14.0), "5 min": (300.0, 14.0), "5 min, cold": (300.0, 0.0)}
"""Step in seconds, and days of past."""


def main(argv: list[str] | None = None) -> int:
    """Print pages and runs per series-day, by shape and run."""
    parser = argparse.ArgumentParser(prog="calm", description=__doc__)
    parser.add_argument("--each", type=int, default=15, help="series of each shape")
    parser.add_argument("--days", type=float, default=9.0, help="two of them are not judged")
    args = parser.parse_args(argv)
    found = {}
    for name, (step, past) in RUNS.items():
        found[name] = live(step, args.days, past, each=args.each)
        print(f"{name}: {rates(found[name])[0]:.3f} pages per series-day", file=sys.stderr, flush=True)
    print(f"| shape | {' | '.join(RUNS)} |\n|---|{'---|' * len(RUNS)}")
    for shape in (*(s.__name__ for s in SHAPES), "all"):
        mine = (f if shape == "all" else {shape: f[shape]} for f in found.values())
        print(f"| {shape} | {' | '.join('{:.3f} ({:.3f})'.format(*rates(m)) for m in mine)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
