"""What a config may say and hardly means, and would show during an incident only: `promantis check` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import promql_parser as pq

from sidecar.adapters.targets import Allowed, Refused
from sidecar.config import Config
from sidecar.remedy.actions.http import HttpCall
from sidecar.web import auth, server

ALWAYS = "holds whatever its value is: compare it with something, as in `... < 0.7`"
_FILTERS = ("==", "!=", "<", "<=", ">", ">=", "and", "unless")


def doubts(config: Config) -> Iterator[tuple[str, str]]:
    """Places and words."""
    for i, remedy in enumerate(config.remedies):
        then = ((f"then[{j}].", one.action, one.verify) for j, one in enumerate(remedy.then))
        if remedy.when is not None and always(remedy.when):
            yield f"remedies[{i}].when", ALWAYS
        for below, action, verify in (("", remedy.action, remedy.verify), *then):
            place = f"remedies[{i}].{below}"
            for name in ("query", "harm") if verify is not None else ():
                query = getattr(verify, name)
                if query is not None and always(query):
                    yield f"{place}verify.{name}", ALWAYS
            if isinstance(action, HttpCall) and (words := _not_called(action.url, config)):
                yield f"{place}action.url", words


def absent(config: Config) -> Iterator[tuple[str, str]]:
    """Places and files that are read at start and are not here; those that are here are read now (ConfigError)."""
    cluster = config.kubernetes
    for place, file in (
        ("web.tokens_file", config.web.tokens_file),
        ("web.config_file", config.web.config_file),
        ("kubernetes.kubeconfig", cluster.kubeconfig if cluster else None),
    ):
        if file is not None and not Path(file).exists():
            yield place, file
        elif file is not None and place == "web.tokens_file":
            auth.least(file, config.storage.path)
        elif file is not None and place == "web.config_file":
            server.users(config.web)


def always(query: str) -> bool:
    """Whether a query has a result wherever its series are, so that as a condition it says nothing.

    >>> [always(q) for q in ("up", "up == bool 1", "sum(x) < 3", "absent(x)", 'ALERTS{alertname="A"}')]
    [True, True, False, False, False]
    """
    told: list[bool] = []

    def visit(expr: pq.Expr) -> None:
        match expr:
            case pq.BinaryExpr(op=op, modifier=modifier):
                told.append(str(op) in _FILTERS and not (modifier is not None and modifier.return_bool))
            case pq.Call(func=func):
                told.append(func.name.startswith("absent"))
            case pq.VectorSelector(name=name):
                told.append((name or "").startswith("ALERTS"))
            case _:
                pass

    pq.walk(pq.parse(query), pre_visit=visit)
    return not any(told)


def _not_called(url: str, config: Config) -> str:
    """Why the target is refused, where its address stands in the url."""
    host = urlsplit(url).hostname or ""
    try:
        Allowed(lambda: config.guard.allow_private).check(host, "127.0.0.1" if host == "localhost" else host)
    except Refused as refused:
        return str(refused)
    except ValueError:  # a name: what it stands for is known where it is called
        pass
    return ""
