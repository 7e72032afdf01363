"""docs/reference is what the code says, and says something of everything."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import openapi_spec_validator
import pytest
import yaml

from docs import build, routes, structs
from sidecar.adapters.http_config import HttpConfig
from sidecar.config import Config
from sidecar.remedy.actions import CATALOGUE
from sidecar.remedy.policy import Alternative
from sidecar.types import Duration

KEYS = list(structs.keys(Config, (HttpConfig, Alternative, *CATALOGUE.values())))
OPENAPI: dict[str, Any] = routes.openapi()


def test_the_committed_files_are_what_the_code_makes() -> None:
    there = {file.name: file.read_text(encoding="utf-8") for file in build.FOLDER.iterdir()}
    assert there == dict(build.build()), "run: python -m docs.build"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_every_key_of_the_config_has_words(key: structs.Key) -> None:
    assert key.words, "write them under the field"


@pytest.mark.parametrize("kind", CATALOGUE.values(), ids=CATALOGUE)
def test_every_key_of_an_action_has_words(kind: type[msgspec.Struct]) -> None:
    assert not [key.path for key in structs.keys(kind) if not key.words]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_a_default_is_shown_as_it_is_written(key: structs.Key) -> None:
    if key.value is msgspec.NODEFAULT:
        assert key.default == "required"
    elif isinstance(key.value, Duration):
        assert Duration.parse(key.default) == key.value
    elif isinstance(key.value, HttpConfig):
        assert (key.default, key.value) == ("{}", HttpConfig())
    else:
        assert json.loads(msgspec.json.encode(key.value)) == yaml.safe_load(key.default)


def test_types_are_told_in_words() -> None:
    told = {key.path: key.type for key in KEYS}
    assert told["interval"] == "duration"
    assert told["watches[].explained_by"] == "list of text"
    assert told["watches[].bounds"] == "pair of numbers"
    assert told["guard.dry_run"] == "bool"
    assert told["causes.calls"] == "list of text by name"
    assert told["presets"] == "text or list of text"


@pytest.mark.parametrize("route", list(routes.found()), ids=lambda route: f"{route.method} {route.path}")
def test_every_route_has_words(route: routes.Route) -> None:
    assert route.words, "write them as the docstring of its handler"


def test_openapi_names_roles_bodies_and_parameters() -> None:
    approve = OPENAPI["paths"]["/api/v1/cases/{id}/approve"]["post"]
    assert approve["security"] == [{"token": []}]
    (ref,) = approve["requestBody"]["content"]["application/json"]["schema"].values()
    assert OPENAPI["components"]["schemas"][ref.rpartition("/")[2]]["required"] == ["plan_hash"]
    explain = OPENAPI["paths"]["/api/v1/explain"]["get"]
    assert [one["name"] for one in explain["parameters"]] == ["match", "fingerprint", "at"]
    assert explain["security"] == [{"token": []}, {}]
    bodies = {
        path
        for path, methods in OPENAPI["paths"].items()
        for method in methods.values()
        if "requestBody" in method
    }
    assert bodies == {
        "/api/v1/cases/{id}/approve", "/api/v1/cases/{id}/deny", "/api/v1/feedback", "/api/v1/killswitch",
        "/api/v1/webhook",
    }  # fmt: skip


def test_openapi_is_a_valid_document() -> None:
    openapi_spec_validator.validate(OPENAPI)


def test_openapi_refers_only_to_what_it_has() -> None:
    text = json.dumps(OPENAPI)
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= OPENAPI["components"]["schemas"].keys()
