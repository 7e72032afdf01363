"""Edits of fields: planned by a dry run, applied once by the object's version, taken back if still as we left it.

A patch carries the resourceVersion of what was read, so a request that was lost can be sent again: of two
copies one at most can be taken. So a conflict, a limit and an outage are waited out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sidecar.remedy.actions.objects import around, word
from sidecar.remedy.actions.words import Around, Job, Kubernetes, Outcome, Plan, Ref, TooMany, World
from sidecar.remedy.templates import Unfit
from sidecar.types import JsonObject, Rejected, Unavailable

LINES = 60
"""Lines of a diff that are shown."""
SECRET = re.compile(r"passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_REFERENCE = re.compile(
    r"\.(secretKeyRef|secretRef|secret|imagePullSecrets)\b|\.name$|secretName$", re.IGNORECASE
)
"""Places that name a secret and do not hold it."""
SERVERS = ("resourceVersion", "generation", "managedFields", "uid", "creationTimestamp")
"""What of metadata is the server's own."""


class Edit(NamedTuple):
    """A field before and after; None is a field that is not there."""

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def back(self) -> Edit:
        """The same, taken back."""
        return Edit(self.path, self.after, self.before)


class Change(NamedTuple):
    """The edits of one object."""

    ref: Ref
    uid: str
    edits: tuple[Edit, ...]


def field(obj: Any, path: Sequence[str]) -> Any:
    """The value there, None when there is none.

    >>> field({"spec": {"replicas": 3}}, ("spec", "replicas")), field({"spec": None}, ("spec", "replicas"))
    (3, None)
    """
    for key in path:
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj


def merge(edits: Sequence[Edit]) -> JsonObject:
    """A JSON merge patch that makes the edits.

    >>> merge([Edit(("a", "b"), {"x": 1, "y": 2}, {"x": 1, "z": 3}), Edit(("a", "c"), 1, None)])
    {'a': {'b': {'z': 3, 'y': None}, 'c': None}}
    """
    body: JsonObject = {}
    for edit in edits:
        place = body
        for key in edit.path[:-1]:
            place = place.setdefault(key, {})
        place[edit.path[-1]] = _difference(edit.before, edit.after)
    return body


def _difference(before: Any, after: Any) -> Any:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return after
    changed = {k: _difference(before.get(k), v) for k, v in after.items() if before.get(k) != v}
    return changed | {k: None for k in before if k not in after}


def diff(edits: Sequence[Edit]) -> tuple[str, ...]:
    """What changes, a line each; values that are called like secrets are not shown."""
    lines = [line for edit in edits for line in _lines(".".join(edit.path), edit.before, edit.after)]
    more = [f"... and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return (*lines[:LINES], *more)


def _lines(path: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    inside: list[str] = []
    if _named(before) and _named(after):
        old, new = ({one["name"]: one for one in side} for side in (before, after))
        inside = [line for n in {**old, **new} for line in _lines(f"{path}[{n}]", old.get(n), new.get(n))]
    elif all(side is None or isinstance(side, Mapping) for side in (before, after)):
        old, new = before or {}, after or {}
        inside = [line for n in {**old, **new} for line in _lines(f"{path}.{n}", old.get(n), new.get(n))]
    yield from inside or [f"{path}: {_value(path, before)} -> {_value(path, after)}"]


def secrets(path: str, value: Any) -> Iterator[str]:
    """Places of text below a name that secrets have."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from secrets(f"{path}.{key}", one)
    elif isinstance(value, list):
        for i, one in enumerate(value):
            name = one.get("name", i) if isinstance(one, Mapping) else i
            yield from secrets(f"{path}[{name}]", one)
    elif isinstance(value, str) and value and SECRET.search(path) and not _REFERENCE.search(path):
        yield path


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) and "name" in one for one in value)


def _value(path: str, value: Any) -> str:
    if value is None:
        return "nothing"
    text = "***" if SECRET.search(path) else str(value).replace("\n", "\\n")
    return text if len(text) <= 100 else text[:97] + "..."


# --------------------------------------------------------------------------- plan


async def dry_run(
    cluster: Kubernetes, obj: JsonObject, ref: Ref, edits: Sequence[Edit], *, kept: bool = True
) -> Change:
    """The change as the server would make it; Unfit when nothing would change, Rejected when it says no.

    `kept`: the values will stand in the journal, so nothing in them may look like a secret.
    """
    for edit in edits if kept else ():
        for value in (edit.before, edit.after):
            if place := next(secrets(".".join(edit.path), value), None):
                raise Unfit(f"{place} of {word(ref)} looks like a secret, and the journal keeps none")
    real = [edit for edit in edits if edit.before != edit.after]
    if not real:
        raise Unfit(f"{word(ref)} is like that already")
    after = await cluster.patch(ref, merge(real), dry_run=True)  # of whatever version: its status never rests
    made = tuple(Edit(e.path, e.before, field(after, e.path)) for e in real)
    if unmade := [".".join(e.path) for e in made if e.before == e.after]:
        raise Unfit(f"the cluster would not change {', '.join(unmade)} of {word(ref)}")
    return Change(ref, obj["metadata"]["uid"], made)


def versioned(body: JsonObject, obj: JsonObject) -> JsonObject:
    """The patch, for exactly this version of the object."""
    version = {"resourceVersion": obj["metadata"]["resourceVersion"]}
    return {**body, "metadata": {**body.get("metadata", {}), **version}}


def plan(target: str, words: str, changes: Sequence[Change], around: Around, no_undo: str = "") -> Plan:
    """The plan of some changes, the first of which is on the target."""
    about = changes[0].ref
    back = "puts back " + ", ".join(f"{'.'.join(e.path)} of {word(c.ref)}" for c in changes for e in c.edits)
    return Plan(
        target=target,
        object=word(about),
        namespace=about.namespace,
        do={"words": words},
        undo=None if no_undo else {"words": back},
        no_undo=no_undo,
        diff=tuple(line for change in changes for line in diff(change.edits)),
        saved={"changes": [[*c] for c in changes]},
        around=around,
    )


def simple(target: str, words: str, change: Change, obj: JsonObject) -> Plan:
    """The plan of one change whose surroundings the object itself tells."""
    return plan(target, words, [change], around(obj, change.ref))


def changes_of(saved: JsonObject) -> list[Change]:
    """The changes that a plan saved, also after the journal's JSON."""
    return [
        Change(Ref(*ref), uid, tuple(Edit(tuple(path), before, after) for path, before, after in edits))
        for ref, uid, edits in saved["changes"]
    ]


# --------------------------------------------------------------------------- do


async def apply(job: Job, world: World, reason: str) -> Outcome:
    """Make the changes in order; what cannot be finished is put back."""
    changes = changes_of(job.saved)
    for i, change in enumerate(changes):
        outcome = await make(change, world, reason, job.case)
        if outcome.state != "done":
            if i and outcome.state == "failed":
                back = await put_back(changes[:i], world, job.case)
                outcome = Outcome(
                    "failed" if back.state == "done" else "unclear", f"{outcome.words}; {back.words}"
                )
            return outcome
    return Outcome("done", "; ".join(line for c in changes for line in diff(c.edits)[:3]))


async def take_back(job: Job, world: World) -> Outcome:
    """Put all fields back that are still as we left them."""
    return await put_back(changes_of(job.saved), world, job.case)


async def put_back(changes: Sequence[Change], world: World, case: str) -> Outcome:
    """The last change first; the first that cannot be put back ends it."""
    for change in reversed(changes):
        back = Change(change.ref, change.uid, tuple(edit.back for edit in change.edits))
        outcome = await make(back, world, "RemedyUndone", case)
        if outcome.state != "done":
            return Outcome(outcome.state, f"not put back: {outcome.words}")
    return Outcome("done", "put back as it was")


async def look(job: Job, world: World, undo: bool) -> Outcome:
    """Whether every field is as it should be by now; what was done by halves is put back."""
    changes, there = changes_of(job.saved), []
    for change in changes:
        try:
            obj = await world.cluster.get(change.ref)
        except Rejected as error:
            return Outcome("failed" if error.status == 404 and len(changes) == 1 else "unclear", str(error))
        edits = [edit.back for edit in change.edits] if undo else change.edits
        there.append(all(field(obj, edit.path) == edit.after for edit in edits))
    if all(there):
        return Outcome("done", "found done")
    if any(there) and not undo:
        half = [change for change, done in zip(changes, there, strict=True) if done]
        back = await put_back(half, world, job.case)
        state: Literal["failed", "unclear"] = "failed" if back.state == "done" else "unclear"
        return Outcome(state, f"it was interrupted half-way; {back.words}")
    first = word(changes[there.index(False)].ref)
    return Outcome("failed", f"{first} is not as it should be: it was not done, or changed since")


async def make(change: Change, world: World, reason: str, case: str) -> Outcome:
    """Bring the fields of one object from before to after, once, or say why not."""
    about = word(change.ref)
    refused, lost = 0, False

    async def attempt() -> Outcome | None:
        nonlocal refused, lost
        obj = await world.cluster.get(change.ref)
        if obj["metadata"]["uid"] != change.uid:
            return Outcome("failed", f"{about} is another object than that of the plan")
        if all(field(obj, e.path) == e.after for e in change.edits):
            return Outcome("done", f"{about} is as it should be")
        if not all(field(obj, e.path) in (e.before, e.after) for e in change.edits):
            return Outcome("failed", f"{about} was changed by somebody else since")
        try:
            after = await world.cluster.patch(change.ref, versioned(merge(change.edits), obj))
        except Rejected as error:
            if error.status == 409 and refused < 20:
                refused += 1
                return None
            raise
        except Unavailable:
            lost = True
            raise
        words = f"case {case}: {'; '.join(diff(change.edits)[:3])}"
        await world.cluster.event(change.ref, after, reason, words)
        return Outcome("done", words)

    return await persist(attempt, world, about, lambda: lost)


async def persist(
    attempt: Callable[[], Awaitable[Outcome | None]],
    world: World,
    about: str,
    lost: Callable[[], bool],
    patience: float | None = None,
) -> Outcome:
    """Repeat an attempt that may be repeated (None: again) through limits and outages, within patience.

    `lost`: a request was sent whose answer never came, so that what is given up may have been done.
    """
    ends = time.monotonic() + (world.patience if patience is None else patience)
    last = f"{about} is busy"

    def over(words: str) -> Outcome:
        return Outcome("unclear" if lost() else "failed", words)

    while True:
        if world.stopped():
            return over(f"stopped before {about} was changed")
        wait = world.pause
        try:
            outcome = await attempt()
            if outcome is not None:
                return outcome
            wait = 0.0
        except TooMany as error:
            last, wait = str(error), max(error.after, world.pause)
        except Rejected as error:
            return Outcome("failed", str(error))
        except Unavailable as error:
            last = str(error)
        if time.monotonic() + wait > ends:
            return over(f"gave up: {last}")
        await asyncio.sleep(wait)
