"""The lease that replicas share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.adapters.kubernetes import Cluster, own_namespace
from sidecar.adapters.lease import Lease
from sidecar.config import Config
from sidecar.types import ConfigError


@asynccontextmanager
async def candidate(config: Config) -> AsyncIterator[Lease | None]:
    """This process as a candidate for the lease of the config; None without one."""
    where = config.kubernetes
    named = where.lease if where else None
    if where is None or named is None:
        yield None
        return
    namespace = named.namespace or own_namespace()
    if not namespace:
        raise ConfigError("kubernetes.lease.namespace", "is needed outside of a cluster")
    cluster = Cluster(where)
    identity = f"{os.uname().nodename}-{os.getpid()}"
    try:
        yield Lease(cluster, namespace, named.name, float(named.duration), identity)
    finally:
        await cluster.close()
