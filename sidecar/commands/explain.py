"""`promantis explain MATCH`: what is wrong with a service and what explains it, now or at a time that has passed."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any
from urllib.parse import urlencode

from sidecar.commands import talk
from sidecar.commands.talk import plain
from sidecar.types import ConfigError

WIDTH = 100


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument("match", nargs="?", help="""series of the service, e.g. '{job="shop"}'""")
    parser.add_argument("--fingerprint", help="or an alert, by its fingerprint")
    parser.add_argument("--at", help="as of then: RFC 3339 or unix seconds (default: now)")


def run(args: argparse.Namespace) -> int:
    """0 said, 1 not known or not there, 2 for wrong use."""
    if bool(args.match) == bool(args.fingerprint):
        raise ConfigError("match", "name either a match or --fingerprint")
    server = talk.Server(args)
    asked = {name: value for name in ("match", "fingerprint", "at") if (value := getattr(args, name))}

    def work() -> None:
        print("\n".join(lines(server.ask("GET", f"/api/v1/explain?{urlencode(asked)}"))))

    return talk.guarded(work)


def lines(said: dict[str, Any]) -> list[str]:
    """The answer as text for a terminal."""
    out = [said["what"] + (f"  incident {said['incident']}" if said["incident"] else "")]
    out += _part("", said["summary"])
    for cause in said["causes"]:
        out += _part("cause", f"{cause['likelihood']}: {cause['entity']}: {cause['words']}")
    if said["none_likelihood"] >= 0.01:
        out += _part("none", f"no cause at all: {said['none_likelihood']:.0%}")
    out += _part("outlook", said["outlook"])
    for label, texts in (("now", said["next_steps"]["now"]), ("later", said["next_steps"]["later"])):
        for text in texts:
            out += _part(label, text)
    for metric in said["metrics"]:
        out += _part("metric", f"{metric['name']} ({metric['probability']:.0%} part of it)")
    for label in ("changes", "logs", "similar"):
        for text in said[label]:
            out += _part(label, text)
    return [plain(line) for line in out]


def _part(label: str, text: str) -> list[str]:
    if not text:
        return []
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:9}", subsequent_indent=" " * 9)
