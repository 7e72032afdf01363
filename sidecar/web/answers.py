"""The one shape of an error over HTTP: `{"error": words, "where": place}`."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import orjson
from aiohttp import web

T = TypeVar("T")


class Problem(Exception):
    """Raised by a handler to answer with a status, words and the place that is wrong."""

    def __init__(self, status: int, words: str, where: str = "") -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.where = where


def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A value as JSON."""
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def error(status: int, words: str, where: str, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal in the one shape."""
    return json({"error": words, "where": where}, status, headers)


def read(body: bytes | msgspec.Raw, kind: type[T], place: str = "") -> T:
    """JSON as a type; Problem 400 with the place that is wrong, below `place`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        words, _, where = str(error).partition(" - at `$")
        raise Problem(400, words, (place + where.rstrip("`")).lstrip(".")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"not JSON: {error}", place or "body") from None
