"""`promantis completion SHELL`: what makes a shell complete the commands and flags."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

PATHS = {"FILE": "FILE", "FOLDER": "DIRECTORY"}
"""What a flag's metavar says of its value, in shtab's words."""
SHELLS = ("bash", "zsh", "fish")


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("shell", choices=SHELLS, help="whose script is printed")


def run(args: argparse.Namespace) -> int:
    """0; the script goes to stdout."""
    import shtab  # nobody else needs it

    whole: argparse.ArgumentParser = args.whole()
    for action in _actions(whole):
        if isinstance(action.metavar, str) and action.metavar in PATHS:
            action.complete = getattr(shtab, PATHS[action.metavar])  # type: ignore[attr-defined]  # shtab's
    print(shtab.complete(whole, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
