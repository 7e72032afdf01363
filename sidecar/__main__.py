"""Command line: picks the command and hands it its arguments."""

from __future__ import annotations

import argparse
import importlib
import sys

from sidecar import __version__
from sidecar.types import ConfigError

COMMANDS = {
    "run": "start the sidecar",
    "check": "check the config; with --live, print what it would cost",
    "backtest": "replay recorded metrics and show what would have been said",
    "explain": "say what is wrong with a service, and what explains it",
    "cases": "list remediation cases",
    "approve": "approve a case",
    "deny": "deny a case",
    "kill": "stop every action at once, or allow them again",
    "journal": "prove the journal whole, or export it",
    "feedback": "say whether what was odd was real",
    "demo": "run the whole loop on real Prometheus and Alertmanager",
}
"""Each is a module of `sidecar.commands` with `add(parser)` and `run(args) -> exit code`."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrong use or wrong config."""
    parser = argparse.ArgumentParser(
        prog="promantis", description=(__import__("sidecar").__doc__ or "").strip()
    )
    parser.add_argument("--version", action="version", version=f"promantis {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    argv = sys.argv[1:] if argv is None else argv
    for name, words in COMMANDS.items():
        sub = commands.add_parser(name, help=words, description=words)
        if argv and argv[0] == name:  # import only the command that runs: the others may be heavy
            importlib.import_module(f"sidecar.commands.{name}").add(sub)
    args = parser.parse_args(argv)
    try:
        return int(importlib.import_module(f"sidecar.commands.{args.command}").run(args))
    except ConfigError as error:
        print(f"promantis: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
