"""`promantis journal verify|export`: prove that no fact was changed, or print them all as JSON lines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sidecar.adapters import journal
from sidecar.commands import talk
from sidecar.types import ConfigError


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.set_defaults(url=None)
    parser.add_argument(
        "do",
        choices=("verify", "export"),
        help="verify: prove that no fact was changed or is missing; export: print them as JSON lines",
    )
    parser.add_argument(
        "--file", metavar="FILE", help="an export, instead of the journal under --storage.path"
    )
    parser.add_argument("--head", metavar="HASH", help="verify: a hash that was printed before must be in it")


def run(args: argparse.Namespace) -> int:
    """0 whole, 1 broken or not to be had, 2 wrong use."""
    lines = _lines(args)

    def work() -> None:
        if args.do == "export":
            sys.stdout.buffer.writelines(line + b"\n" for line in lines)
            return
        whole = journal.verified(lines, args.head)
        print(f"{whole.facts} facts, none changed, none missing; the last is {whole.head or 'none'}")

    return talk.guarded(work)


def _lines(args: argparse.Namespace) -> list[bytes]:
    if args.file:
        try:
            return Path(args.file).read_bytes().splitlines()
        except OSError as error:
            raise ConfigError("--file", f"{args.file} cannot be read: {error.strerror}") from None
    if args.url:
        return talk.Server(args).lines("/api/v1/journal")
    return journal.stored(Path(args.storage) / "journal.db")
