"""`promantis cases [ID]`: a table of the cases, or all of one."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from sidecar.commands import talk
from sidecar.commands.talk import plain
from sidecar.web.shown import compared


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    talk.add(parser)
    parser.add_argument("id", nargs="?", help="show everything about this case")


def run(args: argparse.Namespace) -> int:
    """0, 1 when it cannot be asked, 2 for wrong use."""
    server = talk.Server(args)

    def work() -> None:
        if server.ask("GET", "/api/v1/killswitch")["on"]:
            print("the kill switch is on: nothing is done")
        if args.id:
            print("\n".join(_details(server.ask("GET", talk.path_of(args.id)))))
        else:
            print("\n".join(_table(server.ask("GET", "/api/v1/cases"))))

    return talk.guarded(work)


def _table(cases: list[dict[str, Any]]) -> list[str]:
    if not cases:
        return ["no cases yet"]
    rows = [["ID", "STAGE", "SINCE", "POLICY", "ALERT", "TARGET"]]
    for case in cases:
        alert = case["labels"].get("alertname", "")
        row = (case["id"], case["stage"], talk.since(case["since"]), case["policy"], alert, case["target"])
        rows.append(list(map(plain, row)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]) for row in rows]


def _details(case: dict[str, Any]) -> list[str]:
    lines = [f"{case['id']}  {case['stage']} for {talk.since(case['since'])}"]
    lines += [f"  {case['words']}"] if case["words"] else []
    lines += [f"policy  {case['policy']}", f"target  {case['target']}"]
    lines.append("alert   " + ", ".join(f"{k}={v}" for k, v in case["labels"].items()))
    lines += [f"why     {why}" for why in case["why"]]
    odds = case["odds"]
    if tried := odds["helped"] + odds["did_not"]:
        lines.append(
            f"odds    helped {odds['helped']} of {tried} times, above {odds['lower']:.0%} 19 times of 20"
        )
    if of := case.get("odds_of_cause"):
        tried = of["helped"] + of["did_not"]
        told = (
            f"helped {of['helped']} of {tried}, expected {of['mean']:.0%}" if tried else "never tried with it"
        )
        lines.append(f"cause   {case['cause']}: {told}")
    trials = case["trials"]
    if trials["interval"] is not None:
        (good, all_), (free, control) = trials["with"], trials["without"]
        low, high = trials["interval"]
        lines.append(
            f"trials  ended in time: {good} of {all_} with it, {free} of {control} without;"
            f" difference {trials['difference']:+.0%} ({low:+.0%} to {high:+.0%})"
        )
    if effect := case["effect"]:
        untouched = (
            f"; {effect['untouched']} siblings {effect['siblings']:+.3g}" if effect["untouched"] else ""
        )
        lines.append(f"effect  moved by {effect['target']:+.3g}{untouched}")
    if case["compared"]:
        lines.append("without " + compared(case["compared"]))
    lines += ["plan    " + case["plan_hash"], talk.show_plan(case["plan"])] if case["plan"] else []
    for check in case["guard"]:
        lines.append(
            f"guard   {'passed' if check['ok'] else 'FAILED'}  {check['name']} {check['words']}".rstrip()
        )
    for fact in case["facts"]:
        at = datetime.fromtimestamp(fact["at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lines.append(f"{at}  {fact['kind']}  {fact['who']}  {fact['words']}".rstrip())
    return [plain(line) for line in lines]
