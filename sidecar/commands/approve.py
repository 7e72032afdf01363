"""`promantis approve ID`: shows what exactly would be done and what stands in its way, and approves that."""

from __future__ import annotations

import argparse
import sys

from sidecar.commands import talk
from sidecar.types import Rejected


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument("id", help="the case, from `promantis cases`")
    parser.add_argument("--yes", action="store_true", help="do not ask again on a terminal")


def run(args: argparse.Namespace) -> int:
    """0 approved, 1 not, 2 for wrong use."""
    server = talk.Server(args)

    def work() -> None:
        case = server.ask("POST", talk.path_of(args.id, "plan"), {})
        if not case["plan"] or case["stage"] != "planned":
            raise Rejected(f"no plan could be made: {case['words']}")
        print(f"plan {case['plan_hash']}\n{talk.show_plan(case['plan'])}")
        for guard in server.ask("GET", talk.path_of(args.id, "guards"))["guards"]:
            if not guard["ok"]:
                print(talk.plain(f"in its way now: {guard['name']}: {guard['words']}"))
        if (
            sys.stdin.isatty()
            and not args.yes
            and input("approve? [y/N] ").strip().lower() not in ("y", "yes")
        ):
            raise Rejected("not approved")
        server.ask("POST", talk.path_of(args.id, "approve"), {"plan_hash": case["plan_hash"]})
        print(
            f"approved {talk.plain(args.id)}; `promantis cases {talk.plain(args.id)}` says what comes of it"
        )

    return talk.guarded(work)
