"""`promantis feedback [VERDICT]`: says whether what was odd was real; without a verdict, what was said."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from typing import Any

from sidecar.commands import talk
from sidecar.commands.talk import plain
from sidecar.types import ConfigError
from sidecar.web.shown import labelled

VERDICTS = ("real", "not_real", "expected_from_now", "planned")
_NUMBER = re.compile(r"\d+(\.\d*)?")
ROUTE = "/api/v1/feedback"


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument(
        "verdict", nargs="?", choices=VERDICTS, help="of what was odd; without it: lists what was said"
    )
    parser.add_argument("--match", help="""of these series, e.g. '{watch="cpu",job="shop"}'""")
    parser.add_argument("--fingerprint", help="of this alert's series")
    parser.add_argument(
        "--start", type=_time, help="RFC 3339 or unix seconds; without times: of what is odd now"
    )
    parser.add_argument("--end", type=_time, help="the same")
    parser.add_argument("--comment", default="", help="kept with it")


def run(args: argparse.Namespace) -> int:
    """0 taken, 1 not, 2 for wrong use."""
    if args.verdict and bool(args.match) == bool(args.fingerprint):
        raise ConfigError("--match", "name either --match or --fingerprint")
    server = talk.Server(args)

    def work() -> None:
        if not args.verdict:
            print("\n".join(_table(server.ask("GET", ROUTE))))
            return
        names = ("verdict", "match", "fingerprint", "start", "end", "comment")
        body = {name: value for name in names if (value := getattr(args, name)) is not None}
        said = server.ask("POST", ROUTE, body)
        print(f"{said['verdict']}: {_runs(said)}")
        for one in said["runs"]:
            print(
                plain(f"  {one['watch']} {labelled(one['labels'])} {_at(one['start'])} to {_at(one['end'])}")
            )

    return talk.guarded(work)


def _time(text: str) -> float:
    try:
        at = (
            datetime.fromtimestamp(float(text), UTC)
            if _NUMBER.fullmatch(text)
            else datetime.fromisoformat(text)
        )
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time (RFC 3339 or unix seconds)") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _runs(said: dict[str, Any]) -> str:
    count = len(said["runs"])
    if said["verdict"] == "planned":
        return f"{_at(said['start'])} to {_at(said['end'])}"
    return f"{count} run{'' if count == 1 else 's'}" if count else "no run over the threshold then; kept"


def _table(said: list[dict[str, Any]]) -> list[str]:
    if not said:
        return ["nothing was said yet"]
    rows = [["AT", "WHO", "VERDICT", "OF", "ABOUT", "COMMENT"]]
    for one in said:
        row = (_at(one["at"]), one["who"], one["verdict"], _runs(one), one["match"] or one["fingerprint"])
        rows.append([*map(plain, row), plain(one["comment"])])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]).rstrip() for row in rows
    ]
