"""How the commands for cases talk to a running Promantis."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sidecar.types import ConfigError, Duration, PromantisError, Rejected, Unavailable
from sidecar.web import shown

TIMEOUT = 30


def add(parser: argparse.ArgumentParser) -> None:
    """The flags that all of these commands share."""
    parser.add_argument(
        "--url", default="http://127.0.0.1:9909", help="where Promantis listens (%(default)s)"
    )
    parser.add_argument(
        "--storage.path",
        dest="storage",
        metavar="FOLDER",
        default="data",
        help="where its admin.token lies (%(default)s)",
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="a file with your token, instead of the admin token"
    )


class Server:
    """A running Promantis."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._url = str(args.url).rstrip("/")
        if urllib.parse.urlsplit(self._url).scheme not in ("http", "https"):
            raise ConfigError("--url", f"{self._url!r} is not a url (write http://127.0.0.1:9909)")
        self._own = args.token_file
        self._file = Path(args.token_file or Path(args.storage) / "admin.token")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer; Rejected or Unavailable with words for people."""
        data = orjson.dumps(body) if method != "GET" else None
        try:
            return orjson.loads(self._asked(method, path, data, needed=method != "GET"))
        except ValueError:
            raise Unavailable(f"{self._url} does not answer as Promantis would") from None

    def text(self, path: str) -> str:
        """An answer that is no JSON."""
        return self._asked("GET", path, None, needed=False).decode(errors="replace")

    def lines(self, path: str) -> list[bytes]:
        """The lines of an answer that needs a token."""
        return self._asked("GET", path, None, needed=True).splitlines()

    def _asked(self, method: str, path: str, data: bytes | None, *, needed: bool) -> bytes:
        headers = {"Content-Type": "application/json"}
        if token := self._token(needed):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Rejected(_words(error.read(), error.code), error.code) from None
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            words = getattr(reason, "strerror", None) or str(reason)
            raise Unavailable(
                f"{self._url} does not answer: {words} (is `promantis run` up? see --url)"
            ) from None

    def _token(self, needed: bool) -> str:
        try:
            return self._file.read_text(encoding="utf-8").strip()
        except OSError as error:
            if not needed and not self._own:
                return ""
            flag = "--token-file" if self._own else "--storage.path"
            raise ConfigError(flag, f"{self._file} cannot be read: {error.strerror}") from None


def guarded(work: Callable[[], None]) -> int:
    """Run a command's work: 0, or 1 with the words of what failed."""
    try:
        work()
    except ConfigError:
        raise
    except PromantisError as error:
        print(f"promantis: {plain(error)}", file=sys.stderr)
        return 1
    return 0


def path_of(id: str, verb: str = "") -> str:
    """The route of a case."""
    return f"/api/v1/cases/{urllib.parse.quote(id, safe='')}" + (f"/{verb}" if verb else "")


def plain(value: object) -> str:
    """Text from elsewhere without what could move the cursor of a terminal.

    >>> plain("a\\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in str(value))


def since(at: float) -> str:
    """How long ago, as Prometheus writes durations."""
    return str(Duration(max(int(time.time() - at), 0)))


def show_plan(plan: dict[str, Any]) -> str:
    """A plan as it would be sent."""
    return plain(textwrap.indent(shown.planned(plan), "  "))


def _words(body: bytes, status: int) -> str:
    try:
        return str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"answered {status}, not as Promantis would"
