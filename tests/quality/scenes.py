"""`python -m tests.quality.scenes`: which scenes are found by Promantis, and which by PromQL rules, as a table.

With `--sizes` the smallest change that is found within four hours, of each kind and at each step. The rules
(peer.rules.yml) are our own, and do what grafana/promql-anomaly-detection publishes; the real promtool evaluates them
on the same scenes.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sidecar.demo.binaries import find
from tests.unit.made import START
from tests.unit.scenes import COPIES, NOISE, QUIET, SCENES, Scene, look, play, season

RULES = Path(__file__).with_name("peer.rules.yml")
STRATEGIES = ("adaptive", "robust")
STEPS = (15.0, 60.0, 300.0)
LASTS = 960
"""Minutes that are played."""
STEP = 5
"""Minutes between samples of the peer, and between evaluations of its rules."""
_GOT = re.compile(r'\{scene="(\d+)", strategy="(\w+)"\} ([-+.\dE]+)')


def peers(promtool: Path, days: int, scenes: Sequence[Scene] = SCENES) -> dict[tuple[str, str], float]:
    """Minutes from the start of a scene until a strategy's alert fires, by strategy and scene; others: never.

    `days` of history come before the scenes. An alert before them, or after they are over, is no finding.
    """
    random, past = np.random.default_rng(4), days * 1440
    minutes = np.arange(-past, LASTS, STEP)
    at = START + minutes * 60.0
    lines = []
    for number, scene in enumerate(scenes):
        noise = random.normal(0, NOISE, (1, len(at)))
        values = scene.at(np.maximum(minutes, 0).astype(float), season(at), noise)[0]
        text = " ".join("_" if math.isnan(x) else f"{x:.5g}" for x in values.tolist())
        lines.append(f"{{series: 'scene{{scene=\"{number}\"}}', values: '{text}'}}")
    fired = f'min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{LASTS - QUIET}m:{STEP}m]) / 60'
    test = {
        "rule_files": f"['{RULES}']",
        "evaluation_interval": f"{STEP}m",
        "group_eval_order": "[peer-adaptive, peer-robust, peer-alerts]",
        "tests": f"[{{interval: {STEP}m, input_series: [{', '.join(lines)}], promql_expr_test: [{{expr: "
        f"'min by (scene, strategy) ({fired})', eval_time: {past + LASTS - 1}m, exp_samples: []}}]}}]",
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenes.yml"
        file.write_text("".join(f"{name}: {text}\n" for name, text in test.items()), encoding="utf-8")
        # it is expected to find nothing, so that promtool prints what it found
        done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    out = done.stdout + done.stderr
    if done.returncode != 0 and "got:" not in out:
        raise RuntimeError(f"promtool: {out}")
    found = {}
    for number, strategy, minute in _GOT.findall(out):
        scene, delay = scenes[int(number)], float(minute) - past - QUIET
        if 0 <= delay < scene.lasts:
            found[strategy, scene.name] = delay
    return found


SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24)
"""Of a change, in sigmas of the noise; of a spread, times the usual."""
KINDS = {
    "shift that stays": lambda size: Scene("", plus=f"0x59 {size * NOISE}", lasts=240),
    "shift for half an hour": lambda size: Scene("", plus=f"0x59 {size * NOISE}x29 0", lasts=30),
    "leak, an hour": lambda size: Scene("", plus=f"0x59 0+{size * NOISE / 60:.4f}x239", lasts=240),
    "deviation, times": lambda size: Scene("", noise=f"1x59 {size}x239 1", lasts=240),
}


def smallest() -> None:
    """Print, by kind and step, the least size from which on all but one of the copies page."""
    scenes = [make(size) for make in KINDS.values() for size in SIZES]
    films = [play(step, 300, scenes, 14.0) for step in STEPS]
    print("| smallest that is found | 15 s | 1 min | 5 min |\n|---|---|---|---|")
    for i, kind in enumerate(KINDS):
        cells = list[str]()
        for film in films:
            first = i * len(SIZES)
            found = [look(film, first + n, scenes[first + n]).paged >= COPIES - 1 for n in range(len(SIZES))]
            missed = [size for size, yes in zip(SIZES, found, strict=True) if not yes]
            least = next((size for size in SIZES if size > max(missed, default=0)), None)
            cells.append(str(least) if least else f"more than {SIZES[-1]}")
        print(f"| {kind} | {' | '.join(cells)} |")


def main(argv: list[str] | None = None) -> int:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(prog="scenes", description=__doc__)
    parser.add_argument("--days", type=int, default=9, help="history of the peer")
    parser.add_argument("--sizes", action="store_true", help="the smallest changes that are found")
    args = parser.parse_args(argv)
    if args.sizes:
        smallest()
        return 0
    films = [play(step, LASTS) for step in STEPS]
    peer = peers(find().promtool, args.days)
    print("| scene | 15 s | 1 min | 5 min | adaptive | robust |\n|---|---|---|---|---|---|")
    for number, scene in enumerate(SCENES):
        seen = [look(film, number, scene) for film in films]
        cells = [f"{s.delay:.0f}" if s.paged >= COPIES - 1 else f"missed ({s.paged}/{COPIES})" for s in seen]
        cells += [f"{peer[s, scene.name]:.0f}" if (s, scene.name) in peer else "missed" for s in STRATEGIES]
        cells = ["quiet" if not scene.lasts and cell.startswith("missed") else cell for cell in cells]
        print(f"| {scene.name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
