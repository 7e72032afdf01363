"""What is known about patterns of failure: how one is recognised, what to do now, and what keeps it from coming back.

Entries are YAML (`sidecar/alerts/knowledge.yml`); those of the user's own file come first. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sidecar.types import CHANGES, HARM, Section

_PART = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"')
PARTS = ("cause", "metric", "alert")
"""What sentences may hold as `{{ cause }}`: its service or machine, its metric, the service of the alert."""


class When(Section, frozen=True, kw_only=True):
    """How a pattern is recognised; all that is given must hold."""

    kind: tuple[str, ...] = ()
    """The leading evidence is of one of these kinds."""
    metric: str = ""
    """The query of its series, without the values of its labels, has a part that fits this regular expression."""
    cause: str = ""
    """The name of the cause fits from its beginning."""
    changed: bool | str | None = None
    """Whether it was deployed within the last hour; or which of CHANGES happened to it then."""
    elsewhere: bool | None = None
    """Whether the cause is another service than the one that alerts."""
    also: tuple[str, ...] = ()
    """There is evidence of these kinds too."""
    fell: bool | None = None
    """Whether it is below its usual."""


class Pattern(Section, frozen=True, kw_only=True):
    """One entry."""

    pattern: str
    when: When
    says: str
    """What is wrong, as the end of a sentence that begins with the cause."""
    now: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Expressions, kinds, and what the sentences hold."""
        for key, text in (("when.metric", self.when.metric), ("when.cause", self.when.cause)):
            try:
                re.compile(text)
            except re.error as error:
                yield key, f"not a regular expression: {error}"
        if isinstance(self.when.changed, str) and self.when.changed not in CHANGES:
            yield "when.changed", f"{self.when.changed!r} is not one of {', '.join(CHANGES)}"
        for key, kinds in (("when.kind", self.when.kind), ("when.also", self.when.also)):
            for i, kind in enumerate(kinds):
                if kind not in HARM:
                    yield f"{key}[{i}]", f"{kind!r} is not one of {', '.join(HARM)}"
        sentences = [("says", self.says)]
        for name, texts in (("now", self.now), ("later", self.later)):
            sentences += [(f"{name}[{i}]", text) for i, text in enumerate(texts)]
        for key, text in sentences:
            for part in _PART.findall(text):
                if part not in PARTS:
                    yield key, f"{{{{ {part} }}}} is not one of {', '.join(PARTS)}"


class Seen(NamedTuple):
    """What a diagnosis saw of the likeliest cause."""

    kind: str
    metric: str
    """In words."""
    query: str
    cause: str
    changes: frozenset[str]
    """Of CHANGES."""
    elsewhere: bool
    also: frozenset[str]
    fell: bool = False


def recognised(patterns: Sequence[Pattern], seen: Seen) -> Pattern | None:
    """The first pattern that fits."""
    return next((one for one in patterns if _fits(one.when, seen)), None)


def _fits(when: When, seen: Seen) -> bool:
    return (
        (not when.kind or seen.kind in when.kind)
        and (not when.metric or re.search(when.metric, _VALUE.sub('""', seen.query), re.I) is not None)
        and (not when.cause or re.match(when.cause, seen.cause) is not None)
        and _changed(when.changed, seen.changes)
        and when.elsewhere in (None, seen.elsewhere)
        and set(when.also) <= seen.also
        and when.fell in (None, seen.fell)
    )


def _changed(wanted: bool | str | None, found: frozenset[str]) -> bool:
    if isinstance(wanted, str):
        return wanted in found
    return wanted in (None, "deployed" in found)


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A sentence with its parts.

    >>> filled("restart {{ cause }}", {"cause": "shop"})
    'restart shop'
    """
    return _PART.sub(lambda match: parts.get(match[1], match[0]), text)
