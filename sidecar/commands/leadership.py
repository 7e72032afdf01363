"""Standing by: what a replica does until it holds the lease."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.adapters.kubernetes import Cluster, KubernetesConfig, LeaseConfig, own_namespace
from sidecar.adapters.lease import Lease
from sidecar.config import Config
from sidecar.telemetry import Telemetry
from sidecar.types import ConfigError
from sidecar.web import auth, server

log = logging.getLogger(__name__)


@asynccontextmanager
async def led(config: Config, where: KubernetesConfig) -> AsyncIterator[Lease]:
    """The lease, once it is held; until then we are healthy and not ready. It is given back in the end."""
    named = where.lease or LeaseConfig()
    namespace = named.namespace or own_namespace()
    if not namespace:
        raise ConfigError("kubernetes.lease.namespace", "is needed outside of a cluster")
    cluster = Cluster(where)
    identity = f"{os.uname().nodename}-{os.getpid()}"
    lease = Lease(cluster, namespace, named.name, float(named.duration), identity)
    try:
        await _stand_by(config, lease)
        yield lease
        await lease.release()
    finally:
        await cluster.close()


async def _stand_by(config: Config, lease: Lease) -> None:
    if await lease.attempt():
        return
    doors = auth.Auth((), auth.is_loopback(config.web.listen))

    def missing() -> list[str]:
        return [f"stands by, {lease.holder or 'nobody yet'} leads"]

    async def reload() -> None: ...

    app = server.build([], doors, Telemetry(), missing, reload)
    served, port = await server.serve(app, config.web)
    log.info("stands by on port %d, %s leads", port, lease.holder or "nobody yet")
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(lease.acquire())
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, waiting.cancel)
    try:
        await waiting
    finally:
        await served.cleanup()
