"""Tickets of the form that approves: signed, for one plan as one reader saw it, for a while, and once.

The link to the page is stable and says nothing, as the first notification carries it before there is a plan; what
approves is this form and a person. Without tickets a form that was sent before would count again once the
same plan is made again, by going back in a browser or by whoever kept it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from sidecar.web.answers import Problem

LASTS = 1800.0
"""Seconds after which a page must be looked at again."""


class Tickets:
    """Those of this process: its key is its own, so that a restart ends them all."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._used: dict[str, float] = {}

    def issue(self, reader: str, case: str, plan_hash: str, until: float) -> str:
        """A ticket for the plan that is shown, good until the case expires at the latest."""
        ends, nonce = f"{min(until, self._clock() + LASTS):.0f}", secrets.token_urlsafe(12)
        return ".".join((ends, nonce, self._sign(ends, nonce, reader, case, plan_hash)))

    def redeem(self, ticket: str, reader: str, case: str, plan_hash: str) -> None:
        """Take a ticket; Problem 403 when it was not given for this, 409 when it is over or was used."""
        ends, _, rest = ticket.partition(".")
        nonce, _, sign = rest.partition(".")
        good = self._sign(ends, nonce, reader, case, plan_hash)
        if not hmac.compare_digest(sign.encode("utf-8", "replace"), good.encode()):
            raise Problem(403, "this form was not given to you for this plan: look at it again", "ticket")
        now = self._clock()
        if now >= float(ends):
            raise Problem(409, "the form is too old: look at the plan again", "ticket")
        self._used = {one: until for one, until in self._used.items() if until > now}
        if nonce in self._used:
            raise Problem(409, "this form was sent already", "ticket")
        self._used[nonce] = float(ends)

    def _sign(self, *parts: str) -> str:
        text = "\0".join(parts).encode("utf-8", "replace")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
