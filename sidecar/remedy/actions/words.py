"""What every action speaks of: the plan, what it saw around its target, the outcome, and the ports it acts through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from sidecar.remedy.templates import Unfit
from sidecar.types import Alert, Instant, JsonObject, Rejected

UNFORESEEN = (LookupError, TypeError, ValueError, AttributeError)
"""What an action raises on an object of a shape that nobody foresaw."""
SHAPELESS = "the target is not of the shape that was expected; the log has the details"


class Ref(NamedTuple):
    """One object of Kubernetes, or with an empty name all of them; `sub` is a subresource such as scale."""

    group: str
    version: str
    plural: str
    namespace: str
    name: str
    sub: str = ""

    @property
    def path(self) -> str:
        """Its place in the API."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        space = f"/namespaces/{self.namespace}" if self.namespace else ""
        return root + space + "".join(f"/{part}" for part in (self.plural, self.name, self.sub) if part)

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.plural}{'.' + self.group if '.' in self.group else ''} {where}"


class Right(NamedTuple):
    """What an action needs to be allowed; an empty namespace means all of them, or none where there is none."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    namespace: str = ""


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan saw around its target: the guard decides about it, the hash does not hold it."""

    protected: str = ""
    """Why it must not be touched, in words."""
    changed_at: Instant | None = None
    """When somebody who is not a controller changed it last, as far as is known."""
    changed_by: str = ""
    namespaces: tuple[str, ...] = ()
    """Namespaces that are touched besides the target's own."""
    group: str = ""
    """What a share is counted of: nodes, or the pods of a workload."""
    members: int = 0
    down: int = 0
    """Members, besides the target, that are not ready or taken already."""
    takes: int = 0
    """Members that the action takes away at once."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, and how it would be taken back. No secrets: it is shown and journalled."""

    target: str
    """The action and what it acts on: "at most once" counts by it."""
    object: str
    """What it acts on: cool-downs and rates count by it."""
    namespace: str = ""
    do: JsonObject
    undo: JsonObject | None
    no_undo: str = ""
    """Why it cannot be taken back."""
    diff: tuple[str, ...] = ()
    """What the dry run would change, a line each."""
    saved: JsonObject = {}
    """The state before, and all that is needed to act, undo and look."""
    around: Around = Around()

    def shown(self) -> JsonObject:
        """For eyes and journal."""
        return {
            "do": self.do,
            "undo": self.undo,
            "no_undo": self.no_undo,
            "diff": list(self.diff),
        }


class Outcome(NamedTuple):
    """What came of it; `unclear`: it may have been done."""

    state: Literal["done", "failed", "unclear"]
    words: str


class TooMany(Rejected):
    """429: nothing was done; ask again after `after` seconds."""

    def __init__(self, words: str, after: float) -> None:
        super().__init__(words, 429)
        self.after = after


class Http(Protocol):
    """The way out to targets."""

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> int:
        """Send one request, once; its status, or Unavailable when nobody knows whether it arrived."""
        ...


class Kubernetes(Protocol):
    """A cluster. Rejected: it said no, and nothing was done; Unavailable: nobody knows."""

    async def get(self, ref: Ref) -> JsonObject:
        """One object."""
        ...

    async def list(self, ref: Ref, *, labels: str = "", fields: str = "") -> Sequence[JsonObject]:
        """All that fit the selectors."""
        ...

    async def patch(self, ref: Ref, body: Any, how: str = "merge", *, dry_run: bool = False) -> JsonObject:
        """Patch it (merge, strategic or json); as it is then."""
        ...

    async def delete(self, ref: Ref, uid: str, *, dry_run: bool = False) -> None:
        """Delete exactly the object with this uid."""
        ...

    async def evict(self, ref: Ref, uid: str, *, dry_run: bool = False) -> None:
        """Evict exactly the pod with this uid; TooMany while a budget forbids it."""
        ...

    async def event(self, ref: Ref, obj: JsonObject, reason: str, words: str) -> None:
        """Leave an Event on the object; never fails."""
        ...


class Silences(Protocol):
    """Alertmanager's silences."""

    async def silence(self, matchers: Mapping[str, str], seconds: float, comment: str) -> str:
        """Silence exactly these labels; the id."""
        ...

    async def silenced(self, comment: str) -> str | None:
        """The id of a silence with this comment that is not over."""
        ...

    async def unsilence(self, id: str) -> None:
        """End it."""
        ...


class World(NamedTuple):
    """What actions act through. `stopped` is asked before every step of what takes long."""

    http: Http
    kubernetes: Kubernetes | None = None
    silences: Silences | None = None
    stopped: Callable[[], bool] = lambda: False
    pause: float = 2.0
    """Seconds between two looks of what waits."""
    patience: float = 120.0
    """Seconds that an outage is waited out."""

    @property
    def cluster(self) -> Kubernetes:
        """The cluster; Unfit when none is configured."""
        if self.kubernetes is None:
            raise Unfit("no cluster is configured: write `kubernetes`")
        return self.kubernetes


class Job(NamedTuple):
    """One piece of work of an action: for whom, and the plan's saved state."""

    case: str
    alert: Alert
    saved: JsonObject


def digest(*parts: object) -> str:
    """A short hash of values; whatever their order of keys."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted", enc_hook=float)).hexdigest()[:16]
