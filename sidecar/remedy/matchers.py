"""Alertmanager's matchers over an alert's labels, in both of its notations."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from sidecar.types import Labels

_MATCHER = re.compile(
    r"""\s*(?P<name>"(?:\\.|[^"\\])*"|[^\s{}!=~,\\"'`]+)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*""",
    re.DOTALL,
)
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_CLASSIC = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Matcher(NamedTuple):
    """One condition on one label; a label that is not there has the empty value."""

    name: str
    negative: bool
    equal: str
    regex: re.Pattern[str] | None

    def matches(self, labels: Labels) -> bool:
        """Whether the labels fit."""
        value = dict(labels).get(self.name, "")
        fits = self.regex.fullmatch(value) is not None if self.regex else value == self.equal
        return fits != self.negative


def parse(text: str) -> Matcher:
    """Read one matcher; ValueError says what is wrong.

    >>> parse('severity=~"page|warning"').matches((("severity", "page"),))
    True
    >>> parse("job!=shop").matches((("job", "shop"),))
    False
    """
    match = _MATCHER.fullmatch(text)
    if match is None:
        raise ValueError(f'not a matcher: {text!r} (write name="value" with =, !=, =~ or !~)')
    name, op, value = _unquote(match["name"]), match["op"], _unquote(match["value"])
    if not name:
        raise ValueError(f"not a matcher: {text!r} has no label name")
    try:
        regex = re.compile(value) if "~" in op else None
    except re.error as error:
        raise ValueError(f"not a regular expression: {value!r}: {error}") from None
    return Matcher(name, op[0] == "!", value, regex)


def _unquote(text: str) -> str:
    """Go's quoting where it is valid, else the classic one, which keeps unknown escapes such as ``\\d``."""
    if '"' not in text and not text.startswith(("'", "`")):
        return text
    if not _QUOTED.fullmatch(text):
        raise ValueError(f"not a matcher: the quotes of {text} do not close")
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return re.sub(r"\\.", lambda m: _CLASSIC.get(m[0], m[0]), text[1:-1], flags=re.DOTALL)
