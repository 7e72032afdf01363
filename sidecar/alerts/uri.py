"""Whether Alertmanager takes a generatorURL: the rules of Go's url.ParseRequestURI.

One bad generatorURL makes Alertmanager refuse the whole batch, so it has to be known before.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_USER = re.compile(r"(?:[\w.~:!$&'()*+,;=%@-])*", re.ASCII)
_HOST = re.compile(r"""(?:[^\x00-\x7f]|[\w.~!$&'()*+,;=:<>"\[\]-]|%[89a-fA-F][0-9a-fA-F]|%25)*""", re.ASCII)
_PORT = re.compile(r"(?::\d*)?", re.ASCII)


@lru_cache(maxsize=4096)  # one for each rule, in each of its alerts
def is_request_uri(text: str) -> bool:
    """Whether it is an absolute URL, a path from the root, or `*`.

    >>> is_request_uri("http://prom:9090/graph?g0.expr=up"), is_request_uri("graph"), is_request_uri("/a%zz")
    (True, False, False)
    >>> is_request_uri("//host:port/path"), is_request_uri("http://host:port/path")
    (True, False)
    """
    if text == "*":
        return True
    if re.search(r"[\x00-\x1f\x7f]", text):
        return False
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    rest = rest.partition("?")[0]
    if not rest.startswith("/"):
        return scheme is not None
    if scheme and rest.startswith("//"):  # without a scheme it is a path, whatever it looks like
        authority, slash, path = rest[2:].partition("/")
        user, at, host = authority.rpartition("@")
        if at and not (_USER.fullmatch(user) and not _BAD_ESCAPE.search(user)):
            return False
        if not _is_host(host):
            return False
        rest = slash + path
    return not _BAD_ESCAPE.search(rest)


def _is_host(host: str) -> bool:
    if host.startswith("["):
        inner, bracket, port = host.rpartition("]")
        return bool(bracket) and bool(_PORT.fullmatch(port)) and bool(_HOST.fullmatch(inner))
    name, colon, port = host.rpartition(":")
    if colon and not _PORT.fullmatch(colon + port):
        return False
    return bool(_HOST.fullmatch(name if colon else host))
