"""`promantis demo`: the whole loop on a real Prometheus and Alertmanager, started for it and ended after it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.demo import binaries, stage, story
from sidecar.demo.peers import REPOSITORY, Peer, Stack


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument("--approve", action="store_true", help="approve the remedy, and show that it helped")
    parser.add_argument(
        "--check", action="store_true", help="run unattended, approve, check every claim: exit 0 or 1"
    )


def run(args: argparse.Namespace) -> int:
    """Play until it is told or Ctrl-C; 1 when a claim did not come true or something did not start."""
    if not (REPOSITORY / "rules").is_dir():
        words = "works in a checkout only: git clone the repository, then make demo"
        print(f"promantis demo: {words}", file=sys.stderr)
        return 1
    say = _teller()
    try:
        return asyncio.run(_play(say, approve=args.approve or args.check, check=args.check))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("ended")
        return 1 if args.check else 0
    except (binaries.PeersMissing, RuntimeError) as error:
        print(f"promantis demo: {error}", file=sys.stderr)
        return 1


async def _play(say: Callable[[str], None], *, approve: bool, check: bool) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: nothing that was started stays behind
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    found = await asyncio.to_thread(binaries.find)
    with (
        tempfile.TemporaryDirectory(prefix="promantis-demo-") as folder,
        Stack(found, Path(folder)) as stack,
    ):
        try:
            scene = await stage.build(stack, say)
            say("ready. Open:")
            for name, url in story.opening(scene).items():
                print(f"            {name + ':':23} {url}")
            failed = await story.tell(scene, say, approve=approve, check=check)
            if not check and not failed:
                say("that is the whole loop; it keeps running until Ctrl-C")
                await asyncio.Event().wait()
        finally:
            say("ending everything")
        for claim in failed:
            say(f"FAILED: {claim}")
        if failed:
            for peer in filter(Peer.tail, story.peers(scene)):
                print(f"--- the end of {peer.name}'s log\n{peer.tail()}")
        say("FAILED" if failed else "every claim came true")
        return 1 if failed else 0


def _teller() -> Callable[[str], None]:
    """Print with the time since the start; bold on a terminal only."""
    began, bold = time.monotonic(), sys.stdout.isatty()

    def say(words: str) -> None:
        seconds = int(time.monotonic() - began)
        stamp = f"{seconds // 60:2d}:{seconds % 60:02d}"
        print(f"\x1b[1m{stamp}\x1b[0m       {words}" if bold else f"{stamp}       {words}", flush=True)

    return say
