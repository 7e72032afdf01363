"""A Kubernetes Lease: of several replicas the one that holds it runs.

As client-go does it: who stands by takes over when it saw no renewal for the whole duration by its own clock;
who holds it believes so for a shorter time after it last began to renew, so that clocks need not agree.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sidecar.adapters.kubernetes import Cluster
from sidecar.remedy.actions.words import Ref
from sidecar.types import JsonObject, PromantisError, Rejected

log = logging.getLogger(__name__)
BELIEVED = 0.7
"""Share of the duration for which the holder believes in a renewal; the rest is for what is under way."""
RENEWED = 0.2
"""Share of the duration between two renewals or tries."""


class Lease:
    """One candidate for one Lease."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        duration: float,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._ref = Ref("coordination.k8s.io", "v1", "leases", namespace, name)
        self._duration = duration
        self._identity = identity
        self._clock = clock
        self._until = float("-inf")
        self._seen: tuple[Any, float] = (None, float("-inf"))
        self.holder = ""
        """Who holds it, as far as is known."""

    @property
    def elsewhere(self) -> str:
        """Who else holds it, as far as is known; empty: nobody, or we do."""
        return "" if self.holder == self._identity else self.holder

    def held(self) -> bool:
        """Whether we may act now; a question of our own clock, so it ends even if nothing can be asked."""
        return self._clock() < self._until

    async def acquire(self) -> None:
        """Wait until we hold it."""
        while True:
            if await self.attempt():
                break
            await asyncio.sleep(self._duration * RENEWED)
        log.info("leads: holds the lease %s as %s", self._ref, self._identity)

    async def keep(self) -> None:
        """Renew it; returns when it is lost."""
        while self.held():
            await asyncio.sleep(self._duration * RENEWED)
            await self.attempt()
        log.error("no longer leads: the lease %s is lost to %s", self._ref, self.holder or "nobody yet")

    async def attempt(self) -> bool:
        """Take or renew it, once; whether we hold it. What cannot be asked changes nothing."""
        began = self._clock()
        try:
            if await self._attempt():
                self._until = began + self._duration * BELIEVED
        except PromantisError as error:
            log.warning("lease %s cannot be asked reason=%s", self._ref, error)
        return self.held()

    async def release(self) -> None:
        """Give it back, so that another need not wait."""
        if self.held():
            self._until = float("-inf")
            try:
                found = await self._cluster.get(self._ref)
                if found["spec"].get("holderIdentity") == self._identity:
                    spec = {k: v for k, v in found["spec"].items() if k != "holderIdentity"}
                    await self._cluster.ask("PUT", self._ref.path, {}, {**found, "spec": spec})
            except PromantisError as error:
                log.warning("lease %s was not given back reason=%s", self._ref, error)

    async def _attempt(self) -> bool:
        try:
            found = await self._cluster.get(self._ref)
        except Rejected as error:
            if error.status != 404:
                raise
            return await self._create()
        spec = found["spec"]
        self.holder = spec.get("holderIdentity") or ""
        record = (self.holder, spec.get("renewTime"), found["metadata"]["uid"])
        if record != self._seen[0]:
            self._seen = (record, self._clock())
        if self.holder not in ("", self._identity):
            lasts = max(float(spec.get("leaseDurationSeconds") or 0), self._duration)
            if self._clock() - self._seen[1] < lasts:
                self._until = float("-inf")
                return False
        return await self._take(found)

    async def _take(self, found: JsonObject) -> bool:
        spec, now = found["spec"], _now()
        ours = self.holder == self._identity
        new = {**spec, "holderIdentity": self._identity, "renewTime": now}
        new["leaseDurationSeconds"] = max(1, round(self._duration))
        if not ours:
            new |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        return await self._claim("PUT", self._ref.path, {**found, "spec": new})

    async def _create(self) -> bool:
        now = _now()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._ref.name, "namespace": self._ref.namespace},
            "spec": spec,
        }
        return await self._claim("POST", self._ref._replace(name="").path, body)

    async def _claim(self, method: str, path: str, body: JsonObject) -> bool:
        """Write that we hold it; not if somebody was faster: who, the next look says."""
        try:
            await self._cluster.ask(method, path, {}, body)
        except Rejected as error:
            if error.status != 409:
                raise
            return False
        self.holder = self._identity
        return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
