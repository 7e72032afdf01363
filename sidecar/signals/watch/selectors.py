"""Series selectors such as `{service="shop",code!~"2.."}`, as tests on labels; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import promql_parser as pq

_PLAIN = re.compile(r"[\w./:@ -]+", re.ASCII)
_OPS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


class Matcher(NamedTuple):
    """One condition on one label."""

    name: str
    op: str
    """`=`, `!=`, `=~` or `!~`."""
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the label fits; an expression must match the whole value."""
        found = labels.get(self.name, "")
        same = re.fullmatch(self.value, found) is not None if "~" in self.op else found == self.value
        return same == (self.op[0] == "=")

    @property
    def part(self) -> bytes | None:
        """Bytes that are in a label object just if it fits: where JSON has one way to write the value."""
        if self.op != "=" or not _PLAIN.fullmatch(self.value):
            return None
        return msgspec.json.encode(self.name) + b":" + msgspec.json.encode(self.value)


def parse(text: str) -> tuple[Matcher, ...]:
    """Read a selector; ValueError says what is wrong.

    >>> parse('{service="shop",code!~"2.."}')
    (Matcher(name='code', op='!~', value='2..'), Matcher(name='service', op='=', value='shop'))
    """
    parsed = _parsed(text)
    if parsed.matchers.or_matchers:
        raise ValueError('not a selector (write {service="shop"})')
    found = _matchers(parsed.matchers.matchers)
    if parsed.name or any(matcher.name == "__name__" for matcher in found):
        raise ValueError('names of metrics are not known of every series (write {watch="..."})')
    return found


def ways(text: str) -> tuple[tuple[Matcher, ...], ...]:
    """The same for what has been accepted elsewhere: all alternatives of `or`, without the metric's name.

    >>> ways("{}"), ways('up{job="a" or job="b"}')
    (((),), ((Matcher(name='job', op='=', value='a'),), (Matcher(name='job', op='=', value='b'),)))
    """
    if text.strip() in ("", "{}"):
        return ((),)
    matchers = _parsed(text).matchers
    found = (_matchers(way) for way in matchers.or_matchers or [matchers.matchers])
    return tuple(tuple(matcher for matcher in way if matcher.name != "__name__") for way in found)


def valid(matcher: Matcher) -> bool:
    """Whether an expression is one in Python's reading, which is not quite that of Prometheus."""
    try:
        re.compile(matcher.value if "~" in matcher.op else "")
    except re.error:
        return False
    return True


def _parsed(text: str) -> pq.VectorSelector:
    try:
        parsed = pq.parse(text)
    except ValueError as error:
        raise ValueError(f"not a selector: {error}") from None
    if not isinstance(parsed, pq.VectorSelector) or parsed.offset or parsed.at:
        raise ValueError('not a selector (write {service="shop"})')
    return parsed


def _matchers(found: Iterable[pq.Matcher]) -> tuple[Matcher, ...]:
    out = tuple(sorted(Matcher(m.name, _OPS[str(m.op)], m.value) for m in found))
    for matcher in out:
        if not valid(matcher):
            raise ValueError(f"not a regular expression: {matcher.value!r}")
    return out
