"""`python -m tests.quality.weekly --data FOLDER`: groups whose score fitted models join, fitted anew each week as live.

The models are fitted to what was said in a week, as `promantis run` does; what joins stands for the next one. Judged by
the labels: all weeks from the second on, and those alone in which a model had joined.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sidecar.signals.detect.groups import over_time
from sidecar.signals.learn import fits, trainer
from sidecar.signals.learn.past import MINUTE, WEEK
from sidecar.signals.replay import backtest
from sidecar.types import F32, Bools
from tests.quality.__main__ import show
from tests.quality.data import GROUPS, File, load, scorer


class Weeks(NamedTuple):
    """A group: the champion's score and the joined one f32[times], which times are judged, and in which one joined."""

    file: File
    champion: F32
    joined: F32
    judged: Bools
    apart: Bools
    names: list[str]


def lived(file: File, raw: F32) -> Weeks:
    """The weeks of a group, from its members' scores f32[times, members]."""
    week, rows = round(WEEK / file.step), round(WEEK / max(MINUTE, file.step))
    champion = over_time(raw, file.step)
    joined, apart, names = champion.copy(), np.zeros(len(raw), bool), list[str]()
    for now in range(week, len(raw), week):
        trials = [fits.trial(name, raw[max(0, now - rows) : now], file.step, now) for name in fits.MODELS]
        best = max((t for t in trials if t.joined), key=lambda t: t.recall - t.champion, default=None)
        names.append(best.model if best else "")
        if best and best.joined:
            after = slice(now, now + week)
            own = fits._score(
                pickle.loads(best.joined.model), fits._features(raw[after])[:, best.joined.used]
            )
            both, adopted = fits.join(best.joined, champion[after], own), trainer.Adopted(best.joined, ())
            pairs = zip(champion[after].tolist(), both.tolist(), strict=True)
            stays = next((i for i, pair in enumerate(pairs) if adopted.overdone(*pair)), len(both)) + 1
            joined[after][:stays], apart[after] = both[:stays], True
    return Weeks(file, champion, joined, np.arange(len(raw)) >= week, apart, names)


def line(score: Any, name: str, parts: Iterable[tuple[File, F32, Bools]]) -> tuple[str, ...]:
    """Recall within budgets of false pages, and at a score of 1, over these times of groups."""
    args = score.args(["-", "--budgets", "0.02,0.1,0.5"])
    some = [score.Series(f.name, f.at[t], f.label[t], x[t].astype(float)) for f, x, t in parts if t.any()]
    score.prepare(some, args)
    at, found = score.summarise(some, 1.0, args), score.sweep(some, args)
    recall = [f"{one.get('event_recall') or 0:.2f}" for one in found]
    false = f"{at['false_alerts_per_series_day']:.3f}"
    return name, str(sum(len(one.ev) for one in some)), *recall, f"{at['event_recall'] or 0:.2f}", false


def main(argv: list[str] | None = None) -> int:
    """Print a table for each set of groups."""
    parser = argparse.ArgumentParser(prog="weekly", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args(argv)
    score = scorer(args.data)
    for name in GROUPS:
        files = load(args.data, name)
        recordings = [backtest.Recording(file.name, file.at, file.values) for file in files]
        said = backtest.run(recordings, files[0].step, ("raw",))
        every = [
            lived(file, np.asarray(one["raw"], np.float32)) for file, one in zip(files, said, strict=True)
        ]
        table: list[tuple[str, ...]] = [("", "events", "@.02", "@.1", "@.5", "at 1", "false a day")]
        table.append(line(score, "the score", ((w.file, w.champion, w.judged) for w in every)))
        table.append(line(score, "joined", ((w.file, w.joined, w.judged) for w in every)))
        if any(w.apart.any() for w in every):
            table.append(
                line(score, "where one joins: the score", ((w.file, w.champion, w.apart) for w in every))
            )
            table.append(line(score, "where one joins: joined", ((w.file, w.joined, w.apart) for w in every)))
        names = [name for w in every for name in w.names]
        show(f"{name}: {sum(map(bool, names))} of {len(names)} fits join", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
