"""A cluster to act on, the fake or the one of PROMANTIS_TEST_KUBECONFIG, behind a proxy that fails on demand."""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from aiohttp import web

from sidecar.adapters.kubernetes import Cluster, KubernetesConfig
from sidecar.config import Config, parse
from sidecar.remedy.actions.objects import KINDS
from sidecar.remedy.actions.words import Job, Outcome, Plan, Right, World
from sidecar.remedy.rights import manifests
from sidecar.types import Alert, Duration, Rejected, Unavailable
from tests.e2e.alerting import serving
from tests.unit.fakekube import FakeKube

REAL = os.environ.get("PROMANTIS_TEST_KUBECONFIG", "")
HOLD = -1
WAIT = 30.0 if REAL else 2.0
WHERE: dict[str, Any] = {"namespace": "{{ labels.namespace }}", "name": "{{ labels.deployment }}"}
"""Names the Deployment of the lab's alert."""


class Fault(NamedTuple):
    """What befalls a request: an answer instead of the real one, with status 0 none, with HOLD silence."""

    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = {}  # noqa: RUF012
    after: bool = False
    """The request is passed on first: what is lost is its answer."""
    down: bool = False
    """From then on nobody answers."""
    real: bool = False
    """Dry runs are spared."""


class Proxy:
    """Between the client and the API server."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.session = session
        self.faults: list[Fault] = []
        """Each is met once, in order."""
        self.down = False
        self.held = 0
        self.headers: dict[str, str] = {}
        """Added to what is passed on: whom to impersonate."""
        self.rules: list[Any] = []
        """Roles, for a fake that knows none: what they do not grant is answered 403."""
        self.writes: list[tuple[str, str]] = []
        """Method and path of what was passed on and changed something, without Events."""
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._pass)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        dry = "dryRun" in request.path_qs or b'"dryRun"' in body
        fits = (f for f in self.faults if f.method == request.method and not (dry and f.real))
        fault = next((f for f in fits if re.search(f.path, request.path)), None)
        if fault is not None:
            self.faults.remove(fault)
        down, self.down = self.down, self.down or (fault is not None and fault.down)
        if down or (fault and not fault.after):
            return await self._fail(request, fault)
        if self.rules and not granted(self.rules, request.method, request.path):
            return await self._fail(request, Fault(request.method, request.path, 403))
        headers = self.headers | {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with self.session.request(
            request.method, self.upstream + request.path_qs, data=body, headers=headers
        ) as answer:
            content = await answer.read()
            meta = request.path.endswith(("/events", "reviews", "/leases")) or "/leases/" in request.path
            if request.method != "GET" and answer.status < 300 and not dry and not meta:
                self.writes.append((request.method, request.path))
            if fault is not None:
                return await self._fail(request, fault)
            kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Retry-After")}
            return web.Response(status=answer.status, body=content, headers=kept)

    async def _fail(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.status == HOLD:
            self.held += 1
            await asyncio.sleep(60)
        if fault is None or fault.status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        body = {"kind": "Status", "message": f"made to answer {fault.status}", "code": fault.status}
        return web.json_response(body, status=fault.status, headers=fault.headers)


VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def granted(roles: Sequence[Any], method: str, path: str) -> bool:
    """Whether one of the (Cluster)Roles allows a request.

    >>> rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}
    >>> roles = [{"metadata": {"namespace": "shop"}, "rules": [rule]}]
    >>> paths = [f"/apis/apps/v1/namespaces/{n}/deployments/api" for n in ("shop", "other")]
    >>> [granted(roles, "GET", path) for path in paths], granted(roles, "PATCH", paths[0])
    ([True, False], False)
    """
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = "/".join((rest[0], *rest[2:3]))
    verb = VERBS.get(method) or ("get" if len(rest) > 1 else "list")
    return any(
        group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
        for role in roles
        if role["metadata"].get("namespace", namespace) == namespace
        for rule in role["rules"]
    )


class Lab(NamedTuple):
    """A namespace of its own in a cluster, and the world that actions act through."""

    cluster: Cluster
    world: World
    proxy: Proxy
    namespace: str
    fake: FakeKube | None
    kubeconfig: str

    @property
    def alert(self) -> Alert:
        """An alert whose labels name the namespace."""
        return Alert((("alertname", "X"), ("deployment", "api"), ("namespace", self.namespace)), {})

    def path(self, kind: str, name: str = "") -> str:
        found = KINDS[kind]
        return found.ref(self.namespace if found.namespaced else "", name).path

    async def create(self, kind: str, name: str, spec: Any, **more: Any) -> Any:
        """Make an object as an installer would, long enough ago not to count as a change by hand."""
        found = KINDS[kind]
        body = {
            "apiVersion": f"{found.group}/{found.version}".lstrip("/"),
            "kind": kind,
            "metadata": {"name": name, **more.pop("metadata", {})},
            **({"spec": spec} if spec is not None else {}),
            **more,
        }
        return await self.cluster.ask("POST", self.path(kind), {}, body)

    async def deployment(self, name: str = "api", replicas: int = 3, **template: str) -> Any:
        """A Deployment whose pods are ready."""
        labels = {"app": name}
        meta = {"labels": labels, "annotations": {"test/image": "1", **template}}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": meta, "spec": {"containers": [{"name": "main", "image": "shop:1"}]}},
        }
        made = await self.create("Deployment", name, spec)
        if not template:
            await self.until(lambda: self.ready(name, replicas))
        return made

    async def ready(self, name: str, replicas: int) -> bool:
        found = await self.get("Deployment", name)
        seen = int(found.get("status", {}).get("observedGeneration", found["metadata"]["generation"]))
        pods = await self.pods(name)
        current = seen >= found["metadata"]["generation"]
        return current and found.get("status", {}).get("readyReplicas", 0) == replicas == len(pods)

    async def pods(self, name: str = "api") -> list[Any]:
        found = await self.cluster.list(KINDS["Pod"].ref(self.namespace, ""), labels=f"app={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def get(self, kind: str, name: str) -> Any:
        return await self.cluster.ask("GET", self.path(kind, name))

    async def edit(self, kind: str, name: str, body: Any, manager: str = "somebody") -> Any:
        """What somebody else does to an object."""
        how = "application/merge-patch+json"
        return await self.cluster.ask("PATCH", self.path(kind, name), {"fieldManager": manager}, body, how)

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Until it is true; controllers take a while."""
        ends = time.monotonic() + WAIT
        while not (value := await condition()):
            assert time.monotonic() < ends, "it did not happen in time"
            await asyncio.sleep(0.1)
        return value

    async def plan(self, action: Any) -> tuple[Plan, Job]:
        plan = await action.plan(self.alert, self.world)
        self.proxy.writes.clear()
        return plan, Job("c0ffee", self.alert, plan.saved)

    async def do(self, action: Any) -> tuple[Job, Outcome]:
        """Plan and apply."""
        _, job = await self.plan(action)
        return job, await action.apply(job, self.world)


class NoHttp:
    """These tests call nothing else."""

    async def call(self, method: str, url: str, headers: Any, body: str | None) -> int:
        raise Unavailable("nothing is called")


@asynccontextmanager
async def lab(folder: Path, stopped: Callable[[], bool] = lambda: False) -> AsyncIterator[Lab]:
    """A fresh namespace in the real cluster where one is given, else in a fake."""
    async with AsyncExitStack() as stack:
        fake = None if REAL else FakeKube()
        if fake is not None:
            upstream, session = await stack.enter_async_context(serving(fake.app)), aiohttp.ClientSession()
        else:
            upstream, session = await _real()
        await stack.enter_async_context(session)
        proxy = Proxy(upstream, session)
        url = await stack.enter_async_context(serving(proxy.app))
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(url)))
        cluster = Cluster(KubernetesConfig(kubeconfig=str(path), timeout=Duration(5)))
        stack.push_async_callback(cluster.close)
        world = World(NoHttp(), cluster, None, stopped, pause=0.05, patience=3.0)
        made = Lab(cluster, world, proxy, f"shop-{uuid.uuid4().hex[:6]}", fake, str(path))
        if not fake:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}}
            await cluster.ask("POST", "/api/v1/namespaces", {}, body)
        yield made
        if not fake:
            await _clean(made)


def configured(*actions: dict[str, Any]) -> Config:
    """A config with a remedy for each of these actions."""
    remedies = [
        {"name": f"p{i}", "match": ["a=b"], "action": action, "verify": {"query": "up"}}
        for i, action in enumerate(actions)
    ]
    return parse(yaml.safe_dump({"kubernetes": {}, "remedies": remedies}))


@asynccontextmanager
async def limited(lab: Lab, folder: Path, rights: Sequence[Right]) -> AsyncIterator[World]:
    """The world of a service account with the manifests of `promantis check --rbac` for these rights.

    A real cluster stores the roles and decides by them, for the account that is impersonated; before the fake it is
    the proxy that does.
    """
    found = [*manifests(rights, "promantis-test")]
    rules = [one for one in found if "rules" in one]
    account = next(one["metadata"] for one in found if one["kind"] == "ServiceAccount")
    proxy = Proxy(lab.proxy.upstream, lab.proxy.session)
    made = []
    if REAL:
        who = f"system:serviceaccount:{account['namespace']}:{account['name']}"
        proxy.headers = {"Impersonate-User": who}
        for one in found:
            if one["kind"] == "ServiceAccount":
                continue
            name = one["metadata"]["name"] = f"promantis-{lab.namespace}"
            if "roleRef" in one:
                one["roleRef"]["name"] = name
            space = one["metadata"].get("namespace")
            where = f"/namespaces/{space}" if space else ""
            path = f"/apis/rbac.authorization.k8s.io/v1{where}/{one['kind'].lower()}s"
            await lab.cluster.ask("POST", path, {}, one)
            made.append(f"{path}/{name}")
    else:
        proxy.rules = rules
    async with serving(proxy.app) as url:
        path = folder / "limited.kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(url)))
        cluster = Cluster(KubernetesConfig(kubeconfig=str(path), timeout=Duration(5)))
        yield lab.world._replace(kubernetes=cluster)
        await cluster.close()
    for one in made:
        await lab.cluster.ask("DELETE", one)


async def _clean(lab: Lab) -> None:
    """Nodes open again, and nothing of the namespace left to run."""
    lab.proxy.down = False
    lab.proxy.faults.clear()
    for node in await lab.cluster.list(KINDS["Node"].ref("", "")):
        if node["spec"].get("unschedulable"):
            await lab.edit("Node", node["metadata"]["name"], {"spec": {"unschedulable": None}})
    for kind in ("Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"):
        for one in await lab.cluster.list(KINDS[kind].ref(lab.namespace, "")):
            try:
                await lab.cluster.ask("DELETE", lab.path(kind, one["metadata"]["name"]))
            except Rejected:
                continue


async def _real() -> tuple[str, aiohttp.ClientSession]:
    import ssl

    from kubernetes.aio import config
    from kubernetes.aio.client.configuration import Configuration

    made = Configuration()
    await config.load_kube_config(REAL, client_configuration=made, persist_config=False)
    context = ssl.create_default_context(cafile=made.ssl_ca_cert)
    if made.cert_file:
        context.load_cert_chain(made.cert_file, made.key_file)
    token = await made.get_api_key_with_prefix("BearerToken")
    headers = {"Authorization": token} if token else {}
    return made.host, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), headers=headers)


def _kubeconfig(url: str) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "main", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "0123456789abcdef"}}],
        "contexts": [{"name": "main", "context": {"cluster": "main", "user": "me"}}],
    }
