"""`promantis kill [on|off]`: stop every action at once, allow them again, or say how it stands."""

from __future__ import annotations

import argparse

from sidecar.commands import talk


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument(
        "state",
        nargs="?",
        choices=("on", "off"),
        help="on: every action is forbidden at once; off: allowed again; without it: how it stands",
    )
    parser.add_argument("--reason", default="", help="kept in the journal")


def run(args: argparse.Namespace) -> int:
    """0, 1 when it cannot be asked, 2 for wrong use."""
    server = talk.Server(args)

    def work() -> None:
        body = {"on": args.state == "on", "reason": args.reason}
        now = server.ask("POST" if args.state else "GET", "/api/v1/killswitch", body)
        print(f"the kill switch is {'on: nothing is done' if now['on'] else 'off'}")
        if now["storm"]:
            print(f"storm, nothing acts alone: {talk.plain(now['storm'])}")

    return talk.guarded(work)
