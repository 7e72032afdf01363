"""Every route of `sidecar.web` with its words and what it asks of its caller, and the same as OpenAPI 3.1."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import msgspec

import sidecar.web
from sidecar import __version__
from sidecar.telemetry import Telemetry
from sidecar.web import server
from sidecar.web.auth import Auth, Need, Role

ERROR = {
    "type": "object",
    "required": ["error", "where"],
    "properties": {"error": {"type": "string"}, "where": {"type": "string"}},
}


KINDS = {
    "/metrics": "text/plain",
    "/-/healthy": "text/plain",
    "/-/ready": "text/plain",
    "/-/reload": "text/plain",
    "/api/v1/journal": "application/x-ndjson",
}
"""What is answered where it is not JSON."""


class Route(NamedTuple):
    """One route; `*` is any other method."""

    method: str
    path: str
    words: str
    needs: str
    """Role, and whether loopback is free of it."""
    query: tuple[str, ...]
    body: type | None


def found() -> Iterator[Route]:
    """Every `routes()` of sidecar.web, with stand-ins for what the handlers would ask."""
    names = sorted(module.name for module in pkgutil.iter_modules(sidecar.web.__path__))
    modules = [importlib.import_module(f"sidecar.web.{name}") for name in names]
    made = [
        route
        for module in modules
        if hasattr(module, "routes")
        for route in module.routes(*(MagicMock() for _ in inspect.signature(module.routes).parameters))
    ]

    async def reload() -> None: ...

    app = server.build(made, Auth((), True), Telemetry(), lambda: (), reload)
    for route in app.router.routes():
        if route.resource is not None and route.method != "HEAD":
            yield _route(route.method, route.resource.canonical, route.handler)


def _route(method: str, path: str, handler: Callable[..., Any]) -> Route:
    code = inspect.getsource(handler)
    query = re.findall(r'query\.get\("(\w+)"', code) + (["limit"] if "_limit(request)" in code else [])
    body = re.search(r"read\(await request\.read\(\)[^,]*, (\w+)\)", code)
    words = " ".join((handler.__doc__ or "").split())
    kind = getattr(handler, "__globals__", {}).get(body[1]) if body else None
    needs = _needs(method, handler)
    if needs == "nothing" and "sessions." in code and not path.startswith("/log"):
        needs = "a login or loopback" if method == "GET" else "a login or a token"
    return Route(method, path, words, needs, tuple(dict.fromkeys(query)), kind)


def _needs(method: str, handler: Any) -> str:
    asks: Need = getattr(
        handler, "needs", Need(Role.VIEW, True) if method == "GET" else Need(Role.ADMIN, False)
    )
    if asks.role is None:
        return "nothing"
    return asks.role.name.lower() + (" or loopback" if asks.local else "")


def openapi() -> dict[str, Any]:
    """What is for programs; the pages and Alertmanager's own API, which is passed through, are not."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Error": ERROR}
    for route in found():
        api = route.path.startswith(("/api/v1/", "/-/", "/metrics")) or (
            route.method == "POST" and route.path == "/api/v2/alerts"
        )
        if not api or route.method == "*":
            continue
        said: dict[str, Any] = {"summary": route.words, "x-needs": route.needs}
        if route.needs != "nothing":
            said["security"] = [{"token": []}] + ([{}] if "loopback" in route.needs else [])
        asked = [{"name": n, "in": "path", "required": True} for n in re.findall(r"{(\w+)}", route.path)]
        asked += [{"name": n, "in": "query"} for n in route.query]
        if asked:
            said["parameters"] = [{**one, "schema": {"type": "string"}} for one in asked]
        if route.body is not None:
            (schema,), more = msgspec.json.schema_components(
                [route.body], ref_template="#/components/schemas/{name}"
            )
            schemas |= more
            said["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        said["responses"] = _responses(route)
        paths.setdefault(route.path, {})[route.method.lower()] = said
    return {
        "openapi": "3.1.0",
        "info": {"title": "Promantis", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _responses(route: Route) -> dict[str, Any]:
    """What is answered, by status; `default` is any other."""
    wrong = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    if route.path == "/api/v2/alerts":
        return {
            "200": {"description": "an Alertmanager has them, or will hear of them from Prometheus itself"},
            **_refusals(route, wrong),
            "default": {"description": "as Alertmanager answers: an object with code and message, or a text"},
        }
    if route.path == "/api/v1/alerts":
        return {"410": {"description": "gone, as at Alertmanager", "content": {"application/json": {}}}}
    done = {"description": "done", "content": {KINDS.get(route.path, "application/json"): {}}}
    other = {"description": "what is wrong, and where", **wrong}
    return {"200": done, **_refusals(route, wrong), "default": other}


def _refusals(route: Route, wrong: dict[str, Any]) -> dict[str, Any]:
    role = route.needs.partition(" ")[0]
    if role == "nothing":
        return {}
    known = {"401": {"description": "no token, or none that is known and not over", **wrong}}
    few = {"403": {"description": f"a token that may less than {role}", **wrong}}
    return known | (few if role != "view" else {})
