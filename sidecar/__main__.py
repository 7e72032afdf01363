"""Command line: picks the command and hands it its arguments."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import select
import sys
from typing import Any, NoReturn

from sidecar import __version__
from sidecar.types import ConfigError

COMMANDS = {
    "run": "start the sidecar",
    "check": "check the config; with --live, print what it would cost",
    "doctor": "look whether Promantis, Prometheus and Alertmanager fit together",
    "backtest": "replay recorded metrics and show what would have been said",
    "explain": "say what is wrong with a service, and what explains it",
    "cases": "list remediation cases",
    "approve": "approve a case",
    "deny": "deny a case",
    "kill": "stop every action at once, or allow them again",
    "journal": "prove the journal whole, or export it",
    "feedback": "say whether what was odd was real",
    "rules": "print the alert rules, with labels, selectors and thresholds of your own",
    "completion": "print what makes a shell complete commands and flags",
    "demo": "run the whole loop on real Prometheus and Alertmanager",
}
"""Each is a module of `sidecar.commands` with `add(parser)` and `run(args) -> exit code`."""


EXAMPLES = {
    "run": ("--prometheus.url=http://localhost:9090 --alertmanager.url=http://localhost:9093",
            "--config.file=promantis.yml --web.listen-address=0.0.0.0:9909"),
    "check": ("--config.file=promantis.yml", "--live --prometheus.url=http://localhost:9090",
              "--rbac --config.file=promantis.yml"),
    "doctor": ("--config.file=promantis.yml",),
    "backtest": ("--rules --prometheus.url=http://localhost:9090", "--csv vm-1.csv vm-2.csv.gz --out tried --plot",
                 "--query 'rate(http_requests_total[5m])' --prometheus.url=http://localhost:9090 --out tried"),
    "explain": ("""'{job="shop"}'""", "--fingerprint 6bf75205248afea2", """'{job="shop"}' --at 2026-11-25T12:46:00Z"""),
    "cases": ("", "c0ffee"),
    "approve": ("c0ffee",),
    "deny": ("c0ffee --reason 'a planned test'",),
    "kill": ("on --reason 'we work by hand'", "off"),
    "journal": ("verify", "export"),
    "feedback": ("not_real --fingerprint 6bf75205248afea2",
                 """planned --match '{job="shop"}' --start 2026-11-27T00:00:00Z --end 2026-11-28T00:00:00Z"""),
    "rules": ("> promantis.rules.yml",
              """--label team=sre --selector 'cluster="eu"' --set probability.high=0.95 --drop PromantisGroupAnomaly""",
              "--set for.PromantisAnomaly.high=10m --set confidence.low=0.5", "--recording"),
    "completion": ("bash > /etc/bash_completion.d/promantis",),
    "demo": ("--approve",),
}  # fmt: skip
"""What may stand behind each command; shown by its --help, and held to its flags by a test."""


EXITS = {
    0: "done",
    1: "failed: what was asked could not be done, is refused, or is not as it should be; stderr says why",
    2: "wrong use, a wrong config, or a file that cannot be read; the message names the place",
}


class _Parser(argparse.ArgumentParser):
    """Says where help is when it is used wrongly."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n`{self.prog} --help` says more, with examples.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """A command says itself which flag it does not know, and which one is near."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1)
            self.error(f"unknown: {' '.join(unknown)}" + (f" (did you mean {near[0]}?)" if near else ""))
        return found, unknown


def _parser(*loaded: str) -> argparse.ArgumentParser:
    """The parser; only `loaded` commands have their flags, since to import others may be heavy."""
    parser = _Parser(
        prog="promantis",
        description=(__import__("sidecar").__doc__ or "").strip(),
        epilog="\n".join(
            [
                "`promantis COMMAND --help` shows its flags, with examples. Exit codes:",
                *(f"  {code}  {words}" for code, words in EXITS.items()),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"promantis {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, words in COMMANDS.items():
        shown = [f"  promantis {name} {arguments}".rstrip() for arguments in EXAMPLES[name]]
        sub = commands.add_parser(
            name,
            help=words,
            description=words,
            epilog="\n".join(["examples:", *shown]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in loaded:
            importlib.import_module(f"sidecar.commands.{name}").add(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrong use or wrong config. Who reads no further, as `| head`, has enough."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(*argv[:1])
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    args = parser.parse_args(argv, argparse.Namespace(whole=lambda: _parser(*COMMANDS)))
    try:
        code = int(importlib.import_module(f"sidecar.commands.{args.command}").run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _unread(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is flushed at exit goes there
        return 0
    except ConfigError as error:
        print(f"promantis: {error}", file=sys.stderr)
        return 2


def _unread(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
