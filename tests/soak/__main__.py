"""`python -m tests.soak [fault ...] [--seconds=30] [--alerts=100]`: print a line per fault and mode; all by default."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from sidecar.demo.binaries import find
from sidecar.demo.peers import Stack
from tests.e2e.faults import ALONE, FAULTS, MODES, Fault, paused, run

ONE_BATCH = 12
"""Alerts of each sort that make one batch an evaluation."""
ALL = {fault.__name__: fault for fault in (*FAULTS, *ALONE)}


async def soak(fault: Fault, mode: str, seconds: float, alerts: int) -> str:
    """What went wrong, or nothing. Alerts hold for longer than a fault and a re-send, as Prometheus' defaults do."""
    with tempfile.TemporaryDirectory() as folder, Stack(find(), Path(folder)) as stack:
        try:
            await run(
                stack,
                [(fault, mode)],
                many=min(alerts, ONE_BATCH) if fault is paused else alerts,
                seconds=seconds,
                resend=max(5, round(seconds * 2 / 3)),
            )
        except AssertionError as wrong:
            return str(wrong) or "an assertion failed"
    return ""


async def both(name: str, seconds: float, alerts: int) -> bool:
    """Both modes side by side; whether all is well."""
    began = time.monotonic()
    said = await asyncio.gather(*(soak(ALL[name], mode, seconds, alerts) for mode in MODES))
    for mode, wrong in zip(MODES, said, strict=True):
        print(f"{name:14}{mode:8}{wrong or 'no alert lost, none came back to life'}", flush=True)
    print(f"{name:14}took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return not any(said)


def main() -> int:
    """0 when no alert suffered."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("faults", nargs="*", metavar="fault", help=", ".join(ALL))
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each fault lasts")
    parser.add_argument(
        "--alerts", type=int, default=100, help="of each sort: steady, ending, starting, flapping"
    )
    args = parser.parse_args()
    if unknown := [name for name in args.faults if name not in ALL]:
        parser.error(f"no fault {unknown[0]!r}: {', '.join(ALL)}")
    logging.disable(logging.ERROR)  # what is broken on purpose says so
    return (
        0 if all([asyncio.run(both(name, args.seconds, args.alerts)) for name in args.faults or ALL]) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
