"""`{{ labels.name }}` and `{{ annotations.name }}`, nothing else: parsed at load, escaped for where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

from sidecar.types import Alert

_HOLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\s*(labels|annotations)\.([a-zA-Z_][a-zA-Z0-9_]*)\s*")


class Unfit(Exception):
    """Nothing can be planned for this alert, or on its target; the words say why."""

    reason = "target"


class Missing(Unfit):
    """The alert cannot fill the template."""

    reason = "template"


def check(text: str) -> str | None:
    """Words for what is wrong with a template, None when it is good.

    >>> check("/pool/{{ labels.job }}"), check("{{ labels.job | upper }}")
    (None, 'unknown expression {{ labels.job | upper }} (write {{ labels.name }} or {{ annotations.name }})')
    """
    for hole in _HOLE.finditer(text):
        if not _NAME.fullmatch(hole[1]):
            return f"unknown expression {hole[0]} (write {{{{ labels.name }}}} or {{{{ annotations.name }}}})"
    return "a {{ is not closed" if "{{" in _HOLE.sub("", text) else None


def render(text: str, alert: Alert, escape: Callable[[str], str]) -> str:
    """Fill the holes with escaped values; Missing when the alert has no such label or annotation."""
    values: dict[str, Mapping[str, str]] = {"labels": dict(alert.labels), "annotations": alert.annotations}

    def fill(hole: re.Match[str]) -> str:
        name = _NAME.fullmatch(hole[1])
        if name is None:
            raise Missing(f"unknown expression {hole[0]}")
        value = values[name[1]].get(name[2])
        if value is None:
            raise Missing(f"the alert has no {name[1][:-1]} {name[2]}")
        return escape(value)

    return _HOLE.sub(fill, text)


def as_url(value: str) -> str:
    """Percent-encoded, slashes too: a value never adds a path segment."""
    return quote(value, safe="")


def as_json(value: str) -> str:
    """The inside of a JSON string."""
    return json.dumps(value)[1:-1]


def as_header(value: str) -> str:
    """Unchanged, but never with what would end the header."""
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise Missing("a control character cannot stand in a header")
    return value


def without_holes(text: str, filler: str = "x") -> str:
    """The template with every hole filled, to check what surrounds them."""
    return _HOLE.sub(filler, text)
