"""`promantis deny ID`: no, for as long as this alert fires."""

from __future__ import annotations

import argparse

from sidecar.commands import talk


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument("id", help="the case, from `promantis cases`")
    parser.add_argument("--reason", default="", help="kept with the case")


def run(args: argparse.Namespace) -> int:
    """0 denied, 1 not, 2 for wrong use."""
    server = talk.Server(args)

    def work() -> None:
        server.ask("POST", talk.path_of(args.id, "deny"), {"reason": args.reason})
        print(f"denied {talk.plain(args.id)}")

    return talk.guarded(work)
