"""The keys of a section of the config, with types, defaults and the words under each field, read from its struct."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from sidecar.adapters.http_config import HttpConfig
from sidecar.types import Duration


class Key(NamedTuple):
    """One key, as it is written in the file."""

    path: str
    type: str
    default: str
    words: str
    value: Any
    """The default itself; NODEFAULT where there is none."""


def keys(
    kind: type[msgspec.Struct], stop: tuple[Any, ...] = (), path: str = "", words: str = "", given: Any = None
) -> Iterator[Key]:
    """Every key of a section; a section inside is walked, except those of `stop`. `given` is its default."""
    for field in msgspec.structs.fields(kind):
        inner, many = section(field.type)
        key, said = path + field.encode_name, " ".join(filter(None, (words, said_of(kind, field.name))))
        default = _default(field) if given is None else getattr(given, field.name)
        if inner is not None and inner not in stop:
            inside = default if isinstance(default, msgspec.Struct) else None
            below = said if path else ""  # of a whole section it is said once, above it
            yield from keys(inner, stop, key + ("[]." if many else "."), below, inside)
        else:
            written = "{}" if inner is HttpConfig else _written(default)
            yield Key(key, _type(field.type), written, said, default)


def section(kind: Any, many: bool = False) -> tuple[type[msgspec.Struct] | None, bool]:
    """The struct that a type holds, and whether it holds a list of them."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, many
    for argument in typing.get_args(kind):
        found, listed = section(argument, many or typing.get_origin(kind) is tuple)
        if found:
            return found, listed
    return None, many


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.NODEFAULT if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _written(value: Any) -> str:
    """A default as YAML would have it; `required` where there is none."""
    if value is msgspec.NODEFAULT:
        return "required"
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str) and value and not set(value) & set(">{}\"'"):
        return value
    return f"{value:g}" if type(value) is float else str(msgspec.json.encode(value), "utf-8")


_NAMES = {str: "text", bool: "bool", int: "whole number", float: "number", Duration: "duration"}


def _type(kind: Any) -> str:
    """A type in a word or two.

    >>> _type(tuple[str, ...] | None), _type(str | tuple[str, ...]), _type(dict[str, str])
    ('list of text', 'text or list of text', 'text by name')
    """
    if kind in _NAMES:
        return _NAMES[kind]
    inside = [argument for argument in typing.get_args(kind) if argument not in (type(None), ...)]
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type, inside)))
    if origin is tuple:
        pair = ... not in typing.get_args(kind)
        return "pair of numbers" if pair else f"list of {_type(inside[0])}"
    if origin is not None and len(inside) == 2:
        return f"{_type(inside[1])} by name"
    return "section" if section(kind)[0] else "text"


def said_of(kind: type, name: str) -> str:
    """What stands under a field; empty when nothing does."""
    owner = next(c for c in kind.__mro__ if name in inspect.get_annotations(c))
    return _words(owner).get(name, "")


@functools.cache
def _words(kind: type) -> dict[str, str]:
    """What stands under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    out = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(ast.Constant(str(text))):
                    out[field.target.id] = " ".join(text.split())
                case _:
                    pass
    return out
