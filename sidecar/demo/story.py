"""What the demo tells: a leak is seen, foreseen, explained and mended; every claim is looked up, not assumed."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from sidecar.demo.peers import REPOSITORY, Peer
from sidecar.demo.stage import ALERT, BIGGER, LIMIT, RATIO, Stage

Say = Callable[[str], None]
Probe = Callable[[], Awaitable[str | None]]
"""Looks once: the words for what it saw, or None when it is not so yet."""

LEAK_TAKES = 150.0
"""Seconds from the beginning of the leak to the limit."""

_WATCH = f'watch="{ALERT}"'
_SCORE = f"promantis_anomaly_score{{{_WATCH}}}"
_COMING = f'promantis_breach_probability{{source_alertname="{ALERT}",horizon="15m"}}'
_ETA = f'promantis_breach_eta_seconds{{source_alertname="{ALERT}"}}'


class Claim(NamedTuple):
    """One thing that the demo promises to show."""

    name: str
    probe: Probe


class Eyes:
    """Looks at the peers over HTTP, as a user would; what does not answer is simply not seen yet."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession) -> None:
        self.stage = stage
        self._session = session

    async def ask(self, method: str, url: str, **options: Any) -> Any:
        """Decoded JSON, or None."""
        try:
            async with self._session.request(method, url, **options) as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def value(self, query: str) -> float | None:
        """The first value of an instant query to Prometheus."""
        answer = await self.ask("GET", f"{self.stage.prometheus.url}/api/v1/query", params={"query": query})
        result = answer["data"]["result"] if answer else []
        return float(result[0]["value"][1]) if result else None

    async def alert(self) -> dict[str, Any] | None:
        """The user's alert as Alertmanager has it."""
        url = f"{self.stage.alertmanager.url}/api/v2/alerts"
        alerts = await self.ask("GET", url, params={"filter": f'alertname="{ALERT}"'})
        return alerts[0] if alerts else None

    async def case(self) -> dict[str, Any] | None:
        """The newest case of the policy."""
        headers = {"Authorization": f"Bearer {self.stage.token}"}
        answer = await self.ask("GET", f"{self.stage.promantis.url}/api/v1/cases", headers=headers)
        cases = answer.get("cases", []) if isinstance(answer, dict) else answer or []
        ours = [case for case in cases if case["policy"] == "bigger-pool"]
        return max(ours, key=lambda case: float(case["since"]), default=None)

    async def band(self) -> str | None:
        """Promantis is scraped, and knows what is usual."""
        at = f"{{{_WATCH}}}"
        lower, upper = await self.value(f"promantis_lower{at}"), await self.value(f"promantis_upper{at}")
        if lower is None or upper is None or not lower < upper:
            return None
        return f"Promantis knows the past: {RATIO} is usually {lower:.2f} to {upper:.2f} at this hour"

    async def odd(self) -> str | None:
        """The score has passed its threshold."""
        score = await self.value(_SCORE)
        return (
            f"out of its usual: anomaly score {score:.1f} (1 is worth a look)"
            if score and score > 1
            else None
        )

    async def coming(self) -> str | None:
        """The user's own alert is foreseen, and its condition is not true yet."""
        odds = await self.value(f"{_COMING} > 0.8 < 1")
        eta = await self.value(f"{_ETA} > 0")
        if odds is None or eta is None:
            return None
        return f"{ALERT} is coming: in {minutes(eta)} (probability {odds:.2f} within 15 minutes)"

    async def firing(self) -> str | None:
        """The user's alert is in Alertmanager."""
        alert = await self.alert()
        return f"{ALERT} fires, in Alertmanager as {alert['fingerprint']}" if alert else None

    async def explained(self) -> str | None:
        """Alertmanager has the alert with Promantis' words on it."""
        alert = await self.alert()
        words = {k: v for k, v in (alert or {}).get("annotations", {}).items() if k.startswith("promantis_")}
        if not all(
            words.get(f"promantis_{name}") for name in ("summary", "causes", "outlook", "next_steps", "url")
        ):
            return None
        return "the alert is explained in Alertmanager:" + "".join(
            f"\n            {name}: {text}" for name, text in sorted(words.items())
        )

    async def waiting(self) -> str | None:
        """A remedy waits for a person."""
        case = await self.case()
        if case is None or case["stage"] not in ("proposed", "planned"):
            return None
        command = " ".join(self.approve_command(case["id"])[3:])
        return (
            f'a case waits for approval: bigger-pool, POST /pool {{"size": {BIGGER}}}; to approve it:\n'
            f"            {self.stage.promantis.url}/a/{case['fingerprint']}\n"
            f"              in a browser; it asks for the token in {self.stage.token_file}\n"
            f"            {typed()} {command}\n"
            "              or this, in a second terminal in the same folder"
        )

    async def resized(self) -> str | None:
        """The action was done, and done once."""
        size = await self.value("db_pool_connections_max")
        return f"the pool has {BIGGER} connections" if size == BIGGER else None

    async def relieved(self) -> str | None:
        """The number that the alert is about is back."""
        ratio = await self.value(RATIO)
        return f"{ratio:.0%} of the pool are in use again" if ratio is not None and ratio < 0.7 else None

    async def fixed(self) -> str | None:
        """Promantis verified the remedy in Prometheus."""
        case = await self.case()
        return "verified in Prometheus and recorded: fixed" if case and case["stage"] == "fixed" else None

    async def resolved(self) -> str | None:
        """The alert is gone from Alertmanager."""
        answer = await self.ask("GET", f"{self.stage.alertmanager.url}/api/v2/alerts")
        if answer is None or any(alert["labels"]["alertname"] == ALERT for alert in answer):
            return None
        return f"{ALERT} is resolved in Alertmanager"

    async def progress(self) -> str:
        """One line of numbers."""
        ratio, score = await self.value(RATIO), await self.value(_SCORE)
        odds, eta = await self.value(_COMING), await self.value(_ETA)
        return (
            f"  pool {shown(ratio, '.0%')} used, score {shown(score, '.1f')}, "
            f"breach within 15m: {shown(odds, '.2f')}{f', in {minutes(eta)}' if eta else ''}"
        )

    def approve_command(self, case: str) -> list[str]:
        """The command line that approves the case, from this source tree."""
        return [
            *(sys.executable, "-m", "sidecar", "approve", case),
            *("--url", self.stage.promantis.url, "--token-file", str(self.stage.token_file)),
        ]

    async def approve(self) -> str | None:
        """Approve as a person would: by the command line. None when done, else what it said."""
        case = await self.case()
        if case is None:
            return "there is no case"
        process = await asyncio.create_subprocess_exec(
            *self.approve_command(case["id"]),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return None if process.returncode == 0 else output.decode(errors="replace").strip()


async def tell(stage: Stage, say: Say, *, approve: bool, check: bool) -> list[str]:
    """Play the story; the names of the claims that did not come true."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        eyes = Eyes(stage, session)
        failed = await see(say, [Claim("the band from the past is scraped by Prometheus", eyes.band)], 30)
        await asyncio.sleep(10 if check else 30)
        if not await _leak(eyes, say):
            return [*failed, "the leak is switched on"]
        until_case = [
            Claim("the score rises above 1", eyes.odd),
            Claim("the breach is predicted before it comes", eyes.coming),
            Claim(f"{ALERT} fires in Alertmanager", eyes.firing),
            Claim("the alert in Alertmanager carries Promantis' annotations", eyes.explained),
            Claim("a case waits for approval", eyes.waiting),
        ]
        failed += await see(say, until_case, LEAK_TAKES + 45, eyes.progress)
        if failed and check:
            return failed
        if approve:
            refused = await eyes.approve()
            if refused is not None:
                say(refused)
                return [*failed, "the case is approved by the command line"]
            say("approved")
        mended = [
            Claim("the action is done", eyes.resized),
            Claim("the pool recovers", eyes.relieved),
            Claim("the remedy is verified", eyes.fixed),
            Claim("the alert is resolved", eyes.resolved),
        ]
        return failed + await see(say, mended, 60 if approve else math.inf)


async def see(
    say: Say, claims: list[Claim], within: float, progress: Callable[[], Awaitable[str]] | None = None
) -> list[str]:
    """Look for all claims once a second, in any order; the names of those not seen in time."""
    open_claims = {claim.name: claim for claim in claims}
    end, shown_at = time.monotonic() + within, time.monotonic()
    while open_claims and time.monotonic() < end:
        for name, claim in list(open_claims.items()):
            words = await claim.probe()
            if words is not None:
                say(words)
                del open_claims[name]
        if progress and time.monotonic() - shown_at >= 15:
            say(await progress())
            shown_at = time.monotonic()
        await asyncio.sleep(1)
    return list(open_claims)


def opening(stage: Stage) -> Mapping[str, str]:
    """What to look at in a browser."""
    coming, odd = "promantis_breach_probability < 1", f"promantis_anomaly_score{{{_WATCH}}}"
    band = (f"promantis_lower{{{_WATCH}}}", f"promantis_upper{{{_WATCH}}}")
    return {
        "Promantis": stage.promantis.url + "/",
        "the pool and its band": stage.graph(RATIO, *band),
        "score, breach ahead": stage.graph(odd, coming),
        "Promantis' metrics": stage.promantis.url + "/metrics",
        "Alertmanager's alerts": stage.alertmanager.url + "/api/v2/alerts",
        "the shop": stage.shop.url + "/metrics",
    }


def typed() -> str:
    """How the command is typed here: .venv is on nobody's PATH."""
    program = Path(sys.executable).with_name("promantis")
    return os.path.relpath(program) if program.exists() else "promantis"


def peers(stage: Stage) -> list[Peer]:
    """Everything that has a log."""
    return [stage.promantis, stage.prometheus, stage.alertmanager, stage.shop, stage.node]


def minutes(seconds: float) -> str:
    """A time as people say it.

    >>> minutes(45), minutes(100), minutes(600)
    ('45 seconds', '1.7 minutes', '10 minutes')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 570 else f"{seconds / 60:.0f} minutes"


def shown(value: float | None, form: str) -> str:
    """A number, or a dash.

    >>> shown(0.5, ".0%"), shown(None, ".1f")
    ('50%', '-')
    """
    return "-" if value is None else format(value, form)


async def _leak(eyes: Eyes, say: Say) -> bool:
    """Switch the leak on, at the pace that reaches the limit in LEAK_TAKES from the hour's usual."""
    shop = await eyes.ask("GET", eyes.stage.shop.url + "/")
    if shop is None:
        return False
    pace = (LIMIT * shop["pool"] + 0.5 - shop["in_use"]) / LEAK_TAKES * 60
    done = await eyes.ask("POST", eyes.stage.shop.url + "/leak", json={"per_minute": round(pace, 2)})
    say(f"the shop begins to leak {pace:.1f} connections a minute; its pool has {shop['pool']}")
    return done is not None
