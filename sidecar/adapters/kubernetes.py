"""Talks to one cluster through the official client, which is imported only when a cluster is configured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from sidecar.remedy.actions.objects import MANAGER, known
from sidecar.remedy.actions.words import Ref, Right, TooMany
from sidecar.types import ConfigError, Duration, JsonObject, Rejected, Section, Unavailable

if TYPE_CHECKING:
    from kubernetes.aio.client.api_client import ApiClient

log = logging.getLogger(__name__)
_PATCH = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PAGE = 500
"""Objects of a list that are asked for at once."""


class LeaseConfig(Section, frozen=True, kw_only=True):
    """The Lease that elects the one that acts."""

    name: str = "promantis"
    """With a `lease`, of several replicas that share `storage.path` one acts at a time; all of them score, and
    take and enrich alerts."""
    namespace: str | None = None
    """Default: that of the pod."""
    duration: Duration = Duration(15)
    """How long after its holder fell silent another may take over."""
    peers: str | None = None
    """Where a replica listens, `http://{{ holder }}.promantis-replicas:9909`: who stands by passes on what only the
    leader knows (pages, cases, webhooks, feedback), and is ready; without it, unready."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.duration < 3:
            yield "duration", "must be at least 3s"
        if self.peers is not None and not self.peers.startswith(("http://", "https://")):
            yield "peers", f"{self.peers!r} is not a url such as http://{{{{ holder }}}}.promantis:9909"


class KubernetesConfig(Section, frozen=True, kw_only=True):
    """Which cluster; without a kubeconfig the one that Promantis runs in."""

    kubeconfig: str | None = None
    """File with the cluster and the credentials; `kubernetes: {}` is the cluster that Promantis runs in."""
    context: str | None = None
    """A context of it."""
    timeout: Duration = Duration(10)
    """For one request."""
    lease: LeaseConfig | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.timeout <= 0:
            yield "timeout", "must be longer than 0s"
        for place, words in self.lease.problems() if self.lease else ():
            yield f"lease.{place}", words


def own_namespace() -> str:
    """The namespace of this pod; empty outside of a cluster."""
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class Cluster:
    """One API server. Rejected: it said no; Unavailable: nobody knows whether it was done. `close()` ends it."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._client: ApiClient | None = None
        self._opening = asyncio.Lock()

    async def get(self, ref: Ref) -> JsonObject:
        """One object."""
        return await self.ask("GET", ref.path)

    async def list(self, ref: Ref, *, labels: str = "", fields: str = "") -> Sequence[JsonObject]:
        """All that fit the selectors, page by page."""
        found: list[JsonObject] = []
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            answer = await self.ask("GET", ref.path, query)
            found += answer["items"]
            query["continue"] = answer.get("metadata", {}).get("continue") or ""
            if not query["continue"]:
                return found

    async def patch(self, ref: Ref, body: Any, how: str = "merge", *, dry_run: bool = False) -> JsonObject:
        """Patch it (merge, strategic or json); as it is then. Unknown fields are errors."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "dryRun": "All" if dry_run else ""}
        return await self.ask("PATCH", ref.path, query, body, _PATCH[how])

    async def delete(self, ref: Ref, uid: str, *, dry_run: bool = False) -> None:
        """Delete exactly the object with this uid."""
        body: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        body |= {"dryRun": ["All"]} if dry_run else {}
        await self.ask("DELETE", ref.path, {}, body)

    async def evict(self, ref: Ref, uid: str, *, dry_run: bool = False) -> None:
        """Evict exactly the pod with this uid; TooMany while a budget forbids it."""
        options: JsonObject = {"preconditions": {"uid": uid}} | ({"dryRun": ["All"]} if dry_run else {})
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "deleteOptions": options,
        }
        query = {"dryRun": "All" if dry_run else ""}
        await self.ask("POST", ref._replace(sub="eviction").path, query, body)

    async def event(self, ref: Ref, obj: JsonObject, reason: str, words: str) -> None:
        """Leave an Event on the object; a log line when that fails, never more."""
        kind = known(ref)
        about = {
            "apiVersion": f"{ref.group}/{ref.version}".lstrip("/"),
            "kind": kind.word if kind else obj.get("kind", ref.plural),
            "name": ref.name,
            "namespace": ref.namespace or None,
            "uid": obj["metadata"].get("uid"),
        }
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = ref.namespace or "default"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{ref.name[:200]}.promantis-", "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": words[:1000],
            "type": "Normal",
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self.ask("POST", Ref("", "v1", "events", namespace, "").path, {}, body)
        except (Rejected, Unavailable) as error:
            log.warning("no Event was left object=%s reason=%s", ref, error)

    async def allowed(self, right: Right, verb: str) -> bool:
        """Whether we may: a SelfSubjectAccessReview."""
        resource, _, sub = right.resource.partition("/")
        attributes = {
            "verb": verb,
            "group": right.group,
            "resource": resource,
            "subresource": sub or None,
            "namespace": right.namespace or None,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((await self.ask("POST", path, {}, body))["status"].get("allowed"))

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> JsonObject:
        """One request, sent once; the JSON answer."""
        client = await self._open()
        headers = {"Accept": "application/json", "Content-Type": content}
        asked = [(name, value) for name, value in (query or {}).items() if value]
        request = await client.param_serialize(
            method,
            path,
            query_params=asked,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            return await self._sent(client, request)
        except aiohttp.ClientError:
            if method != "GET":  # a kept connection may be dead; only reading is asked twice
                raise Unavailable("the cluster hung up before it answered") from None
        try:
            return await self._sent(client, request)
        except aiohttp.ClientError as error:
            raise Unavailable(f"the cluster cannot be asked: {error or type(error).__name__}") from None

    async def _sent(self, client: ApiClient, request: Any) -> JsonObject:
        try:
            method, url, headers, body, form = request
            seconds = float(self._config.timeout)
            answer = await client.call_api(method, url, headers, body, form, _request_timeout=seconds)
            data = await answer.read()
        except TimeoutError:
            raise Unavailable(f"the cluster did not answer within {self._config.timeout}") from None
        return _decoded(int(answer.status), data or b"", answer.headers or {})

    async def close(self) -> None:
        """End the session."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _open(self) -> ApiClient:
        async with self._opening:
            if self._client is None:
                self._client = await _client(self._config)
            return self._client


async def _client(config: KubernetesConfig) -> ApiClient:
    """A client with the credentials of the kubeconfig, or of this pod; ConfigError when there are none."""
    try:
        from kubernetes.aio import config as kubeconfig
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration
    except ImportError:
        words = "needs the client for Kubernetes: pip install 'promantis[kubernetes]'"
        raise ConfigError("kubernetes", words) from None
    made = Configuration()
    try:
        if config.kubeconfig is None:
            kubeconfig.load_incluster_config(client_configuration=made)
        else:
            await kubeconfig.load_kube_config(
                config.kubeconfig, config.context, client_configuration=made, persist_config=False
            )
    except (kubeconfig.ConfigException, OSError) as error:
        raise ConfigError("kubernetes", f"no cluster to talk to: {error}") from None
    client = ApiClient(configuration=made)
    # Else aiohttp sends DELETE again when the server hangs up, and we would not know that it did.
    session = client.rest_client.pool_manager = client.rest_client._create_pool_manager()
    session._retry_connection = False
    return client


def _decoded(status: int, data: bytes, headers: Mapping[str, str]) -> JsonObject:
    try:
        answer: JsonObject = msgspec.json.decode(data, type=dict[str, Any]) if data else {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = {"message": data[:200].decode("utf-8", "replace")}
        if status < 400:
            raise Unavailable("the cluster answered what is not JSON") from None
    if status < 400:
        return answer
    words = f"the cluster answered {status}: {answer.get('message', '')}".rstrip(": ")
    if status == 429:
        after = headers.get("Retry-After") or (answer.get("details") or {}).get("retryAfterSeconds") or 0
        raise TooMany(words, float(after) if str(after).isdecimal() else 0.0)
    if status >= 500:
        raise Unavailable(words)
    raise Rejected(words, status)
