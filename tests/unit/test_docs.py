"""The tables of the README say what the code says; each test names the rows to add or to remove."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
import yaml

import sidecar.commands
import sidecar.web
from sidecar.__main__ import COMMANDS
from sidecar.adapters.http_config import HttpConfig
from sidecar.alerts import narrate
from sidecar.alerts.relay import AlertsConfig
from sidecar.config import Config, parse, presets
from sidecar.remedy.actions import CATALOGUE
from sidecar.remedy.policy import Alternative
from sidecar.signals import expose
from sidecar.telemetry import Telemetry
from sidecar.types import Duration
from sidecar.web import server
from sidecar.web.auth import Auth

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str, number: int = 0) -> list[list[str]]:
    """Rows of the n-th table below a heading, as cells without their code marks."""
    section = re.split(r"^#+ ", README.partition(f"\n### {heading}\n")[2], flags=re.M)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.M)
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in tables[number].splitlines()
    ]
    return [[re.sub(r"^`(.*)`$", r"\1", cell) for cell in row] for row in rows[2:]]


def keys(
    kind: type[msgspec.Struct], stop: tuple[type, ...] = (), path: str = "", given: Any = None
) -> Iterator[tuple[str, Any]]:
    """Every key of a section with its default; a section inside is walked, except those of `stop`."""
    for field in msgspec.structs.fields(kind):
        inner, many = _section(field.type)
        key = path + field.encode_name
        default = _default(field)
        if given is not None:
            default = getattr(given, field.name)
            default = list(default) if isinstance(default, tuple) else default
        if inner is not None and inner not in stop:
            inside = default if isinstance(default, msgspec.Struct) else None
            yield from keys(inner, stop, key + ("[]." if many else "."), inside)
        else:
            yield key, {} if inner is HttpConfig else default


def _section(kind: Any, many: bool = False) -> tuple[type[msgspec.Struct] | None, bool]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, many
    for argument in typing.get_args(kind):
        found, listed = _section(argument, many or typing.get_origin(kind) is tuple)
        if found:
            return found, listed
    return None, many


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return list(field.default) if isinstance(field.default, tuple) else field.default
    return "required" if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _read(cell: str, default: Any) -> Any:
    return Duration.parse(cell) if isinstance(default, Duration) else yaml.safe_load(cell)


def assert_defaults(rows: list[list[str]], code: dict[str, Any]) -> None:
    assert [row[0] for row in rows] == list(code)
    for key, default, *_ in rows:
        assert _read(default, code[key]) == code[key], key


def test_config_keys_and_defaults() -> None:
    assert_defaults(table("Config"), dict(keys(Config, stop=(HttpConfig, Alternative, *CATALOGUE.values()))))


def test_the_configs_that_it_shows_are_right() -> None:
    shown = [text for text in re.findall(r"```yaml\n(.*?)```", README, flags=re.S) if "remedies:" in text]
    assert len(shown) == 2
    for text in shown:
        parse(text)


def test_http_keys_and_defaults() -> None:
    assert_defaults(table("Config", 1), dict(keys(HttpConfig)))


def test_actions_their_keys_and_defaults() -> None:
    code = {}
    for name, kind in CATALOGUE.items():
        code |= {f"{name}.{key}": default for key, default in keys(kind)}
    assert_defaults(table("Actions"), code)


def test_presets() -> None:
    assert table("Presets") == [[preset.name, str(len(preset.watches)), preset.about] for preset in presets()]


def test_metrics_about_the_series() -> None:
    assert table("Metrics about your series") == [[f.name, f.help] for f in expose.FAMILIES]


def test_metrics_about_promantis() -> None:
    registry = Telemetry().registry
    code = []
    for collector in registry._collector_to_names:
        labels = ", ".join(f"`{name}`" for name in collector._labelnames)
        for family in collector.describe():
            name = family.name + ("_total" if family.type == "counter" else "")
            code.append([name, family.type, re.sub(r"^`(.*)`$", r"\1", labels), family.documentation])
    assert table("Metrics about Promantis") == code


def _there(package: ModuleType) -> set[str]:
    return {module.name for module in pkgutil.iter_modules(package.__path__)}


def _route_modules() -> list[Any]:
    modules = [importlib.import_module(f"sidecar.web.{name}") for name in sorted(_there(sidecar.web))]
    return [module for module in modules if hasattr(module, "routes")]


def test_routes() -> None:
    """Every `routes()` of sidecar.web, with stand-ins for what the handlers would ask."""
    made = [
        route
        for module in _route_modules()
        for route in module.routes(*(MagicMock() for _ in inspect.signature(module.routes).parameters))
    ]

    async def reload() -> None: ...

    app = server.build(made, Auth((), True), Telemetry(), lambda: (), reload)
    code = {
        f"{route.method.replace('*', 'any')} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None and (route.method != "HEAD")
    }
    assert {row[0] for row in table("Routes")} == code


def _options(name: str) -> set[str]:
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"sidecar.commands.{name}").add(parser)
    return {
        action.option_strings[-1] if action.option_strings else action.dest.upper()
        for action in parser._actions
    }


@pytest.mark.parametrize("command", sorted(_there(sidecar.commands) & set(COMMANDS)))
def test_flags(command: str) -> None:
    rows = {row[0] for row in table("Flags") if command in re.findall(r"\w+", row[1])}
    assert rows == _options(command)


def test_annotations() -> None:
    assert {row[0] for row in table("Annotations")} == {f"promantis_{name}" for name in narrate.ANNOTATIONS}
    assert {f"promantis_{name}" for name in AlertsConfig().annotations} <= {
        row[0] for row in table("Annotations")
    }


def test_alerts() -> None:
    groups = yaml.safe_load((ROOT / "rules" / "promantis.rules.yml").read_text(encoding="utf-8"))["groups"]
    code = {(rule["alert"], rule["labels"]["promantis_kind"]) for group in groups for rule in group["rules"]}
    assert {(row[0], row[1]) for row in table("Alerts on these metrics")} == code


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
