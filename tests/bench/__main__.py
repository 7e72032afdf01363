"""`python -m tests.bench [PART ...]`: print one table; all parts by default.

`python -m tests.bench sizes` prints the table of docs/operations.md instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.bench import alerts, loop, memory, pages, speed, ticks
from tests.bench.table import Row, show

PARTS: dict[str, Callable[[], list[Row]]] = {
    "tick": lambda: [*ticks.beside_peers(10_000), *ticks.beside_peers(100_000)],
    "growth": lambda: ticks.growth((1_000, 10_000, 100_000, 1_000_000)),
    "forecast": lambda: speed.forecasting(100_000),
    "decode": lambda: [speed.decoding(100_000)],
    "metrics": lambda: [speed.exposition(100_000)],
    "memory": lambda: [*memory.rows(1_000, 100.0), *memory.rows(100_000, 1229.0, days=7)],
    "beside": lambda: memory.beside(1_000, 100.0),
    "loop": lambda: loop.rows(100_000),
    "alerts": lambda: alerts.rows(100_000),
    "pages": lambda: pages.rows(10_000),
}


def main(wanted: list[str]) -> int:
    """Run the parts asked for."""
    if wanted == ["sizes"]:
        print(memory.sizes((1_000, 10_000, 100_000)))
        return 0
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"bench: no part {unknown[0]!r}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in wanted or PARTS:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += PARTS[name]()
    print(show(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
