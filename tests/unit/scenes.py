"""What goes wrong with a series, in Prometheus' series notation, and what an engine says of it.

A scene changes a base series minute by minute: `times` its season, `noise` its noise, and `plus` adds; the last value
stands to the end. The base is a rate between 60 and 140 with a daily wave, and noise of 4 (one sigma) in each sample.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidecar.signals.detect.block import Block
from sidecar.signals.ingest.frame import Vector
from sidecar.signals.tick.engine import Engine, replay
from sidecar.types import F64, Instant
from tests.unit.made import START, key, watch

NOISE = 4.0
QUIET = 60
"""Minutes before anything happens."""
COPIES = 8
"""Each scene is played by so many series, which differ in their noise."""
HELD = 120.0
"""Seconds for which rules/promantis.rules.yml wants the score over 1."""

_ITEM = re.compile(r"(?:_(?:x(\d+))?|(-?[\d.]+(?:e-?\d+)?)(?:([+-][\d.]+(?:e-?\d+)?))?(?:x(\d+))?)$")


def expand(text: str) -> F64:
    """Values of Prometheus' series notation, as `promtool test rules` reads it; NaN for `_`.

    >>> expand("1x2 _x2 5+2x2 -3 8-1x1").tolist()
    [1.0, 1.0, 1.0, nan, nan, 5.0, 7.0, 9.0, -3.0, 8.0, 7.0]
    """
    out: list[float] = []
    for word in text.split():
        found = _ITEM.match(word)
        if not found:
            raise ValueError(f"{word!r} is no item of Prometheus' series notation")
        gap, first, by, times = found.groups()
        if first is None:
            out += [np.nan] * int(gap or 1)
        else:
            out += [float(first) + float(by or 0) * i for i in range(int(times or 0) + 1)]
    return np.array(out)


class Scene(NamedTuple):
    """One thing that happens to a series; the texts are in series notation, a value a minute."""

    name: str
    times: str = "1"
    plus: str = "0"
    noise: str = ""
    """Default: as `times`, since a quantity's noise grows with it."""
    lasts: float = 180
    """Minutes from QUIET until it is over."""
    sign: float = 1.0
    within: tuple[float, float, float] = (3, 4, 7)
    """Minutes until half of the copies have paged, at 15 s, 1 min and 5 min; NaN: two copies or more are missed."""

    def at(self, minutes: F64, base: F64, noise: F64) -> F64:
        """The series at these minutes f64[times], of its season f64[times] and noise f64[copies, times]."""
        times, plus, shake = (expand(text) for text in (self.times, self.plus, self.noise or self.times))
        i = minutes.astype(np.int64)
        pick = [line[np.minimum(i, len(line) - 1)] for line in (times, plus, shake)]
        out: F64 = self.sign * (base * pick[0] + noise * pick[2]) + pick[1]
        return out


MISSED = float("nan")
SCENES = (
    Scene("nothing", lasts=0, within=(MISSED, MISSED, MISSED)),
    Scene("x2 for three hours", "1x59 2x179 1"),
    Scene("x4 for three hours", "1x59 4x179 1"),
    Scene("drop to 1 %", "1x59 0.01x179 1"),
    Scene("drop to 0", "1x59 0x179 1"),
    Scene("vanished", "1x59 _x180 1", within=(3, 5, MISSED)),
    Scene("flat line", "1x59 0x179 1", "0x59 101.3x179 0", within=(35, 35, 125)),
    Scene("negative, x2", "1x59 2x179 1", sign=-1.0),
    Scene("negative, to 0", "1x59 0x179 1", sign=-1.0),
    Scene("slow leak", plus="0x59 0+0.3x299 0", lasts=300, within=(MISSED, MISSED, 90)),
    Scene("fast leak", plus="0x59 0+1x119 0", lasts=120, within=(40, 40, 30)),
    Scene("variance doubled", noise="1x59 1.414x359 1", lasts=360, within=(MISSED, MISSED, MISSED)),
    Scene("deviation doubled", noise="1x59 2x359 1", lasts=360, within=(MISSED, MISSED, MISSED)),
    Scene("deviation x4", noise="1x59 4x359 1", lasts=360, within=(MISSED, MISSED, 60)),
    Scene("half an hour of +3 sigma", plus="0x59 12x29 0", lasts=30, within=(MISSED, MISSED, MISSED)),
    Scene("+4 sigma that stay", plus="0x59 16", lasts=840, within=(MISSED, MISSED, MISSED)),
    Scene("x1.5 that stays", "1x59 1.5", lasts=840),
    Scene("x0.5 that stays", "1x59 0.5", lasts=840),
)


def season(at: F64) -> F64:
    """What the base series is without noise, at unix seconds f64[times]; 100 and rising at START."""
    return np.asarray(100 + 40 * np.sin(2 * np.pi * (at - START) / 86400.0))


class Film(NamedTuple):
    """What was said while the scenes were played: f64[scenes, copies, ticks]."""

    step: float
    minutes: F64
    score: F64
    confidence: F64


def play(step: float, minutes: int, scenes: Sequence[Scene] = SCENES, days: float = 4.0) -> Film:
    """Teach an engine some days at five minutes and 2,880 ticks at the step, then play all scenes in it at once."""
    random, rows = np.random.default_rng(3), len(scenes) * COPIES
    sign = np.repeat([scene.sign for scene in scenes], COPIES)
    nursery, live = Block(rows, step), START - 2880 * step
    for start, end, width in ((live - days * 86400, live, max(300.0, step)), (live, START, step)):
        at = np.arange(start, end, width)
        replay(nursery, at, sign * (season(at)[:, None] + random.normal(0, NOISE, (len(at), rows))), width)
    engine, keys = Engine(step), [key(i=str(i)) for i in range(rows)]
    engine.watch({"w": watch(step=step)})
    engine.adopt(START, "w", keys, nursery, 0, rows)
    at = START + np.arange(int(minutes * 60 / step)) * step
    noise = random.normal(0, NOISE, (len(scenes), COPIES, len(at)))
    values = [s.at((at - START) / 60, season(at), n) for s, n in zip(scenes, noise, strict=True)]
    flat = np.concatenate(values)
    said = {name: np.full(flat.shape, np.nan) for name in ("score", "confidence")}
    row = {k: i for i, k in enumerate(keys)}
    for i, now in enumerate(at.tolist()):
        there = np.flatnonzero(np.isfinite(flat[:, i]))
        snapshot = engine.tick(Instant(now), {"w": Vector([keys[j] for j in there], flat[there, i])}, rows)
        known = [j for j, k in enumerate(snapshot.keys) if k is not None]
        to = [row[k] for k in snapshot.keys if k is not None]
        for name, out in said.items():
            out[to, i] = snapshot.columns[name][known]
    shape = len(scenes), COPIES, len(at)
    return Film(step, (at - START) / 60, said["score"].reshape(shape), said["confidence"].reshape(shape))


def runs(score: F64, step: float, held: float = HELD) -> list[tuple[int, int]]:
    """First and last tick of each run of scores of 1 and more that stays for longer than `held` seconds."""
    over = np.flatnonzero(score >= 1)
    parts = np.split(over, np.flatnonzero(np.diff(over) > 1) + 1) if len(over) else []
    return [(int(p[0]), int(p[-1])) for p in parts if len(p) * step > held]


class Seen(NamedTuple):
    """What was seen of one scene at one step, over its copies."""

    paged: int
    """Copies with a page inside of it."""
    delay: float
    """Minutes until the page, the median over those copies; NaN: none."""
    latest: float
    """The same, of the last copy."""
    peak: float
    """Median of the highest scores."""
    confidence: float
    over: float
    """Share of the incident's ticks over 1."""
    before: int
    """Pages of all copies before anything happened."""
    after: int
    """Pages that began after it was over: when the series returned, and later."""


def look(film: Film, number: int, scene: Scene) -> Seen:
    """Judge one scene of a film."""
    begin, end = float(QUIET), QUIET + scene.lasts
    inside = (film.minutes >= begin) & (film.minutes < end)
    delays, peaks, sure, over, before, after = (
        list[float](),
        list[float](),
        list[float](),
        list[float](),
        0,
        0,
    )
    for score, confidence in zip(film.score[number], film.confidence[number], strict=True):
        spans = [(film.minutes[a], film.minutes[b]) for a, b in runs(score, film.step)]
        hits = [a for a, b in spans if b >= begin and a < end]
        delays += [max(0.0, hits[0] - begin) + HELD / 60] if hits else []
        before += sum(b < begin for _, b in spans)
        after += sum(a >= end for a, _ in spans)
        peaks.append(np.nan_to_num(score[inside], nan=0.0).max(initial=0.0))
        sure.append(np.nan_to_num(confidence[inside], nan=0.0).max(initial=0.0))
        over.append(float((score[inside] >= 1).mean()) if inside.any() else 0.0)
    middle = [float(np.median(x)) if x else np.nan for x in (delays, peaks, sure, over)]
    return Seen(len(delays), middle[0], max(delays, default=np.nan), *middle[1:], before, after)
