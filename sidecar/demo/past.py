"""The shop's last days as Prometheus blocks: written as OpenMetrics, turned into blocks by promtool."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sidecar.demo.model import USUAL, Kind, Shop, advance
from sidecar.demo.shop import families

DAYS = 3
COARSE = 30.0
"""Seconds between samples of the days before; half of the shortest range that the rules look at."""
FINE_FOR = 6 * 3600.0
FINE = 5.0
"""Seconds between samples of the last hours: as it is scraped live."""

LABELS = 'job="shop",instance="shop-1"'
"""What the live scrape attaches too."""


def instants(until: float, days: float = DAYS) -> Iterator[float]:
    """When the shop was scraped in so many days, ending just before `until`, at whole seconds.

    >>> times = list(instants(1e9 + 0.4))
    >>> times[1] - times[0], times[-1] - times[-2], 1e9 - times[-1]
    (30.0, 5.0, 0.0)
    """
    end = float(int(until))
    fine = end - FINE_FOR
    at = end - int(days * 86400)
    while at <= end:
        yield at
        at += COARSE if at < fine else FINE


def openmetrics(shops: Sequence[Shop]) -> Iterator[str]:
    """The moments as OpenMetrics with times, one family after the other, and `up` as a scrape would add it.

    >>> list(openmetrics([Shop(at=5.0)]))[-2:]
    ['up{job="shop",instance="shop-1"} 1 5.0', '# EOF']
    """
    columns: dict[str, list[str]] = {}
    for shop in shops:
        for family in families(shop):
            for sample in family.samples:
                labels = ",".join([LABELS, *(f'{name}="{value}"' for name, value in sample.labels.items())])
                line = f"{sample.name}{{{labels}}} {sample.value} {shop.at}"
                columns.setdefault(f"{sample.name}{labels}", []).append(line)
    for lines in columns.values():
        yield from lines
    for shop in shops:
        yield f"up{{{LABELS}}} 1 {shop.at}"
    yield "# EOF"


def write(
    folder: Path,
    promtool: Path,
    until: float,
    kind: Kind = USUAL,
    story: Callable[[Shop, float], Shop] = lambda shop, at: shop,
    days: float = DAYS,
) -> Shop:
    """Fill `folder` with blocks of so many days up to `until`; the shop as it then is.

    RuntimeError when promtool refuses. `story` may change the shop before each of its moments.
    """
    shop = Shop(at=until - days * 86400 - 60, kind=kind)
    moments: list[Shop] = []
    for at in instants(until, days):
        shop = advance(story(shop, at), at)
        moments.append(shop)
    split = next(i for i, moment in enumerate(moments) if moment.at >= moments[-1].at - FINE_FOR)
    for part in (moments[:split], moments[split:]):  # promtool reads a file once for each of its blocks
        path = folder.with_suffix(".om")
        path.write_text("\n".join(openmetrics(part)) + "\n", encoding="utf-8")
        command = [
            str(promtool),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            "--quiet",
            str(path),
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"promtool could not write the past: {done.stdout}{done.stderr}")
        path.unlink()
    return shop
